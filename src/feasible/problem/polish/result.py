"""What a polish did, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass

from feasible.problem.text import table


@dataclass(frozen=True)
class Stage:
    """The model at the end of one stage."""

    name: str
    loss: float
    """The mean of the batches' losses, in eval mode."""
    metric: float | None
    """The mean of the batches' metrics, where one was asked for."""
    changed: int
    """How many discrete entries the stage has changed."""
    seconds: float


@dataclass(frozen=True)
class Polish:
    """The stages of a polish, in their order; prints as a table."""

    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = ()
    """What was left out, and why; where a search has ended."""
    evaluations: int = 0
    """How many times the search has computed the loss on all data (a gradient counts as three)."""

    def __getitem__(self, name: str) -> Stage:
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(f"no stage {name!r}; there are: {', '.join(stage.name for stage in self.stages)}")

    @property
    def loss(self) -> float:
        """The loss at the end."""
        return self.stages[-1].loss

    @property
    def metric(self) -> float | None:
        """The metric at the end."""
        return self.stages[-1].metric

    def __repr__(self) -> str:
        measured = any(stage.metric is not None for stage in self.stages)
        rows = [("stage", "loss", *(["metric"] if measured else []), "entries changed", "seconds")]
        for stage in self.stages:
            metric = [f"{stage.metric:.6g}"] if stage.metric is not None else [""] if measured else []
            rows.append(
                (stage.name, f"{stage.loss:.6g}", *metric, f"{stage.changed:,}", f"{stage.seconds:.2f}")
            )
        return "\n".join([table(rows), *self.notes])
