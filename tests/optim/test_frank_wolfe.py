"""Frank–Wolfe: the solutions of cvxpy, without a single projection, and a gap that tells the truth."""

import copy
import io

import pytest
import torch
from problems import BOUNDS, COUPLED, LEAST_SQUARES, SLOPED, closure_of, numbers

import feasible as fs
from feasible.optim import FrankWolfe

ROWS = {str(row): row for row in BOUNDS + COUPLED}
BOUNDED = [
    ROWS[name]
    for name in ("box", "flat view", "simplex", "columns", "L1", "L2", "Linf", "nuclear", "spectral")
]


def train(row, steps, loss=LEAST_SQUARES.loss, dtype=torch.float64, **options):
    x = row.set.bind(torch.zeros(row.shape, dtype=dtype)).project(torch.zeros(row.shape, dtype=dtype))
    x.requires_grad_()
    optimizer = FrankWolfe([x], sets=row.set, **options)
    closure = closure_of(optimizer, lambda: loss(x))
    for _ in range(steps):
        optimizer.step(closure)
    return x.detach(), float(loss(x).detach()), optimizer


@pytest.mark.parametrize("objective", [LEAST_SQUARES, SLOPED], ids=str)
@pytest.mark.parametrize("row", BOUNDED, ids=str)
def test_backtracking_arrives_and_its_gap_bounds_the_error(row, objective):
    x, value, optimizer = train(row, 400, objective.loss)
    expected = objective.minimum(row)
    assert -1e-7 * expected <= value - expected <= 2e-3 * expected
    assert value - expected <= optimizer.gap + 1e-7 * expected
    assert row.set.contains(x).all()


@pytest.mark.parametrize("row", BOUNDED, ids=str)
def test_diminishing_steps_arrive_more_slowly(row):
    x, value, optimizer = train(row, 400, step_rule="diminishing")
    expected = LEAST_SQUARES.minimum(row)
    assert value - expected <= min(1e-2 * expected, optimizer.gap + 1e-7 * expected)
    assert row.set.contains(x).all()


def test_single_precision():
    row = ROWS["simplex"]
    x, value, _ = train(row, 200, dtype=torch.float32)
    assert value <= LEAST_SQUARES.minimum(row) * (1 + 2e-3)
    assert row.set.contains(x).all()


def test_the_first_step_goes_to_a_vertex_and_nothing_is_projected(monkeypatch):
    x = torch.full((4,), 0.25, requires_grad=True)
    optimizer = FrankWolfe([x], sets=fs.Simplex(), step_rule="diminishing")
    monkeypatch.setattr(fs.Simplex, "project", lambda *_: pytest.fail("projected"))
    (x * torch.tensor([3.0, 1.0, 2.0, 4.0])).sum().backward()
    optimizer.step()
    assert x.tolist() == [0, 1, 0, 0]
    assert optimizer.gaps == [pytest.approx(2.5 - 1)]


def test_gaps_are_told_by_group():
    a, b = (torch.full((2,), 0.5, requires_grad=True) for _ in range(2))
    optimizer = FrankWolfe([{"params": [a]}, {"params": [b]}], sets=fs.Simplex())
    assert all(gap != gap for gap in optimizer.gaps)
    (a[0] + 10 * b[1]).backward()
    optimizer.step()
    assert optimizer.gaps == [0.5, 5.0]
    assert optimizer.gap == 5.5


def test_mini_batches_need_momentum():
    row, errors = ROWS["L1"], {}
    expected = LEAST_SQUARES.minimum(row)
    a, b = numbers(20, 12, seed=3), 3 * numbers(20, seed=4)
    for momentum in (0.0, 0.95):
        x = torch.zeros(12, dtype=torch.float64, requires_grad=True)
        optimizer = FrankWolfe([x], sets=row.set, momentum=momentum, step_rule="diminishing")
        order = torch.Generator().manual_seed(0)
        for _ in range(400):
            for rows in torch.randperm(20, generator=order).split(5):
                optimizer.zero_grad()
                (4 * 0.5 * (a[rows] @ x - b[rows]).square().sum()).backward()
                optimizer.step()
        errors[momentum] = float(LEAST_SQUARES.loss(x).detach()) - expected
    assert errors[0.95] < min(0.01 * expected, 0.5 * errors[0.0])


def test_backtracking_needs_no_rate_whatever_the_scale():
    for scale in (1e-6, 1e6):
        _, value, _ = train(ROWS["box"], 300, lambda x, scale=scale: scale * LEAST_SQUARES.loss(x))
        assert value / scale <= LEAST_SQUARES.minimum(ROWS["box"]) * (1 + 2e-3)


def test_maximize():
    x = torch.zeros(3, requires_grad=True)
    optimizer = FrankWolfe([x], sets=fs.Box(-1, 1), maximize=True)
    for _ in range(3):
        optimizer.step(closure_of(optimizer, lambda: (x * torch.tensor([1.0, -2.0, 3.0])).sum()))
    assert x.tolist() == [1, -1, 1]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_checkpoints_and_copies_go_on_to_the_bit(momentum):
    def loss(x):
        return (x - torch.tensor([0.2, 0.7, 0.1])).square().sum()

    x = torch.tensor([1.0, 0.0, 0.0], requires_grad=True)
    optimizer = FrankWolfe([x], sets=fs.Simplex(), momentum=momentum)
    for _ in range(5):
        optimizer.step(closure_of(optimizer, lambda: loss(x)))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    y = x.detach().clone().requires_grad_()
    resumed = FrankWolfe([y], sets=fs.Simplex(), momentum=momentum)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    z, copied = copy.deepcopy((x, optimizer))
    for weight, own in ((x, optimizer), (y, resumed), (z, copied)):
        for _ in range(5):
            own.step(closure_of(own, lambda weight=weight: loss(weight)))
    assert torch.equal(x, y)
    assert torch.equal(x, z)


def test_what_it_cannot_do_it_refuses():
    x = torch.zeros(3, requires_grad=True)
    for set, reason in [
        (fs.NonNegative(), "no linear minimisation"),
        (fs.Sphere(1.0), "not convex"),
        (fs.OneHot(), "not convex"),
    ]:
        with pytest.raises(fs.UnsupportedError, match=reason):
            FrankWolfe([x], sets=set)
    for options, message in [
        ({"lr": -1}, "lr"),
        ({"momentum": 1}, "momentum"),
        ({"step_rule": "long"}, "step_rule"),
    ]:
        with pytest.raises(ValueError, match=message):
            FrankWolfe([x], **options)
    optimizer = FrankWolfe([x])
    x.sum().backward()
    with pytest.raises(ValueError, match="has no set"):
        optimizer.step()
    with pytest.raises(ValueError, match="needs a closure"):
        FrankWolfe([x], sets=fs.Box(-1, 1), step_rule="backtracking").step()
    optimizer = FrankWolfe([x], sets=fs.Box(-1, 1))
    with pytest.raises(FloatingPointError, match="nan"):
        optimizer.step(closure_of(optimizer, lambda: (x * torch.nan).sum()))
    assert x.tolist() == [0, 0, 0]


def test_weights_without_gradients_stay():
    a, b, c = (
        torch.zeros(2, requires_grad=True),
        torch.zeros(2, requires_grad=True),
        torch.zeros(0, requires_grad=True),
    )
    optimizer = FrankWolfe([a, b, c], sets=fs.Box(-1, 1))
    optimizer.step(closure_of(optimizer, lambda: a.sum() + c.sum()))
    assert a.tolist() == [-1, -1]
    assert b.tolist() == [0, 0]
