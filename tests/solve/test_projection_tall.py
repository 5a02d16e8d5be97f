"""Affine equations that outnumber the parameters, in parts: against NumPy and scipy, which see all rows at once."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

import feasible as fs
from feasible import pde
from feasible.solve.projection import tall
from feasible.solve.projection.triangle import Triangle


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every system counts as large."""
    monkeypatch.setattr(tall, "LARGE_BYTES", 0)


def flat(model: nn.Module) -> np.ndarray:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy().copy()


def parts(x: torch.Tensor, y: torch.Tensor, size: int) -> list:
    pairs = zip(x.split(size), y.split(size), strict=True)
    return [((lambda model, x=x: model(x)), fs.Equal(y)) for x, y in pairs]


@pytest.mark.usefixtures("small")
@pytest.mark.filterwarnings("ignore:project_parameters. the outputs' root mean square fell")
@pytest.mark.parametrize("size", [1, 7, 60])
@pytest.mark.parametrize("kind", ["full", "deficient", "consistent"])
def test_parts_are_least_squares(kind: str, size: int) -> None:
    layer, x, y = nn.Linear(6, 2), torch.randn(60, 6), torch.randn(60, 2)
    if kind == "deficient":
        x[:, 1] = 2 * x[:, 0] - x[:, 3]
    if kind == "consistent":
        y = x @ torch.randn(6, 2) + 3
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    start = torch.cat([weight, bias[:, None]], 1).numpy()
    A = np.concatenate([x.numpy(), np.ones((60, 1))], 1)
    move, _, rank, _ = np.linalg.lstsq(A, y.numpy() - A @ start.T, rcond=1e-12)
    result = fs.project_parameters(layer, parts(x, y, size))
    found = torch.cat([layer.weight, layer.bias[:, None]], 1).detach().numpy()
    assert found == pytest.approx(start + move.T, abs=1e-12)
    assert (result.method, result.is_affine, result.rank) == ("dense", True, 2 * rank)
    assert result.success == (kind == "consistent")
    assert result.multipliers == ()
    residual = A @ found.T - y.numpy()
    assert result.residual[1] == pytest.approx(np.sqrt(np.mean(residual**2)), abs=1e-12)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["tanh", "square", "relu"])
def test_what_bends_goes_another_way(name: str) -> None:
    bend = {"tanh": torch.tanh, "square": torch.square, "relu": torch.relu}[name]
    model = nn.Linear(2, 1)
    x = torch.randn(40, 2)
    y = bend(x @ torch.tensor([[0.4], [-0.3]]) + 0.5)
    rows = [((lambda model, x=x: bend(model(x))), fs.Equal(y)) for x, y in zip(x.split(9), y.split(9))]
    result = fs.project_parameters(model, rows)
    assert not result.is_affine
    assert result.residual[1] < 1e-6 * result.residual[0] or name == "relu"


@pytest.mark.usefixtures("small")
def test_float32_is_folded_in_float64() -> None:
    layer, x = nn.Linear(5, 1, dtype=torch.float32), torch.randn(80, 5, dtype=torch.float32)
    y = (x @ torch.randn(5, 1, dtype=torch.float32)).detach()
    result = fs.project_parameters(layer, parts(x, y, 16))
    assert layer.weight.dtype == torch.float32
    assert result.success
    assert result.maxcv < 5e-6


@pytest.mark.usefixtures("small")
@pytest.mark.filterwarnings("ignore:project_parameters. the outputs' root mean square fell")
def test_inequalities_and_curved_sets_are_not_folded() -> None:
    for wanted in (fs.NonNegative(), fs.L2Ball(0.1, dim=0)):
        layer, x = nn.Linear(2, 1), torch.rand(20, 2)
        with torch.no_grad():
            layer.bias.fill_(-2.0)
        result = fs.project_parameters(layer, [(lambda model: model(x), wanted)])  # noqa: B023
        assert result.success
        assert len(result.multipliers) == 1


@pytest.mark.usefixtures("small")
def test_directions_below_rcond_are_left_alone() -> None:
    U, V = (scipy.linalg.qr(np.random.default_rng(0).normal(size=shape))[0] for shape in ((50, 50), (8, 8)))
    A = U[:, :8] * 10.0 ** -np.arange(8) @ V.T
    layer, y = nn.Linear(8, 1, bias=False), torch.randn(50, 1)
    nn.init.zeros_(layer.weight)
    result = fs.project_parameters(layer, parts(torch.tensor(A), y, 20), rcond=3e-4)
    truncated = np.linalg.lstsq(A, y.numpy(), rcond=3e-4)[0]
    assert result.rank == 4
    assert flat(layer) == pytest.approx(truncated[:, 0], abs=1e-9)


@pytest.mark.usefixtures("small")
def test_the_last_layer_of_a_system_in_chunks() -> None:
    torch.manual_seed(0)
    units, count = 120, 2000
    model = nn.Sequential(nn.Linear(1, units), nn.Tanh(), nn.Linear(units, 1))
    line = pde.Interval(0, 1)
    pde.init_features_(model[0], line, 10.0)
    k = 4 * torch.pi
    ends = [pde.Dirichlet(line, "left", 0.0), pde.Dirichlet(line, "right", 1.0)]
    system = pde.System(pde.Poisson(lambda x: -(k**2) * torch.sin(k * x)), line, ends, points=count)
    hidden = model[0].weight.detach().clone()
    rows = [(part, fs.Equal(0.0)) for part in system.chunks(300)]
    result = fs.project_parameters(model, rows, "2.*", tol=1e-10)
    assert result.success
    assert result.method == "dense"
    assert result.rank < units
    assert result.output_rms is not None
    assert torch.equal(model[0].weight, hidden)
    assert model[0].weight.requires_grad
    x = torch.linspace(0, 1, 101)[:, None]
    assert (model(x) - torch.sin(k * x) - x).abs().max() < 1e-8


@pytest.mark.parametrize("is_deficient", [False, True], ids=["full", "deficient"])
@pytest.mark.parametrize("shape", [(40, 7), (9000, 7), (12, 12), (5, 12)])
def test_a_triangle_is_least_squares(shape: tuple[int, int], is_deficient: bool) -> None:
    A, b = torch.randn(shape), torch.randn(shape[0])
    if is_deficient:
        A[:, -1] = A[:, 0] + A[:, 1]
    triangle = Triangle(shape[1], A.device)
    for rows, right in zip(A.split(1000), b.split(1000), strict=True):
        triangle.add(rows, right)
    expected, _, rank, _ = scipy.linalg.lstsq(A.numpy(), b.numpy(), cond=1e-12)
    x, found = tall.solved(triangle, 1e-12)
    assert found == rank
    assert triangle.is_full(1e-12) == (rank == shape[1])
    assert x.numpy() == pytest.approx(expected, abs=1e-9)
