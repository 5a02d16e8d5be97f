"""What closures, weights and checkpoints may do to any of the optimizers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import feasible as fs
from feasible.optim import FrankWolfe, LevenbergMarquardt, MirrorDescent, ProjectedLBFGS, SSBroyden

DOUBLE = torch.float64
LARGE = fs.Box(-4.0, 4.0)


def lbfgs(weights: list[Tensor]) -> torch.optim.Optimizer:
    return ProjectedLBFGS(weights, tolerance_change=0.0)


def stochastic(weights: list[Tensor]) -> torch.optim.Optimizer:
    return ProjectedLBFGS(weights, lr=0.3, stochastic=True, momentum=0.5)


def broyden(weights: list[Tensor]) -> torch.optim.Optimizer:
    with warnings.catch_warnings(action="ignore"):  # of float32
        return SSBroyden(weights)


def frank_wolfe(weights: list[Tensor]) -> torch.optim.Optimizer:
    return FrankWolfe(weights, sets=LARGE)


def frank_wolfe_averaged(weights: list[Tensor]) -> torch.optim.Optimizer:
    return FrankWolfe(weights, sets=LARGE, momentum=0.5)


def mirror(weights: list[Tensor]) -> torch.optim.Optimizer:
    return MirrorDescent(weights, lr=0.05, momentum=0.5)


def gauss_newton(weights: list[Tensor]) -> torch.optim.Optimizer:
    return LevenbergMarquardt(weights)


def gauss_newton_scaled(weights: list[Tensor]) -> torch.optim.Optimizer:
    return LevenbergMarquardt(weights, scaling=True)


def gauss_newton_products(weights: list[Tensor]) -> torch.optim.Optimizer:
    return LevenbergMarquardt(weights, jacobian="products", solver_tolerance=1e-8)


SEARCHING = [lbfgs, stochastic, broyden, frank_wolfe]
RESIDUALS = [gauss_newton, gauss_newton_scaled, gauss_newton_products]
ALL = [*SEARCHING, frank_wolfe_averaged, mirror, *RESIDUALS]


def make_weights(dtype: torch.dtype = DOUBLE) -> list[Tensor]:
    """Vectors, a scalar, nothing and a matrix."""
    return [torch.full(shape, 0.1, dtype=dtype).requires_grad_() for shape in ((3,), (), (0, 2), (2, 2))]


def residual_of(weights: list[Tensor]) -> Tensor:
    return torch.cat([((k + 1.0) * (w - 0.3 * (k + 1))).reshape(-1) for k, w in enumerate(weights)])


def error(weights: list[Tensor]) -> float:
    with torch.no_grad():
        return max(float((w - 0.3 * (k + 1)).abs().max()) for k, w in enumerate(weights) if w.numel())


def closure_of(
    optimizer: torch.optim.Optimizer, weights: list[Tensor], clears: bool = True
) -> Callable[[], object]:
    if isinstance(optimizer, LevenbergMarquardt):
        return lambda: residual_of(weights)

    def closure() -> Tensor:
        if clears:
            optimizer.zero_grad()
        loss = residual_of(weights).square().sum()
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("make", SEARCHING)
def test_a_closure_that_clears_no_gradients_is_no_harm(make):
    ends = []
    for clears in (True, False):
        weights = make_weights()
        optimizer = make(weights)
        closure = closure_of(optimizer, weights, clears)
        for _ in range(20):
            optimizer.step(closure)
        ends.append(weights)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("make", SEARCHING)
def test_a_loss_of_several_numbers_is_refused(make):
    weights = make_weights()
    optimizer = make(weights)

    def closure() -> Tensor:
        residual = residual_of(weights)
        residual.sum().backward()
        return residual

    with pytest.raises(ValueError, match=r"must return one number, got a tensor of shape \(8,\)"):
        optimizer.step(closure)


@pytest.mark.parametrize("make", [lbfgs, stochastic, broyden, *RESIDUALS])
def test_an_interrupted_step_ends_where_the_last_accepted_one_did(make):
    weights = make_weights()
    optimizer = make(weights)
    closure, before, calls = closure_of(optimizer, weights), copy.deepcopy(weights), []

    def interrupted() -> object:
        calls.append(len(calls))
        if len(calls) == 3 or (len(calls) == 2 and make is stochastic):
            raise KeyboardInterrupt
        return closure()

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(interrupted)
    losses = [float(residual_of(state).square().sum().detach()) for state in (weights, before)]
    assert losses[0] <= losses[1]
    if make is stochastic or make in RESIDUALS:
        assert all(torch.equal(a, b) for a, b in zip(weights, before, strict=True))


@pytest.mark.parametrize("make", [f for f in ALL if f not in (frank_wolfe, frank_wolfe_averaged)])
def test_weights_that_change_their_dtype_are_trained_in_the_new_one(make):
    weights = make_weights(torch.float32)
    optimizer = make(weights)
    closure = closure_of(optimizer, weights)
    for _ in range(3):
        optimizer.step(closure)
    for weight in weights:
        weight.data, weight.grad = weight.data.double(), None
    for _ in range(200):
        optimizer.step(closure)
    assert error(weights) < 2e-8 or (make is stochastic and error(weights) < 1e-4)


@pytest.mark.parametrize("make", ALL)
def test_a_checkpoint_in_single_precision_goes_on_in_double(make):
    weights = make_weights(torch.float32)
    optimizer = make(weights)
    for _ in range(3):
        optimizer.step(closure_of(optimizer, weights))
    doubled = [weight.detach().double().requires_grad_() for weight in weights]
    other = make(doubled)
    other.load_state_dict(optimizer.state_dict())
    before = error(doubled)
    for _ in range(30):
        other.step(closure_of(other, doubled))
    assert error(doubled) <= before
    assert all(weight.dtype == DOUBLE for weight in doubled)


@pytest.mark.parametrize("make", [lbfgs, broyden, mirror, *RESIDUALS])
def test_frozen_and_late_weights(make):
    weights = make_weights()
    optimizer = make(weights[:2])
    closure = closure_of(optimizer, weights)
    for step in range(250):
        optimizer.step(closure)
        if step == 3:
            optimizer.add_param_group({"params": weights[2:]})
            weights[0].requires_grad_(False)
            kept = weights[0].clone()
        if step == 6:
            assert torch.equal(weights[0], kept)
            weights[0].requires_grad_(True)
    assert error(weights) < 1e-6


@pytest.mark.parametrize("make", [fs.optim.ProjectedLBFGS, fs.optim.SSBroyden], ids=["projected", "broyden"])
def test_a_closure_without_backward_is_told(make):
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="left no gradient on any parameter"):
        make([x]).step(lambda: x.square().sum())


def test_a_mean_square_in_the_place_of_residuals_is_told():
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    with pytest.warns(UserWarning, match="a single residual for 3 weights"):
        LevenbergMarquardt([x]).step(lambda: (x - 2).square().mean())
