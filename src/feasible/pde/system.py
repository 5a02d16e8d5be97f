"""An equation on a domain with its conditions: all rows in units of one, and a diagnosis before any training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from feasible.pde.anchors import Anchor
from feasible.pde.balance import Rule, balanced
from feasible.pde.condition import Condition, OnPart
from feasible.pde.diagnosis import Diagnosis, diagnosis
from feasible.pde.domains import Domain
from feasible.pde.equations import Equation
from feasible.pde.inputs import as_inputs, check_rows, dtype_of_inputs, row_count
from feasible.pde.parts import Part, parted
from feasible.pde.residuals import ResidualReport, residual_report
from feasible.pde.samplers import sobol

__all__ = ["System"]

Model = Callable[..., Tensor]
POINTS = 256
"""Collocation points, where nothing else is said."""


@final
class System:
    """Rows of an equation and its conditions, each block divided by the root of its length.

    ``system(model)`` is one vector r whose ``‖r‖²`` is the sum of the blocks' mean squares, times their weights: hand
    it to ``optim.LevenbergMarquardt`` as a residual, to ``minimize`` or ``problem.require`` as an equality constraint;
    ``system(model).square().sum()`` is a loss.

    A model u(x; a, b, …) has inputs beside x. Conditions without inputs of their own hold for those of the system:
    ``Initial(line, "left", lambda x, a, b: a)`` has one row for each of them.

    Args:
        equation: what holds inside.
        domain: where.
        conditions: what is known beside it.
        points: collocation points, (n, dim), or their number (Sobol); ``None``: one for each row of inputs, or 256.
        inputs: further inputs at the collocation points, one row for each.
        weights: of the mean squares, one for the equation and one for each condition; ``None``: 1.
        dtype: of points that are made here; ``None``: that of the inputs, or torch's default.

    Raises:
        ValueError: points lie outside, inputs are not one row for each of them, or weights do not fit.

    >>> from feasible import pde
    >>> line = pde.Interval(0, 1)
    >>> ends = [pde.Dirichlet(line, "left", 0.0), pde.Dirichlet(line, "right", 1.0)]
    >>> system = System(pde.Poisson(), line, ends, points=50)
    >>> float(system(lambda x: x).abs().max()) < 1e-6, system.diagnose(warn=False).findings
    (True, ())
    >>> f = 1 + torch.rand(80, 1, dtype=torch.float64)
    >>> start = pde.Initial(line, "left", lambda x, f: 2 * f, order=1, scale=lambda x, f: f)
    >>> waves = System(pde.Helmholtz(lambda x, f: f), line, [start], inputs=[f], dtype=torch.float64)
    >>> float(waves(lambda x, f: 2 * torch.sin(f * x)).abs().max()) < 1e-14
    True
    """

    def __init__(
        self,
        equation: Equation,
        domain: Domain,
        conditions: Sequence[Condition] = (),
        points: Tensor | int | None = None,
        inputs: Sequence[Any] = (),
        weights: Sequence[float] | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not isinstance(equation, Equation) or not isinstance(domain, Domain):
            got = f"{type(equation).__name__} and {type(domain).__name__}"
            raise TypeError(f"System: expected an equation and a domain, in this order; got {got}.")
        if isinstance(conditions, Condition):
            raise TypeError(f"System: conditions must be a list. Use [{conditions.name}].")
        self.equation, self.domain = equation, domain
        equation.wanted(domain.dim)
        self.inputs = as_inputs("System", inputs)
        """What the model takes beside x, one row for each collocation point; assign together with other points."""
        self.conditions = tuple(by_rows(each, self.inputs, equation.outputs) for each in conditions)
        count = (row_count(self.inputs) or POINTS) if points is None else points
        dtype = dtype or dtype_of_inputs(self.inputs)
        self.points = sobol(domain, count, dtype=dtype) if isinstance(count, int) else count
        self._check()
        blocks = 1 + len(self.conditions)
        self.weights = [1.0] * blocks if weights is None else list(weights)
        """Of the mean squares of the blocks; see ``balance``."""
        if len(self.weights) != blocks or not all(0 <= w < math.inf for w in self.weights):
            raise ValueError(f"System: expected {blocks} weights ≥ 0, got {self.weights}.")

    def __repr__(self) -> str:
        known = ", ".join(condition.name for condition in self.conditions) or "no conditions"
        return f"System({self.equation.name} on {self.domain}; {known}; {len(self.points)} points)"

    def __call__(self, model: Model) -> Tensor:
        """All rows as one vector."""
        return torch.cat(
            [
                math.sqrt(weight / max(rows.numel(), 1)) * rows.reshape(-1)
                for weight, rows in zip(self.weights, self.blocks(model), strict=True)
            ]
        )

    @property
    def points(self) -> Tensor:
        """The collocation points, (n, dim); assign others to resample.

        Raises:
            ValueError: on assignment: some lie outside the domain.
        """
        return self._points

    @points.setter
    def points(self, points: Tensor) -> None:
        self._points = self.domain.require(points)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the blocks."""
        return (self.equation.name, *(condition.name for condition in self.conditions))

    def blocks(self, model: Model) -> list[Tensor]:
        """The rows of the equation and of each condition, nondimensional, (n, equations) each.

        Raises:
            ValueError: points and inputs do not fit.
        """
        like = self.points
        check_rows("System", like, self.inputs)
        found = [self.equation(model, like, *self.inputs)]
        for condition in self.conditions:
            x, inputs = condition.placed(like, self.inputs)
            found.append(condition.residual(model, x, *inputs))
        return found

    def chunks(self, size: int) -> list[Part]:
        """The rows in parts, each a function of the model: one after the other they are ``system(model)``.

        For systems whose graph does not fit into memory: a list of closures for ``optim.LevenbergMarquardt``, or one
        constraint each for ``project_parameters``. Points, inputs and weights are those of now.

        Args:
            size: the most points of a part.

        Raises:
            ValueError: it is not positive.

        >>> from feasible import pde
        >>> line = pde.Interval(0, 1)
        >>> system = System(pde.Poisson(), line, [pde.Dirichlet(line, "left", 0.0)], points=50)
        >>> parts = [part(torch.sin) for part in system.chunks(20)]
        >>> [len(part) for part in parts], torch.allclose(torch.cat(parts), system(torch.sin))
        ([20, 20, 10, 1], True)
        """
        if size < 1:
            raise ValueError(f"System.chunks: size must be positive, got {size!r}.")
        check_rows("System", self.points, self.inputs)
        parts = list(parted(lambda chosen: self.equation, self.points, self.inputs, self.weights[0], size))
        for condition, weight in zip(self.conditions, self.weights[1:], strict=True):
            some = partial(residual_of, condition)
            parts += parted(some, *condition.placed(self.points, self.inputs), weight, size)
        return parts

    def balance(
        self,
        model: Model,
        *,
        rule: Rule = "trace",
        momentum: float = 0.9,
        parameters: Iterable[Tensor] | None = None,
        probes: int = 4,
        seed: int = 0,
    ) -> list[float]:
        r"""Set the weights so that every block has the same hold on the parameters.

        With r_i the rows of block i over the root of their number and J_i their Jacobian, the wanted weights are

        .. math:: \hat w_i = \frac{1}{s_i} \sum_j s_j, \qquad
            s_i = \|J_i\|_F^2 \ \text{("trace")} \quad\text{or}\quad s_i = \|J_i^\top r_i\| \ \text{("gradient")},

        and :math:`\log w_i` moves by ``1 − momentum`` towards :math:`\log \hat w_i`: a running mean that one odd value
        does not throw off. ``"trace"`` makes the blocks learn equally fast (the traces of their tangent kernels) and
        holds near a solution, too; ``"gradient"`` makes the gradients of their losses equally long, whose ratios mean
        nothing any more where some block is solved. Call it every hundred steps or so: it costs a few backward passes.

        A block whose s is 0 (it is solved, or built in) keeps its weight, and so does one whose weight is 0.

        Args:
            model: of ``(x, *inputs)``.
            rule: what is made equal.
            momentum: how much of the old weights stays; 0: the new ones at once.
            parameters: what is trained; ``None``: all parameters of the model that require gradients.
            probes: vectors of random signs that estimate a trace.
            seed: of their signs.

        Returns:
            The weights.

        Raises:
            ValueError: an argument is out of range, or the rows of a block are not finite.
            TypeError: the model is no module, and no parameters are named.

        >>> from feasible import pde
        >>> line = pde.Interval(0, 1)
        >>> system = System(pde.Helmholtz(3.0), line, [pde.Dirichlet(line, "left", 1.0)])
        >>> layers = torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
        >>> min(system.balance(torch.nn.Sequential(*layers), momentum=0.0)) > 1
        True

        Source: Wang, Yu & Perdikaris, *When and why PINNs fail to train: a neural tangent kernel perspective* (2022);
        Wang, Teng & Perdikaris, *Understanding and mitigating gradient flow pathologies in physics-informed neural
        networks* (2021).
        """
        with torch.enable_grad():
            blocks = self.blocks(model)
            self.weights = balanced(
                blocks, self.names, self.weights, model, rule, momentum, parameters, probes, seed
            )
        return self.weights

    def report(
        self, model: Model, held_out: int = 1000, seed: int = 0, inputs: Sequence[Any] | None = None
    ) -> ResidualReport:
        """What is left of each block at the points that were trained on, and at others.

        Args:
            model: of ``(x, *inputs)``.
            held_out: how many fresh random points of the domain, and of the part of each condition.
            seed: of these points.
            inputs: at the fresh points, one row for each; ``None``: random rows of those that were trained on.

        Returns:
            A table with the sizes and quantiles of the residuals, and of the output beside them.

        >>> from feasible import pde
        >>> line = pde.Interval(0, 1)
        >>> system = System(pde.Helmholtz(3.0), line, [pde.Dirichlet(line, "left", 1.0)])
        >>> report = system.report(lambda x: torch.cos(3 * x), held_out=200)
        >>> report.rows[1].points, report.rows[1].largest < 1e-5, report.findings
        (200, True, ())
        """
        return residual_report(self, model, held_out, seed, inputs)

    def diagnose(
        self,
        tol: float = 1e-3,
        seed: int = 0,
        warn: bool = True,
        *,
        model: Model | None = None,
        row: int = 0,
    ) -> Diagnosis:
        """What is wrong with the problem itself, whatever the network.

        Constants are put in: a system that one of them solves is solved by it long before a network has learned
        anything. For linear equations the rows are applied to a basis of smooth functions (random features,
        orthonormal on the domain): their singular values tell functions that no row sees (missing conditions, or
        resonance), conditions that the others imply, and conditions that contradict each other. A nonlinear equation
        is linearised around a model: what is found then holds for functions close to it, so take one that nearly
        solves the equation.

        Args:
            tol: a function of size 1 whose rows are smaller than this, all together, counts as not seen.
            seed: of the features.
            warn: whether findings are warnings, too.
            model: around which a nonlinear equation is linearised; without one only constants are put in.
            row: of the inputs, where there are any: the function that is looked at.

        Returns:
            Findings in sentences, with the numbers behind them.
        """
        found = diagnosis(self.equation, self.domain, self.conditions, self.inputs, tol, seed, model, row)
        if warn:
            for sentence in found.findings:
                warnings.warn(f"{self}: {sentence}", stacklevel=2)
        return found

    def _check(self) -> None:
        """Raise where points, inputs and conditions do not fit."""
        check_rows("System", self.points, self.inputs)
        for condition in self.conditions:
            if isinstance(condition, OnPart) and condition.domain != self.domain:
                raise ValueError(
                    f"System: {condition.name} belongs to {condition.domain}, not to {self.domain}."
                )
            if isinstance(condition, Anchor):
                self.domain.require(condition.x)
            own = condition.placed(self.points, self.inputs)[1]
            if kinds(own) != kinds(self.inputs):
                raise ValueError(
                    f"System: expected inputs of {condition.name} like those at the collocation points, with rows of "
                    f"shape {kinds(self.inputs)}; got {kinds(own)}."
                )


def by_rows(condition: Condition, inputs: Sequence[Any], outputs: int) -> Condition:
    """The condition with its value by rows, where it is meant so; see ``OnPart.by_rows``."""
    if not isinstance(condition, OnPart):
        return condition
    return condition.by_rows(inputs, outputs if condition.component is None else 1)


def residual_of(condition: Condition, rows: Tensor) -> Callable[..., Tensor]:
    """The residual of some rows of a condition, at their points."""
    return condition.some(rows).residual


def kinds(inputs: Sequence[Any]) -> list[tuple[int, ...] | None]:
    """The shape of one row of each input; ``None`` where it has none."""
    return [tuple(each.shape[1:]) if isinstance(each, Tensor) else None for each in inputs]
