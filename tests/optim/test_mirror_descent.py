"""Mirror descent: the solutions of cvxpy by multiplication, and signs that never change."""

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import BOUNDS, COUPLED, LEAST_SQUARES, closure_of, numbers

import feasible as fs
from feasible.optim import MirrorDescent
from feasible.optim.mirror_descent import moved, moved_in_range

ROWS = {str(row): row for row in BOUNDS + COUPLED}
STARTS = {
    "nonnegative": torch.ones(12),
    "box": torch.zeros(12),
    "upper": torch.zeros(12),
    "tensor bounds": torch.ones(12),
    "some entries": torch.zeros(12),
    "flat view": torch.zeros(4, 3),
    "simplex": torch.full((12,), 1 / 12),
    "columns": torch.full((4, 3), 1 / 4),
}


def train(set, start, loss, steps, lr, **options):
    x = start.clone().requires_grad_()
    optimizer = MirrorDescent([x], lr=lr, sets=set, **options)
    for _ in range(steps):
        optimizer.step(closure_of(optimizer, lambda: loss(x)))
    return x.detach()


@pytest.mark.parametrize("name", STARTS)
def test_the_minimum_over_a_set_is_that_of_cvxpy(name):
    row = ROWS[name]
    x = train(row.set, STARTS[name].double(), LEAST_SQUARES.loss, 1500, 0.02)
    expected = LEAST_SQUARES.minimum(row)
    assert abs(float(LEAST_SQUARES.loss(x)) - expected) <= 1e-5 * expected
    assert row.set.bind(x).contains(x).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_one_step_on_the_orthant_is_the_formula(dtype):
    x, g = torch.rand(5).to(dtype), torch.randn(5).to(dtype)
    torch.testing.assert_close(moved(fs.NonNegative(), x, 0.3 * g), x * torch.exp(-0.3 * g))


def test_one_step_on_the_simplex_is_the_formula():
    x, g = fs.Simplex(total=3.0, dim=0).project(torch.rand(4, 2).double()), torch.randn(4, 2).double()
    expected = x * torch.exp(-g)
    expected = 3 * expected / expected.sum(0)
    torch.testing.assert_close(moved(fs.Simplex(total=3.0, dim=0), x, g), expected)
    flat = moved(fs.Simplex(total=float(x.sum()), dim=None), x, g)
    torch.testing.assert_close(flat, x.sum() * x * torch.exp(-g) / (x * torch.exp(-g)).sum())
    deep = x.reshape(2, 2, 2)
    rows = fs.Simplex().flatten(1)
    torch.testing.assert_close(
        moved(rows, deep / deep.flatten(1).sum(1)[:, None, None], 0 * deep).flatten(1).sum(1),
        torch.ones(2).double(),
    )


@given(st.floats(-700, 700), st.floats(0.01, 0.99))
def test_one_step_in_a_box_moves_the_log_odds(step, share):
    lower, upper = torch.tensor(-1.0).double(), torch.tensor(2.0).double()
    x = lower + 3 * torch.tensor(share, dtype=torch.float64)
    there = moved_in_range(lower, upper, x, torch.tensor(step, dtype=torch.float64))
    expected = lower + 3 * torch.sigmoid(torch.logit((x - lower) / 3) - step)
    assert lower < there < upper
    torch.testing.assert_close(there, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=50)
@given(
    st.sampled_from(["nonnegative", "box", "upper", "simplex", "columns"]),
    st.integers(0, 1000),
    st.floats(0.1, 1e3),
)
def test_no_step_arrives_at_a_bound_however_long(name, seed, size):
    row, start = ROWS[name], STARTS[name]
    x = moved(row.set, start, size * numbers(*row.shape, seed=seed).float())
    assert row.set.contains(x[x.isfinite()] if name == "nonnegative" else x).all()
    if name != "box":
        assert not ((x == 0) & (start != 0)).any()
    else:
        assert ((x > -0.3) & (x < 0.4)).all()


def test_zeros_stay_and_are_told():
    x = torch.tensor([0.0, 0.5, 0.5], requires_grad=True)
    for set in (fs.NonNegative(), fs.Simplex()):
        with pytest.warns(UserWarning, match="1 of 3 entries of a weight start exactly on the boundary"):
            optimizer = MirrorDescent([x], lr=0.1, sets=set)
        for _ in range(3):
            optimizer.step(closure_of(optimizer, lambda: (x - 1).square().sum()))
        assert x[0] == 0
        assert (x[1:] > 0).all()


def test_underflow_is_not_the_end():
    """A weight that was driven to the smallest number comes back when its gradient turns."""
    x = torch.ones(1, requires_grad=True)
    optimizer = MirrorDescent([x], lr=1.0, sets=fs.NonNegative())
    for slope in (50.0,) * 5 + (-10.0,) * 12:
        optimizer.zero_grad()
        (slope * x).sum().backward()
        optimizer.step()
    assert x.item() > 1e-3


def test_free_weights_take_gradient_steps_and_momentum_is_an_average():
    x = torch.zeros(2, requires_grad=True)
    optimizer = MirrorDescent([x], lr=0.1, momentum=0.9)
    for gradient in (1.0, 3.0):
        x.grad = torch.full((2,), gradient)
        optimizer.step()
    mean = (0.9 * 0.1 * 1 + 0.1 * 3) / (1 - 0.81)
    assert x.tolist() == pytest.approx([-0.1 - 0.1 * mean] * 2)


def test_checkpoints_and_copies_go_on_to_the_bit():
    x = torch.rand(4, requires_grad=True)
    optimizer = MirrorDescent([x], sets=fs.NonNegative(), momentum=0.9)

    def go(own, weight):
        for _ in range(4):
            own.step(closure_of(own, lambda: (weight - 1).square().sum()))

    go(optimizer, x)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    y = x.detach().clone().requires_grad_()
    resumed = MirrorDescent([y], sets=fs.NonNegative(), momentum=0.9)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    z, copied = copy.deepcopy((x, optimizer))
    for own, weight in ((optimizer, x), (resumed, y), (copied, z)):
        go(own, weight)
    assert torch.equal(x, y)
    assert torch.equal(x, z)


def test_scaled_gradients_and_maximize():
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    first, second = (
        MirrorDescent([a], sets=fs.NonNegative()),
        MirrorDescent([b], sets=fs.NonNegative(), maximize=True),
    )
    scaler.scale(a.sum()).backward()
    scaler.step(first)
    (-b).sum().backward()
    second.step()
    assert torch.equal(a, b)


def test_what_it_cannot_do_it_refuses():
    x = torch.ones(3, requires_grad=True)
    for set in (fs.L2Ball(1.0), fs.Sphere(1.0), fs.SumTo(1.0), fs.FiniteSet([0, 1])):
        with pytest.raises(fs.UnsupportedError, match="no entropy"):
            MirrorDescent([x], sets=set)
    for options, message in [({"lr": float("inf")}, "lr"), ({"momentum": -1}, "momentum")]:
        with pytest.raises(ValueError, match=message):
            MirrorDescent([x], **options)
