"""The report: what holds, checked now, with the scope in which it was checked."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from feasible.problem.constraint import Constraint, multiplier_of, violations
from feasible.problem.text import table
from feasible.sets import Set

if TYPE_CHECKING:
    from feasible.problem.problem import Problem


@dataclass(frozen=True)
class Row:
    """One constraint. Numbers that do not apply, or were not seen, are ``None``."""

    name: str
    set: str
    method: str
    guarantee: str
    """``by construction``, ``projected``, ``exact``, ``at these points``, ``encouraged`` or ``broken``."""
    scope: str
    """What was checked: all entries of a weight, or so many points."""
    worst_violation: float | None
    """Largest distance of a unit to the set; 0 where the set contains it."""
    share_violated: float | None
    active_share: float | None
    """Share of the units that lie on the boundary."""
    stationarity: float | None
    """``‖x − P(x − ∇f)‖`` for weights held in their set, ``‖∇‖`` of the last step otherwise."""
    multiplier: float | None
    """The multiplier of largest magnitude: negative at a lower bound, positive at an upper one."""
    shadow_price: float | None
    """Loss gained by widening the bound by one unit of distance, to first order."""
    saturation: float | None
    """Share of reparametrized entries whose slope has vanished."""
    moved: float | None
    """How far the weight was moved when it was constrained."""
    nonfinite: int
    """Recorded terms that were not finite; multipliers ignored them."""
    steps: int
    diagnosis: str


@dataclass(frozen=True)
class Report:
    """A row for every constraint; prints as a table in a terminal and in a notebook."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    """What concerns the problem as a whole."""

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no constraint {name!r}; the report has: {', '.join(row.name for row in self.rows)}")

    @property
    def feasible(self) -> bool:
        """Whether every constraint was checked and holds."""
        return all(row.worst_violation == 0 for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python data, ready for JSON (numbers that are not finite become ``None``)."""
        rows = [{key: _plain(value) for key, value in asdict(row).items()} for row in self.rows]
        return {"rows": rows, "notes": list(self.notes), "feasible": self.feasible}

    def to_frame(self) -> Any:
        """A pandas data frame, one row a constraint (needs pandas)."""
        try:
            import pandas
        except ImportError:
            raise ImportError('report.to_frame() needs pandas: pip install "feasible[workbook]".') from None
        return pandas.DataFrame([asdict(row) for row in self.rows]).set_index("name")

    def plot(self) -> Any:
        """A plotly figure: violation and active share of every constraint (needs plotly)."""
        try:
            from plotly.subplots import make_subplots
        except ImportError:
            raise ImportError('report.plot() needs plotly: pip install "feasible[workbook]".') from None
        titles = ("worst violation", "active share", "shadow price")
        figure = make_subplots(rows=1, cols=3, shared_yaxes=True, subplot_titles=titles)
        names = [row.name for row in self.rows]
        for column, field in enumerate(("worst_violation", "active_share", "shadow_price"), start=1):
            values = [getattr(row, field) for row in self.rows]
            figure.add_bar(x=values, y=names, orientation="h", row=1, col=column, showlegend=False)
        figure.update_layout(height=160 + 40 * len(names), title="What holds")
        return figure

    def __str__(self) -> str:
        heading = (
            "constraint,guarantee,scope,worst violation,violated,active,stationarity,multiplier,shadow price"
        )
        rows = [[*heading.split(","), "saturated"]]
        for row in self.rows:
            shares = (row.share_violated, row.active_share)
            numbers = (row.stationarity, row.multiplier, row.shadow_price)
            checked = [_number(row.worst_violation), *map(_percent, shares), *map(_number, numbers)]
            rows.append([row.name, row.guarantee, row.scope, *checked, _percent(row.saturation)])
        said = [f"{row.name}: {row.diagnosis}" for row in self.rows if row.diagnosis]
        return "\n".join([table(rows), *said, *self.notes])

    def _repr_html_(self) -> str:
        frame = [["constraint", "guarantee", "scope", "worst violation", "multiplier", "diagnosis"]]
        for row in self.rows:
            numbers = [_number(row.worst_violation), _number(row.multiplier)]
            frame.append([row.name, row.guarantee, row.scope, *numbers, row.diagnosis])
        head, *body = ("".join(f"<td>{html.escape(cell)}</td>" for cell in line) for line in frame)
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        lines = "".join(f"<tr>{line}</tr>" for line in body)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{notes}"


def make_report(problem: Problem, handed: Mapping[str, Any]) -> Report:
    """Check every constraint now."""
    with torch.no_grad():
        rows = tuple(_row(problem, constraint, handed) for constraint in problem.constraints)
    notes = []
    if problem.constraints and not problem.was_attached and not any(row.steps for row in rows):
        notes.append(
            "Never attached: call optimizer = problem.attach(optimizer) before training; no step has been seen."
        )
    return Report(rows, tuple(notes))


def _row(problem: Problem, constraint: Constraint, handed: Mapping[str, Any]) -> Row:
    value, scope = _value(problem, constraint, handed)
    checked = _check(constraint, value)
    multiplier, price = _multiplier(constraint)
    return Row(
        name=constraint.name,
        set=repr(constraint.set),
        method=repr(constraint.method),
        guarantee=_guarantee(constraint, checked),
        scope=scope,
        worst_violation=checked.worst if checked else None,
        share_violated=checked.share if checked else None,
        active_share=checked.active if checked else None,
        stationarity=_stationarity(problem, constraint),
        multiplier=multiplier,
        shadow_price=price,
        saturation=_saturation(constraint),
        moved=constraint.moved if constraint.slot is not None else None,
        nonfinite=constraint.nonfinite,
        steps=constraint.ticks,
        diagnosis=_diagnosis(problem, constraint, checked),
    )


@dataclass(frozen=True)
class _Check:
    worst: float
    share: float
    active: float | None


def _value(problem: Problem, constraint: Constraint, handed: Mapping[str, Any]) -> tuple[Tensor | None, str]:
    """What is checked, and the words for it."""
    if constraint.slot is not None:
        value = constraint.slot.value().detach()
        return value, f"all {value.numel():,} entries"
    if constraint.name in handed:
        value, words = _given(constraint, handed[constraint.name]), "given"
    elif constraint.spec.function is not None:
        value, words = constraint.spec.function(problem.model).detach(), "now"
    elif constraint.last is not None:
        value, words = constraint.last, "of the last training step"
    else:
        return None, "never seen"
    if constraint.spec.per == "value":
        return value, "the value in the last step" if value is constraint.last else f"the value {words}"
    return value, f"{len(value):,} points {words}"


def _given(constraint: Constraint, handed: Any) -> Tensor:
    value = handed[0] if isinstance(handed, (tuple, list)) and handed else handed
    if not isinstance(value, Tensor):
        raise ValueError(f"report: {constraint.name}: expected a tensor, got {type(value).__name__}.")
    if constraint.measure is not None:
        constraint.check_shape(value)
    return value.detach()


def _check(constraint: Constraint, value: Tensor | None) -> _Check | None:
    if value is None:
        return None
    if value.numel() == 0:
        return _Check(0.0, 0.0, None)
    outside = violations(constraint, value)
    active = _active_share(constraint.bound, value) if constraint.measure is not None else None
    return _Check(float(outside.max()), float((outside != 0).float().mean()), active)


def _active_share(set: Set, value: Tensor) -> float | None:
    """Share of the units with a slack that is 0 up to rounding; sets without an interior are always active."""
    if not set.offers("slack"):
        return None if set.offers("lmo") and not set.separable else 1.0
    limit = max(set.tolerance(value.dtype), 0.0)
    touching = torch.zeros_like(set.distance(value), dtype=torch.bool)
    for slack in set.slack(value):
        close = slack <= limit
        touching = touching | (close if close.shape == touching.shape else set.sum_units(close.float()) > 0)
    return float(touching.float().mean())


def _guarantee(constraint: Constraint, checked: _Check | None) -> str:
    if checked is None or not constraint.enabled:
        return "encouraged"
    holds = checked.worst == 0
    if constraint.slot is None:
        return "at these points" if holds else "encouraged"
    promised = constraint.method.guarantee
    if promised == "encouraged":
        return "exact" if holds and constraint.bound.exact else "encouraged"
    if not holds:
        return "broken"
    return "exact" if promised == "projected" and constraint.bound.exact else promised


def _stationarity(problem: Problem, constraint: Constraint) -> float | None:
    slot = constraint.slot
    if slot is None:
        return _norm_of_gradients(problem)
    gradient = _gradient(constraint)
    if gradient is None:
        return None
    if _is_projected(constraint):
        x = slot.value().detach()
        gradient = x - constraint.bound.project(x - gradient)
    elif constraint.method.hard and slot.chart is None and constraint.bound.needs_tangent:
        gradient = gradient.clone()
        constraint.bound.reduce_gradients_([slot.value().detach()], [gradient], 1e-3)
    return float(torch.linalg.vector_norm(gradient.float()))


def _is_projected(constraint: Constraint) -> bool:
    """Whether a plain weight is held in a convex set by nothing but the projection."""
    method, slot = constraint.method, constraint.slot
    held = method.guarantee == "projected" and not constraint.has_term
    return held and slot is not None and slot.chart is None and constraint.bound.convex


def _gradient(constraint: Constraint) -> Tensor | None:
    """The gradient of what is minimised, in the last step, as it was before a method replaced it."""
    if constraint.raw_gradient is not None:
        return constraint.raw_gradient
    assert constraint.slot is not None
    gradient = constraint.slot.leaf.grad
    if gradient is None:
        return None
    return (gradient.to_dense() if gradient.is_sparse else gradient) * constraint.sign


def _norm_of_gradients(problem: Problem) -> float | None:
    gradients = [slot.leaf.grad for slot in problem.slots.values() if slot.leaf.grad is not None]
    norms = [
        torch.linalg.vector_norm(
            (gradient.coalesce().values() if gradient.is_sparse else gradient).float()
        ).cpu()
        for gradient in gradients
    ]
    return float(torch.stack(norms).norm()) if norms else None


def _multiplier(constraint: Constraint) -> tuple[float | None, float | None]:
    """The largest multiplier with its sign, and the sum of their magnitudes per unit."""
    found = multiplier_of(constraint)
    if found is None:
        found = _multiplier_of_projection(constraint)
    if found is None or found.numel() == 0:
        return None, None
    flat = found.reshape(-1)
    assert constraint.measure is not None
    return float(flat[flat.abs().argmax()]), float(constraint.measure.price(found))


def _multiplier_of_projection(constraint: Constraint) -> Tensor | None:
    """For a projected weight: what of −∇f the set has taken away, an element of the normal cone."""
    slot, replaced = constraint.slot, constraint.method.replaces_gradients(constraint.bound)
    if slot is None or not _is_projected(constraint) or (replaced and constraint.raw_gradient is None):
        return None
    gradient = _gradient(constraint)
    if gradient is None:
        return None
    x = constraint.bound.project(slot.value().detach())
    mapped = gradient.clone()
    constraint.bound.reduce_gradients_([x], [mapped], 1e-3)
    return mapped - gradient


def _saturation(constraint: Constraint) -> float | None:
    slot = constraint.slot
    if constraint.saturation is not None:
        return constraint.saturation
    if slot is None or slot.chart is None or not constraint.method.latent:
        return None
    return float(slot.chart.saturated(slot.leaf).float().mean())


def _diagnosis(problem: Problem, constraint: Constraint, checked: _Check | None) -> str:
    said = []
    if not constraint.enabled:
        said.append("switched off")
    if constraint.has_term and constraint.last is None and constraint.enabled:
        said.append("its method acts through problem.loss(…), which has never been called with gradients")
    elif (
        constraint.slot is not None and problem.was_attached and not constraint.ticks and not problem.finished
    ):
        said.append("attached, but no step has been taken since it was declared")
    if constraint.moved > 0:
        said.append(f"the weight was moved by {constraint.moved:.3g} to start inside")
    if constraint.nonfinite:
        said.append(f"{constraint.nonfinite} terms were not finite; multipliers ignored them")
    if checked is not None and math.isnan(checked.worst):
        said.append("holds NaN")
    saturation = _saturation(constraint)
    if saturation:
        said.append(
            f"{saturation:.1%} of the entries are saturated and no longer learn; Reparametrize(revive=True)"
        )
    tolerance = constraint.state.get("tolerance")
    if tolerance is not None and constraint.spec.tolerance is None:
        said.append(
            f"compared with a tolerance of {float(tolerance):.3g}, a thousandth of the first value's RMS"
        )
    return "; ".join(said)


def _number(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.3g}"


def _percent(value: float | None) -> str:
    if value is None:
        return "–"
    return "<0.1%" if 0 < value < 0.001 else f"{value:.1%}"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
