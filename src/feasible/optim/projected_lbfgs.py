"""L-BFGS for weights under sets: full batch with a line search, or on mini-batches without one."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from feasible.optim.constrained import ConstrainedOptimizer, Sets, as_number, needs_closure
from feasible.optim.curvature import SAVED, CurvaturePairs
from feasible.optim.descent import Point, Way, Work, best_way, damped, direction, displacement
from feasible.optim.line_search import Search, Trial
from feasible.optim.randomness import Replay
from feasible.optim.region import Region, is_curved
from feasible.optim.vector import Rates, Vector
from feasible.sets import Set

__all__ = ["ProjectedLBFGS"]

Closure = Callable[[], Any]


@final
class ProjectedLBFGS(ConstrainedOptimizer):
    """L-BFGS that keeps weights in their sets.

    **Bounds** (every separable convex set): entries that the gradient presses against a nearby bound take a
    plain gradient step, all others a quasi-Newton step from the curvature among themselves, and the path
    ``x(t) = P(x + t d)`` is searched (two-metric projection). **Other convex sets**, alone or with bounds: the
    quadratic model of L-BFGS is minimised over the set by spectral projected gradients, and the way there is
    searched. **Spheres and orthonormal matrices**: quasi-Newton steps in the tangent plane, and back by the
    projection. Weights without a set are free; other sets are refused.

    A full-batch ``step(closure)`` runs up to ``max_iter`` iterations with a line search on the closure's
    function, which must not change between its calls. With ``stochastic=True`` a step is one iteration without
    a line search, along an average of gradients: ``closure`` is called at x and again at the new x⁺ *on the
    same batch*, and ``(x⁺ − x, ∇f_B(x⁺) − ∇f_B(x))``, damped so that it curves upwards, is what is learned of
    the curvature. Where the batch's loss rose by more than it was predicted to fall, the step is taken back.
    That second call is what it costs: two gradients a step, or 1 + 1/k with ``curvature_every=k`` (which
    leaves the steps between unchecked). Random numbers are drawn alike in both calls, so dropout is the same;
    running averages of batch normalisation see a batch twice.

    Among several groups, ``lr`` and ``"set"`` are each group's own; all other options are those of the first. Under
    DDP the closure must return the loss averaged over the ranks (gradients are averaged already): ranks that compare
    losses of their own go different ways.

    Args:
        params: parameters or groups of them; a group may have a ``"set"``, and its own ``lr``.
        lr: the first trial of the line search in units of the quasi-Newton step; without a line search, the
            step itself (let it decay, as for SGD).
        sets: a set for all parameters, a list with one (or ``None``) for each, or a mapping from parameters.
        max_iter: iterations a step.
        max_eval: calls of the closure after which a step ends; ``None``: ``1.25 · max_iter``.
        tolerance_grad: a step ends where ``max |x − P(x − ∇f)|`` is no larger.
        tolerance_change: a step ends where the loss or every weight changed by no more.
        history_size: how many pairs are remembered: ``2 · history_size`` vectors of the size of the weights.
        stochastic: whether the closure sees another batch in every step.
        momentum: decay of the average of gradients that is followed; stochastic only.
        curvature_every: learn from every so many steps; stochastic only.
        maximize: maximise instead.

    Raises:
        ValueError: an argument is out of range, a parameter is complex, or a set does not fit.
        UnsupportedError: a set is discrete, or another one without tangent planes.
        FloatingPointError: the loss is not finite where a step begins, or wherever the line search looks.

    >>> import torch, feasible as fs
    >>> A = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    >>> x = torch.zeros(2, requires_grad=True)
    >>> optimizer = fs.optim.ProjectedLBFGS([x], sets=fs.NonNegative())
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = 0.5 * (A @ x - torch.tensor([4.0, -1.0])).square().sum()
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure)
    >>> x.detach()
    tensor([1.4000, 0.0000])

    Source: Bertsekas, *Projected Newton methods for optimization problems with simple constraints* (1982);
    Schmidt et al., *Optimizing costly functions with simple constraints* (2009); stochastic: Schraudolph, Yu &
    Günter (2007); damping: Wang, Ma, Goldfarb & Liu, *Stochastic quasi-Newton methods for nonconvex stochastic
    optimization* (2017).
    """

    works_with = (
        "convex sets, Sphere and Stiefel. For discrete sets train with Adam and ProximalAnneal or Project."
    )

    _work: Work | None = None
    _sets_are_new: bool = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        sets: Sets | None = None,
        *,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 10,
        stochastic: bool = False,
        momentum: float = 0.9,
        curvature_every: int = 1,
        maximize: bool = False,
    ) -> None:
        for name, value in {
            "max_iter": max_iter,
            "history_size": history_size,
            "curvature_every": curvature_every,
        }.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"ProjectedLBFGS: {name} must be a positive integer, got {value!r}.")
        for name, number in {
            "lr": lr,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
        }.items():
            if not 0 <= number < math.inf:
                raise ValueError(f"ProjectedLBFGS: {name} must be a number ≥ 0, got {number!r}.")
        if not 0 <= momentum < 1:
            raise ValueError(f"ProjectedLBFGS: momentum must be in [0, 1), got {momentum!r}.")
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "stochastic": stochastic,
            "momentum": momentum,
            "curvature_every": curvature_every,
            "maximize": maximize,
        }
        super().__init__(params, defaults, sets)

    @property
    def searches(self) -> bool:  # type: ignore[override]
        """Whether a step minimises: in full batches it does."""
        return not self._options["stochastic"]

    def objection(self, set: Set) -> str | None:
        """Discrete sets, and others that are neither convex nor smooth surfaces."""
        if set.convex or is_curved(set):
            return None
        kind = "discrete" if set.discrete else "neither convex nor a smooth surface"
        return f"it is {kind}, and curvature says nothing about the way through it"

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """One step; see the class for what it does.

        Args:
            closure: computes the loss, calls backward and returns the loss; gradients are cleared before each call.

        Returns:
            What the first call of the closure returned.

        Raises:
            ValueError: there is no closure, or it does not return one number.
            FloatingPointError: the loss is not finite; the weights stay as they were.
        """
        if closure is None:
            raise needs_closure("ProjectedLBFGS")
        closure = torch.enable_grad()(closure)
        work = self._prepare()
        x = self._enter(work)
        if not x.numel():
            return closure()
        if not self._options["stochastic"]:
            return self._minimise(closure, work, self._evaluate(closure, work, x))
        replay = Replay(x.device)
        start = self._evaluate(closure, work, x)
        return self._learn(closure, work, start, replay)

    # -- full batch ---------------------------------------------------------------------------------

    def _minimise(self, closure: Closure, work: Work, start: Point) -> Any:
        options, region, pairs = self._options, work.region, work.pairs
        if not start.is_finite:
            raise self._not_finite(work, start)
        here = last = start
        used = 1
        for _ in range(options["max_iter"]):
            residual = region.stationarity(here.x, here.g)
            if residual <= options["tolerance_grad"] or used >= options["max_eval"]:
                break
            way = best_way(region, pairs, here, residual, work.rates)
            if way is None:
                break
            try:
                found, tried = self._search(closure, work, way)
            except BaseException:
                work.vector.write(here.x)
                raise
            used, last = used + len(tried), tried[-1]
            if found is None and len(pairs):
                pairs.clear()  # the curvature is not what it was
                continue
            if found is None:
                break
            before, here = here, found
            pairs.learn(*displacement(region, before, here))
            self._own["n_iter"] += 1
            tolerance = options["tolerance_change"]
            if abs(here.f - before.f) < tolerance or float((here.x - before.x).abs().max()) <= tolerance:
                break
        if last is not here:
            # A step ends with the values and gradients of the point that it leaves.
            self._evaluate(closure, work, work.vector.write(here.x))
            if not last.is_finite:
                raise self._not_finite(work, last)
        return start.loss

    def _search(self, closure: Closure, work: Work, way: Way) -> tuple[Point | None, list[Point]]:
        """The accepted point on the way, and all that were tried."""
        tried: list[Point] = []

        def evaluate(t: float) -> Trial:
            tried.append(self._evaluate(closure, work, work.vector.write(way.at(t))))
            return way.trial(t, tried[-1])

        error = rounding(way.point.f, way.d.dtype)
        trial = Search(evaluate, way.start, way.longest, error).run(way.first)
        return (None if trial is None else trial.point), tried

    # -- mini-batches -------------------------------------------------------------------------------

    def _learn(self, closure: Closure, work: Work, start: Point, replay: Replay) -> Any:
        region, pairs = work.region, work.pairs
        if not start.is_finite:
            warnings.warn(f"{self._not_finite(work, start)}\n  This batch is left out.", stacklevel=4)
            return start.loss
        g = self._averaged(start.g)
        residual = region.stationarity(start.x, g)
        d, known = direction(region, pairs, start.x, g, residual, work.rates)
        length = work.rates.largest if known is not None else 1.0
        x = work.vector.write(region.project(torch.add(start.x, d, alpha=length)))
        self._own["n_iter"] += 1
        if (self._own["n_iter"] - 1) % self._options["curvature_every"]:
            return start.loss
        try:
            with replay:
                end = self._evaluate(closure, work, x)
        except BaseException:
            work.vector.write(start.x)
            raise
        if not end.is_finite:
            work.vector.write(start.x)
            pairs.clear()
            warnings.warn(f"{self._not_finite(work, end)}\n  The step is taken back.", stacklevel=4)
            return start.loss
        s, y = displacement(region, start, end)
        if bool(s.any()):
            pairs.learn(s, damped(s, y, pairs.newest_scale()))
        if end.f - start.f > abs(float(start.g @ s)):
            # The batch itself says that the step was far too long; what it taught stays.
            work.vector.write(start.x)
        return start.loss

    def _averaged(self, g: Tensor) -> Tensor:
        """The running average of gradients, without the bias of its start."""
        decay, own = self._options["momentum"], self._own
        if not decay:
            return g
        own["average"] = torch.lerp(own.get("average", torch.zeros_like(g)).to(g), g, 1 - decay)
        own["averaged"] = own.get("averaged", 0) + 1
        return own["average"] / (1 - decay ** own["averaged"])  # type: ignore[no-any-return]

    # -- weights, values, gradients -----------------------------------------------------------------

    @property
    def _own(self) -> dict[str, Any]:
        """What is remembered across steps besides the pairs; torch saves it under the first parameter."""
        own: dict[str, Any] = self.state[self._parameters()[0]]
        own.setdefault("n_iter", 0)
        own.setdefault("func_evals", 0)
        return own

    def _prepare(self) -> Work:
        """The weights as they are now: parameters and sets may have come, gone or moved since the last step."""
        old, vector = self._work, Vector(self._parameters())
        same = old is not None and old.vector.key == vector.key
        if old is None or not same or self._sets_are_new:
            sets = [self.set_of(parameter) for parameter in vector.parameters]
            region = Region(vector.parameters, sets, vector.dtype)
            pairs = (
                old.pairs if old is not None and same else self._remembered(vector, is_new=old is not None)
            )
            old = Work(vector, region, pairs, Rates(0.0))
        rates = {id(p): float(group["lr"]) for group in self.param_groups for p in group["params"]}
        self._work = old._replace(rates=vector.rates(rates))
        self._sets_are_new = False
        return self._work

    def _remembered(self, vector: Vector, is_new: bool) -> CurvaturePairs:
        """The pairs of a checkpoint or a copy; none where the weights are others than before."""
        pairs = CurvaturePairs(
            self._options["history_size"], vector.read(), balanced=self._options["stochastic"]
        )
        saved = {key: self._own.pop(key) for key in SAVED if key in self._own}
        if is_new:
            self._own.pop("average", None)
        elif saved:
            pairs.load(saved)
        return pairs

    def _enter(self, work: Work) -> Tensor:
        """The weights, in their sets."""
        x = work.vector.read()
        member = work.region.project(x)
        return x if torch.equal(member, x) or not bool(x.isfinite().all()) else work.vector.write(member)

    def _evaluate(self, closure: Closure, work: Work, x: Tensor) -> Point:
        """Loss and gradient at x, which the weights hold."""
        work.vector.clear_gradients()
        loss = closure()
        value = as_number("ProjectedLBFGS", loss)
        work.vector.check_gradients("ProjectedLBFGS")
        self._own["func_evals"] += 1
        sign = -1 if self._options["maximize"] else 1
        return Point(x, sign * value, work.region.tangent(x, sign * work.vector.read_gradients()), loss)

    def _not_finite(self, work: Work, point: Point) -> FloatingPointError:
        """What was not finite, and where."""
        step = self._own["n_iter"]
        broken = {"weight": point.x, "gradient": point.g}
        for what, entries in broken.items():
            if not bool(entries.isfinite().all()):
                name = self._name(work.vector.parameters[work.vector.locate(~entries.isfinite())])
                return FloatingPointError(
                    f"ProjectedLBFGS: after {step} iterations the loss is {point.f:g}, and the {what} of {name} "
                    "is not finite."
                )
        return FloatingPointError(f"ProjectedLBFGS: after {step} iterations the loss is {point.f:g}.")

    # -- copies and checkpoints ---------------------------------------------------------------------

    def _sets_changed(self) -> None:
        self._sets_are_new = True

    def state_dict(self) -> dict[str, Any]:
        """As in torch; the pairs are saved under the first parameter."""
        saved = super().state_dict()
        if self._work is not None:
            saved["state"] = {**saved["state"], 0: {**self._own, **self._work.pairs.state()}}
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch; the sets stay as they are.

        Raises:
            ValueError: it was saved from other parameters.
        """
        super().load_state_dict(state_dict)
        self._work = None

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles."""
        state = super().__getstate__()
        if self._work is not None:
            first = self._parameters()[0]
            state["state"] = defaultdict(dict, state["state"])
            state["state"][first] = {**self._own, **self._work.pairs.state()}
        return state


def rounding(f: float, dtype: torch.dtype) -> float:
    """By how much a value of f may be wrong."""
    return 10 * torch.finfo(dtype).eps * abs(f)
