"""A system in parts is the system."""

import pytest
import torch

from feasible import pde

LINE, SQUARE = pde.Interval(0, 1), pde.Rectangle((0, 0), (1, 2))


def waves() -> tuple[pde.System, int]:
    """Inputs beside x, a condition with rows for each of them."""
    f = 1 + torch.rand(23, 1, dtype=torch.float64)
    start = pde.Initial(LINE, "left", lambda x, f: 2 * f, order=1, scale=lambda x, f: f)
    equation = pde.Helmholtz(lambda x, f: f)
    system = pde.System(equation, LINE, [start], inputs=[f], weights=[1.0, 3.0], dtype=torch.float64)
    return system, 2


def flow() -> tuple[pde.System, int]:
    """Three equations for three unknowns."""
    return pde.System(pde.SteadyNavierStokes(0.1), SQUARE, points=23, dtype=torch.float64), 2


def periodic() -> tuple[pde.System, int]:
    """Rows with points on both sides."""
    condition = pde.Periodic(SQUARE, "left")
    return pde.System(pde.Poisson(), SQUARE, [condition], points=23, dtype=torch.float64), 2


@pytest.mark.parametrize("make", [waves, flow, periodic], ids=["inputs", "several unknowns", "periodic"])
@pytest.mark.parametrize("size", [1, 7, 23, 1000])
def test_parts_are_the_system(make, size: int) -> None:
    system, width = make()
    torch.manual_seed(0)
    outputs = 3 if make is flow else 1
    layers = torch.nn.Linear(width, 8), torch.nn.Tanh(), torch.nn.Linear(8, outputs)
    net = torch.nn.Sequential(*layers).double()

    def model(x: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        return net(torch.cat([x, *inputs], 1))

    parts = [part(model).detach() for part in system.chunks(size)]
    whole = system(model).detach()
    assert torch.cat(parts) == pytest.approx(whole, rel=1e-12, abs=1e-14)
    assert max(len(part) for part in parts) <= max(size, 1) * outputs * 2


def test_a_size_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be positive, got 0"):
        waves()[0].chunks(0)
