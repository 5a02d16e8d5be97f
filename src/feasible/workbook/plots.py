"""The plots of a run, as plain plotly figures: data without colours of page or paper."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from feasible.workbook.run_directory import RunDirectory
from feasible.workbook.weights import Histogram, weight_histogram

# Okabe and Ito's colours without black and yellow: told apart with any colour vision, on light and on dark.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "triangle-down", "hexagon")
DASHES = ("solid", "dash", "dot")
NEUTRAL = "#8a8f98"
MOST_POINTS = 200


@dataclass(frozen=True)
class Mark:
    """How one method looks in every plot: colour, symbol and dash differ together, never colour alone."""

    variant: str
    label: str
    colour: str
    symbol: str
    dash: str


@dataclass(frozen=True)
class Figure:
    """A plot with the words around it."""

    name: str
    title: str
    caption: str
    """What the reader looks at, and what would be good."""
    data: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = 380
    is_wide: bool = False


def marks(run: RunDirectory) -> list[Mark]:
    """One mark for every method that finished at least one training."""
    variants = {row["variant"]: str(row.get("label") or row["variant"]) for row in run.rows}
    shown = [variant for variant in variants if run.finished_runs(variant)]
    chosen, index = [], 0
    for variant in shown:
        if variant == "unconstrained":
            chosen.append(Mark(variant, variants[variant], NEUTRAL, "x", "dash"))
            continue
        colour, symbol = COLOURS[index % len(COLOURS)], SYMBOLS[index % len(SYMBOLS)]
        dash = DASHES[index // len(COLOURS) % len(DASHES)]
        chosen.append(Mark(variant, variants[variant], colour, symbol, dash))
        index += 1
    return chosen


def figures(run: RunDirectory) -> list[Figure]:
    """All plots that the run has numbers for."""
    shown = marks(run)
    if not shown:
        return []
    candidates = [tradeoff(run, shown), *curves(run, shown), weights(run, shown), step_time(run, shown)]
    return [figure for figure in candidates if figure is not None]


def tradeoff(run: RunDirectory, shown: Sequence[Mark]) -> Figure | None:
    """The metric against the worst violation, one mark per method and seed."""
    metric, higher_is_better = run.metric
    points = {mark.variant: list(_tradeoff_points(run.finished_runs(mark.variant))) for mark in shown}
    if not any(points.values()):
        return None
    scale = LogScale.of(x for some in points.values() for x, _, _ in some)
    data = [
        _trace(
            mark,
            mode="markers",
            x=[scale.place(x, aside) for x, _, _ in points[mark.variant]],
            y=[y for _, y, _ in points[mark.variant]],
            customdata=[[x, seed] for x, _, seed in points[mark.variant]],
            hovertemplate=f"{_plain(mark.label)}, seed %{{customdata[1]}}<br>{_plain(metric)} %{{y:.4g}}"
            "<br>worst violation %{customdata[0]:.3g}<extra></extra>",
            marker={"size": 11, "opacity": 0.85},
        )
        for mark, aside in zip(shown, _spread(len(shown)), strict=True)
    ]
    best = "upper" if higher_is_better else "lower"
    caption = (
        f"One mark per method and seed. The {best} left corner is best: every rule obeyed, a good {metric}. "
        "Marks at 0 obey the rules exactly and stand side by side only to be told apart. "
        "The violation is the worst one on weights, training data and held-out data."
    )
    layout = {"xaxis": scale.axis("worst violation"), "yaxis": {"title": {"text": _plain(metric)}}}
    return Figure("tradeoff", f"{_capital(metric)} against violation", caption, data, layout, 430, True)


def curves(run: RunDirectory, shown: Sequence[Mark]) -> list[Figure]:
    """Metric, training loss and worst violation by epoch, the median over the seeds."""
    metric, _ = run.metric
    wanted = [
        (
            "test_metric",
            f"{_capital(metric)} by epoch",
            "On held-out data; the median over the seeds.",
            False,
        ),
        ("train_loss", "Training loss by epoch", "Without the terms that a method adds.", True),
        ("worst_violation", "Worst violation by epoch", "0 means that every rule held at that epoch.", True),
    ]
    drawn = [_curve(run, shown, *each) for each in wanted]
    return [figure for figure in drawn if figure is not None]


def _curve(
    run: RunDirectory, shown: Sequence[Mark], key: str, title: str, caption: str, is_log: bool
) -> Figure | None:
    series = {mark.variant: _median_by_epoch(run, mark.variant, key) for mark in shown}
    values = [value for one in series.values() for value in one.values()]
    if not values:
        return None
    scale = LogScale.of(values) if is_log and min(values) >= 0 else None
    place: Callable[[float], float | None] = scale.place if scale else float
    data = []
    for mark in shown:
        thinned = _thin(sorted(series[mark.variant].items()))
        data.append(
            _trace(
                mark,
                mode="lines+markers" if len(thinned) < 8 else "lines",
                x=[epoch for epoch, _ in thinned],
                y=[place(value) for _, value in thinned],
                customdata=[value for _, value in thinned],
                hovertemplate=f"{_plain(mark.label)}<br>epoch %{{x}}: %{{customdata:.4g}}<extra></extra>",
                line={"width": 2},
            )
        )
    axis = scale.axis("") if scale else {}
    layout = {"xaxis": {"title": {"text": "epoch"}}, "yaxis": axis}
    return Figure(f"curve-{key.replace('_', '-')}", title, caption, data, layout, 320)


def step_time(run: RunDirectory, shown: Sequence[Mark]) -> Figure | None:
    """Milliseconds per training step, the median over the seeds."""
    times = {
        mark: [
            float(r["milliseconds_per_step"])
            for r in run.finished_runs(mark.variant)
            if r.get("milliseconds_per_step") is not None
        ]
        for mark in reversed(shown)
    }
    times = {mark: values for mark, values in times.items() if values}
    if not times:
        return None
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [_short(mark.label)],
            "x": [median(values)],
            "text": [f"{median(values):.3g} ms"],
            "textposition": "outside",
            "cliponaxis": False,
            "marker": {"color": mark.colour},
            "hovertemplate": f"{_plain(mark.label)}<br>%{{x:.3g}} ms a step<extra></extra>",
            "meta": {"variant": mark.variant},
            "showlegend": False,
        }
        for mark, values in times.items()
    ]
    longest = max(median(values) for values in times.values())
    layout = {
        "xaxis": {"title": {"text": "milliseconds per step"}, "range": [0, 1.2 * longest]},
        "yaxis": {"automargin": True, "ticks": ""},
        "bargap": 0.35,
    }
    caption = "Forward, backward, optimizer and everything that the method adds; the median over the seeds."
    height = 90 + 30 * len(times)
    return Figure("step-time", "Time per training step", caption, data, layout, height, True)


def weights(run: RunDirectory, shown: Sequence[Mark]) -> Figure | None:
    """Where the constrained weights ended: one row of shades per method."""
    found = weight_histogram(run, [mark.variant for mark in shown])
    if found is None:
        return None
    labels = {mark.variant: _short(mark.label) for mark in shown}
    variants = list(reversed(found.shares))
    shares = [found.shares[variant] for variant in variants]
    data = [
        {
            "type": "heatmap",
            "x": found.centres,
            "y": [labels[variant] for variant in variants],
            "z": [[math.sqrt(share) if share > 0 else None for share in row] for row in shares],
            "customdata": shares,
            "hovertemplate": "%{y}<br>near %{x:.3g}: %{customdata:.2%} of the weights<extra></extra>",
            "showscale": False,
            "ygap": 3,
            "meta": {"shades": True},
        }
    ]
    layout = {
        "xaxis": {"title": {"text": "weight"}, "zeroline": False},
        "yaxis": {"automargin": True, "ticks": "", "showgrid": False},
        "shapes": [_bound_line(bound) for bound in found.bounds],
    }
    height = 110 + 26 * len(variants)
    return Figure("weights", "Where the weights ended", _weights_caption(found), data, layout, height, True)


def _weights_caption(found: Histogram) -> str:
    bounds = " and ".join(f"{bound:g}" for bound in found.bounds)
    lines = f" The dashed lines are the bounds: {bounds}." if len(found.bounds) > 1 else ""
    lines = f" The dashed line is the bound: {bounds}." if len(found.bounds) == 1 else lines
    return (
        f"The final weights that the rules speak of ({', '.join(found.patterns)}), all seeds together: "
        f"the stronger the shade, the more weights have this value.{lines} "
        "A strong stripe on a bound: weights that rest there."
    )


def _bound_line(bound: float) -> dict[str, Any]:
    line = {"dash": "dash", "width": 1.5, "color": NEUTRAL}
    return {"type": "line", "x0": bound, "x1": bound, "yref": "paper", "y0": 0, "y1": 1, "line": line}


@dataclass(frozen=True)
class LogScale:
    """A logarithmic axis on which an exact zero has a place of its own, left of everything else."""

    zero: float | None
    """Where zeros are drawn; ``None``: there are none."""
    lowest: int
    highest: int

    @classmethod
    def of(cls, values: Iterable[float]) -> LogScale:
        """The scale that holds all values; those below a trillionth of the largest are drawn at the edge."""
        finite = [value for value in values if math.isfinite(value)]
        positive = [value for value in finite if value > 0]
        if not positive:
            return cls(0.1, 0, 0)
        highest = math.ceil(math.log10(max(positive)))
        lowest = max(math.floor(math.log10(min(positive))), highest - 12)
        lowest = min(lowest, highest - 1)
        return cls(10.0 ** (lowest - 1) if len(positive) < len(finite) else None, lowest, highest)

    def place(self, value: float, aside: float = 0.0) -> float | None:
        """Where a value is drawn, zeros by so many decades aside; what is not finite is not drawn."""
        if not math.isfinite(value):
            return None
        if value <= 0:
            return None if self.zero is None else self.zero * 10**aside
        return max(value, 10.0**self.lowest)

    def axis(self, title: str) -> dict[str, Any]:
        """The plotly axis, with a tick that says 0."""
        powers = range(self.lowest, self.highest + 1, max(1, math.ceil((self.highest - self.lowest) / 6)))
        ticks = [(10.0**power, _power(power, self.lowest)) for power in powers]
        if self.zero is not None:
            ticks.insert(0, (self.zero, "0"))
        low = self.lowest if self.zero is None else self.lowest - 1
        return {
            "type": "log",
            "title": {"text": title},
            "tickvals": [value for value, _ in ticks],
            "ticktext": [text for _, text in ticks],
            "range": [low - 0.4, self.highest + 0.15],
        }


def _spread(count: int) -> list[float]:
    """So many places between −0.3 and 0.3."""
    return [0.6 * (index + 0.5) / count - 0.3 for index in range(count)]


def _trace(mark: Mark, **details: Any) -> dict[str, Any]:
    """A scatter trace in the method's colour, symbol and dash; ``meta`` says which method it is."""
    marker = {"color": mark.colour, "symbol": mark.symbol, "size": 6, **details.pop("marker", {})}
    line = {"color": mark.colour, "dash": mark.dash, **details.pop("line", {})}
    return {
        "type": "scatter",
        "name": _plain(mark.label),
        "showlegend": False,
        "meta": {"variant": mark.variant},
        "marker": marker,
        "line": line,
        **details,
    }


def _tradeoff_points(runs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[float, float, int]]:
    """Worst violation, metric and seed of every run that has them."""
    for run in runs:
        violations = [run.get(key) for key in ("worst_violation", "test_worst_violation")]
        known = [float(violation) for violation in violations if violation is not None]
        if known and run.get("test_metric") is not None:
            yield max(known), float(run["test_metric"]), int(run["seed"])


def _median_by_epoch(run: RunDirectory, variant: str, key: str) -> dict[float, float]:
    found: dict[float, list[float]] = defaultdict(list)
    for row in run.history:
        value = row.get(key)
        if row["variant"] == variant and isinstance(value, float) and math.isfinite(value):
            found[row["epoch"]].append(value)
    return {epoch: median(values) for epoch, values in found.items()}


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most ``MOST_POINTS`` of them, the last one among them."""
    step = math.ceil(len(points) / MOST_POINTS) or 1
    return points[::-1][::step][::-1]


def _power(power: int, lowest: int) -> str:
    """A power of ten, as a plain number where all of them are short."""
    if 0 <= power <= 3 or -3 <= lowest <= power < 0:
        return f"{10.0**power:g}"
    return f"10<sup>{str(power).replace('-', '−')}</sup>"


def _plain(text: str) -> str:
    """Text that plotly's own small markup leaves alone."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "% {")


def _short(label: str) -> str:
    return _plain(label if len(label) <= 30 else label[:29] + "…")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
