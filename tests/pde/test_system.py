"""Domains, samplers, conditions, conditions by construction, systems and their diagnosis."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import feasible as fs
from feasible import pde

LINE = pde.Interval(-1.0, 2.0)
SQUARE = pde.Rectangle((-1.0, 0.0), (1.0, 3.0))
BRICK = pde.Rectangle((0.0, 0.0, 0.0), (1.0, 2.0, 3.0))
ROUND = pde.Disc((1.0, -1.0), 2.0)
DOMAINS = {
    "interval": LINE,
    "rectangle": SQUARE,
    "brick": BRICK,
    "disc": ROUND,
    "line in time": pde.TimeCylinder(LINE, 1.0, 4.0),
    "disc in time": pde.TimeCylinder(ROUND, 0.0, 2.0),
}


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_are_inside_on_their_parts_and_even(name: str, dtype: torch.dtype) -> None:
    domain = DOMAINS[name]
    low, high = (torch.tensor(corner, dtype=dtype) for corner in domain.bounds)
    for points in (
        pde.uniform(domain, 2000, generator=torch.Generator().manual_seed(0), dtype=dtype),
        pde.sobol(domain, 2000, dtype=dtype),
        pde.grid(domain, 11, dtype=dtype),
    ):
        assert points.dtype == dtype
        assert domain.contains(points).all()
        torch.testing.assert_close(points.mean(0), (low + high) / 2, atol=0.15, rtol=0)
    # The share of the box around it that is inside is the ratio of the volumes.
    box = low + (high - low) * torch.rand(40_000, domain.dim, dtype=dtype)
    share = float(domain.contains(box).double().mean()) * float((high - low).prod())
    assert share == pytest.approx(domain.volume, rel=0.02)
    for part in domain.parts:
        for points in (pde.uniform(domain, 50, part, dtype=dtype), pde.sobol(domain, 50, part, dtype=dtype)):
            normals = domain.normal(part, points)
            torch.testing.assert_close(normals.norm(dim=1), torch.ones(len(points), dtype=dtype))
            assert domain.contains(points).all()
            assert domain.contains(points - 1e-3 * normals).all()
            assert not domain.contains(points + 1e-3 * normals).any()
            assert domain.area(part) > 0
        assert domain.contains(pde.grid(domain, 5, part, dtype=dtype)).all()


def test_samplers_are_deterministic_and_even_on_the_disc() -> None:
    one, two = (pde.uniform(ROUND, 9, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(pde.sobol(ROUND, 9, seed=4), pde.sobol(ROUND, 9, seed=4))
    assert not torch.equal(pde.sobol(ROUND, 9, seed=4), pde.sobol(ROUND, 9, seed=5))
    away = (pde.sobol(ROUND, 4096) - torch.tensor(ROUND.centre)).norm(dim=1)
    assert float((away < ROUND.radius / 2).double().mean()) == pytest.approx(0.25, abs=0.01)


def test_adaptive_points_follow_the_residual() -> None:
    def peak(x: Tensor) -> Tensor:
        return torch.where(x < 0, 9.0, 1.0)

    line = pde.Interval(-1, 1)
    points = [
        pde.adaptive(
            line, peak, 2000, generator=torch.Generator().manual_seed(1), candidates=40_000, **options
        )
        for options in ({"offset": 0.0}, {"offset": 1.0}, {"power": 0.0}, {"offset": 1.0})
    ]
    shares = [float((each < 0).double().mean()) for each in points]
    # Densities 9 : 1; 9/5 + 1 : 1/5 + 1; even. Without repetition from 20 times as many: a little less.
    assert shares[:3] == pytest.approx([0.9, 0.7, 0.5], abs=0.03)
    assert torch.equal(points[1], points[3])
    assert len(points[0].unique()) > 1990
    with pytest.raises(ValueError, match="not finite at 20 points"):
        pde.adaptive(line, lambda x: x / 0, 2)
    with pytest.raises(ValueError, match="candidates ≥ 5"):
        pde.adaptive(line, peak, 5, candidates=4)


def test_arguments_of_a_system_that_do_not_fit_are_one_sentence() -> None:
    line = pde.Interval(0, 1)
    left = pde.Dirichlet(line, "left", 0.0)
    with pytest.raises(TypeError, match=r"in this order; got Interval and Helmholtz\."):
        pde.System(line, pde.Helmholtz(2.0))
    with pytest.raises(TypeError, match=r"must be a list\. Use \[Dirichlet\(left\)\]"):
        pde.System(pde.Helmholtz(2.0), line, left)
    with pytest.raises(TypeError, match="got 'zero'"):
        pde.System(pde.Helmholtz(2.0), line, [pde.Dirichlet(line, "left", "zero")])(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"the model does not take x of shape \(9, 1\)"):
        pde.System(pde.Helmholtz(2.0), line, points=9)(torch.nn.Linear(2, 1))
    with pytest.raises(TypeError, match=r"f must be .* got the text 'sin\(x\)'"):
        pde.equation("u_x + f", f="sin(x)")
    with pytest.raises(TypeError, match="expected a text, or several, got int"):
        pde.equation(5)
    started = pde.System(pde.equation("u_t + u"), line, [pde.Initial(line, "left", 1.0)], points=9)
    with pytest.raises(TypeError, match="must return something with success, got NoneType"):
        pde.march(started, torch.nn.Linear(1, 1), 2, lambda model, system: None)


def test_bad_domains_points_and_parts_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="lower < upper"):
        pde.Interval(1, 0)
    with pytest.raises(ValueError, match="radius > 0"):
        pde.Disc(radius=0)
    with pytest.raises(ValueError, match="2 or 3 numbers"):
        pde.Rectangle((0,), (1,))
    with pytest.raises(TypeError, match="domain of space"):
        pde.TimeCylinder(3)
    with pytest.raises(ValueError, match=r"no part 'lft'; it has left, right\. Closest: 'left'"):
        pde.Dirichlet(LINE, "lft")
    with pytest.raises(ValueError, match=r"1 of 2 points lie outside, the first one row 1: \[3.0\]"):
        LINE.require(torch.tensor([[0.0], [3.0]]))
    with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
        SQUARE.contains(torch.rand(3, 1))
    with pytest.raises(ValueError, match="not on the part 'left'"):
        pde.Dirichlet(LINE, "left").residual(torch.sin, torch.zeros(1, 1))
    with pytest.raises(ValueError, match="lie outside"):
        pde.System(pde.Poisson(), LINE, points=torch.tensor([[7.0]]))
    with pytest.raises(ValueError, match="no part opposite"):
        pde.Periodic(ROUND, "circle")
    with pytest.raises(ValueError, match='expected the part "start"'):
        pde.Initial(SQUARE, "left")
    with pytest.raises(ValueError, match="Anchor: expected x"):
        pde.Anchor(torch.zeros(3), torch.zeros(3))


def smooth(x: Tensor) -> Tensor:
    """Any function of one to three coordinates, two components."""
    total = (x * torch.arange(1.0, x.shape[1] + 1).to(x)).sum(1)
    return torch.stack([torch.sin(total), torch.cos(x[:, 0]) * total], 1)


@pytest.mark.parametrize("name", DOMAINS)
def test_rows_are_those_of_finite_differences(name: str) -> None:
    domain, h = DOMAINS[name], 1e-5
    for part in domain.parts:
        x = pde.uniform(domain, 6, part, dtype=torch.float64)
        slope = (smooth(x) - smooth(x - 2 * h * domain.normal(part, x))) / (2 * h)
        slope = 2 * (smooth(x) - smooth(x - h * domain.normal(part, x))) / h - slope
        pairs = [
            (pde.Dirichlet(domain, part, 0.5, scale=2.0), (smooth(x) - 0.5) / 2),
            (pde.Dirichlet(domain, part, smooth), torch.zeros_like(slope)),
            (pde.Neumann(domain, part, torch.tensor([1.0, 2.0])), slope - torch.tensor([1.0, 2.0])),
            (pde.Neumann(domain, part, component=1), slope[:, 1:]),
            (pde.Robin(domain, part, 1.0, alpha=2.0, beta=3.0), 2 * smooth(x) + 3 * slope - 1),
        ]
        for condition, expected in pairs:
            torch.testing.assert_close(condition.residual(smooth, x), expected.double(), atol=1e-6, rtol=1e-6)
    if "start" in domain.parts:
        rows = pde.Initial(domain, "start", order=1).residual(
            smooth, x := pde.sobol(domain, 4, "start").double()
        )
        torch.testing.assert_close(rows, -pde.Neumann(domain, "start").residual(smooth, x))


def test_a_scale_has_one_number_for_each_point() -> None:
    def bend(x: Tensor) -> Tensor:
        return x.sum(1) ** 2

    plain = pde.Neumann(SQUARE, "left", 0.0)
    x = pde.sobol(SQUARE, 9, "left", dtype=torch.float64)
    for scale in (lambda x: 2 + x[:, 1], lambda x: 2 + x[:, 1:]):
        rows = pde.Neumann(SQUARE, "left", 0.0, scale=scale).residual(bend, x)
        torch.testing.assert_close(rows, plain.residual(bend, x) / (2 + x[:, 1:]))
    with pytest.raises(ValueError, match=r"Neumann\(left\), scale: .* got the shape \(3,\)"):
        pde.Neumann(SQUARE, "left", 0.0, scale=lambda x: x[:3, 1])(bend)


def test_no_points_give_no_rows() -> None:
    anchor = pde.Anchor(torch.empty(0, 1), torch.empty(0))
    system = pde.System(pde.Poisson(), LINE, [anchor, pde.Dirichlet(LINE, "left", 2.0)], torch.empty(0, 1))
    assert [tuple(block.shape) for block in system.blocks(lambda x: x)] == [(0, 1), (0, 1), (1, 1)]
    assert system(lambda x: x).tolist() == [-3.0]
    assert [len(part(lambda x: x)) for part in system.chunks(5)] == [1]


def test_periodic_takes_no_value() -> None:
    with pytest.raises(ValueError, match="there is no value; got 2"):
        pde.Periodic(LINE, "left", 2)


def test_periodic_rows() -> None:
    waves = pde.Periodic(SQUARE, "left", order=2)
    assert waves(lambda x: torch.sin(math.pi * x[:, 0]) * x[:, 1]).abs().max() < 1e-4
    rows = waves(lambda x: x[:, :1] ** 2 + 0 * x[:, 1:])
    torch.testing.assert_close(rows, torch.tensor([0.0, 2 * -4.0, 0.0]).expand_as(rows))


def network(inputs: int, outputs: int = 1) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs)).double()


CYLINDER = pde.TimeCylinder(pde.Interval(0, 1), 0, 2)


def exact(x: Tensor) -> Tensor:
    return torch.sin(2 * x[:, :1]) * torch.exp(-x[:, -1:]) + x[:, -1:] ** 2


def normal_slope(domain: pde.Domain, part: str) -> Callable[[Tensor], Tensor]:
    """The slope of ``exact`` on a face."""
    axis, _, sign = domain.face(part)

    def slope(x: Tensor) -> Tensor:
        if axis == 0:
            return sign * 2 * torch.cos(2 * x[:, :1]) * torch.exp(-x[:, -1:])
        return sign * start_slope(x) if axis == x.shape[1] - 1 else 0 * x[:, :1]

    return slope


def robin(domain: pde.Domain, part: str, alpha: float, beta: float) -> Callable[[Tensor], Tensor]:
    """What ``exact`` gives there."""
    return lambda x: alpha * exact(x) + beta * normal_slope(domain, part)(x)


def start_slope(x: Tensor) -> Tensor:
    return -torch.sin(2 * x[:, :1]) * torch.exp(-x[:, -1:]) + 2 * x[:, -1:]


UNIT = pde.Rectangle()
BUILT_IN = {
    "two values": [pde.Dirichlet(LINE, "left", 2.0), pde.Dirichlet(LINE, "right", -1.0)],
    "one slope": [pde.Neumann(LINE, "left", 2.0)],
    "value and slope": [pde.Dirichlet(LINE, "left", 2.0), pde.Neumann(LINE, "right", -1.0)],
    "two slopes": [pde.Neumann(LINE, "left", 2.0), pde.Neumann(LINE, "right", -1.0)],
    "value and slope at one end": [pde.Dirichlet(LINE, "left", 2.0), pde.Neumann(LINE, "left", -1.0)],
    "oscillator": [pde.Initial(LINE, "left", 2.0), pde.Initial(LINE, "left", 3.0, order=1)],
    "everything on a line": [
        *(pde.Dirichlet(LINE, part, 2.0) for part in LINE.parts),
        *(pde.Neumann(LINE, part, 3.0) for part in LINE.parts),
    ],
    "four sides": [pde.Dirichlet(UNIT, part, exact) for part in UNIT.parts],
    "four slopes": [pde.Neumann(UNIT, part, 0.0) for part in UNIT.parts],
    "wave": [
        pde.Dirichlet(CYLINDER, "left", exact),
        pde.Dirichlet(CYLINDER, "right", exact),
        pde.Initial(CYLINDER, "start", exact),
        pde.Initial(CYLINDER, "start", start_slope, order=1),
    ],
    "brick": [pde.Dirichlet(BRICK, part, exact) for part in BRICK.parts],
    "circle": [pde.Dirichlet(ROUND, "circle", exact)],
    "circle in time": [pde.Dirichlet(DOMAINS["disc in time"], "circle", exact)],
    "circle and start": [
        pde.Dirichlet(DOMAINS["disc in time"], "circle", exact),
        pde.Initial(DOMAINS["disc in time"], "start", exact),
        pde.Initial(DOMAINS["disc in time"], "start", start_slope, order=1),
    ],
    "circle and end": [
        pde.Neumann(DOMAINS["disc in time"], "end", start_slope),
        pde.Dirichlet(DOMAINS["disc in time"], "circle", exact),
    ],
    "one Robin": [pde.Robin(LINE, "left", 2.0, alpha=3.0, beta=0.5)],
    "two Robin": [pde.Robin(LINE, "left", 2.0, alpha=3.0), pde.Robin(LINE, "right", -1.0, alpha=-2.0)],
    "Robin without a slope": [
        *(pde.Robin(LINE, "left", 2.0, alpha=4.0, beta=0.0), pde.Dirichlet(LINE, "right", 1.0)),
    ],
    "Robin without a value": [pde.Robin(LINE, "left", 2.0, alpha=0.0, beta=4.0)],
    "Robin and value": [pde.Dirichlet(LINE, "left", 2.0), pde.Robin(LINE, "right", -1.0, beta=2.0)],
    "Robin and slope": [pde.Neumann(LINE, "left", 2.0), pde.Robin(LINE, "right", -1.0, beta=2.0)],
    "Robin and both": [
        *(pde.Robin(LINE, "right", -1.0, beta=2.0), pde.Dirichlet(LINE, "left", 2.0)),
        pde.Neumann(LINE, "left", 3.0),
    ],
    "Robin at a corner": [
        pde.Robin(UNIT, part, robin(UNIT, part, 1 + i, 2.0), alpha=1.0 + i, beta=2.0)
        for i, part in enumerate(("left", "top"))
    ],
    "one of each": [
        pde.Dirichlet(UNIT, "left", exact),
        pde.Neumann(UNIT, "right", normal_slope(UNIT, "right")),
        pde.Robin(UNIT, "bottom", robin(UNIT, "bottom", 3.0, 1.0), alpha=3.0),
    ],
    "cooling": [
        pde.Robin(CYLINDER, "left", robin(CYLINDER, "left", 2.0, 1.0), alpha=2.0),
        pde.Robin(CYLINDER, "right", robin(CYLINDER, "right", 1.0, 1.0)),
        pde.Initial(CYLINDER, "start", exact),
    ],
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_built_in_holds_exactly_for_any_weights(name: str) -> None:
    conditions = BUILT_IN[name]
    domain = conditions[0].domain
    model = pde.hard(network(domain.dim), *conditions)
    for condition in conditions:
        x = pde.uniform(domain, 20, condition.part, dtype=torch.float64)
        assert condition.residual(model, x).abs().max() < 1e-11, condition.name
    x = pde.uniform(domain, 20, dtype=torch.float64)
    before = model(x)
    assert before.shape == (20, 1)
    with torch.no_grad():
        model.model[2].bias += 1
    assert (model(x) - before).abs().amax() > 1e-3  # the network still counts
    u = pde.derivatives(model, x, wanted=["laplacian"])
    nested = sum(
        torch.autograd.functional.hessian(lambda p, i=i: model(p[None])[0, 0], x[i])[j, j]
        for i in [0]
        for j in range(domain.dim)
    )
    torch.testing.assert_close(u.laplacian[0, 0], nested)
    u.laplacian.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_slope_on_one_side_with_values_that_vary_along_it() -> None:
    conditions = [
        pde.Neumann(UNIT, "left", lambda x: x[:, 1:] ** 2),
        pde.Neumann(UNIT, "top", lambda x: -2 * x[:, :1]),
    ]  # of u = −x y²
    model = pde.hard(network(2), *conditions)
    for condition in conditions:
        assert condition.residual(model, pde.sobol(UNIT, 20, condition.part).double()).abs().max() < 1e-11


def test_components_are_built_in_one_by_one_and_inputs_go_through() -> None:
    conditions = [pde.Dirichlet(LINE, "left", 1.0, component=0), pde.Neumann(LINE, "right", 2.0, component=1)]
    model = pde.hard(network(1, 3), *conditions)
    for condition in conditions:
        assert condition(model).abs().max() < 1e-12
    x = torch.rand(4, 1, dtype=torch.float64)
    torch.testing.assert_close(model(x)[:, 2], model.model(x)[:, 2])
    value = pde.Dirichlet(LINE, "left", lambda x, a: a)
    core = network(2)
    by_input = pde.hard(lambda x, a: core(torch.cat([x, a], 1)), value, check=False)
    a = torch.rand(1, 1, dtype=torch.float64)
    assert value.residual(by_input, torch.tensor([[-1.0]], dtype=torch.float64), a).abs().max() < 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_of_several_components_are_built_in(dtype: torch.dtype) -> None:
    pair = torch.tensor([1.0, 2.0], dtype=torch.float64)
    conditions = [
        pde.Dirichlet(UNIT, "left", lambda x: torch.cat([x[:, 1:], 2 * x[:, 1:]], 1)),
        pde.Neumann(UNIT, "right", pair),
        pde.Dirichlet(UNIT, "bottom", lambda x: x[:, :1], component=0),
    ]
    x = torch.rand(7, 2, dtype=dtype)
    for chosen in (conditions[:2], conditions):
        model = pde.hard(network(2, 2).to(dtype), *chosen)
        assert (model(x).shape, model(x).dtype) == ((7, 2), dtype)
        for condition in chosen:
            assert condition(model).abs().max() < (1e-5 if dtype == torch.float32 else 1e-11), condition.name
    with pytest.raises(ValueError, match=r"hard: Dirichlet\(left\) conflicts .* by 1 at \[0.0, 0.0\]"):
        pde.hard(
            network(2, 2), pde.Dirichlet(UNIT, "left", pair), pde.Dirichlet(UNIT, "bottom", 1.0, component=1)
        )
    with pytest.raises(ValueError, match=r"network has 1 components, the values that are built in have 2"):
        pde.hard(network(2), pde.Neumann(UNIT, "right", pair))(x.double())
    with pytest.raises(ValueError, match="about component 2, the network has 2, 0 to 1"):
        pde.hard(network(2, 2), pde.Dirichlet(UNIT, "left", 0.0, component=2))(x.double())


PERIODIC = {
    "line": (LINE, ["left"], [], 2),
    "one direction": (UNIT, ["bottom"], [], 3),
    "both directions": (UNIT, ["left", "top"], [], 4),
    "strip": (UNIT, ["left"], [pde.Dirichlet(UNIT, "bottom", 1.0), pde.Robin(UNIT, "top", 2.0)], 3),
    "time": (
        CYLINDER,
        ["right"],
        [pde.Initial(CYLINDER, "start", lambda x: torch.sin(2 * math.pi * x[:, 0]))],
        3,
    ),
}


@pytest.mark.parametrize("name", PERIODIC)
def test_periodic_models_have_no_seam(name: str) -> None:
    domain, parts, others, columns = PERIODIC[name]
    periodic = [pde.Periodic(domain, part, order=3) for part in parts]
    model = pde.hard(network(columns, 2), *periodic, *others)
    for condition in (*periodic, *others):
        x = pde.uniform(domain, 20, condition.part, generator=torch.Generator().manual_seed(1)).double()
        assert condition.residual(model, x).abs().max() < 1e-10, condition.name
    # A period is no shorter than the domain.
    line = pde.hard(network(2), pde.Periodic(LINE, "left"))
    x = torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    assert (line(x)[1] - line(x)[0]).abs() > 1e-2
    torch.testing.assert_close(line(x + 3), line(x))
    place = 2 * math.pi * (x + 1) / 3
    torch.testing.assert_close(line(x), line.model(torch.cat([place.sin(), place.cos()], 1)))


def test_what_is_built_in_can_be_pickled_and_loaded() -> None:
    model = pde.hard(network(1), *BUILT_IN["value and slope"])
    x = pde.sobol(LINE, 5, dtype=torch.float64)
    torch.testing.assert_close(pickle.loads(pickle.dumps(model))(x), model(x))
    twin = pde.hard(network(1), *BUILT_IN["value and slope"])
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin(x), model(x))


def test_what_cannot_be_built_in_is_refused() -> None:
    by_row = pde.Dirichlet(UNIT, "left", torch.rand(9, 1))
    with pytest.raises(fs.UnsupportedError, match="has its values at some points alone"):
        pde.hard(network(2), by_row, check=False)
    data = pde.Anchor(torch.rand(2, 1), torch.rand(2))
    across = pde.Periodic(UNIT, "left", component=0)
    for condition, message in {
        data: "Works with: Dirichlet, Neumann, Robin, Initial, Periodic. Rows of a System hold any condition",
        pde.Neumann(ROUND, "circle"): "curved part, .*\n.*Rows of a System",
        pde.Robin(ROUND, "circle"): "curved part, .*\n.*Rows of a System",
        across: "all of them share the coordinate.\n.*Rows of a System",
    }.items():
        with pytest.raises(fs.UnsupportedError, match=message):
            pde.hard(network(2), condition)
    for other in (pde.Dirichlet(UNIT, "right"), pde.Robin(UNIT, "left")):
        with pytest.raises(fs.UnsupportedError, match="on a face that a periodic coordinate does not have"):
            pde.hard(network(2), other, pde.Periodic(UNIT, "left"))
    for pair in ("left", "left"), ("left", "right"):
        with pytest.raises(ValueError, match="given twice"):
            pde.hard(network(2), *(pde.Periodic(UNIT, part) for part in pair))
    for value in (pde.Dirichlet(LINE, "left"), pde.Robin(LINE, "left")):
        pair_of_rows = [
            value,
            pde.Dirichlet(LINE, "left") if isinstance(value, pde.Robin) else pde.Robin(LINE, "left"),
        ]
        with pytest.raises(ValueError, match="Write Dirichlet and Neumann"):
            pde.hard(network(1), *pair_of_rows)
    with pytest.raises(ValueError, match="alpha and beta must be finite and not both 0"):
        pde.Robin(LINE, "left", alpha=0.0, beta=0.0)
    with pytest.raises(ValueError, match="given twice"):
        pde.hard(network(1), pde.Dirichlet(LINE, "left"), pde.Dirichlet(LINE, "left"))
    with pytest.raises(ValueError, match="conflicts with another condition where they meet"):
        pde.hard(network(2), pde.Dirichlet(UNIT, "left", 0.0), pde.Dirichlet(UNIT, "top", 1.0))
    with pytest.raises(ValueError, match="belongs to"):
        pde.hard(network(1), pde.Dirichlet(LINE, "left"), pde.Dirichlet(pde.Interval(), "right"))


K = 4 * math.pi
ONE = pde.Interval(0, 1)
LEFT, RIGHT = pde.Dirichlet(ONE, "left", 1.0), pde.Dirichlet(ONE, "right", 0.5)
SLOPE = pde.Neumann(ONE, "right", 2.0, scale=K)
SEEN = torch.linspace(0, 1, 40, dtype=torch.float64)[:, None]
NOISE = 0.1 * torch.cos(50 * SEEN**2)
DIAGNOSES = {
    "well posed": (pde.Helmholtz(K), ONE, [LEFT, SLOPE], []),
    "initial values": (pde.Helmholtz(K), ONE, [LEFT, pde.Neumann(ONE, "left", 1.0, scale=K)], []),
    "nothing is known": (pde.Helmholtz(K), ONE, [], ["u ≡ 0", "does not determine u"]),
    "one end": (pde.Helmholtz(K), ONE, [LEFT], ["does not determine u: 1 function .*right"]),
    "zero wins": (pde.Helmholtz(K), ONE, [pde.Dirichlet(ONE, "left"), pde.Neumann(ONE, "right")], ["u ≡ 0"]),
    "resonant": (
        pde.Helmholtz(K),
        ONE,
        [LEFT, pde.Dirichlet(ONE, "right", 1.0)],
        ["resonant"],
    ),
    "resonant, no solution": (
        pde.Helmholtz(K),
        ONE,
        [LEFT, RIGHT],
        ["conflict", "resonant"],
    ),
    "not resonant": (pde.Helmholtz(K * 1.1), ONE, [LEFT, RIGHT], []),
    "twice": (pde.Helmholtz(K), ONE, [LEFT, LEFT, SLOPE], ["redundant", "redundant"]),
    "contradiction": (
        pde.Helmholtz(K),
        ONE,
        [LEFT, pde.Dirichlet(ONE, "left", 2.0), SLOPE],
        ["conflict"],
    ),
    "constants of the identity": (
        pde.Pythagorean(3.0, 2.0),
        ONE,
        [],
        ["u ≡ -2 ", "u ≡ 2 "],
    ),
    "identity with an anchor": (pde.Pythagorean(3.0, 2.0), ONE, [pde.Initial(ONE, "left", 0.5)], []),
    "written": (pde.equation("u_xx - u"), ONE, [LEFT, RIGHT], []),
    "slopes only": (
        pde.Poisson(),
        ONE,
        [pde.Neumann(ONE, "left", 1.0), pde.Neumann(ONE, "right", -1.0)],
        ["resonant"],
    ),
    "membrane": (pde.Poisson(1.0), UNIT, [pde.Dirichlet(UNIT, part) for part in UNIT.parts], []),
    "membrane, one side open": (
        pde.Poisson(1.0),
        UNIT,
        [pde.Dirichlet(UNIT, part) for part in UNIT.parts[:3]],
        ["does not determine u.*top"],
    ),
    "heat": (
        pde.Heat(0.5),
        CYLINDER,
        [
            pde.Dirichlet(CYLINDER, "left"),
            pde.Dirichlet(CYLINDER, "right"),
            pde.Initial(CYLINDER, "start", lambda x: torch.sin(math.pi * x[:, :1])),
        ],
        [],
    ),
    "data": (pde.Helmholtz(K), ONE, [pde.Anchor(SEEN, torch.cos(K * SEEN))], []),
    "noisy data": (
        pde.Helmholtz(K),
        ONE,
        [LEFT, pde.Anchor(SEEN, torch.cos(K * SEEN) + NOISE)],
        ["anchors do not fit"],
    ),
    "conditions beside noisy data": (
        pde.Helmholtz(K),
        ONE,
        [LEFT, LEFT, SLOPE, pde.Anchor(SEEN, torch.cos(K * SEEN) + NOISE)],
        ["redundant", "redundant", "anchors do not fit"],
    ),
    "an anchor for a value": (
        pde.Helmholtz(K),
        ONE,
        [LEFT, SLOPE, pde.Anchor(SEEN[:1], torch.ones(1, dtype=torch.float64))],
        ["Dirichlet.left. is redundant", "Anchor.1 points. is redundant"],
    ),
    "disc": (pde.Poisson(1.0), ROUND, [pde.Dirichlet(ROUND, "circle")], []),
}


@pytest.mark.parametrize("name", DIAGNOSES)
def test_diagnosis(name: str) -> None:
    equation, domain, conditions, expected = DIAGNOSES[name]
    found = pde.System(equation, domain, conditions).diagnose(warn=False).findings
    assert len(found) == len(expected), found
    for pattern in expected:
        assert any(re.search(pattern, sentence) for sentence in found), (pattern, found)


def bent(x: Tensor, *inputs: Tensor) -> Tensor:
    """Any smooth function of one or two coordinates."""
    return torch.sin(2 * x[:, :1] + 0.3) * torch.exp(-x[:, -1:])


def swing(x: Tensor, *inputs: Tensor) -> Tensor:
    """A solution of the identity."""
    return 2 * torch.sin(3 * x + math.asin(0.25))


FLOW = pde.TimeCylinder(ONE, 0.0, 0.5)
SIDES = [pde.Dirichlet(FLOW, "left"), pde.Dirichlet(FLOW, "right")]
AROUND = {
    "pendulum": (pde.equation("u_xx + 9*sin(u)"), ONE, [LEFT, pde.Neumann(ONE, "left", scale=3.0)], []),
    "pendulum, one value": (
        pde.equation("u_xx + 9*sin(u)"),
        ONE,
        [LEFT],
        ["does not determine u: 1 function .*right"],
    ),
    "pendulum, twice": (
        pde.equation("u_xx + 9*sin(u)"),
        ONE,
        [LEFT, LEFT, pde.Neumann(ONE, "left", scale=3.0)],
        ["redundant", "redundant"],
    ),
    "pendulum, contradiction": (
        pde.equation("u_xx + 9*sin(u)"),
        ONE,
        [LEFT, pde.Dirichlet(ONE, "left", 2.0), pde.Neumann(ONE, "left", scale=3.0)],
        ["conflict"],
    ),
    "identity": (
        pde.Pythagorean(3.0, 2.0),
        ONE,
        [],
        ["u ≡ -2 ", "u ≡ 2 ", "does not determine u: 1 function"],
    ),
    "identity with an anchor": (pde.Pythagorean(3.0, 2.0), ONE, [pde.Initial(ONE, "left", 0.5)], []),
    "Burgers": (
        pde.Burgers(0.2),
        FLOW,
        [*SIDES, pde.Initial(FLOW, "start", lambda x: torch.sin(math.pi * x[:, :1]))],
        [],
    ),
    "Burgers without a start": (pde.Burgers(0.2), FLOW, SIDES, ["u ≡ 0", "does not determine u.*start"]),
    "linear": (pde.Helmholtz(K), ONE, [LEFT], ["does not determine u"]),
}


@pytest.mark.parametrize("name", AROUND)
def test_nonlinear_equations_are_diagnosed_around_a_model(name: str) -> None:
    equation, domain, conditions, expected = AROUND[name]
    system = pde.System(equation, domain, conditions)
    found = system.diagnose(warn=False, model=swing if domain is ONE else bent)
    assert found.rank is not None
    assert len(found.findings) == len(expected), found.findings
    for pattern in expected:
        assert any(re.search(pattern, sentence) for sentence in found.findings), (pattern, found.findings)


def test_a_float32_network_is_diagnosed_in_double() -> None:
    system = pde.System(pde.equation("u_xx + 9*sin(u)"), ONE, [LEFT])
    model = network(1).float()
    assert any("does not determine u" in each for each in system.diagnose(warn=False, model=model).findings)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_findings_are_warnings() -> None:
    with pytest.warns(UserWarning, match="u ≡ 0"):
        pde.System(pde.Poisson(), ONE, [pde.Dirichlet(ONE, part) for part in ONE.parts]).diagnose()


def test_a_system_is_solved_by_levenberg_marquardt_and_required_of_a_problem() -> None:
    system = pde.System(
        pde.Helmholtz(3.0),
        ONE,
        [pde.Dirichlet(ONE, "left"), pde.Neumann(ONE, "left", -3.0, scale=3.0)],
        points=40,
        dtype=torch.float64,
    )
    model = network(1)
    optimizer = fs.optim.LevenbergMarquardt(model.parameters())
    for _ in range(60):
        optimizer.step(lambda: system(model))
    assert optimizer.last.jacobian == "per-sample"
    x = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    assert (model(x) - torch.sin(3 * x)).abs().max() < 1e-4
    problem = fs.Problem(model)
    problem.require("system", fs.Equal(0.0), fn=system)
    problem.require("start", fs.Equal(0.0), fn=system.conditions[0])
    problem.attach(torch.optim.Adam(model.parameters(), 1e-4))
    problem.loss(0 * model(x).sum()).backward()


@settings(max_examples=20, deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3), st.sampled_from(["value", "slope", "both"]), st.booleans())
def test_any_values_are_built_in(one: float, two: float, kind: str, other: bool) -> None:
    conditions: list[pde.Condition] = []
    if kind != "slope":
        conditions.append(pde.Dirichlet(LINE, "right", one))
    if kind != "value":
        conditions.append(pde.Neumann(LINE, "right", two))
    if other:
        conditions.append(pde.Neumann(LINE, "left", one))
    model = pde.hard(network(1), *conditions)
    assert all(condition(model).abs().max() < 1e-11 for condition in conditions)
