"""One row a method: it goes through the whole conformance suite, and its wrong arguments are refused."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pytest
import torch

import feasible as fs
from feasible.schedules import Exponential, Linear
from feasible.testing import METHOD_CHECKS, MethodSubject, specifications


@dataclass(frozen=True)
class MethodCase(MethodSubject):
    """A subject of the conformance suite, and what the method refuses."""

    rejects: Sequence[tuple[Callable[[], object], str]] = ()
    """Wrong arguments, and what the error says."""
    skip: Sequence[str] = ()
    """Checks that do not apply."""

    def __str__(self) -> str:
        return repr(self.method)


MEASURES = ["steps_that_never_come_change_nothing"]
"""Without numbers of its own the problem measures at the first loss, and need not measure again after a skip."""
STRAIGHT = (
    fs.Box(-1, 1),
    fs.NonNegative(),
    fs.Box(0, 1).where(torch.tensor([[True, False, True], [False, True, True]])),
    fs.HalfSpace(torch.ones(3), 0.5),
    fs.Simplex(),
)
"""Sets with linear slack functions, and one without."""
SINKING = ("the_task_is_still_learned",)
"""The term is negative inside the set and sinks with its multipliers: the sum with the task's loss may grow."""

AFRESH = (
    "it_says_what_it_does",
    "multiplier_has_the_form_of_the_value",
    "weights_that_need_no_change_keep_their_bits",
    "weights_do_not_disturb_each_other",
)
"""Its multiplier comes from the step, not from ``update``; and it is not for weights."""

RELAXED = (
    fs.OneHot(),
    fs.OneHot(dim=0),
    fs.OneHot(dim=None),
    fs.OneHot().where(torch.tensor([True, False, True])),
    fs.OneHot().flatten(0),
    fs.FiniteSet([-1, 0, 1]),
    fs.Integers(0, 2).where(torch.tensor([[True, False, True], [False, True, True]])),
    fs.Candidates(torch.arange(24.0).reshape(4, 2, 3).sin()),
    fs.Integers(),
    fs.Simplex(),
)
"""Sets with a relaxation, and two without."""
LISTED = (
    fs.FiniteSet([-1, 0, 1]),
    fs.OneHot(),
    fs.Integers(0, 2).where(torch.tensor([[True, False, True], [False, True, True]])),
    fs.OneHot(dim=0),
    fs.OneHot().where(torch.tensor([True, False, True])),
    fs.Candidates(torch.arange(24.0).reshape(4, 2, 3).sin()),
    fs.Simplex(),
)
"""Sets whose units have lists of members, and one without."""
COOLING = ("weights_that_need_no_change_keep_their_bits",)
"""The weight moves with the temperature alone."""
OWN_SEEDS = (
    "trainings_do_not_disturb_each_other",
    "weights_do_not_disturb_each_other",
    "steps_that_never_come_change_nothing",
)
"""Every declaration draws a seed of its own."""

APART = (
    fs.FiniteSet([-1, 0, 1]),
    fs.FiniteSet([-0.1, 0.3, 7.0]).where(torch.tensor([[True, False, True], [False, True, True]])),
    fs.Integers(),
    fs.OneHot(),
    fs.OneHot(dim=0),
    fs.OneHot().where(torch.tensor([True, False, True])),
    fs.OneHot().flatten(0),
    fs.Candidates(torch.arange(24.0).reshape(4, 2, 3).sin()),
    fs.OneHot() | fs.Sphere(3.0),
    fs.NofM(1, 3),
    fs.Sphere(),
    fs.LowRank(1),
    fs.Simplex(),
    fs.Box(-1, 1),
)
"""Sets that are not convex, and two that are."""

CASES = [
    MethodCase(
        fs.Project(),
        solves=1e-6,
        rejects=[
            (lambda: fs.Project(every=0), "every must be a positive whole number, got 0"),
            (lambda: fs.Project(every=1.5), "every must be a positive whole number, got 1.5"),
            (lambda: fs.Project(tangent="always"), 'tangent must be True, False or "auto"'),
            (lambda: fs.Project(moments="lose"), 'moments must be "keep", "tangent" or "reset"'),
        ],
    ),
    MethodCase(fs.Project(every=3, moments="reset")),
    MethodCase(fs.Project(tangent=True, moments="tangent"), solves=1e-6),
    MethodCase(fs.Reparametrize()),
    MethodCase(fs.Reparametrize(revive=True)),
    MethodCase(
        fs.Penalty(2.0),
        rejects=[
            (lambda: fs.Penalty(0.0), "Penalty: weight must be positive and finite, got 0.0"),
            (lambda: fs.Penalty(-1.0), "weight must be positive"),
            (lambda: fs.Penalty(float("nan")), "positive and finite"),
            (lambda: fs.Penalty("large"), "weight must be a number or a schedule"),
            (lambda: fs.Penalty(lambda step: -1.0), "at step 0"),
            (lambda: fs.Penalty(1.0, kind="cubic"), 'kind must be "squared", "exact", "product" or'),
            (lambda: fs.Penalty(1.0, kind="product", unit=0.0), "unit must be a positive, finite length"),
            (lambda: fs.Penalty(1.0, kind="product", unit="gap"), "length or \"auto\", got 'gap'"),
            (lambda: fs.Penalty(1.0, unit=2.0), "unit=2.0 belongs to the products of distances"),
        ],
    ),
    MethodCase(fs.Penalty(0.7, kind="exact"), smooth=False),
    MethodCase(fs.Penalty(Linear(0.5, 5.0, 10))),
    MethodCase(fs.Penalty(0.1, kind="product"), LISTED, rate=1e-3),
    MethodCase(fs.Penalty(0.1, kind="product", unit="auto"), LISTED, rate=1e-3),
    MethodCase(fs.Penalty(1e-3, kind="textbook-product"), LISTED[:3], rate=1e-6),
    MethodCase(
        fs.Barrier(0.1),
        rate=1e-6,  # the parabola outside is steep
        rejects=[
            (lambda: fs.Barrier(0.0), "Barrier: weight must be positive"),
            (lambda: fs.Barrier(1.0, kind="exp"), 'kind must be "log" or "inverse"'),
            (lambda: fs.Barrier(1.0, margin=0.0), "margin must be positive"),
        ],
    ),
    MethodCase(fs.Barrier(1e-3, kind="inverse"), rate=1e-6),
    MethodCase(fs.Barrier(Exponential(0.1, 0.999)), rate=1e-6),
    MethodCase(
        fs.ExactMultipliers(),
        skip=AFRESH,
        rejects=[
            (lambda: fs.ExactMultipliers(0.0), "ExactMultipliers: rate must be positive"),
            (lambda: fs.ExactMultipliers(damping=-1.0), "damping must be ≥ 0 and finite, got -1.0"),
            (lambda: fs.ExactMultipliers(truncation=1.0), "truncation must be in (0, 1), got 1.0"),
            (
                lambda: fs.ExactMultipliers(form="rows"),
                "form must be one of None, 'batch', 'sample', 'reduced'",
            ),
            (lambda: fs.ExactMultipliers(jacobian="secant"), "jacobian must be one of 'exact', 'broyden'"),
            (lambda: fs.ExactMultipliers(preconditioner="none"), "must be one of 'optimizer', 'identity'"),
        ],
    ),
    MethodCase(
        fs.Lagrangian(0.1),
        solves=1e-4,
        steps=1500,
        rate=0.2,
        rejects=[
            (lambda: fs.Lagrangian(dual_lr=0.0), "Lagrangian: dual_lr must be positive"),
            (lambda: fs.Lagrangian(dual_lr=Linear(0.0, 1.0, 5)), "at step 0"),
            (lambda: fs.Lagrangian(dual_lr=float("nan")), "dual_lr must be positive and finite, got nan"),
            (lambda: fs.Lagrangian(proportional_gain=0.0), "proportional_gain must be positive"),
            (
                lambda: fs.Lagrangian(proportional_gain=1.0, smoothing=1.0),
                "smoothing must be in (−1, 1), got 1.0",
            ),
            (lambda: fs.Lagrangian(smoothing=0.9), "Give proportional_gain as well"),
            (lambda: fs.Lagrangian(update="descent"), 'update must be "ascent" or "nupi", got \'descent\''),
            (lambda: fs.Lagrangian(proportional_gain=1.0, update="ascent"), "ascent has none"),
            (lambda: fs.Lagrangian(Linear(1.0, 2.0, 5), update="nupi"), "give proportional_gain as well"),
        ],
    ),
    MethodCase(fs.Lagrangian(0.1, proportional_gain=1.0, smoothing=0.5), solves=1e-4, steps=1500, rate=0.2),
    MethodCase(
        fs.AugmentedLagrangian(),
        solves=1e-4,
        steps=1500,
        rate=0.2,
        skip=MEASURES,
        rejects=[
            (lambda: fs.AugmentedLagrangian(penalty=0.0), "AugmentedLagrangian: penalty must be positive"),
            (lambda: fs.AugmentedLagrangian(penalty=Linear(0.0, 1.0, 5)), "at step 0"),
            (lambda: fs.AugmentedLagrangian(dual_lr=-1.0), "dual_lr must be positive"),
            (
                lambda: fs.AugmentedLagrangian(penalty=float("nan")),
                "penalty must be positive and finite, got nan",
            ),
            (lambda: fs.AugmentedLagrangian(growth=0.5), "growth must be a factor of at least 1"),
            (lambda: fs.AugmentedLagrangian(growth=float("nan")), "growth must be a factor of at least 1"),
            (lambda: fs.AugmentedLagrangian(growth=2.0, shrink=1.0), "shrink must be in (0, 1), got 1.0"),
            (
                lambda: fs.AugmentedLagrangian(growth=2.0, patience=0),
                "patience must be a positive number of ticks",
            ),
            (
                lambda: fs.AugmentedLagrangian(5.0, growth=2.0, max_penalty=2.0),
                "at least the first penalty, 5, got 2.0",
            ),
            (lambda: fs.AugmentedLagrangian(per_element=True), "Give growth as well"),
            (lambda: fs.AugmentedLagrangian(max_penalty=10.0), "Give growth as well"),
            (lambda: fs.AugmentedLagrangian(Linear(1.0, 2.0, 5), growth=2.0), "Give penalty as a number"),
        ],
    ),
    MethodCase(
        fs.AugmentedLagrangian(dual_lr=0.05, growth=2.0, patience=3),
        solves=1e-4,
        steps=1500,
        rate=0.1,
        skip=["samples_do_not_mix"],  # they share one penalty
    ),
    MethodCase(
        fs.AugmentedLagrangian(dual_lr=0.05, growth=2.0, patience=3, per_element=True),
        solves=1e-4,
        steps=1500,
        rate=0.1,
    ),
    MethodCase(fs.AugmentedLagrangian(3.0, 0.5), solves=1e-4, steps=1500, rate=0.2),
    MethodCase(fs.AugmentedLagrangian(Exponential(1.0, 1.01, maximum=5.0), Linear(0.1, 0.2, 10))),
    MethodCase(
        fs.SquaredSlack(),
        STRAIGHT,
        normal=False,
        solves=1e-4,
        steps=6000,
        rate=0.2,
        rejects=[
            (lambda: fs.SquaredSlack(penalty=0.0), "SquaredSlack: penalty must be positive"),
            (lambda: fs.SquaredSlack(slack_lr=0.0), "slack_lr must be in (0, 1], got 0.0"),
            (lambda: fs.SquaredSlack(slack_lr=1.5), "slack_lr must be in (0, 1], got 1.5"),
        ],
    ),
    MethodCase(
        fs.PenaltyBarrier(),
        (*STRAIGHT, fs.L2Ball(0.8), fs.L2Ball(1.0, dim=None)),
        solves=1e-4,
        steps=3000,
        rate=0.05,
        skip=SINKING,
        rejects=[
            (lambda: fs.PenaltyBarrier(penalty=0.0), "PenaltyBarrier: penalty must be positive"),
            (lambda: fs.PenaltyBarrier(dual_lr=-1.0), "dual_lr must be positive and finite, got -1.0"),
            (lambda: fs.PenaltyBarrier(first=0.0), "first must be positive and finite, got 0.0"),
            (lambda: fs.PenaltyBarrier(first=float("nan")), "first must be positive and finite, got nan"),
            (
                lambda: fs.PenaltyBarrier(max_change=1.0),
                "max_change must be a finite factor above 1, got 1.0",
            ),
        ],
    ),
    MethodCase(
        fs.SoftmaxAnneal(10),
        RELAXED,
        holds="finally",
        skip=COOLING,
        rejects=[
            (lambda: fs.SoftmaxAnneal(0), "SoftmaxAnneal: steps must be a positive whole number, got 0"),
            (lambda: fs.SoftmaxAnneal(2.5), "steps must be a positive whole number, got 2.5"),
            (lambda: fs.SoftmaxAnneal(5, first=0.0), "first must be positive and finite, got 0.0"),
            (lambda: fs.SoftmaxAnneal(5, last=float("nan")), "last must be positive and finite, got nan"),
            (lambda: fs.SoftmaxAnneal(5, first=0.1, last=0.2), "last must be at most first"),
            (lambda: fs.SoftmaxAnneal(5, noise=-1.0), "noise must be ≥ 0 and finite, got -1.0"),
        ],
    ),
    MethodCase(fs.StraightThrough(), APART),
    MethodCase(
        fs.ProximalAnneal(10),
        APART,
        rejects=[
            (lambda: fs.ProximalAnneal(0), "ProximalAnneal: steps must be a positive whole number, got 0"),
            (lambda: fs.ProximalAnneal(2.5), "steps must be a positive whole number, got 2.5"),
            (lambda: fs.ProximalAnneal(5, strength=0.0), "strength must be positive and finite, got 0.0"),
            (lambda: fs.ProximalAnneal(5, power=float("inf")), "power must be positive and finite, got inf"),
        ],
    ),
    MethodCase(fs.ProximalAnneal(3, strength=1.0, power=1.0), APART),
    MethodCase(fs.SoftmaxAnneal(10, noise=0.5), RELAXED, holds="finally", skip=[*COOLING, *OWN_SEEDS]),
    MethodCase(fs.PenaltyBarrier(1.0, 0.1), STRAIGHT, solves=1e-4, steps=3000, rate=0.05, skip=SINKING),
]

WRONG_ARGUMENTS = [pytest.param(*wrong, id=wrong[1]) for case in CASES for wrong in case.rejects]


def trials() -> Iterator[object]:
    """Every check with every row; rows behind the first of a class try few sets at once, and all when it is slow."""
    first = {type(case.method): case for case in reversed(CASES)}
    for check, case in product(METHOD_CHECKS, CASES):
        is_long = check in EXPENSIVE
        is_slow = case is not first[type(case.method)] and (is_long or not hasattr(specifications, check))
        marks = [pytest.mark.slow] if is_slow else []
        yield pytest.param(check, case, id=f"{check}-{case}", marks=marks)
        if is_slow and not is_long:
            yield pytest.param(check, replace(case, sets=case.sets[::3]), id=f"{check}-{case}-few sets")


EXPENSIVE = (
    "what_it_serves_trains_in_every_dtype",
    "every_shape_trains",
    "violations_get_smaller",
    "checkpoints_bring_everything_back",
    "line_searches_work_or_are_refused",
)


def test_every_public_method_has_a_row():
    public = {name for name in fs.methods.__all__ if name != "Method"}
    assert {type(case.method).__name__ for case in CASES} == public


@pytest.mark.parametrize(("check", "case"), list(trials()))
def test_method(check, case):
    if check in case.skip:
        pytest.skip("the row says that it does not apply")
    METHOD_CHECKS[check](case)


@pytest.mark.parametrize(("make", "message"), WRONG_ARGUMENTS)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
