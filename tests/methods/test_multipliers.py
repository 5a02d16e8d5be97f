"""How multipliers and penalties move, against formulas written out."""

from itertools import pairwise

import pytest
import torch
from method_tables import CONVEX_SETS, F64, ITERATIVE, target

import feasible as fs
from feasible.methods.penalty_barrier import _cost, _slope


def course(method, set, values, **kept):
    """The states after each of these values."""
    state = {**method.bind(values[0], set), **kept}
    states = []
    for step, value in enumerate(values):
        state = {**state, **method.update(value, set, state, step, False)}
        states.append(state)
    return states


def noise(count, seed=0, shape=(3,)):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=F64, generator=generator) for _ in range(count)]


# -- the plain Lagrangian and νPI ---------------------------------------------------------------------

WITH_SUPPORT = [name for name, (set, _) in CONVEX_SETS.items() if set.offers("support")]


@pytest.mark.parametrize("gain", [None, 0.5])
@pytest.mark.parametrize("name", [name for name in WITH_SUPPORT if name not in ITERATIVE])
def test_the_term_is_the_inner_product_less_the_support_function(name, gain):
    set, shape = CONVEX_SETS[name]
    v = target(shape=shape)
    set = set.bind(v)
    method = fs.Lagrangian(0.3, proportional_gain=gain)
    for state in course(method, set, [v, v / 2, -v, 3 * v]):
        expected = (state["multiplier"] * v).sum() - set.support(state["multiplier"]).sum()
        pull = method.pull(v, set, state, 4)
        torch.testing.assert_close(pull.amount, expected, atol=1e-9, rtol=1e-9)
        assert torch.equal(pull.gradient, state["multiplier"])


@pytest.mark.parametrize("smoothing", [0.0, 0.9, -0.5])
def test_nupi_on_an_equation_is_the_published_controller(smoothing):
    """θ = κ_p (ξ − ξ₀) + κ_i Σ e, with ξ the running mean of e."""
    values, gain, rate = noise(20), 0.7, 0.1
    states = course(fs.Lagrangian(rate, gain, smoothing), fs.Equal(0.0).bind(values[0]), values)
    smoothed, total = values[0], torch.zeros(3, dtype=F64)
    for value, state in zip(values, states, strict=True):
        smoothed, total = smoothing * smoothed + (1 - smoothing) * value, total + value
        expected = gain * (smoothed - values[0]) + rate * total
        torch.testing.assert_close(state["multiplier"], expected, atol=1e-12, rtol=0)


def test_nupi_on_an_inequality_is_the_published_recursion():
    """θ ← max(θ + κ_i e + κ_p (ξ − ξ_before), 0)."""
    values, gain, rate, smoothing, bound = noise(20), 0.7, 0.1, 0.5, 0.2
    states = course(fs.Lagrangian(rate, gain, smoothing), fs.Box(upper=bound).bind(values[0]), values)
    smoothed, expected = values[0], torch.zeros(3, dtype=F64)
    for value, state in zip(values, states, strict=True):
        before, smoothed = smoothed, smoothing * smoothed + (1 - smoothing) * value
        expected = (expected + rate * (value - bound) + gain * (smoothed - before)).clamp_min(0)
        torch.testing.assert_close(state["multiplier"], expected, atol=1e-12, rtol=0)


def test_equal_gains_without_smoothing_are_optimistic_ascent():
    values = noise(10)
    states = course(fs.Lagrangian(0.1, 0.1), fs.Equal(0.0).bind(values[0]), values)
    expected, before = torch.zeros(3, dtype=F64), values[0]
    for value, state in zip(values, states, strict=True):
        expected, before = expected + 0.1 * (2 * value - before), value
        torch.testing.assert_close(state["multiplier"], expected, atol=1e-12, rtol=0)


# -- penalties that grow ------------------------------------------------------------------------------


def test_the_default_keeps_nothing_but_multipliers():
    assert fs.AugmentedLagrangian().bind(torch.zeros(3), fs.Equal(0.0)).keys() == {"multiplier"}


def test_a_penalty_grows_while_the_violation_stalls_up_to_its_cap():
    method = fs.AugmentedLagrangian(1.0, 0.1, growth=2.0, patience=5, max_penalty=3.0)
    stuck = [torch.ones(3, dtype=F64)] * 20
    penalties = [float(s["penalty"]) for s in course(method, fs.Equal(0.0).bind(stuck[0]), stuck)]
    assert penalties == [1.0] * 9 + [2.0] * 5 + [3.0] * 6


@pytest.mark.parametrize(
    "values",
    [
        [0.9**step * torch.ones(3, dtype=F64) for step in range(100)],
        [torch.full((3,), (-1.0) ** step, dtype=F64) for step in range(100)],
        noise(500, seed=1),
        [torch.zeros(3, dtype=F64)] * 100,
        [torch.full((3,), float("nan"), dtype=F64)] * 100,
    ],
    ids=["it falls", "it swings", "it is noise", "it is none", "it is no number"],
)
@pytest.mark.parametrize("per_element", [False, True])
def test_a_penalty_stays_where_the_violation_does_not_stall(values, per_element):
    method = fs.AugmentedLagrangian(1.0, 0.1, growth=2.0, patience=25, per_element=per_element)
    last = course(method, fs.Equal(0.0).bind(values[0]), values)[-1]
    assert (last["penalty"] == 1).all()


@pytest.mark.parametrize(
    ("set", "grown"),
    [
        (fs.Box(upper=0.0), [[1.0, 2.0, 2.0], [1.0, 1.0, 2.0]]),
        (fs.L2Ball(1.0), [2.0, 2.0]),
        (fs.L2Ball(4.0), [2.0, 1.0]),
        (fs.L2Ball(1.0, dim=None), 2.0),
    ],
    ids=str,
)
def test_units_grow_their_own_penalties(set, grown):
    value = torch.tensor([[-1.0, 4.0, 3.0], [0.0, -1.0, 2.0]], dtype=F64)
    method = fs.AugmentedLagrangian(1.0, 0.1, growth=2.0, patience=5, per_element=True)
    set = set.bind(value)
    last = course(method, set, [value] * 10)[-1]
    assert last["penalty"].tolist() == grown
    # The formula with each unit's own number: λ⁺ lies in the normal cone at a member.
    pull = method.pull(value, set, last, 10)
    penalty = set.spread(last["penalty"], value)
    shifted = value + last["multiplier"] / penalty
    torch.testing.assert_close(pull.gradient, penalty * (shifted - set.project(shifted)))


def test_growth_moves_no_multiplier_and_helps_against_a_stiff_loss():
    """min 50 x² with x = 1: the multiplier is −100, and a penalty of 1 takes long to find it."""
    reached = {}
    for growth in (1.0, 2.0):
        x = torch.zeros(1, dtype=F64, requires_grad=True)
        problem = fs.Problem([x])
        method = fs.AugmentedLagrangian(1.0, 0.05, growth=growth, max_penalty=20.0 if growth > 1 else None)
        handle = problem.require("x", fs.Equal(1.0), by=method)
        optimizer = problem.attach(torch.optim.SGD([x], lr=0.01))
        multipliers = []
        for _ in range(2000):
            optimizer.zero_grad()
            problem.loss(50 * x.square().sum(), x=x).backward()
            optimizer.step()
            multipliers.append(float(handle.multiplier))
        reached[growth] = abs(multipliers[-1] + 100)
        jumps = [abs(b - a) for a, b in pairwise(multipliers)]
        assert max(jumps) < 1.5
    assert reached[2.0] < 0.01 < 10 < reached[1.0]


def test_samples_share_a_penalty_or_have_their_own():
    """Two of four samples are never seen, and one of the others is stuck."""
    for per_element in (False, True):
        x = torch.zeros(4, dtype=F64, requires_grad=True)
        problem = fs.Problem([x])
        method = fs.AugmentedLagrangian(1.0, 0.1, growth=2.0, patience=5, per_element=per_element)
        problem.require("rows", fs.Equal(0.0), by=method, per="index", size=4)
        optimizer = problem.attach(torch.optim.SGD([x], lr=0.0))
        for _ in range(10):
            optimizer.zero_grad()
            value = torch.tensor([0.0, 1.0], dtype=F64) + 0 * x[:2]
            problem.loss(x.sum(), rows=(value, torch.tensor([0, 2]))).backward()
            optimizer.step()
        penalty = problem.state_dict()["rows.penalty"].tolist()
        assert penalty == ([1.0, 1.0, 2.0, 1.0] if per_element else 2.0)


# -- penalty–barrier ----------------------------------------------------------------------------------


def test_the_penalty_barrier_function_is_smooth_and_finite():
    t = torch.tensor([-1e9, -3.0, -0.5 - 1e-9, -0.5, -0.5 + 1e-9, 0.0, 2.0, 1e3], dtype=F64).requires_grad_()
    value = _cost(t)
    (slope,) = torch.autograd.grad(value.sum(), t)
    torch.testing.assert_close(slope, _slope(t.detach()))
    assert value.isfinite().all()
    assert (slope > 0).all()
    assert (slope.diff() >= 0).all()
    assert (float(value[5].detach()), float(slope[5])) == (0.0, 1.0)
    assert abs(float((value[2] - value[4]).detach())) < 1e-8
    assert abs(float(slope[2] - slope[4])) < 1e-8


def test_a_multiplier_changes_by_a_bounded_factor():
    far = torch.tensor([-1e6, 1e6], dtype=F64)
    method = fs.PenaltyBarrier(1.0, 0.1, max_change=3.0)
    set = fs.NonNegative().bind(far)
    state = method.bind(far, set)
    full = method.update(far, set, state, 0, True)["duals"].reshape(-1)
    relaxed = method.update(far, set, state, 0, False)["duals"].reshape(-1)
    torch.testing.assert_close(full, torch.tensor([3.0, 1 / 3], dtype=F64))
    torch.testing.assert_close(relaxed, 1 + 0.1 * (full - 1))
    for _ in range(100):
        state = {**state, **method.update(far, set, state, 0, True)}
    assert (state["duals"] > 0).all()


@pytest.mark.parametrize("method", [fs.PenaltyBarrier(), fs.SquaredSlack()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("set", [fs.Box(0, 1), fs.L2Ball(1.0)], ids=str)
def test_multipliers_of_samples_have_the_shape_of_the_samples(method, set):
    """Two inequalities an entry, or one a vector: the multiplier is that of the value."""
    x = torch.full((3, 2), 2.0, requires_grad=True)
    problem = fs.Problem([x])
    handle = problem.require("x", set, by=method, per="index", size=3)
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.01))
    optimizer.zero_grad()
    problem.loss(x.sum(), x=(x[:2], torch.tensor([2, 0]))).backward()
    optimizer.step()
    assert handle.multiplier.shape == (3, 2)
    assert (handle.multiplier[[0, 2]] > 0).all()
    assert (handle.multiplier[1] == 0).all()


def test_the_controller_has_a_name():
    assert fs.Lagrangian(0.1, update="nupi") == fs.Lagrangian(0.1, proportional_gain=2.0)
    assert fs.Lagrangian(update="nupi") == fs.Lagrangian(proportional_gain=1.0)
    assert fs.Lagrangian(0.1, update="ascent") == fs.Lagrangian(0.1)
