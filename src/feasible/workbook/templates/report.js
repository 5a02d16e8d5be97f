"use strict";

// Draws the plots in the colours of the page, hides and shows methods, sorts the tables.
(() => {
  const plots = [...document.querySelectorAll(".plot")];
  const figures = new Map(plots.map((plot) => [plot, JSON.parse(plot.querySelector("script").textContent)]));
  const isTouch = matchMedia("(pointer: coarse)").matches;

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const names = ["ink", "muted", "grid", "line", "paper", "card", "shade-low", "shade-high"];
    return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }

  function axis(own, colour) {
    const title = { standoff: 8, font: { size: 12, color: colour.muted }, ...own?.title };
    const lines = { gridcolor: colour.grid, linecolor: colour.line, zerolinecolor: colour.grid };
    return { ...lines, tickfont: { size: 12 }, automargin: true, ...own, title };
  }

  function themed(figure) {
    const colour = colours();
    const layout = {
      margin: { l: 48, r: 16, t: 8, b: 44 },
      hovermode: "closest",
      dragmode: isTouch ? false : "zoom",
      ...figure.layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour.ink, family: getComputedStyle(document.body).fontFamily, size: 13 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour.line, activecolor: colour.muted },
      hoverlabel: { bgcolor: colour.card, bordercolor: colour.line, font: { color: colour.ink }, align: "left" },
      xaxis: axis(figure.layout.xaxis, colour),
      yaxis: axis(figure.layout.yaxis, colour),
    };
    const shades = [colour["shade-low"], colour["shade-high"]];
    return { data: figure.data.map((trace) => shaded(trace, shades, colour.ink)), layout };
  }

  function shaded(trace, [low, high], ink) {
    if (trace.meta && trace.meta.shades) return { ...trace, colorscale: [[0, low], [1, high]] };
    if (trace.meta && trace.meta.shade !== undefined) {
      return { ...trace, marker: { ...trace.marker, color: between(low, high, trace.meta.shade) } };
    }
    return trace.type === "bar" ? { ...trace, outsidetextfont: { color: ink } } : trace;
  }

  function between(low, high, share) {
    const channel = (colour, start) => parseInt(colour.slice(start, start + 2), 16);
    const mixed = [1, 3, 5].map((start) =>
      Math.round((1 - share) * channel(low, start) + share * channel(high, start)));
    return `rgb(${mixed.join(",")})`;
  }

  const settings = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["toImage", "resetScale2d"]],
  };

  function draw() {
    return Promise.all(plots.map(async (plot) => {
      const { data, layout } = themed(figures.get(plot));
      await Plotly.react(plot, data, layout, settings);
      applyChoice(plot);
      plot.dataset.drawn = "true";
    }));
  }

  // -- which methods are shown ------------------------------------------------------------------

  function hidden(experiment) {
    const off = experiment.querySelectorAll(".legend button[aria-pressed=false]");
    return new Set([...off].map((button) => button.dataset.variant));
  }

  function applyChoice(plot) {
    const choice = plot.parentElement.querySelector(".choice select");
    const off = hidden(plot.closest(".experiment"));
    const isShown = (variant) => choice ? variant === choice.value : !off.has(variant);
    const wanted = plot.data.map((trace) => !(trace.meta && trace.meta.variant) || isShown(trace.meta.variant));
    if (wanted.some((isShown, index) => isShown !== (plot.data[index].visible !== false))) {
      Plotly.restyle(plot, { visible: wanted });
    }
  }

  function listen(legend) {
    const buttons = [...legend.querySelectorAll("button")];
    const update = () => legend.closest(".experiment").querySelectorAll(".plot").forEach(applyChoice);
    const press = (button, isOn) => button.setAttribute("aria-pressed", String(isOn));
    for (const button of buttons) {
      button.addEventListener("click", () => {
        press(button, button.getAttribute("aria-pressed") !== "true");
        update();
      });
      button.addEventListener("dblclick", () => {
        const isAlone = buttons.every((other) => other === button || other.dataset.before === "false");
        buttons.forEach((other) => press(other, isAlone || other === button));
        buttons.forEach((other) => { other.dataset.before = other.getAttribute("aria-pressed"); });
        update();
      });
    }
  }

  // -- which one of them is shown, where only one can be ------------------------------------------

  function follow(choice) {
    choice.addEventListener("change", () => {
      const experiment = choice.closest(".experiment");
      for (const other of experiment.querySelectorAll(".choice select")) {
        if ([...other.options].some((option) => option.value === choice.value)) other.value = choice.value;
      }
      experiment.querySelectorAll(".plot").forEach(applyChoice);
    });
  }

  // -- sorting ----------------------------------------------------------------------------------

  function compare(first, second) {
    const [a, b] = [Number(first), Number(second)];
    return Number.isNaN(a) || Number.isNaN(b) ? first.localeCompare(second) : a - b;
  }

  function order(row, column) {
    const cell = row.cells[column];
    const text = cell.dataset.order;
    return text === "inf" ? "Infinity" : text;
  }

  function sort(table, column, heading) {
    const isAscending = heading.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows];
    const isEmpty = (row) => order(row, column) === "";
    rows.sort((first, second) => isEmpty(first) - isEmpty(second)
      || (isAscending ? 1 : -1) * compare(order(first, column), order(second, column)));
    table.tBodies[0].append(...rows);
  }

  function makeSortable(table) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, column, heading));
      heading.append(button);
    });
  }

  document.querySelectorAll("table.comparison").forEach(makeSortable);
  document.querySelectorAll(".legend").forEach(listen);
  document.querySelectorAll(".choice select").forEach(follow);
  if (plots.length > 0) {
    const done = () => { document.documentElement.dataset.ready = "true"; };
    draw().then(done);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    addEventListener("beforeprint", () => {
      document.querySelectorAll("details").forEach((details) => { details.open = true; });
      draw();
      plots.forEach((plot) => Plotly.Plots.resize(plot));
    });
    addEventListener("afterprint", draw);
  } else {
    document.documentElement.dataset.ready = "true";
  }
})();
