"""Variable projection: the optimum after elimination, Kaufman's Jacobian, linear groups of Levenberg–Marquardt."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import feasible as fs
from feasible.optim.variable_projection import Eliminated, Pseudoinverse

DOUBLE = torch.float64


def network(width: int = 6, dtype: torch.dtype = DOUBLE, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1)).to(dtype)


def data(dtype: torch.dtype = DOUBLE) -> tuple[Tensor, Tensor]:
    x = torch.linspace(-1, 1, 60, dtype=dtype)[:, None]
    return x, torch.sin(6 * x) * torch.exp(x)


def groups(model: nn.Sequential) -> list[dict[str, object]]:
    return [{"params": model[0].parameters()}, {"params": model[2].parameters(), "linear": True}]


def fit_residual(model: nn.Module, dtype: torch.dtype = DOUBLE) -> Callable[[], Tensor]:
    x, y = data(dtype)
    return lambda: model(x) - y


def columns(model: nn.Sequential) -> np.ndarray:
    """What the last layer's weights and bias multiply."""
    x, _ = data()
    with torch.no_grad():
        return torch.cat([model[:2](x), torch.ones_like(x)], 1).numpy()


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (5, 1), (6, 0)])
def test_pseudoinverse_is_numpys(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    r = torch.arange(1.0, shape[0] + 1, dtype=DOUBLE)
    inverse = Pseudoinverse(matrix)
    expected = np.linalg.pinv(matrix.numpy()) @ r.numpy()
    np.testing.assert_allclose(inverse.times(r), expected, atol=1e-12)
    np.testing.assert_allclose(inverse.without(r), r.numpy() - matrix.numpy() @ expected, atol=1e-12)
    assert inverse.rank == min(shape)


def test_pseudoinverse_leaves_rounding_alone() -> None:
    twice = torch.tensor([[1.0, 1.0], [2.0, 2.0], [0.0, 1e-12]], dtype=DOUBLE)
    assert Pseudoinverse(twice).rank == 1
    assert float(Pseudoinverse(twice).times(torch.ones(3, dtype=DOUBLE)).abs().max()) < 1
    assert Pseudoinverse(torch.zeros(3, 2)).rank == 0


@pytest.mark.parametrize("rows", [12, 4], ids=["tall", "wide"])
@pytest.mark.parametrize("with_units", [False, True])
def test_steps_minimise_what_only_the_others_damp(rows: int, with_units: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    jacobian = torch.randn(rows, 7, dtype=DOUBLE, generator=generator)
    r = torch.randn(rows, dtype=DOUBLE, generator=generator)
    linear = torch.tensor([False, True, False, False, True, False, False])
    units = torch.rand(7, dtype=DOUBLE, generator=generator) + 0.5 if with_units else None
    free = torch.tensor([True, True, True, False, True, True, True])
    system, damping = Eliminated(jacobian, linear, units), 0.3
    weights = np.where(linear, 0.0, np.sqrt(damping) / (1.0 if units is None else units.numpy()))
    for picked in (None, free):
        keep = np.ones(7, bool) if picked is None else picked.numpy()
        stacked = np.vstack([jacobian.numpy(), np.diag(weights)])[:, keep]
        expected = np.zeros(7)
        expected[keep] = np.linalg.lstsq(stacked, -np.r_[r.numpy(), np.zeros(7)], rcond=None)[0]
        step = system.solve(r, damping, picked)
        np.testing.assert_allclose(step[~linear], expected[~linear.numpy()], atol=1e-10)
        np.testing.assert_allclose(jacobian @ step, jacobian.numpy() @ expected, atol=1e-10)


def test_each_iteration_ends_at_the_least_squares_optimum() -> None:
    model = network()
    optimizer = fs.optim.LevenbergMarquardt(groups(model))
    _, y = data()
    losses = []
    for _ in range(8):
        optimizer.step(fit_residual(model))
        left = np.linalg.lstsq(columns(model), y.numpy(), rcond=None)[1]
        losses.append(optimizer.last.new_loss)
        assert losses[-1] == pytest.approx(0.5 * float(left[0]), rel=1e-6)
    assert losses[-1] < losses[0]


def test_the_gradient_is_that_of_the_reduced_loss() -> None:
    """Against finite differences of ``min_c ½‖A(θ) c − y‖²``, by numpy's least squares."""
    model = network(3)
    head = fs.optim.LevenbergMarquardt(groups(model), max_trials=1)
    head.step(fit_residual(model))
    _, y = data()
    weight = model[0].weight

    def reduced() -> float:
        return 0.5 * float(np.linalg.lstsq(columns(model), y.numpy(), rcond=None)[1][0])

    parameters = list(model.parameters())
    rows = fit_residual(model)()
    jacobian = torch.cat(
        [
            torch.stack([torch.autograd.grad(row, p, retain_graph=True)[0].reshape(-1) for row in rows])
            for p in parameters
        ],
        1,
    )
    linear = torch.tensor([False] * 6 + [True] * 4)
    system = Eliminated(jacobian, linear)
    gradient = system.rest.transposed(rows.detach()[:, 0])
    torch.testing.assert_close(system.transposed(rows.detach()[:, 0])[linear], torch.zeros(4, dtype=DOUBLE))
    for place in range(3):
        values, h = [], 1e-6
        for sign in (1, -1):
            with torch.no_grad():
                weight[place] += sign * h
                values.append(reduced())
                weight[place] -= sign * h
        assert float(gradient[place]) == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5, abs=1e-8)


def test_fewer_iterations_than_without() -> None:
    reached = []
    for is_linear in (True, False):
        model = network(10)
        optimizer = fs.optim.LevenbergMarquardt(groups(model) if is_linear else model.parameters())
        for _ in range(10):
            optimizer.step(fit_residual(model))
        reached.append(optimizer.last.new_loss)
    assert reached[0] < 1e-2 * reached[1]


def test_all_linear_is_one_solve_with_weights() -> None:
    x, y = data()
    model = nn.Linear(1, 1).double()
    optimizer = fs.optim.LevenbergMarquardt([{"params": model.parameters(), "linear": True}])
    weights = torch.linspace(0.1, 2, 60, dtype=DOUBLE)
    optimizer.step(lambda: (model(x) - y)[:, 0], weights=weights)
    root = weights.sqrt()[:, None]
    expected = np.linalg.lstsq(
        (root * torch.cat([x, torch.ones_like(x)], 1)).numpy(), (root * y).numpy(), rcond=None
    )
    np.testing.assert_allclose([model.weight.item(), model.bias.item()], expected[0][:, 0], rtol=1e-10)
    assert optimizer.last.converged


def test_nearly_affine_residuals_descend() -> None:
    """The square of the output: Gauss–Newton in the last layer, never uphill."""
    model = network(10)
    optimizer = fs.optim.LevenbergMarquardt(groups(model))
    x, _ = data()
    losses = []
    for _ in range(10):
        optimizer.step(lambda: model(x) + 0.1 * model(x) ** 2 - torch.cos(4 * x))
        losses.append(optimizer.last.new_loss)
    assert all(after <= before for before, after in pairwise(losses))
    assert losses[-1] < losses[0]


def test_float32_and_saved_groups() -> None:
    model = network(dtype=torch.float32)
    optimizer = fs.optim.LevenbergMarquardt(groups(model))
    residual = fit_residual(model, torch.float32)
    first = 0.5 * float(data(torch.float32)[1].square().sum())
    for _ in range(5):
        optimizer.step(residual)
    assert optimizer.last.new_loss < 0.5 * first
    again = copy.deepcopy(model)
    resumed = fs.optim.LevenbergMarquardt(groups(again))
    resumed.load_state_dict(optimizer.state_dict())
    optimizer.step(residual)
    resumed.step(fit_residual(again, torch.float32))
    assert [group["linear"] for group in resumed.param_groups] == [False, True]
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_cannot_be_eliminated_is_refused() -> None:
    model = network()
    held = fs.optim.LevenbergMarquardt(groups(model))
    held.constrain_(model[2].weight, fs.NonNegative())
    with pytest.raises(fs.UnsupportedError, match="linear, and held in NonNegative"):
        held.step(fit_residual(model))
    products = fs.optim.LevenbergMarquardt(groups(model), jacobian="products")
    with pytest.raises(ValueError, match="with the Jacobian as a matrix"):
        products.step(fit_residual(model))


def test_bounds_on_the_others_hold() -> None:
    model = network()
    optimizer = fs.optim.LevenbergMarquardt(groups(model), sets={model[0].weight: fs.Box(-2, 2)})
    for _ in range(5):
        optimizer.step(fit_residual(model))
        assert bool((model[0].weight.abs() <= 2).all())
    left = np.linalg.lstsq(columns(model), data()[1].numpy(), rcond=None)[1]
    assert optimizer.last.new_loss == pytest.approx(0.5 * float(left[0]), rel=1e-5)


@pytest.mark.parametrize("kind", ["curved", "tied"])
def test_parameters_that_are_not_linear_at_all_still_descend(kind: str) -> None:
    x = torch.linspace(-1, 1, 30, dtype=torch.float64)
    others = torch.tensor([0.5, 0.2], dtype=torch.float64, requires_grad=True)
    linear = torch.tensor([3.0, -4.0], dtype=torch.float64, requires_grad=True)

    def rows() -> Tensor:
        if kind == "curved":  # far out on both arms of the arc tangent Newton's steps only grow
            return (
                torch.atan(linear[0] * x + linear[1]) - torch.atan(0.5 * x - 0.1) + (others[0] - 0.3) * x**2
            )
        hidden = torch.tanh(x[:, None] * linear + others)
        return hidden @ linear - torch.sin(x)

    optimizer = fs.optim.LevenbergMarquardt([{"params": [others]}, {"params": [linear], "linear": True}])
    losses = [float(optimizer.step(rows)) for _ in range(40)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-5 * losses[0]


def test_what_is_not_finite_is_named() -> None:
    model = network()
    with torch.no_grad():
        model[0].weight[1] = math.nan
    optimizer = fs.optim.LevenbergMarquardt(groups(model))
    with pytest.raises(FloatingPointError, match="after 0 iterations parameter 0 of group 0 is not finite"):
        optimizer.step(lambda: model(torch.ones(3, 1, dtype=torch.float64)))


@pytest.mark.parametrize("held", [fs.SumTo(1.0, dim=0), fs.L2Ball(4.0, dim=None), fs.Sphere(4.0, dim=None)])
def test_sets_on_the_others_leave_the_steps_long(held: fs.Set) -> None:
    model = network()
    optimizer = fs.optim.LevenbergMarquardt(groups(model), sets={model[0].weight: held})
    losses = [float(optimizer.step(fit_residual(model))) for _ in range(16)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]
    assert held.distance(model[0].weight.detach()).max() < 1e-6
    features, rest = columns(model), fit_residual(model)().detach().numpy()
    assert np.abs(features.T @ rest).max() < 1e-6  # the others stay at their optimum
