"""Affine constraints against NumPy and cvxpy; what the call promises about the model."""

import warnings

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import nn

import feasible as fs
from feasible.solve.projection.nearest import Spectrum


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def flat(model: nn.Module) -> np.ndarray:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy().copy()


def design(x: torch.Tensor) -> np.ndarray:
    """Rows of a linear layer with one output: its weights, then its bias."""
    return np.concatenate([x.numpy(), np.ones((len(x), 1))], 1)


def at(x: torch.Tensor):
    return lambda model: model(x)


CASES = {"wide": (3, 6), "square": (7, 6), "tall": (40, 6), "very tall": (900, 6)}


@pytest.mark.filterwarnings("ignore:project_parameters. the outputs' root mean square fell")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("is_deficient", [False, True], ids=["full", "deficient"])
def test_equations_are_least_squares(name: str, is_deficient: bool) -> None:
    rows, columns = CASES[name]
    layer, x, y = nn.Linear(columns, 1), torch.randn(rows, columns), torch.randn(rows, 1)
    if is_deficient:
        x[:, 1] = 2 * x[:, 0]
        x[-1], y[-1] = x[0], y[0]
    start = flat(layer)
    A = design(x)
    move, _, rank, _ = np.linalg.lstsq(A, y[:, 0].numpy() - A @ start, rcond=1e-12)
    result = fs.project_parameters(layer, [(at(x), fs.Equal(y))])
    assert flat(layer) == pytest.approx(start + move, abs=1e-11)
    assert result.rank == rank
    assert result.is_affine
    residual = A @ (start + move) - y[:, 0].numpy()
    assert result.residual[1] == pytest.approx(np.sqrt(np.mean(residual**2)), abs=1e-12)
    assert result.success == bool(np.abs(residual).max() < 1e-8)
    assert result.relative_move == pytest.approx(np.linalg.norm(move) / np.linalg.norm(start))
    if result.success:
        assert result.kkt.holds(1e-10)
        assert np.linalg.norm(move + A.T @ result.multipliers[0].numpy()[:, 0]) < 1e-10


@pytest.mark.parametrize("has_targets", [False, True], ids=["kept", "targets"])
@pytest.mark.parametrize("points", [3, 30])
def test_the_metric_of_outputs(points: int, has_targets: bool) -> None:
    layer, x, y, z = nn.Linear(8, 1), torch.randn(2, 8), torch.randn(2, 1), torch.randn(points, 8)
    start, A, O = flat(layer), design(x), design(z)  # noqa: E741
    data = torch.randn(points, 1)
    wanted = data[:, 0].numpy() if has_targets else O @ start
    first = np.linalg.lstsq(A, y[:, 0].numpy() - A @ start, rcond=None)[0]
    free = np.linalg.svd(A)[2][2:].T
    second = np.linalg.lstsq(O @ free, wanted - O @ (start + first), rcond=1e-12)[0]
    options = {"targets": data} if has_targets else {}
    result = fs.project_parameters(layer, [(at(x), fs.Equal(y))], metric="outputs", points=z, **options)
    assert flat(layer) == pytest.approx(start + first + free @ second, abs=1e-9)
    assert result.success
    assert result.metric_rank == min(points, 7)
    assert result.kkt.stationarity < 1e-9
    assert result.output_change == pytest.approx(
        np.sqrt(np.mean((O @ (flat(layer) - start)) ** 2)), abs=1e-10
    )


def half_space(dim: int) -> fs.Set:
    return fs.HalfSpace(torch.arange(1.0, dim + 1), 0.5, dim=0)


SETS = {
    "box": (fs.Box(-0.2, 0.3), lambda v: [v >= -0.2, v <= 0.3]),
    "lower": (fs.NonNegative(), lambda v: [v >= 0]),
    "simplex": (fs.Simplex(dim=0), lambda v: [v >= 0, cp.sum(v) == 1]),
    "half space": (half_space(5), lambda v: [np.arange(1.0, 6) @ v <= 0.5]),
    "monotone": (fs.Monotone(dim=0), lambda v: [cp.diff(v) >= 0]),
    "ball": (fs.L2Ball(0.3, dim=0), lambda v: [cp.norm(v) <= 0.3]),
    "l1": (fs.L1Ball(0.4, dim=0), lambda v: [cp.norm1(v) <= 0.4]),
    "both": (fs.Box(-0.2, 0.5) & fs.SumTo(0.6, dim=0), lambda v: [v >= -0.2, v <= 0.5, cp.sum(v) == 0.6]),
}


@pytest.mark.filterwarnings("ignore:project_parameters. the outputs' root mean square fell")
@pytest.mark.parametrize("metric", ["parameters", "outputs"])
@pytest.mark.parametrize("name", SETS)
def test_sets_against_cvxpy(name: str, metric: str) -> None:
    layer, x, z, w = nn.Linear(8, 1), torch.randn(5, 8), torch.randn(20, 8), torch.randn(2, 8)
    start, A, O, E = flat(layer), design(x), design(z), design(w)  # noqa: E741
    wanted, conditions = SETS[name]
    theta = cp.Variable(len(start))
    value = A @ theta
    cost = theta - start if metric == "parameters" else O @ (theta - start)
    rows = [*conditions(value), E @ theta == E @ start + 0.1]
    cp.Problem(cp.Minimize(cp.sum_squares(cost)), rows).solve(solver="CLARABEL")
    equal = fs.Equal((layer(w) + 0.1).detach())
    options = {"metric": metric, "points": z} if metric == "outputs" else {}
    result = fs.project_parameters(layer, [(at(x), wanted), (at(w), equal)], **options)
    assert result.success
    assert flat(layer) == pytest.approx(theta.value, abs=2e-5)
    for multiplier in result.multipliers:
        assert multiplier.isfinite().all()
    if name in ("box", "lower", "half space", "monotone") and metric == "parameters":
        pulled = A.T @ result.multipliers[0].numpy()[:, 0] + E.T @ result.multipliers[1].numpy()[:, 0]
        assert flat(layer) - start == pytest.approx(-pulled, abs=1e-8)


def test_what_is_kept_stays() -> None:
    model = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))
    x, anchor = torch.randn(2, 2), torch.randn(3, 2)
    before = model(anchor).detach()
    hidden = model[0].weight.detach().clone()
    result = fs.project_parameters(model, [(at(x), fs.Equal(1.0))], "2.*", keep=[at(anchor)])
    assert result.success
    assert torch.allclose(model(anchor), before, atol=1e-12)
    assert torch.equal(model[0].weight, hidden)
    assert result.rank == 5
    assert len(result.multipliers) == 1


def test_rows_that_contradict_each_other_leave_the_least_squares_solution() -> None:
    layer, x = nn.Linear(2, 1), torch.ones(1, 2)
    result = fs.project_parameters(layer, [(at(x), fs.Equal(0.0)), (at(x), fs.Equal(2.0))])
    assert (result.success, result.status) == (False, fs.Status.INFEASIBLE)
    assert layer(x).item() == pytest.approx(1.0)
    layer = nn.Linear(2, 1)
    result = fs.project_parameters(layer, [(at(x), fs.Box(upper=0.0)), (at(x), fs.Box(lower=2.0))])
    assert (result.success, result.maxcv) == (False, pytest.approx(1.0))


def test_the_model_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    model.train()
    model[0].bias.requires_grad_(False)
    x = torch.randn(3, 2)
    kept = {name: value.clone() for name, value in model.named_buffers()}
    state, frozen = torch.get_rng_state(), model[0].bias.detach().clone()
    result = fs.project_parameters(model, [(at(x), fs.Equal(1.0))])
    assert result.success
    assert model.training
    assert all(module.training for module in model.modules())
    assert not model[0].bias.requires_grad
    assert torch.equal(model[0].bias, frozen)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, kept[name]) for name, value in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.allclose(model.eval()(x), torch.ones(3, 1), atol=1e-7)


def test_float32_is_solved_in_float64_and_written_back() -> None:
    layer, x, y = nn.Linear(6, 1).float(), torch.randn(3, 6).float(), torch.randn(3, 1).float()
    result = fs.project_parameters(layer, [(at(x), fs.Equal(y))])
    assert layer.weight.dtype == torch.float32
    assert result.success
    assert result.maxcv < 1e-6
    with pytest.warns(UserWarning, match=r"float32, in which a residual of about 1\.?\d*e-05 is\s+reachable"):
        fs.project_parameters(layer, [(at(x), fs.Equal(y))], tol=1e-12)


def test_tied_weights_move_together() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x) + self.second(2 * x)

    model, x = Tied(), torch.randn(2, 3)
    result = fs.project_parameters(model, [(at(x), fs.Equal(4.0))], "second.weight")
    assert result.success
    assert model.first.weight is model.second.weight
    assert result.rank == 6


def test_parameters_themselves_by_name() -> None:
    layer = nn.Linear(4, 1)
    start = layer.weight.detach().clone()
    assert fs.project_parameters(layer, [("weight", fs.NonNegative())]).success
    assert torch.allclose(layer.weight, start.clamp_min(0), atol=1e-12)


def test_trained_weights_return_after_a_block() -> None:
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    x, before = torch.randn(4, 1), flat(model)
    with fs.projected_parameters(model, [(at(x), fs.Equal(1.0))], "2.*") as result:
        assert result.success
        assert torch.allclose(model(x), torch.ones(4, 1), atol=1e-7)
    assert (flat(model) == before).all()
    with pytest.raises(KeyError), fs.projected_parameters(model, [(at(x), fs.Equal(1.0))], "2.*"):
        raise KeyError
    assert (flat(model) == before).all()


def test_collapse_warns_and_anchors_do_not() -> None:
    layer, x = nn.Linear(1, 1), torch.linspace(-1, 1, 5)[:, None]
    with pytest.warns(UserWarning, match=r"Anchor the model"):
        result = fs.project_parameters(layer, [(at(x), fs.Equal(0.0))])
    assert result.output_rms[1] < 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fs.project_parameters(layer, [(at(x), fs.Equal(1.0))])


def test_a_function_that_fails_leaves_the_bits() -> None:
    layer, x = nn.Linear(2, 1), torch.ones(1, 2)
    before, calls = flat(layer), []

    def fails(model: nn.Module) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 5:
            raise RuntimeError("enough")
        return model(x)

    with pytest.raises(RuntimeError, match="enough"):
        fs.project_parameters(layer, [(fails, fs.Equal(0.0))])
    assert (flat(layer) == before).all()


X = torch.ones(2, 2, dtype=torch.float64)
BAD = {
    "no match": ({"parameters": "head.*"}, None, "matches no parameter"),
    "no constraints": ({}, [], "there are no constraints"),
    "no pair": ({}, [fs.Equal(0.0)], "must be a pair"),
    "discrete": ({}, [(at(X), fs.FiniteSet([0.0, 1.0]))], "is a choice"),
    "detached": ({}, [(lambda m: m(X).detach(), fs.Equal(0.0))], "has no gradient"),
    "not finite": ({}, [(lambda m: m(X) / 0, fs.Equal(0.0))], "Start where everything has a value"),
    "shape": ({}, [(at(X), fs.Equal(torch.zeros(3, 3)))], "constraint 0"),
    "no tensor": ({}, [(lambda m: 1.0, fs.Equal(0.0))], "must return a real"),
    "metric": ({"metric": "energy"}, None, '"parameters" or "outputs"'),
    "no points": ({"metric": "outputs"}, None, "needs points="),
    "targets": ({"metric": "outputs", "points": X, "targets": torch.zeros(7)}, None, "the 2 outputs"),
    "targets alone": ({"targets": torch.zeros(7)}, None, "needs metric"),
    "method": ({"method": "newton"}, None, "must be one of"),
    "tol": ({"tol": 0.0}, None, "tol must be positive"),
    "rcond": ({"rcond": 2.0}, None, "rcond must be"),
    "rounds": ({"solver_rounds": 0}, None, "solver_rounds must be"),
    "keep": ({"keep": [3]}, None, r"keep\[0\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    options, constraints, message = BAD[name]
    layer = nn.Linear(2, 1)
    before = flat(layer)
    with pytest.raises((ValueError, TypeError), match=message):
        fs.project_parameters(
            layer, [(at(X), fs.Equal(0.0))] if constraints is None else constraints, **options
        )
    assert (flat(layer) == before).all()


def test_frozen_parameters_alone_are_refused() -> None:
    layer = nn.Linear(2, 1).requires_grad_(False)
    layer.bias.requires_grad_(True)
    with pytest.raises(ValueError, match="none of it may move"):
        fs.project_parameters(layer, [(at(X), fs.Equal(0.0))], "weight")


def test_a_spectrum_of_chunks_is_that_of_the_whole() -> None:
    matrix, right = torch.randn(9000, 5), torch.randn(9000)
    matrix[:, 4] = matrix[:, 0] - matrix[:, 1]
    spectrum = Spectrum(matrix, right)
    rank = spectrum.rank(1e-12)
    expected, _, known, _ = np.linalg.lstsq(matrix.numpy(), right.numpy(), rcond=1e-12)
    assert rank == known
    assert spectrum.shortest(rank).numpy() == pytest.approx(expected, abs=1e-12)
