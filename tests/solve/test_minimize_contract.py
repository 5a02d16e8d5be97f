"""``minimize``: forms of x0, statuses, bad input, derivatives, callbacks."""

from __future__ import annotations

import builtins
import math
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import feasible as fs


def tensor(*entries: float) -> Tensor:
    return torch.tensor(entries, dtype=torch.float64)


def square(x: Tensor) -> Tensor:
    return (x**2).sum()


# -- forms of x0 -----------------------------------------------------------------------------------


def test_a_list_of_tensors() -> None:
    a, b = torch.randn(2, 3).double(), torch.randn(4).double()
    result = fs.minimize(
        lambda x: ((x[0] - a) ** 2).sum() + ((x[1] - b) ** 2).sum(),
        [torch.zeros(2, 3).double(), torch.zeros(4).double()],
        [(1, fs.Simplex()), (0, fs.NonNegative()), (lambda x: x[0].sum() + x[1].sum(), fs.Equal(3.0))],
    )
    assert result.success
    assert [tuple(part.shape) for part in result.x] == [(2, 3), (4,)]
    assert [tuple(each.shape) for each in result.multipliers] == [(4,), (2, 3), ()]
    assert (result.x[0].sum() + result.x[1].sum()).item() == pytest.approx(3)
    total = result.multipliers[2]
    torch.testing.assert_close(
        2 * (result.x[0] - a) + result.multipliers[1] + total, torch.zeros(2, 3).double(), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        2 * (result.x[1] - b) + result.multipliers[0] + total, torch.zeros(4).double(), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("takes_module", [True, False], ids=["fun(module)", "fun()"])
def test_a_module_is_trained_in_place(takes_module: bool) -> None:
    torch.manual_seed(1)
    model = nn.Linear(3, 1).double()
    x, y = torch.randn(40, 3).double(), torch.randn(40, 1).double()

    def loss(module: nn.Module = model) -> Tensor:
        return ((module(x) - y) ** 2).mean()

    def without_arguments() -> Tensor:
        return loss()

    result = fs.minimize(
        loss if takes_module else without_arguments,
        model,
        [("weight", fs.NonNegative()), (lambda module: module.weight.sum(), fs.Equal(0.5))],
    )
    assert result.success
    assert result.x is model
    assert loss().item() == pytest.approx(result.fun, rel=1e-12)
    assert model.weight.sum().item() == pytest.approx(0.5)
    assert bool((model.weight >= 0).all())
    assert result.multipliers[0].shape == model.weight.shape


def test_frozen_parameters_stay() -> None:
    model = nn.Linear(2, 1).double()
    model.bias.requires_grad_(False)
    before = model.bias.clone()
    fs.minimize(lambda module: square(module.weight - 1) + square(module.bias), model)
    assert torch.equal(model.bias, before)
    torch.testing.assert_close(model.weight.detach(), torch.ones(1, 2).double(), atol=1e-7, rtol=0)


def test_x0_is_not_changed() -> None:
    x0 = tensor(1, 2)
    fs.minimize(square, x0, [fs.SumTo(1.0)])
    assert x0.tolist() == [1, 2]


def test_a_matrix_of_constraints_and_one_that_is_handed_in_bare() -> None:
    A = torch.randn(3, 2, 4).double()
    result = fs.minimize(
        lambda x: square(x - 1), torch.zeros(4).double(), (lambda x: A @ x, fs.Box(-0.1, 0.1))
    )
    assert result.success
    assert result.multipliers[0].shape == (3, 2)
    torch.testing.assert_close(
        2 * (result.x - 1) + torch.einsum("ij,ijk->k", result.multipliers[0], A),
        torch.zeros(4).double(),
        atol=1e-6,
        rtol=0,
    )


def test_a_scalar_unknown() -> None:
    result = fs.minimize(lambda x: (x - 2) ** 2, torch.tensor(0.0).double(), [fs.Box(upper=1.0)])
    assert result.x.item() == 1
    assert result.multipliers[0].item() == pytest.approx(2)


@pytest.mark.parametrize("method", ["auto", "sqp", "augmented-lagrangian"])
def test_single_precision_says_what_is_reachable(method: str) -> None:
    with pytest.warns(UserWarning, match="float32, in which a tolerance of about 1e-05") as caught:
        result = fs.minimize(square, torch.ones(3), [(lambda x: x.sum(), fs.Equal(1.0))], method=method)
    assert caught[0].filename == __file__
    assert result.success
    assert result.x.dtype == torch.float32
    assert result.multipliers[0].dtype == torch.float32
    torch.testing.assert_close(result.x, torch.full((3,), 1 / 3), atol=1e-5, rtol=0)


def test_grad_mode_outside_does_not_matter() -> None:
    with torch.no_grad():
        result = fs.minimize(square, tensor(1, 2), [(lambda x: x.sum(), fs.Equal(1.0))])
    assert result.success


def test_two_runs_agree_to_the_bit() -> None:
    def run() -> fs.Result:
        return fs.minimize(lambda x: (x - 0.3).abs().sum() + square(x), tensor(1, 2, 3), [fs.L2Ball(1.0)])

    first, second = run(), run()
    assert torch.equal(first.x, second.x)
    assert (first.nit, first.nfev) == (second.nit, second.nfev)


# -- statuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "sqp"])
@pytest.mark.parametrize(
    "constraints",
    [
        [(lambda x: x[0] ** 2 + x[1] ** 2 + 1, fs.Equal(0.0))],
        [(lambda x: x.sum(), fs.Equal(0.0)), (lambda x: x.sum(), fs.Equal(1.0))],
        [(lambda x: x.sum(), fs.Box(upper=-1.0)), fs.NonNegative()],
        [(lambda x: x.sum(), fs.Equal(0.0)), (lambda x: 2 * x.sum(), fs.Equal(1.0))],
    ],
    ids=["curved", "parallel", "bounds", "steeper"],
)
def test_infeasible(constraints: list, method: str) -> None:
    result = fs.minimize(square, tensor(1, 2), constraints, method=method)
    assert result.status is fs.Status.INFEASIBLE
    assert not result.success
    assert result.maxcv > 0.1
    assert result.status.value in result.message


def test_the_augmented_lagrangian_never_succeeds_at_an_infeasible_point() -> None:
    result = fs.minimize(
        square, tensor(1, 2), [(lambda x: square(x) + 1, fs.Equal(0.0))], method="augmented-lagrangian"
    )
    assert not result.success
    assert result.maxcv == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "constraints",
    [[], [(lambda x: x[0] - x[1], fs.Equal(0.0))], [fs.NonNegative()]],
    ids=["free", "rows", "bounds"],
)
def test_unbounded(constraints: list) -> None:
    result = fs.minimize(lambda x: -x.sum() - x[0] ** 2, tensor(1, 2), constraints)
    assert result.status is fs.Status.UNBOUNDED
    assert not result.success


@pytest.mark.parametrize("method", ["auto", "sqp", "augmented-lagrangian", "projected", "nonsmooth"])
def test_a_plane_has_no_lowest_point(method: str) -> None:
    result = fs.minimize(lambda x: x.sum(), tensor(1, 2), method=method)
    assert result.status is fs.Status.UNBOUNDED
    assert not result.success


@pytest.mark.parametrize("method", ["sqp", "augmented-lagrangian", "projected", "nonsmooth"])
def test_the_last_point_is_judged_too(method: str) -> None:
    assert fs.minimize(square, tensor(0, 0), method=method, max_iterations=0).success
    assert not fs.minimize(square, tensor(3, 4), method=method, max_iterations=0).success


@pytest.mark.parametrize("method", ["auto", "nonsmooth"])
def test_noise_is_no_solution(method: str) -> None:
    generator = torch.Generator().manual_seed(0)

    def fun(x: Tensor) -> Tensor:
        return square(x - 2) + 1e-3 * (torch.randn(2, generator=generator) * x).sum()

    result = fs.minimize(fun, tensor(0, 0), method=method)
    assert not result.success
    assert "fix its random numbers" in result.message


@pytest.mark.parametrize("method", ["sqp", "augmented-lagrangian", "nonsmooth"])
def test_iteration_limit(method: str) -> None:
    result = fs.minimize(
        lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2,
        tensor(-1.2, 1),
        [(lambda x: x.sum(), fs.Box(upper=10.0))],
        method=method,
        max_iterations=3,
    )
    assert result.status is fs.Status.ITERATION_LIMIT
    assert result.nit <= 4
    assert not result.success


@pytest.mark.parametrize("method", ["sqp", "augmented-lagrangian", "nonsmooth", "projected"])
def test_ctrl_c_returns_the_best_point_so_far(method: str) -> None:
    calls = 0

    def fun(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise KeyboardInterrupt
        return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

    result = fs.minimize(fun, tensor(-1.2, 1), [fs.Box(-2, 2)], method=method)
    assert result.status is fs.Status.INTERRUPTED
    assert not result.success
    assert result.fun < 24.2
    assert result.message.startswith("Interrupted")


@pytest.mark.parametrize("how", [KeyboardInterrupt, StopIteration])
@pytest.mark.parametrize("method", ["sqp", "augmented-lagrangian", "nonsmooth", "projected"])
def test_an_interrupted_run_keeps_its_best_point_with_its_multipliers(method: str, how: type) -> None:
    seen: list[float] = []

    def callback(state: fs.Intermediate) -> None:
        seen.append(state.fun)
        if len(seen) == (2 if method == "projected" else 4):
            raise how

    active = [] if method == "projected" else [(lambda x: x.sum(), fs.Equal(0.5))]
    result = fs.minimize(
        lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2,
        tensor(-1.2, 0.4),
        [*active, fs.Box(-2, 0.4)],
        method=method,
        callback=callback,
        tol=1e-13,
    )
    assert result.status is fs.Status.INTERRUPTED
    assert any(bool(multiplier.any()) for multiplier in result.multipliers)


@pytest.mark.parametrize("method", ["sqp", "augmented-lagrangian", "nonsmooth", "projected"])
def test_the_callback_sees_iterates_and_may_stop(method: str) -> None:
    seen: list[fs.Intermediate] = []

    def callback(state: fs.Intermediate) -> None:
        seen.append(state)
        if state.nit == 4:
            raise StopIteration

    result = fs.minimize(
        lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2,
        tensor(-1.2, 1),
        [fs.Box(-2, 2)],
        method=method,
        callback=callback,
    )
    assert result.status is fs.Status.INTERRUPTED
    assert [state.nit for state in seen] == [0, 1, 2, 3, 4]
    assert all(isinstance(state.x, Tensor) and math.isfinite(state.fun) for state in seen)


def test_progress(capsys: pytest.CaptureFixture) -> None:
    assert fs.minimize(square, tensor(1, 2), [fs.SumTo(1.0)], progress=True).success


def test_progress_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without_rich(name, *arguments, **options):
        if name.startswith("rich"):
            raise ImportError(name)
        return load(name, *arguments, **options)

    for name in [name for name in sys.modules if name.startswith("rich")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_rich)
    with pytest.raises(ImportError, match="rich"):
        fs.minimize(square, tensor(1, 2), progress=True)


def test_kinks_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"feasible\[solve\]"):
        fs.minimize(lambda x: x.abs().sum(), tensor(1, 2), method="nonsmooth")


# -- bad input -------------------------------------------------------------------------------------

OTHER = torch.ones(2, requires_grad=True)
BAD = {
    "number": (lambda x: 1.0, tensor(1, 2), [], TypeError, "must return a tensor"),
    "detached": (lambda x: (x.detach() ** 2).sum(), tensor(1, 2), [], ValueError, "fun has no gradient"),
    "another's gradient": (lambda x: square(OTHER), tensor(1, 2), [], ValueError, "fun has no gradient"),
    "nan": (lambda x: torch.log(x).sum(), tensor(1, -2), [], ValueError, "fun is nan at x0"),
    "nan in x0": (square, tensor(1, math.nan), [], ValueError, r"x0 is nan at \[1\]"),
    "nan gradient": (lambda x: x.norm() + x.sqrt().sum(), tensor(0, 0), [], ValueError, "gradient of fun is"),
    "nan constraint": (
        square,
        tensor(1, -2),
        [(torch.log, fs.NonNegative())],
        ValueError,
        r"constraint 0 is nan at \[1\]",
    ),
    "detached constraint": (
        square,
        tensor(1, 2),
        [(lambda x: x.detach(), fs.NonNegative())],
        ValueError,
        "constraint 0 has no gradient",
    ),
    "integers": (square, torch.tensor([1, 2]), [], ValueError, "x0.double"),
    "complex": (square, torch.tensor([1j]), [], ValueError, "real floating-point"),
    "array": (square, np.ones(2), [], TypeError, "torch.as_tensor"),
    "empty": (square, torch.empty(0), [], ValueError, "no entries"),
    "wrong shape": (
        square,
        tensor(1, 2),
        [fs.HalfSpace(torch.ones(3), 1.0)],
        ValueError,
        "constraint 0: HalfSpace",
    ),
    "empty bounds": (
        square,
        tensor(1, 2),
        [fs.Box(upper=0.0), fs.Box(1.0)],
        ValueError,
        "leave no value for entry 0",
    ),
    "discrete": (square, tensor(1, 2), [fs.FiniteSet([0, 1])], fs.UnsupportedError, "exhaustive_search"),
    "one hot": (square, tensor(1, 2), [(lambda x: 2 * x, fs.OneHot())], fs.UnsupportedError, "is a choice"),
    "no set": (square, tensor(1, 2), [(lambda x: x, 3)], TypeError, "pair"),
    "set on a list": (square, [tensor(1, 2)], [fs.NonNegative()], ValueError, r"\(position, NonNegative"),
    "no such place": (
        lambda x: square(x[0]),
        [tensor(1, 2)],
        [(3, fs.NonNegative())],
        ValueError,
        "no tensor 3",
    ),
    "no such name": (
        lambda m: square(m.weight),
        nn.Linear(2, 1).double(),
        [("wieght", fs.NonNegative())],
        ValueError,
        "weight, bias",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    fun, x0, constraints, error, message = BAD[case]
    with pytest.raises(error, match=message):
        fs.minimize(fun, x0, constraints)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tol": 0.0}, "tol must be between"),
        ({"max_iterations": -1}, "max_iterations must be"),
        ({"memory": 0}, "memory ≥ 1"),
        ({"max_iterations": 1.5}, "whole numbers"),
        ({"tol": "small"}, "tol must be between"),
        ({"method": "newton"}, "sqp, augmented-lagrangian"),
    ],
    ids=str,
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fs.minimize(square, tensor(1, 2), **options)


def test_projected_refuses_functions() -> None:
    with pytest.raises(fs.UnsupportedError, match="sets on x"):
        fs.minimize(square, tensor(1, 2), [(lambda x: x, fs.NonNegative())], method="projected")


def test_nan_on_the_way_is_backed_out_of() -> None:
    result = fs.minimize(
        lambda x: x[0] - torch.log(x[0]) + (x[1] - 3) ** 4,
        tensor(0.01, 1),
        [(lambda x: x.sum(), fs.Box(upper=5.0))],
    )
    assert result.success
    assert result.x.tolist() == pytest.approx([1, 3], abs=5e-3)


def test_nan_that_cannot_be_avoided_is_named() -> None:
    result = fs.minimize(lambda x: x.sqrt().sum(), tensor(1, 2), [(lambda x: x[0] - x[1], fs.Equal(0.0))])
    assert not result.success
    assert "fun is nan" in result.message


def test_multipliers_without_limit_certify_nothing() -> None:
    result = fs.minimize(
        lambda x: torch.log(x).sum() + 1 / (x.sum() - 3) ** 2,
        tensor(1, 1),
        [(lambda x: x[0] - x[1], fs.Equal(0.0))],
    )
    assert not result.success


# -- derivatives -----------------------------------------------------------------------------------


class Cube(torch.autograd.Function):
    """A function whose backward torch cannot batch."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, upstream):
        (x,) = ctx.saved_tensors
        return upstream * torch.from_numpy(3 * x.numpy() ** 2) * float(upstream.abs().sum().item() >= 0)


def test_functions_that_cannot_be_batched_are_differentiated_in_a_loop() -> None:
    A = torch.randn(12, 3).double()
    result = fs.minimize(
        square, torch.ones(3).double(), [(lambda x: A @ Cube.apply(x) + 1, fs.Box(-1.5, 1.5))]
    )
    plain = fs.minimize(square, torch.ones(3).double(), [(lambda x: A @ x**3 + 1, fs.Box(-1.5, 1.5))])
    torch.testing.assert_close(result.x, plain.x, atol=1e-6, rtol=0)
    assert result.success
    assert "one by one" in result.message
    assert "one by one" not in plain.message


def test_derivatives_are_computed_once_an_iteration() -> None:
    backwards, forwards = 0, 0

    def count(gradient: Tensor) -> None:
        nonlocal backwards
        backwards += 1

    def fun(x: Tensor) -> Tensor:
        nonlocal forwards
        forwards += 1
        value = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
        value.register_hook(count)
        return value

    result = fs.minimize(fun, tensor(-1.2, 1), [(lambda x: x.sum(), fs.Box(upper=1.0))])
    assert result.success
    assert backwards <= result.nit + 4
    assert forwards <= result.nfev + 2


def test_a_network_under_general_constraints_takes_little_memory() -> None:
    """Twelve thousand weights: nothing of the size of their square."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(20, 100), nn.Tanh(), nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, 1)
    ).double()
    x, y, at = torch.randn(64, 20).double(), torch.randn(64, 1).double(), torch.randn(10, 20).double()
    result = fs.minimize(
        lambda m: ((m(x) - y) ** 2).mean(),
        model,
        [(lambda m: m(at).squeeze(-1), fs.Box(-0.2, 0.2))],
        max_iterations=60,
    )
    assert result.fun < 0.05
    assert result.maxcv <= 1e-3
    assert float(model(at).detach().abs().max()) <= 0.2 + 1e-3
