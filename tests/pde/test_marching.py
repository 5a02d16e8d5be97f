"""Time slabs, marching, continuation and collocation on points that follow the residual."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import feasible as fs
from feasible import pde

integrate = pytest.importorskip("scipy.integrate")
DOUBLE = torch.float64
TIME = pde.Interval(0.0, 2.0)
STRIP = pde.TimeCylinder(pde.Interval(-1.0, 1.0), 1.0, 3.0)


def network(inputs: int = 1, width: int = 10, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, 1)).double()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Power(nn.Module):
    """``tᵖ``, t the last coordinate."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power

    def forward(self, x: Tensor, *inputs: Tensor) -> Tensor:
        return x[:, -1:] ** self.power * (inputs[0] if inputs else 1.0)


# -- slabs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "count", "edges"),
    [
        (TIME, 4, [0, 0.5, 1, 1.5, 2]),
        (TIME, 1, [0, 2]),
        (STRIP, [1.5, 2.75], [1, 1.5, 2.75, 3]),
        (STRIP, [], [1, 3]),
    ],
    ids=["interval", "one", "cylinder", "no times"],
)
def test_slabs_cover_the_domain(domain: pde.Domain, count: int | list[float], edges: list[float]) -> None:
    cut = pde.slabs(domain, count)
    begins = [slab.bounds[0][-1] for slab in cut]
    ends = [slab.bounds[1][-1] for slab in cut]
    assert [*begins, ends[-1]] == edges
    assert begins[1:] == ends[:-1]
    assert sum(slab.volume for slab in cut) == pytest.approx(domain.volume)


@pytest.mark.parametrize(
    ("domain", "count", "error", "says"),
    [
        (TIME, 0, ValueError, "positive number of slabs, got 0"),
        (TIME, [1.5, 0.5], ValueError, "rising times between 0 and 2"),
        (TIME, [2.0], ValueError, "rising times"),
        (TIME, [math.nan], ValueError, "rising times"),
        (pde.Rectangle(), 2, fs.UnsupportedError, "has no time to cut"),
    ],
)
def test_slabs_reject(domain: pde.Domain, count: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        pde.slabs(domain, count)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_a_point_belongs_to_its_slab_with_its_derivatives(dtype: torch.dtype) -> None:
    solution = pde.Slabs([0.0, 0.5, 1.0, 2.0], [Power(1), Power(2), Power(3)])
    t = torch.tensor([[1.5], [0.25], [0.5], [0.75], [1.0], [2.5], [-1.0]], dtype=dtype)
    power = torch.tensor([[3.0], [1.0], [1.0], [2.0], [2.0], [3.0], [1.0]], dtype=dtype)
    x = torch.cat([torch.zeros_like(t), t], 1)
    u = pde.derivatives(solution, x, wanted=[(1,), (1, 1), (0,)])
    torch.testing.assert_close(u.value, t**power)
    torch.testing.assert_close(u.partial((1,)), power * t ** (power - 1))
    torch.testing.assert_close(u.partial((1, 1)), power * (power - 1) * t ** (power - 2).clamp_min(0))
    assert not bool(u.partial((0,)).any())
    assert u.method == "jet"
    assert solution(x[:0]).shape == (0, 1)
    scaled = solution(x, t)  # inputs follow their rows
    torch.testing.assert_close(scaled, t * t**power)
    torch.testing.assert_close(pickle.loads(pickle.dumps(solution))(x), u.value)


def test_jumps_are_differences_at_the_interfaces() -> None:
    solution = pde.Slabs([0.0, 0.5, 2.0, 3.0], [Power(1), Power(2), Power(2)])
    jumps = solution.jumps(torch.zeros(4, 1))
    torch.testing.assert_close(jumps, torch.tensor([-0.25, 0.0])[:, None, None].expand(2, 4, 1))
    assert pde.Slabs([0.0, 1.0], [Power(1)]).jumps(torch.zeros(4, 1)).shape == (0, 4, 1)


@pytest.mark.parametrize(
    ("edges", "count"), [([0.0, 1.0], 2), ([1.0, 0.0], 1), ([0.0, math.inf], 1), ([0.0], 0)]
)
def test_slabs_need_edges_that_fit(edges: list[float], count: int) -> None:
    with pytest.raises(ValueError, match="one more finite, rising edges"):
        pde.Slabs(edges, [Power(1) for _ in range(count)])


def test_stretched_time_keeps_the_slopes() -> None:
    slab = pde.slabs(STRIP, [2.5])[1]
    u = pde.derivatives(pde.Stretched(Power(1), slab, STRIP), torch.tensor([[0.3, 2.5], [0.3, 3.0]]), order=1)
    torch.testing.assert_close(u.value[:, 0], torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(u.gradient[:, 0, 1], torch.tensor([4.0, 4.0]))


# -- marching, against other solvers -----------------------------------------------------------------------------------


def reference(
    slope: Callable[[float, Any], Any], start: list[float], end: float, times: Tensor
) -> np.ndarray:
    found = integrate.solve_ivp(slope, (0, end), start, "Radau", times[:, 0].numpy(), rtol=1e-10, atol=1e-12)
    return np.asarray(found.y[0])


ODES: dict[str, tuple[str, list[float], float, int, Callable[[float, Any], Any]]] = {
    "logistic": ("u_x - 3*u*(1 - u)", [0.05], 2.0, 2, lambda t, u: 3 * u * (1 - u)),
    "stiff": ("(u_x + 50*(u - cos(x)))/50", [0.0], 1.0, 2, lambda t, u: -50 * (u - np.cos(t))),
    "pendulum": ("u_xx + 4*sin(u)", [1.0, 0.5], 2.0, 2, lambda t, u: [u[1], -4 * np.sin(u[0])]),
}


@pytest.mark.parametrize(
    ("name", "is_built_in"),
    [("logistic", True), ("stiff", False), ("pendulum", False)],
    ids=["logistic, built in", "stiff", "pendulum"],
)
def test_equations_in_time_alone(name: str, is_built_in: bool) -> None:
    text, start, end, count, slope = ODES[name]
    time = pde.Interval(0.0, end)
    conditions = [pde.Initial(time, "left", value, order=order) for order, value in enumerate(start)]
    system = pde.System(pde.equation(text), time, conditions, points=30, dtype=DOUBLE)
    solve = partial(pde.collocate, tol=3e-5, rounds=10, generator=generator())
    result = pde.march(system, network(), count, solve, built_in=["left"] if is_built_in else [])
    t = torch.linspace(0, end, 101, dtype=DOUBLE)[:, None]
    with torch.no_grad():
        off = result.solution(t)[:, 0].numpy() - reference(slope, start, end, t)
    assert result.success
    assert np.abs(off).max() < 3e-4
    jump = float(result.solution.jumps(t.new_empty(1, 0)).abs().max())
    assert jump < (1e-14 if is_built_in else 3e-4)


def cole_hopf(points: Tensor, viscosity: float) -> Tensor:
    """Burgers' equation from ``−sin πx``, by the trapezoidal rule."""
    x, t = points[:, :1], points[:, 1:]
    z = torch.linspace(-12, 12, 2001, dtype=DOUBLE)
    y = x - 2 * torch.sqrt(viscosity * t) * z
    exponent = -torch.cos(math.pi * y) / (2 * math.pi * viscosity) - z**2
    weight = torch.exp(exponent - exponent.amax(1, keepdim=True))
    return -(torch.sin(math.pi * y) * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)


def burgers(viscosity: float, points: int) -> pde.System:
    space_time = pde.TimeCylinder(pde.Interval(-1.0, 1.0), 0.0, 1.0)
    conditions = [
        pde.Dirichlet(space_time, "left", 0.0),
        pde.Initial(space_time, "start", lambda x: -torch.sin(math.pi * x[:, :1])),
        pde.Dirichlet(space_time, "right", 0.0),
    ]
    weights = [1.0, 1.0, 10.0, 1.0]
    return pde.System(pde.Burgers(viscosity), space_time, conditions, points, weights=weights, dtype=DOUBLE)


@pytest.mark.slow
def test_burgers_by_slabs() -> None:
    solve = partial(pde.collocate, tol=1e-3, rounds=20, generator=generator())
    result = pde.march(burgers(0.1, 300), network(2, 24), 3, solve, built_in=["left", "right"])
    grid = pde.grid(STRIP.space, 41, dtype=DOUBLE)
    for time in (0.0, 0.3, 0.5, 1.0):
        points = torch.cat([grid, torch.full_like(grid, time)], 1)
        with torch.no_grad():
            off = result.solution(points) - cole_hopf(points, 0.1)
        assert float(off.abs().max()) < 2e-3
    assert result.success
    assert burgers(0.1, 150).report(result.solution, held_out=200).rows[1].points == 200


# -- marching, its bookkeeping -----------------------------------------------------------------------------------------


def decay(points: int = 20, **options: Any) -> pde.System:
    start = pde.Initial(TIME, "left", 1.0)
    return pde.System(pde.equation("u_x + u"), TIME, [start], points, dtype=DOUBLE, **options)


def test_a_slab_that_is_not_solved_is_halved() -> None:
    lengths: list[float] = []

    def solve(model: nn.Module, system: pde.System) -> SimpleNamespace:
        (low,), (high,) = system.domain.bounds
        lengths.append(high - low)
        return SimpleNamespace(success=high - low < 0.6 or low >= 1)

    result = pde.march(decay(), network(), 2, solve)
    assert lengths == [1.0, 0.5, 0.5, 1.0]
    assert result.solution.edges == (0.0, 0.5, 1.0, 2.0)
    assert (result.success, result.halvings, len(result.outcomes)) == (True, 1, 3)
    kept = pde.march(decay(), network(), 2, solve, halvings=0)
    assert (kept.success, kept.halvings, kept.solution.edges) == (False, 0, (0.0, 1.0, 2.0))


def test_each_slab_begins_with_the_weights_and_values_of_the_last() -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    given = network()

    def solve(model: nn.Module, system: pde.System) -> SimpleNamespace:
        seen.append((next(model.parameters()).detach().clone(), system.blocks(model)[1].detach()))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 1
        return SimpleNamespace(success=True)

    first = next(given.parameters()).detach().clone()
    result = pde.march(decay(), given, 2, solve)
    assert torch.equal(next(given.parameters()), first)
    torch.testing.assert_close(seen[1][0], first + 1)
    begin = torch.zeros(1, 1, dtype=DOUBLE)
    stretched = [model.model for model in result.solution.models]
    with torch.no_grad():
        for parameter in stretched[1].parameters():
            parameter -= 1  # as the second solve found it
        torch.testing.assert_close(seen[1][1], stretched[1](begin) - stretched[0](begin + 2))


def test_conditions_go_to_the_slabs_that_hold_their_points() -> None:
    at = torch.tensor([[-1.0, 1.2], [-1.0, 2.8]], dtype=DOUBLE)
    rows = torch.tensor([[1.0], [2.0]], dtype=DOUBLE)
    conditions = [
        pde.Initial(STRIP, "start", 0.0),
        pde.Dirichlet(STRIP, "left", rows, at=at),
        pde.Anchor(torch.tensor([[0.0, 1.1]], dtype=DOUBLE), torch.tensor([5.0])),
        pde.Neumann(STRIP, "right", 0.0),
    ]
    system = pde.System(pde.Heat(1.0), STRIP, conditions, 16, weights=[1, 2, 3, 4, 5], dtype=DOUBLE)
    seen: list[pde.System] = []

    def solve(model: nn.Module, local: pde.System) -> SimpleNamespace:
        seen.append(local)
        return SimpleNamespace(success=True)

    pde.march(system, network(2), 2, solve)
    assert [local.weights for local in seen] == [[1, 2, 3, 4, 5], [1, 2, 3, 5]]
    assert [len(local.points) for local in seen] == [16, 16]
    late = seen[1].conditions[1]
    assert isinstance(late, pde.Dirichlet)
    assert late.at is not None
    assert late.at.tolist() == [[-1.0, 2.8]]
    assert late.value.tolist() == [[2.0]]  # type: ignore[union-attr]
    assert [c.name for c in seen[0].conditions][2] == "Anchor(1 points)"


@pytest.mark.parametrize(
    ("conditions", "options", "error", "says"),
    [
        ([], {}, ValueError, "no initial condition to start from"),
        (["end"], {}, fs.UnsupportedError, "at the end of time"),
        (["start"], {"built_in": "start"}, TypeError, r"Use \['start'\]"),
        (["start"], {"built_in": ["left"]}, ValueError, "'left', where .* has no condition"),
        (["start", "slope"], {"built_in": ["start"]}, fs.UnsupportedError, "has a slope by time"),
        (["start"], {"halvings": -1}, ValueError, "halvings must be ≥ 0"),
        (["start"], {"count": 0}, ValueError, "positive number of slabs"),
    ],
)
def test_march_rejects(
    conditions: Sequence[str], options: dict[str, Any], error: type[Exception], says: str
) -> None:
    made = [pde.Initial(STRIP, "start", 0.0)] if conditions else []
    made += [pde.Initial(STRIP, "start", 0.0, order=1)] if "slope" in conditions else []
    made += [pde.Dirichlet(STRIP, "end", 0.0)] if "end" in conditions else []  # type: ignore[list-item]
    with pytest.raises(error, match=says):
        pde.march(pde.System(pde.Heat(1.0), STRIP, made), network(2), **options)


def test_a_family_of_solutions_marches_with_its_inputs() -> None:
    rate = torch.rand(60, 1, dtype=DOUBLE, generator=generator()) + 0.5
    equation = pde.equation("u_x + k*u", k=lambda x, k: k)
    start = pde.Initial(TIME, "left", lambda x, k: 1 / k)
    system = pde.System(equation, TIME, [start], inputs=[rate], dtype=DOUBLE)

    class Family(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network(2)

        def forward(self, x: Tensor, k: Tensor) -> Tensor:
            return self.network(torch.cat([x, k], 1))

    result = pde.march(system, Family(), 2, partial(pde.collocate, tol=1e-3, rounds=6, generator=generator()))
    t, k = torch.full((30, 1), 2.0, dtype=DOUBLE), torch.linspace(0.5, 1.5, 30, dtype=DOUBLE)[:, None]
    with torch.no_grad():
        off = result.solution(t, k) - torch.exp(-2 * k) / k
    assert float(off.abs().max()) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_what_is_built_in_slab_after_slab_has_its_slopes(dtype: torch.dtype) -> None:
    conditions = [pde.Initial(STRIP, "start", lambda x: 1 - x[:, :1] ** 2), pde.Dirichlet(STRIP, "left", 0.0)]
    system = pde.System(pde.Heat(1.0), STRIP, conditions, 16, dtype=dtype)

    def solve(model: nn.Module, local: pde.System) -> SimpleNamespace:
        return SimpleNamespace(success=True)

    solution = pde.march(system, network(2).to(dtype), 3, solve, built_in=["start", "left"]).solution
    x = pde.uniform(STRIP, 20, generator=generator(), dtype=dtype)
    along = torch.autograd.grad(solution(x.requires_grad_()).sum(), x)[0]
    u = pde.derivatives(solution, x.detach(), wanted=["gradient"])
    torch.testing.assert_close(along, u.gradient[:, 0])
    assert solution.jumps(x[:, :1].detach()).abs().max() < (1e-6 if dtype == torch.float32 else 1e-14)


def test_a_family_is_built_in_slab_after_slab() -> None:
    k = torch.rand(9, 1, dtype=DOUBLE, generator=generator()) + 0.5
    start = pde.Initial(TIME, "left", lambda x, k: k)
    system = pde.System(pde.equation("u_x + k*u", k=lambda x, k: k), TIME, [start], inputs=[k], dtype=DOUBLE)

    class Grown(nn.Module):
        def forward(self, x: Tensor, k: Tensor) -> Tensor:
            return k * torch.exp(x)

    def solve(model: nn.Module, local: pde.System) -> SimpleNamespace:
        return SimpleNamespace(success=True)

    solution = pde.march(system, Grown(), 2, solve, built_in=["left"]).solution
    torch.testing.assert_close(solution(torch.zeros_like(k), k), k)
    assert solution.jumps(torch.empty(9, 0, dtype=DOUBLE), k).abs().max() < 1e-14


def test_march_needs_time() -> None:
    with pytest.raises(fs.UnsupportedError, match="has no time"):
        pde.march(pde.System(pde.Poisson(), pde.Rectangle()), network(2))


# -- continuation ------------------------------------------------------------------------------------------------------


def test_continuation_puts_values_between() -> None:
    tried: list[float] = []
    model = nn.Linear(1, 1)
    nn.init.ones_(model.weight)

    def solve(net: nn.Linear, value: float) -> SimpleNamespace:
        tried.append(value)
        is_near = value >= 0.5 * net.weight.item()
        nn.init.constant_(net.weight, value)  # spoilt where it fails
        return SimpleNamespace(success=is_near)

    result = pde.continuation(model, solve, [1.0, 0.25])
    assert tried == [1.0, 0.25, 0.5, 0.25]
    assert (result.success, result.values, len(result.outcomes)) == (True, (1.0, 0.5, 0.25), 3)
    stuck = pde.continuation(model, solve, [0.25, 0.01], halvings=1)
    assert (stuck.success, stuck.values, model.weight.item()) == (False, (0.25,), 0.25)
    lost = pde.continuation(model, solve, [0.01])
    assert (lost.success, lost.values, model.weight.item()) == (False, (), 0.25)


@pytest.mark.parametrize(
    ("pair", "middle"), [((1.0, 4.0), 2.0), ((-1.0, -4.0), -2.0), ((-1.0, 2.0), 0.5), ((0.0, 2.0), 1.0)]
)
def test_continuation_halves_by_the_mean_that_fits(pair: tuple[float, float], middle: float) -> None:
    tried: list[float] = []

    def solve(net: nn.Module, value: float) -> SimpleNamespace:
        tried.append(value)
        return SimpleNamespace(success=value == pair[0])

    pde.continuation(nn.Linear(1, 1), solve, pair, halvings=1)
    assert tried == [*pair, middle]


@pytest.mark.parametrize(
    "arguments", [{"values": []}, {"values": [math.nan]}, {"values": [1.0], "halvings": -1}]
)
def test_continuation_rejects(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="continuation: "):
        pde.continuation(nn.Linear(1, 1), lambda net, value: SimpleNamespace(success=True), **arguments)


# -- collocation -------------------------------------------------------------------------------------------------------


def test_collocation_says_when_it_fell_short_and_repeats_itself() -> None:
    runs = []
    for _ in range(2):
        model, system = network(), decay()
        points = system.points.clone()
        outcome = pde.collocate(model, system, tol=1e-14, rounds=2, iterations=3, generator=generator())
        assert torch.equal(system.points, points)
        runs.append((outcome, [p.detach() for p in model.parameters()]))
    assert runs[0][0] == runs[1][0]
    assert (runs[0][0].success, runs[0][0].rounds) == (False, 2)
    assert all(torch.equal(a, b) for a, b in zip(runs[0][1], runs[1][1], strict=True))


@pytest.mark.parametrize(
    ("options", "says"), [({"tol": 0.0}, "tol must be positive"), ({"rounds": 0}, "rounds must be positive")]
)
def test_collocate_rejects(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        pde.collocate(network(), decay(), **options)


def test_collocate_needs_something_to_train() -> None:
    with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
        pde.collocate(network().requires_grad_(False), decay())
    with pytest.raises(ValueError, match="not a parameter of the model, or is frozen"):
        pde.collocate(network(), decay(), linear=network()[2].parameters())


def test_collocation_with_the_last_layer_eliminated_ends_at_its_optimum() -> None:
    """A linear equation: no change of the last layer lowers the residual."""
    model, system = network(), decay()
    pde.collocate(model, system, rounds=2, linear=model[2].parameters(), generator=generator())
    drawn = pde.redrawn(system, model, generator=generator())
    optimizer = fs.optim.LevenbergMarquardt(
        [{"params": model[0].parameters()}, {"params": model[2].parameters(), "linear": True}]
    )
    optimizer.step(lambda: drawn(model))
    slope = torch.autograd.grad(drawn(model).square().sum(), [model[2].weight, model[2].bias])
    assert max(float(part.abs().max()) for part in slope) < 1e-9


def test_collocation_keeps_its_time() -> None:
    assert pde.collocate(network(), decay(), tol=1e-14, seconds=0.0).rounds == 0


def test_redrawn_points_follow_the_residual_on_parts_too() -> None:
    """A bump at (0.5, start), which 2 % of even points are near, and 25 % of the start's; points of their own stay."""
    at = torch.tensor([[1.0, 2.0]])
    conditions = [pde.Initial(STRIP, "start", 0.0), pde.Dirichlet(STRIP, "right", 0.0, at=at)]
    equation = pde.equation("u", names=("x", "t"))
    bump = lambda x: torch.exp(-100 * ((x[:, :1] - 0.5) ** 2 + (x[:, 1:] - 1) ** 2))  # noqa: E731
    system = pde.System(equation, STRIP, conditions, points=300, weights=[1.0, 2.0, 3.0])
    again = pde.redrawn(system, bump, 50, offset=0.1, generator=generator())
    start, right = again.conditions
    assert again.weights == system.weights
    assert (len(again.points), len(start.points()), right.points().tolist()) == (300, 50, at.tolist())
    for points, share in ((again.points, 0.1), (start.points(), 0.5)):
        near = (points - torch.tensor([0.5, 1.0])).norm(dim=1) < 0.25
        assert float(near.float().mean()) > share


def test_redrawn_rows_of_inputs_stay_together() -> None:
    frequency = torch.linspace(1, 2, 40, dtype=DOUBLE)[:, None]
    start = pde.Initial(TIME, "left", 0.0)
    waves = pde.System(pde.Helmholtz(lambda x, f: f), TIME, [start], inputs=[frequency], dtype=DOUBLE)
    again = pde.redrawn(waves, lambda x, f: torch.sin(f * x), generator=generator())
    assert len(again.points) == len(again.inputs[0]) == 40
    assert float(again(lambda x, f: torch.sin(f * x)).abs().max()) < 1e-12
    assert bool(torch.isin(again.inputs[0], frequency).all())


def test_adaptive_points_of_a_part() -> None:
    peak = lambda x: torch.exp(-100 * x[:, 1:] ** 2)  # noqa: E731
    square = pde.Rectangle((-1.0, -1.0), (1.0, 1.0))
    points = pde.adaptive(square, peak, 100, "left", offset=0.1, generator=generator())
    assert bool((points[:, 0] == -1).all())
    assert float((points[:, 1].abs() < 0.25).float().mean()) > 0.6
    assert pde.adaptive(TIME, peak, 5, "right").tolist() == [[2.0]]


def test_a_tolerance_that_float32_cannot_hold_is_told() -> None:
    torch.manual_seed(0)
    line = pde.Interval(0, 1)
    system = pde.System(pde.Poisson(), line, [pde.Dirichlet(line, "left", 0.0)], 10, dtype=torch.float32)
    with pytest.warns(
        UserWarning, match="float32, in which a residual of about 1e-05 is reachable, not 1e-09"
    ):
        pde.collocate(nn.Linear(1, 1), system, tol=1e-9, rounds=1, iterations=1)
