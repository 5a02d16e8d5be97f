"""A residual in parts is the residual: products against the whole Jacobian, steps against those of one closure."""

import copy
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import feasible as fs
from feasible import pde
from feasible.optim import LevenbergMarquardt
from feasible.optim.parts import ProductsOfParts

SQUARE = pde.Rectangle((0, 0), (1, 1))


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def network(width: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))


def system(points: int = 40) -> pde.System:
    source = lambda x: -torch.sin(3 * x).sum(1, keepdim=True)  # noqa: E731
    return pde.System(pde.Poisson(source), SQUARE, [pde.Dirichlet(SQUARE, "left", 1.0)], points=points)


def jacobian(model: nn.Module, rows: Tensor) -> Tensor:
    each = [
        torch.autograd.grad(row, list(model.parameters()), retain_graph=True, allow_unused=True)
        for row in rows
    ]
    pairs = [[(p, g) for p, g in zip(model.parameters(), gradients, strict=True)] for gradients in each]
    return torch.stack(
        [torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for p, g in row]) for row in pairs]
    )


@pytest.mark.parametrize("size", [7, 40])
@pytest.mark.parametrize("is_scaled", [False, True], ids=["plain", "weights"])
def test_products_are_those_of_the_jacobian(size: int, is_scaled: bool) -> None:
    model, whole = network(), system()
    constant = lambda: torch.ones(2)  # noqa: E731
    parts = [*(partial(part, model) for part in whole.chunks(size)), constant]
    rows = torch.cat([whole(model), constant()])
    J = torch.cat([jacobian(model, whole(model)), torch.zeros(2, sum(p.numel() for p in model.parameters()))])
    scale = torch.rand(len(rows)) if is_scaled else None
    J = J * scale[:, None] if scale is not None else J
    products = ProductsOfParts(parts, rows.detach(), scale, list(model.parameters()), 1e-12, 500)
    v, w = torch.randn(J.shape[1]), torch.randn(len(J))
    assert torch.allclose(products.times(v), J @ v, rtol=1e-10)
    assert torch.allclose(products.transposed(w), J.T @ w, rtol=1e-10)
    largest = float(torch.linalg.svdvals(J)[0]) ** 2
    assert 0.3 * largest < products.size <= 1.001 * largest
    expected = torch.linalg.solve(J.T @ J + 1e-2 * largest * torch.eye(J.shape[1]), -J.T @ w)
    assert torch.allclose(products.solve(w, 1e-2 * largest), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", ["auto", "per-sample", "batched", "products"])
def test_steps_are_those_of_the_whole(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProductsOfParts, "power_rounds", 8)  # as many as elsewhere: the same first damping
    one, other, rows = network(), network(), system()
    other.load_state_dict(one.state_dict())
    options = {"jacobian": form, "solver_tolerance": 1e-12, "solver_rounds": 500, "acceleration": 0.0}
    whole = LevenbergMarquardt(one.parameters(), **options)
    parted = LevenbergMarquardt(other.parameters(), **options)
    closures = [partial(part, other) for part in rows.chunks(15)]
    for _ in range(3):
        before = whole.step(lambda: rows(one))
        assert parted.step(closures) == pytest.approx(float(before), rel=1e-8)
        assert parted.last.jacobian == whole.last.jacobian
        assert parted.last.new_loss == pytest.approx(whole.last.new_loss, rel=1e-4)


def test_weights_are_one_for_each_part() -> None:
    w = torch.zeros(2, requires_grad=True)
    optimizer = LevenbergMarquardt([w], jacobian="products")
    loss = optimizer.step([lambda: w[:1] - 2, lambda: w[1:] - 3], weights=[4.0, torch.tensor([2.0])])
    assert float(loss) == pytest.approx(0.5 * (4 * 4 + 2 * 9))


@pytest.mark.parametrize("form", ["auto", "products"])
def test_parts_without_the_parameters_are_refused(form: str) -> None:
    w = torch.zeros(2, requires_grad=True)
    optimizer = LevenbergMarquardt([w], jacobian=form)
    with pytest.raises(ValueError, match="does not depend on the parameters"):
        optimizer.step([lambda: torch.ones(2), lambda: w.detach()])
    with pytest.raises(ValueError, match="list of closures is empty"):
        optimizer.step([])


@pytest.mark.filterwarnings("ignore:project_parameters. the outputs' root mean square fell")
def test_a_projection_in_parts_is_that_of_the_whole() -> None:
    one, rows = network(12), system()
    other = copy.deepcopy(one)
    whole = fs.project_parameters(one, [(rows, fs.Equal(0.0))], "2.*", method="matrix-free", max_iterations=1)
    parts = [(part, fs.Equal(0.0)) for part in rows.chunks(9)]
    parted = fs.project_parameters(other, parts, "2.*", method="matrix-free", max_iterations=1)
    assert (parted.method, whole.method) == ("matrix-free", "matrix-free")
    assert parted.residual == pytest.approx(whole.residual, rel=1e-6)
    assert torch.allclose(one[2].weight, other[2].weight, rtol=1e-5, atol=1e-8)


MEMORY = """
import sys
from functools import partial
from pathlib import Path
import torch
from torch import nn
from feasible import pde
from feasible.optim import LevenbergMarquardt

def peak():
    # Of this program alone: resource.getrusage begins with what the program that started it had.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

torch.set_num_threads(1)
torch.manual_seed(0)
square = pde.Rectangle((0, 0), (1, 1))
network = nn.Sequential(nn.Linear(2, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 1))
system = pde.System(pde.Poisson(1.0), square, points=20_000)
size = int(sys.argv[1])
closure = [partial(part, network) for part in system.chunks(size)]
optimizer = LevenbergMarquardt(network.parameters(), jacobian="products", solver_rounds=2, max_trials=2)
before = peak()
optimizer.step(closure)
print(peak() - before)
"""


def mebibytes(size: int) -> float:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEMORY, str(size)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=300)
    return float(ran.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs the peak memory that Linux tells")
def test_memory_is_that_of_a_part() -> None:
    whole, parted = mebibytes(20_000), mebibytes(1000)
    # 20,000 × 200 numbers in float32 are 15 MiB; a graph holds dozens of them.
    assert whole > 500
    assert parted < 150
