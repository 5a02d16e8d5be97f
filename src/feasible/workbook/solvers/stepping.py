"""A torch optimizer in the loop that a user would write, with a method for the constraints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

import feasible as fs
from feasible.methods import Method
from feasible.workbook.errors import InputError, closest
from feasible.workbook.solvers.solver import Solution, Solver
from feasible.workbook.tasks.task import Function, Record

__all__ = ["Steps"]

OPTIMIZERS = ("Adam", "SGD", "LBFGS", "ProjectedLBFGS", "SSBroyden", "FrankWolfe", "MirrorDescent")


@final
@dataclass(frozen=True)
class Steps(Solver):
    """Steps of an optimizer on x as a weight; constraints by a method of the library.

    Args:
        optimizer: a class of ``torch.optim`` or of ``feasible.optim``.
        by: the method for all requirements; ``None``: each set's own for x itself, multipliers for functions.
        learning_rate: of the optimizer.

    Raises:
        InputError: there is no optimizer of this name.
    """

    optimizer: str = "Adam"
    by: Method | None = None
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            message = f'unknown optimizer "{self.optimizer}".{closest(self.optimizer, OPTIMIZERS)}'
            raise InputError(message, key=("optimizer",))

    def solve(self, record: Record, evaluations: int) -> Solution:
        """Steps until x no longer moves, or the evaluations are used up."""
        model = _Point(record.task.start)
        problem = self._problem(model, record)
        optimizer = problem.attach(self._make(model))

        def closure() -> float:
            optimizer.zero_grad()
            loss = problem.loss(record.objective(model.x))
            loss.backward()  # type: ignore[no-untyped-call]
            return loss  # type: ignore[return-value]  # torch's own optimizers return it as it is

        status = "used up its evaluations"
        while record.evaluations < evaluations:
            before = model.x.detach().clone()
            optimizer.step(closure)
            if torch.equal(model.x, before):
                status = "no longer moves"
                break
        problem.finish()
        return Solution(model.x.detach().clone(), status)

    def _problem(self, model: _Point, record: Record) -> fs.Problem:
        problem = fs.Problem(model)
        for requirement in record.task.requirements:
            function = requirement.function
            if function is None:
                problem.constrain("x", requirement.set, by=self.by, name=requirement.name)
            else:
                problem.require(requirement.name, requirement.set, by=self.by, fn=_of_weight(function))
        return problem

    def _make(self, model: _Point) -> torch.optim.Optimizer:
        module: Any = fs.optim if hasattr(fs.optim, self.optimizer) else torch.optim
        rate = {} if self.learning_rate is None else {"lr": self.learning_rate}
        made: torch.optim.Optimizer = getattr(module, self.optimizer)(model.parameters(), **rate)
        return made


def _of_weight(function: Function) -> Callable[[_Point], Tensor]:
    return lambda model: function(model.x)


class _Point(torch.nn.Module):
    """x as the only weight of a model."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.x = torch.nn.Parameter(start.clone())
