"""What obeying the rules costs: the metric against the worst violation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from feasible.workbook.plots.figure import Figure, capital, metric_axis, plain
from feasible.workbook.plots.marks import Mark, scatter
from feasible.workbook.plots.scale import LogScale
from feasible.workbook.run_directory import RunDirectory


def tradeoff(run: RunDirectory, shown: Sequence[Mark]) -> Figure | None:
    """One mark per method and seed."""
    metric, higher_is_better = run.metric
    points = {mark.variant: list(_points(run.finished_runs(mark.variant))) for mark in shown}
    if not any(points.values()):
        return None
    scale = LogScale.of(x for some in points.values() for x, _, _ in some)
    data = [
        scatter(
            mark,
            mode="markers",
            x=[scale.place(x, aside) for x, _, _ in points[mark.variant]],
            y=[y for _, y, _ in points[mark.variant]],
            customdata=[[x, seed] for x, _, seed in points[mark.variant]],
            hovertemplate=f"{plain(mark.label)}, seed %{{customdata[1]}}<br>{plain(metric)} %{{y:.4g}}"
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
    layout = {"xaxis": scale.axis("worst violation"), "yaxis": metric_axis(run, metric)}
    title = f"{capital(metric)} against violation"
    return Figure("tradeoff", title, caption, data, layout, height=430, is_wide=True)


def _points(runs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[float, float, int]]:
    """Worst violation, metric and seed of every run that has them."""
    for run in runs:
        violations = [run.get(key) for key in ("worst_violation", "test_worst_violation")]
        known = [float(violation) for violation in violations if violation is not None]
        if known and run.get("test_metric") is not None:
            yield max(known), float(run["test_metric"]), int(run["seed"])


def _spread(count: int) -> list[float]:
    """So many places between −0.3 and 0.3."""
    return [0.6 * (index + 0.5) / count - 0.3 for index in range(count)]
