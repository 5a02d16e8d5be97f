"""Levenberg–Marquardt: damped Gauss–Newton steps for residuals, with weights under sets."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, final, get_args

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from feasible.errors import UnsupportedError
from feasible.optim.constrained import ConstrainedOptimizer, Sets
from feasible.optim.quadratic import Quadratic
from feasible.optim.region import Region, is_curved
from feasible.optim.residuals import Closure, Form, Linearisation, Residual, Weights
from feasible.optim.trials import Trials
from feasible.optim.variable_projection import Elimination
from feasible.optim.vector import Vector
from feasible.sets import Set

__all__ = ["LevenbergMarquardt", "LevenbergMarquardtStep"]


@final
@dataclass(frozen=True)
class LevenbergMarquardtStep:
    """What one iteration did."""

    accepted: bool
    """Whether the weights moved; where not, they have kept their bits."""
    loss: float
    """``½ Σ w r²`` where it began."""
    new_loss: float
    """Where it ended; the same where nothing moved."""
    gain_ratio: float
    """The decrease over what the linearised residual predicted, at the last trial."""
    damping: float
    """μ of the last trial."""
    trials: int
    rank: float | None
    """``Σ σ²/(σ² + μ)``: how many directions the residual decides on, rather than the damping; ``None``: unknown."""
    stationarity: float
    """``max |x − P(x − ∇f)|`` where it began."""
    jacobian: str
    """``"per-sample"``, ``"batched"`` or ``"products"``."""
    converged: bool
    """Whether no further decrease is in reach: a tolerance is met, or what is predicted is rounding."""


@final
class LevenbergMarquardt(ConstrainedOptimizer):
    """Least squares by damped Gauss–Newton steps: ``s = argmin ½‖J s + r‖² + μ/2 ‖s‖²``, ``f = ½ Σ w r²``.

    ``step(closure)`` takes the residual vector itself: no squares, no backward. μ is halved after a step whose
    decrease was above ¾ of the predicted one, and doubled after one below ¼ or a rejected one; a step that does
    not descend is taken back bit for bit. A second-order correction along the way (geodesic acceleration, one more
    evaluation a trial) follows curved valleys: it is what makes networks converge in hundreds of steps instead of
    thousands.

    **The Jacobian.** Where every sample belongs to one row of the residual, one backward pass gives all rows, layer by
    layer (linear layers and other products with weights, derivatives by ``autograd.grad`` or ``torch.func``, any
    functions of weights alone). That is checked in every step, never assumed; where it does not hold, batched
    vector–Jacobian products give the matrix, 20 times slower for 200 rows. Beyond 3,000 on the smaller
    side or 1 GiB only products are used (LSMR), with memory linear in both sides.

    **Accuracy.** Train in float64: steps are solved by Cholesky's decomposition, and by singular values where the
    damping falls below its rounding. In float32 the residual's own rounding (1e-7 of its largest term) is what can be
    reached.

    **Variable projection.** Parameters of a group with ``"linear": True`` are eliminated: they are kept at their
    least-squares optimum, undamped, and the others move by Kaufman's Jacobian of what is left. For parameters that the
    residual is affine in, such as a last layer's in a fit or a linear equation; where it is nearly affine in them, they
    take one Gauss–Newton step a trial, and where no such step descends, a damped one with the others. Needs fewer
    iterations, each with one more small Jacobian a trial. Losses are told where linear parameters are at their optimum.

    **Groups and ranks.** Other options are those of the first group. Under DDP every rank must see all rows: nothing is
    exchanged between ranks.

    **Sets.** Bounds by active sets in each step, other convex sets and smooth surfaces by projected gradients on the
    quadratic model.

    Args:
        params: parameters or groups of them; a group may have a ``"set"``, or ``"linear": True``.
        damping: the first μ, in units of the largest eigenvalue of ``JᵀJ``.
        sets: a set for all parameters, a list with one (or ``None``) for each, or a mapping from parameters.
        max_iter: iterations a step.
        max_trials: how many μ an iteration tries.
        increase: by what μ is multiplied after a bad trial.
        decrease: by what it is divided after a good step.
        acceleration: the longest correction, relative to the step: ``2‖a‖ ≤ acceleration · ‖s‖``, or the trial is
            rejected; 0: none. Left out where only products are used.
        tolerance_grad: an iteration does nothing where ``max |x − P(x − ∇f)|`` is no larger.
        tolerance_change: it is the last one where f fell by no more than this share of itself.
        jacobian: ``"auto"``, ``"per-sample"``, ``"batched"`` or ``"products"``.
        scaling: whether μ weighs a weight's move by the largest norm that its column of J has had, so that units do not
            matter: for models with a few unlike parameters, not for networks.
        chunk_size: rows of the Jacobian that are computed at a time; ``None``: what memory suggests.
        solver_tolerance: of LSMR, relative to the gradient.
        solver_rounds: the most rounds of LSMR.

    Raises:
        ValueError: an argument is out of range, a parameter is complex, or a set does not fit.
        UnsupportedError: a set is discrete, or another one without tangent planes, or holds a linear parameter.

    >>> import torch, feasible as fs
    >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    >>> optimizer = fs.optim.LevenbergMarquardt([x])
    >>> for _ in range(20):
    ...     _ = optimizer.step(lambda: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    >>> bool((x - 1).abs().max() < 1e-12), optimizer.last.converged
    (True, True)

    Source: Marquardt (1963); Moré (1978), scaling; Nielsen, *Damping parameter in Marquardt's method* (1999);
    Golub & Pereyra, *Separable nonlinear least squares: the variable projection method and its applications* (2003);
    Kaufman, *A variable projection method for solving separable nonlinear least squares problems* (1975);
    Transtrum & Sethna, *Improvements to the Levenberg–Marquardt algorithm for nonlinear least-squares
    minimization* (2012); Fong & Saunders, *LSMR* (2011).
    """

    works_with = "convex sets, Sphere and Stiefel. For discrete sets train with Adam and ProximalAnneal."
    searches = True

    last: LevenbergMarquardtStep | None = None
    """What the last iteration did."""
    _work: Linearisation | None = None
    _linear: Elimination | None = None

    def __init__(
        self,
        params: ParamsT,
        damping: float = 1e-3,
        sets: Sets | None = None,
        *,
        max_iter: int = 1,
        max_trials: int = 30,
        increase: float = 2.0,
        decrease: float = 2.0,
        acceleration: float = 0.75,
        tolerance_grad: float = 0.0,
        tolerance_change: float = 0.0,
        jacobian: Form = "auto",
        scaling: bool = False,
        chunk_size: int | None = None,
        solver_tolerance: float = 1e-4,
        solver_rounds: int = 300,
    ) -> None:
        counts: dict[str, Any] = {
            "max_iter": max_iter,
            "max_trials": max_trials,
            "solver_rounds": solver_rounds,
        }
        for name, count in {**counts, "chunk_size": 1 if chunk_size is None else chunk_size}.items():
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"LevenbergMarquardt: {name} must be a positive integer, got {count!r}.")
        sizes = {"acceleration": acceleration, "tolerance_grad": tolerance_grad}
        for name, number in {**sizes, "tolerance_change": tolerance_change}.items():
            if not 0 <= number < math.inf:
                raise ValueError(f"LevenbergMarquardt: {name} must be a number ≥ 0, got {number!r}.")
        for name, number in {"damping": damping, "solver_tolerance": solver_tolerance}.items():
            if not 0 < number < math.inf:
                raise ValueError(f"LevenbergMarquardt: {name} must be a number > 0, got {number!r}.")
        for name, number in {"increase": increase, "decrease": decrease}.items():
            if not 1 < number < math.inf:
                raise ValueError(f"LevenbergMarquardt: {name} must be a number > 1, got {number!r}.")
        if jacobian not in get_args(Form):
            known = ", ".join(map(repr, get_args(Form)))
            raise ValueError(f"LevenbergMarquardt: jacobian must be one of {known}, got {jacobian!r}.")
        options: dict[str, Any] = {
            **counts,
            **sizes,
            "damping": damping,
            "tolerance_change": tolerance_change,
        }
        options |= {
            "increase": increase,
            "decrease": decrease,
            "jacobian": jacobian,
            "chunk_size": chunk_size,
        }
        if scaling and jacobian == "products":
            raise ValueError(
                'LevenbergMarquardt: scaling=True needs the columns of J, jacobian="products" has none.'
            )
        options |= {"scaling": scaling, "linear": False}
        super().__init__(params, {**options, "solver_tolerance": solver_tolerance}, sets)

    def objection(self, set: Set) -> str | None:
        """Discrete sets, and others that are neither convex nor smooth surfaces."""
        if set.convex or is_curved(set):
            return None
        kind = "discrete" if set.discrete else "neither convex nor a smooth surface"
        return f"it is {kind}, and a linear model says nothing about the way through it"

    @torch.no_grad()
    def step(self, closure: Closure | None = None, weights: Weights | None = None) -> Tensor:  # type: ignore[override]
        """Up to ``max_iter`` iterations; ``last`` says what the last one did.

        Args:
            closure: returns the residual: a tensor of any shape, or a tuple of them. It must not change between its
                calls in one step; random numbers are drawn alike. A list of closures is a residual in parts: where
                products are used there is only the graph of one part at a time, made anew for each product.
            weights: of the squares; a tensor that broadcasts to the residual, or one for each of the tuple.

        Returns:
            ``½ Σ w r²`` where the step began.

        Raises:
            ValueError: there is no closure, or it returns no residual.
            FloatingPointError: the residual or its Jacobian is not finite where an iteration begins; the weights stay
                as they were.
        """
        if closure is None:
            raise ValueError(
                "LevenbergMarquardt.step needs a closure that returns the residual, without backward."
            )
        work, region = self._prepare()
        if not sum(work.vector.sizes):
            raise ValueError("LevenbergMarquardt: no parameter requires a gradient.")
        residual = Residual(closure, weights, work.vector.parameters[0].device)
        first = None
        for _ in range(self._options["max_iter"]):
            self.last = self._iterate(work, region, residual)
            first = self.last.loss if first is None else first
            if self.last.converged or not self.last.accepted:
                break
        return torch.tensor(first, dtype=work.vector.dtype)

    def _iterate(self, work: Linearisation, region: Region, residual: Residual) -> LevenbergMarquardtStep:
        options, own, vector = self._options, self._own, work.vector
        x = self._enter(vector, region)
        if options["scaling"] and ("lengths" not in own or own["lengths"].shape != x.shape):
            own["lengths"] = torch.zeros_like(x)
        if self._linear is not None:
            self._linear.settle(residual)
            x = vector.read()
        r, system = work.at(residual, own.get("lengths"))
        g = region.tangent(x, system.transposed(r))
        self._check(r, g, work)
        plain = system
        if self._linear is not None:
            system = self._linear.eliminated(plain)
        if not own["n_iter"] and residual.is_number and x.numel() > 1:
            warnings.warn(
                f"LevenbergMarquardt: the closure returned a single residual for {x.numel():,} weights. Return the "
                "residuals y − f(x) themselves, not their mean square.",
                stacklevel=4,
            )
        own["n_iter"] += 1
        if "damping" not in own:
            own["damping"] = options["damping"] * (system.size or 1.0)
        stationarity = region.stationarity(x, g)
        form = residual, vector, work.used != "products", options
        settle = None if self._linear is None else self._linear.settle
        trials = Trials(Quadratic(region, system, x, r, g), *form, settle)
        if stationarity > options["tolerance_grad"]:
            first = max(own["damping"], system.least_damping)
            own["damping"] = trials.run(first)
            if settle is not None and not trials.accepted and not trials.is_level:
                # Undamped, a step of linear parameters ascends where the residual is far from affine in them.
                system = plain
                trials = Trials(Quadratic(region, system, x, r, g), *form)
                own["damping"] = trials.run(max(first, system.least_damping))
        loss, fall = trials.loss, trials.fall
        return LevenbergMarquardtStep(
            accepted=trials.accepted,
            loss=loss,
            new_loss=loss - fall,
            gain_ratio=trials.gain,
            damping=trials.damping,
            trials=trials.count,
            rank=system.rank(trials.damping) if trials.count else None,
            stationarity=stationarity,
            jacobian=str(work.used),
            converged=not trials.count or trials.is_level or fall <= options["tolerance_change"] * loss,
        )

    # -- what an iteration starts from ----------------------------------------------------------------

    @property
    def _own(self) -> dict[str, Any]:
        """What is remembered across steps; torch saves it under the first parameter."""
        own: dict[str, Any] = self.state[self._parameters()[0]]
        own.setdefault("n_iter", 0)
        return own

    def _prepare(self) -> tuple[Linearisation, Region]:
        """The weights as they are now: parameters and sets may have come, gone or moved since the last step."""
        vector = Vector(self._parameters())
        if self._work is None or self._work.vector.key != vector.key:
            if self._work is not None:
                self._own.pop("lengths", None)  # of other weights
            self._work = self._linearise(vector)
        self._linear = self._eliminate(vector)
        sets = [self.set_of(parameter) for parameter in vector.parameters]
        return self._work, Region(vector.parameters, sets, vector.dtype)

    def _linearise(self, vector: Vector) -> Linearisation:
        options = self._options
        solver = options["solver_tolerance"], options["solver_rounds"]
        return Linearisation(vector, options["jacobian"], options["chunk_size"], *solver)

    def _eliminate(self, vector: Vector) -> Elimination | None:
        """What keeps the parameters of linear groups at their optimum; ``None`` where there is no such group."""
        linear = [p for group in self.param_groups if group.get("linear") for p in group["params"]]
        held = next((p for p in linear if self.set_of(p) is not None), None)
        if held is not None:
            raise UnsupportedError(
                f"LevenbergMarquardt: {self._name(held)} is linear, and held in {self.set_of(held)!r}: what is "
                'eliminated by least squares has no set.\n  Works without "linear": True.'
            )
        wanted = Vector(linear)
        if not wanted.parameters:
            return None
        if self._linear is not None and self._linear.key == (vector.key, wanted.key):
            return self._linear
        return Elimination(wanted, vector, self._linearise(wanted))

    def _enter(self, vector: Vector, region: Region) -> Tensor:
        """The weights, in their sets."""
        x = vector.read()
        member = region.project(x)
        return x if torch.equal(member, x) or not bool(x.isfinite().all()) else vector.write(member)

    def _check(self, r: Tensor, g: Tensor, work: Linearisation) -> None:
        """Raise where there is nothing to start from, and say where."""
        after = f"LevenbergMarquardt: after {self._own['n_iter']} iterations"
        vector = work.vector
        x = vector.read()
        if not bool(x.isfinite().all()):
            name = self._name(vector.parameters[vector.locate(~x.isfinite())])
            raise FloatingPointError(f"{after} {name} is not finite.")
        bad = ~r.isfinite()
        if bool(bad.any()):
            raise FloatingPointError(
                f"{after} {int(bad.sum())} of {len(r)} residuals are not finite, "
                f"the first one row {int(bad.nonzero()[0])}."
            )
        if not bool(g.isfinite().all()):
            name = self._name(vector.parameters[vector.locate(~g.isfinite())])
            raise FloatingPointError(f"{after} the residual is finite, but its derivative by {name} is not.")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch; the sets stay as they are."""
        super().load_state_dict(state_dict)
        self._work = self._linear = None
