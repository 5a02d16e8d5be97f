"""Samples: reductions of their distances, rows of their own, sets that would tie them together."""

import pytest
import torch

import feasible as fs

DOUBLE = torch.float64


def reduced(reduction, value):
    """The multiplier after one whole step with tolerance 0: the reduced distance itself."""
    x = torch.zeros(1, dtype=DOUBLE, requires_grad=True)
    problem = fs.Problem([x])
    by = fs.AugmentedLagrangian(penalty=1.0, dual_lr=1.0)
    handle = problem.require(
        "rows", fs.NonNegative(), per="sample", by=by, reduction=reduction, tolerance=0.0
    )
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.0))
    problem.loss(x.sum(), rows=value + x).backward()
    optimizer.step()
    return float(handle.multiplier)


VALUE = torch.tensor([[-1.0, 2.0], [0.5, -0.25], [3.0, 1.0], [-3.0, -4.0]], dtype=DOUBLE)
DISTANCE = torch.tensor([1.0, 0.25, 0.0, 5.0], dtype=DOUBLE)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("mean", DISTANCE.mean()),
        (1.0, DISTANCE.mean()),
        (2.0, DISTANCE.square().mean().sqrt()),
        (4, DISTANCE.pow(4).mean().pow(0.25)),
        (
            "huber",
            torch.nn.functional.huber_loss(
                DISTANCE, 0 * DISTANCE, delta=float(VALUE.float().square().mean().sqrt() / 2)
            )
            / (VALUE.square().mean().sqrt() / 2),
        ),
    ],
)
def test_reductions_follow_their_formulas(reduction, expected):
    assert reduced(reduction, VALUE) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("reduction", ["mean", 1.5, 2, "huber"])
def test_the_gradient_is_that_of_the_reduction(reduction):
    value = VALUE.clone().requires_grad_()
    problem = fs.Problem([value])
    by = fs.AugmentedLagrangian(penalty=1.0, dual_lr=1.0)
    problem.require("rows", fs.NonNegative(), per="sample", by=by, reduction=reduction, tolerance=0.0)

    def term(rows):
        return problem.terms(rows=rows)["rows"]

    (gradient,) = torch.autograd.grad(term(value), value)
    for place in ((0, 0), (1, 1), (3, 0)):
        shift = torch.zeros_like(value)
        shift[place] = 1e-6
        slope = (term(value + shift) - term(value - shift)).detach() / 2e-6
        assert float(gradient[place]) == pytest.approx(float(slope), rel=1e-5)


@pytest.mark.parametrize("reduction", ["l2", 0.5, "Huber"])
def test_other_reductions_are_refused(reduction):
    problem = fs.Problem([torch.zeros(1, requires_grad=True)])
    with pytest.raises(ValueError, match='reduction must be "mean", "huber" or the p ≥ 1'):
        problem.require("rows", fs.NonNegative(), per="sample", reduction=reduction)


def rows_after(batches, penalty=1.0):
    x = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    problem = fs.Problem([x])
    by = fs.AugmentedLagrangian(penalty=penalty, dual_lr=penalty)
    handle = problem.require("rows", fs.Equal(0.0), per="index", size=6, by=by)
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.0))
    for batch in batches:
        optimizer.zero_grad()
        for value, index in batch:
            problem.loss(
                x.sum(), rows=(torch.tensor(value, dtype=DOUBLE) + x, torch.tensor(index))
            ).backward()
        optimizer.step()
    return handle.multiplier


def test_samples_that_come_twice_count_once_with_their_mean():
    once = rows_after([[([2.0, 3.0], [4, 1])]])
    twice = rows_after([[([1.0, 3.0, 3.0], [4, 1, 4])]])
    in_two = rows_after([[([1.0, 3.0], [4, 1]), ([3.0], [4])]])
    assert once.tolist() == [0, 3, 0, 0, 2, 0]
    assert torch.equal(once, twice)
    assert torch.equal(once, in_two)


def test_a_broken_sample_keeps_its_row_and_spoils_no_other():
    found = rows_after([[([2.0, 3.0], [4, 1])], [([float("nan"), 1.0], [4, 1])]])
    assert found.tolist() == [0, 4, 0, 0, 2, 0]


def test_the_state_is_not_copied_at_every_step():
    x = torch.zeros((), requires_grad=True)
    problem = fs.Problem([x])
    problem.require("rows", fs.Equal(0.0), per="index", size=1000)
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.0))
    places = set()
    for _ in range(3):
        problem.loss(x.sum(), rows=(x + torch.ones(2), torch.tensor([3, 5]))).backward()
        optimizer.step()
        places.add(problem.constraints[0].state["multiplier"].data_ptr())
    saved = problem.state_dict()["rows.multiplier"]
    assert len(places) == 1
    assert saved.data_ptr() not in places


@pytest.mark.parametrize(
    ("set", "value"),
    [
        (fs.Simplex(), torch.ones(4)),
        (fs.L2Ball(1.0, dim=None), torch.ones(4, 2)),
        (fs.Monotone(dim=0), torch.ones(4, 4)),
        (fs.PSD(), torch.ones(3, 3)),
    ],
    ids=lambda value: repr(value) if isinstance(value, fs.Set) else "",
)
@pytest.mark.parametrize("per", ["sample", "index"])
def test_sets_that_tie_samples_together_are_refused(set, value, per):
    problem = fs.Problem([torch.zeros(1, requires_grad=True)])
    problem.require("rows", set, per=per, size=4 if per == "index" else None)
    handed = (value, torch.arange(len(value))) if per == "index" else value
    with pytest.raises(ValueError, match="needs a set that speaks of one sample at a time"):
        problem.loss(torch.zeros((), requires_grad=True), rows=handed)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("p", [8.0, 20.0])
def test_high_powers_neither_overflow_nor_vanish(p, size):
    value = size * VALUE.float()
    rows = value.clone().requires_grad_()
    problem = fs.Problem([rows])
    by = fs.AugmentedLagrangian(penalty=1.0, dual_lr=1.0)
    handle = problem.require("rows", fs.NonNegative(), per="sample", by=by, reduction=p, tolerance=0.0)
    optimizer = problem.attach(torch.optim.SGD([rows], lr=0.0))
    problem.loss(0 * rows.sum(), rows=rows).backward()
    optimizer.step()
    expected = size * float(DISTANCE.pow(p).mean().pow(1 / p))
    assert float(handle.multiplier) == pytest.approx(expected, rel=1e-4)
    assert bool(rows.grad.isfinite().all())


def test_indices_of_any_whole_type():
    x = torch.zeros((), requires_grad=True)
    problem = fs.Problem([x])
    by = fs.AugmentedLagrangian(penalty=1.0, dual_lr=1.0)
    handle = problem.require("rows", fs.Equal(0.0), per="index", size=4, by=by)
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.0))
    problem.loss(x.sum(), rows=(x + torch.ones(2), torch.tensor([3, 1], dtype=torch.int32))).backward()
    optimizer.step()
    assert handle.multiplier.tolist() == [0, 1, 0, 1]
