"""What is left of a system at training and at held-out points, and weights that balance themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from feasible import pde

ONE = pde.Interval(0.0, 1.0)
SQUARE = pde.Rectangle()
K = 3.0


def helmholtz(points: int = 64, domain: pde.Domain = ONE, value: float = 1.0) -> pde.System:
    ends = [pde.Dirichlet(domain, part, value) for part in domain.parts]
    return pde.System(pde.Helmholtz(K), domain, ends, points, dtype=torch.float64)


def test_numbers_are_those_of_the_rows() -> None:
    system = helmholtz(domain=SQUARE)
    report = system.report(lambda x: x[:, :1] ** 2 * x[:, 1:], held_out=500, seed=4)
    x = pde.uniform(SQUARE, 500, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for row, points in ((report.rows[0], system.points), (report.rows[1], x)):
        u = points[:, :1] ** 2 * points[:, 1:]
        sizes = (2 * points[:, 1:] / K**2 + u).abs()
        expected = [torch.quantile(sizes, q, interpolation="higher") for q in (0.5, 0.9, 0.99, 1.0)]
        assert (row.median, row.q90, row.q99, row.largest) == pytest.approx(list(map(float, expected)))
        assert row.rms == pytest.approx(float(sizes.square().mean().sqrt()))
        assert row.output == pytest.approx(float(u.square().mean().sqrt()))
        assert row.points == len(points)
    assert [row.where for row in report.rows] == ["training", "held out"] * 5
    left = report.rows[3]
    assert (left.block, left.points, left.rms, left.output) == ("Dirichlet(left)", 500, 1.0, 0.0)
    assert report == system.report(lambda x: x[:, :1] ** 2 * x[:, 1:], held_out=500, seed=4)
    text = str(report).splitlines()
    assert len(text) == 12
    assert "At 500 held-out points inside, none of them trained on" in text[-1]


def test_what_was_trained_on_is_not_held_out() -> None:
    system = helmholtz(domain=SQUARE)
    fresh = pde.uniform(SQUARE, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    system.points = torch.cat([system.points, fresh[:30]])
    assert system.report(lambda x: x[:, :1], held_out=100).rows[1].points == 70


def test_overfitted_points_are_seen_between_them() -> None:
    system = helmholtz(points=9)
    system.points = pde.grid(ONE, 9, dtype=torch.float64)
    # cos(3x) plus a wave whose second derivative and value vanish at the grid.
    rows = system.report(lambda x: torch.cos(K * x) + 0.01 * torch.sin(8 * math.pi * x), held_out=400).rows
    assert rows[0].largest < 1e-12
    assert rows[1].rms > 0.1
    assert [row.where for row in rows] == ["training", "held out", "training", "training"]


def test_inputs_are_drawn_or_given() -> None:
    k = 1 + torch.rand(40, 1, dtype=torch.float64)
    start = pde.Initial(ONE, "left", lambda x, k: k)
    system = pde.System(pde.Helmholtz(lambda x, k: k), ONE, [start], inputs=(k,), dtype=torch.float64)

    def model(x: Tensor, k: Tensor) -> Tensor:
        return k * torch.cos(k * x)

    drawn = system.report(model, held_out=50)
    assert [row.points for row in drawn.rows] == [40, 50, 40]
    assert "Their inputs are rows that were trained on." in drawn.scope
    given = system.report(model, inputs=(k[:30] + 5,))
    assert [row.points for row in given.rows] == [40, 30, 40, 30]
    assert "rows that were trained on" not in given.scope
    assert given.rows[1].output > 3 * drawn.rows[1].output
    assert max(row.largest for row in (*drawn.rows, *given.rows)) < 1e-13
    with pytest.raises(ValueError, match="same number of rows"):
        system.report(lambda x, a, b: a, inputs=(k, 3 * k[:2]))


def zero(x: Tensor, *inputs: Tensor) -> Tensor:
    return 0 * x[:, :1]


def test_what_is_not_finite_is_shown_and_no_collapse() -> None:
    report = helmholtz().report(lambda x: x * math.nan)
    assert report.findings == ()
    assert "nan" in str(report)


FINDINGS = {
    "solved": (helmholtz(), lambda x: torch.cos(K * x), []),
    "collapsed beside values": (helmholtz(), zero, ["collapsed towards u ≡ 0"]),
    "the trivial solution": (helmholtz(value=0.0), zero, ["constant u ≡ 0, which satisfies"]),
    "nothing is known": (pde.System(pde.Helmholtz(K), ONE), lambda x: 1e-4 * torch.sin(K * x), ["u ≡ 0"]),
    "a constant of the identity": (
        pde.System(pde.Pythagorean(K, 2.0), ONE),
        lambda x: 0 * x - 2,
        ["constant u ≡ -2, which"],
    ),
    "a constant that solves nothing": (pde.System(pde.Pythagorean(K, 2.0), ONE), lambda x: 0 * x + 1, []),
    "anchored": (
        pde.System(pde.Poisson(), ONE, [pde.Anchor(torch.tensor([[0.5]]), torch.tensor([4.0]))]),
        zero,
        ["values that are known have 4"],
    ),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_small_residuals_that_mean_nothing_are_told(name: str) -> None:
    system, model, expected = FINDINGS[name]
    report = system.report(model, held_out=100)
    assert len(report.findings) == len(expected), report.findings
    for pattern, finding in zip(expected, report.findings, strict=True):
        assert pattern in finding
        assert finding in str(report)


def network(width: int = 20, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1)).double()


def jacobians(system: pde.System, model: nn.Module) -> list[Tensor]:
    """By a backward pass for each row: the reference."""
    found = []
    for block in system.blocks(model):
        rows = block.reshape(-1) / math.sqrt(block.numel())
        each = [
            torch.autograd.grad(r, list(model.parameters()), retain_graph=True, allow_unused=True)
            for r in rows
        ]
        found.append(torch.stack([torch.cat([p.reshape(-1) for p in g if p is not None]) for g in each]))
    return found


def stiff() -> pde.System:
    slope = pde.Neumann(ONE, "right", 50.0)
    return pde.System(
        pde.equation("u_xx + u", scale=1.0),
        ONE,
        [pde.Dirichlet(ONE, "left", 1e-2), slope],
        30,
        dtype=torch.float64,
    )


def test_weights_make_traces_equal() -> None:
    system, model = stiff(), network()
    system.balance(model, momentum=0.0, probes=600)
    sizes = [float(j.square().sum()) for j in jacobians(system, model)]
    held = [weight * size for weight, size in zip(system.weights, sizes, strict=True)]
    assert held == pytest.approx([sum(sizes)] * 3, rel=0.1)


def test_weights_make_gradients_equal() -> None:
    system, model = stiff(), network()
    assert system.balance(model, rule="gradient", momentum=0.0) is system.weights
    losses = [
        weight * block.square().mean()
        for weight, block in zip(system.weights, system.blocks(model), strict=True)
    ]
    norms = []
    for loss in losses:
        parts = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        norms.append(float(torch.cat([part.reshape(-1) for part in parts if part is not None]).norm()))
    assert norms == pytest.approx([norms[0]] * 3)
    assert max(system.weights) > 100 * min(system.weights)
    torch.testing.assert_close(system(model).square().sum(), sum(losses, start=torch.zeros(())).double())


def test_weights_move_by_a_running_mean_and_are_repeatable() -> None:
    model = network()
    at_once = stiff().balance(model, momentum=0.0)
    assert at_once == stiff().balance(model, momentum=0.0)
    half = stiff().balance(model, momentum=0.5)
    assert half == pytest.approx([math.sqrt(weight) for weight in at_once])
    assert all(parameter.grad is None for parameter in model.parameters())
    with torch.no_grad():
        assert stiff().balance(model, momentum=0.0) == at_once


@pytest.mark.parametrize("rule", ["trace", "gradient"])
def test_blocks_that_do_not_depend_on_the_parameters_keep_their_weights(rule: str) -> None:
    left = pde.Dirichlet(ONE, "left", 2.0)
    system = pde.System(
        pde.Helmholtz(K),
        ONE,
        [left, pde.Dirichlet(ONE, "right"), left],
        weights=[1, 7, 1, 0],
        dtype=torch.float64,
    )
    model = pde.hard(network(), left)
    weights = system.balance(model, rule=rule, momentum=0.0)
    assert weights[1] == 7
    assert weights[3] == 0
    assert weights[0] > 1
    assert weights[2] > 1
    alone = pde.System(pde.Helmholtz(K), ONE, dtype=torch.float64)
    assert alone.balance(network(), rule=rule) == pytest.approx([1.0])
    free = nn.Parameter(torch.zeros(1))
    assert alone.balance(lambda x: 0 * x, rule=rule, parameters=[free]) == [1.0]


def test_bad_input_of_balance() -> None:
    system, model = stiff(), network()
    with pytest.raises(ValueError, match="expected the rule 'trace' or 'gradient', got 'size'"):
        system.balance(model, rule="size")
    with pytest.raises(ValueError, match="0 ≤ momentum < 1"):
        system.balance(model, momentum=1.0)
    with pytest.raises(TypeError, match="name what is trained with parameters="):
        system.balance(lambda x: model(x))
    with pytest.raises(ValueError, match="no parameter requires a gradient"):
        system.balance(network().requires_grad_(False))
    with torch.no_grad():
        model[0].weight.fill_(math.nan)
    with pytest.raises(ValueError, match=r"rows of equation 'u_xx . u', or their gradients, are not finite"):
        system.balance(model)
    assert system.weights == [1.0, 1.0, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["trace", "gradient"])
def test_adam_learns_with_balanced_weights_what_it_does_not_without(rule: str) -> None:
    wave = 4 * math.pi
    source = pde.Poisson(lambda x: -(wave**2) * torch.sin(wave * x))
    ends = [pde.Dirichlet(ONE, part) for part in ONE.parts]
    x = torch.linspace(0, 1, 200)[:, None]
    errors = []
    for is_balanced in (False, True):
        system = pde.System(source, ONE, ends, 64)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for step in range(1500):
            if is_balanced and step % 100 == 0:
                system.balance(model, rule=rule)
            optimizer.zero_grad()
            system(model).square().sum().backward()
            optimizer.step()
        errors.append(float((model(x) - torch.sin(wave * x)).detach().square().mean().sqrt()))
    assert errors[1] < errors[0] / 3, errors
