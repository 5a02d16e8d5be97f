"""Models u(x; A, f, φ): conditions, anchors and systems with a row of inputs for each point."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import feasible as fs
from feasible import pde

COUNT = 60
TIME = pde.Interval(0.0, 1.0)
STRIP = pde.TimeCylinder(pde.Interval(0.0, 1.0), 0.0, 2.0)


def waves(count: int = COUNT, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Amplitudes, frequencies and phases, (n, 1) each."""
    unit = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return tuple((torch.tensor([0.5, 0.3, -0.5], dtype=dtype) + unit).split(1, 1))


def number(x: Any, a: Any, f: Tensor, phase: Any) -> Tensor:
    return 2 * math.pi * f


def wave(x: Tensor, a: Tensor, f: Tensor, phase: Tensor) -> Tensor:
    return a * torch.sin(2 * math.pi * f * x + phase)


def start(x: Tensor, a: Tensor, f: Tensor, phase: Tensor) -> Tensor:
    return a * torch.sin(phase)


def speed(x: Tensor, a: Tensor, f: Tensor, phase: Tensor) -> Tensor:
    return 2 * math.pi * f * a * torch.cos(phase)


def conditions(**options: Any) -> list[pde.Condition]:
    slope = pde.Initial(TIME, "left", speed, order=1, scale=number, **options)
    return [pde.Initial(TIME, "left", start, **options), slope]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conditions_without_inputs_take_those_of_the_system(dtype: torch.dtype) -> None:
    inputs = waves(dtype=dtype)
    system = pde.System(pde.Helmholtz(number), TIME, conditions(), inputs=inputs, dtype=dtype)
    assert [block.shape for block in system.blocks(wave)] == [(COUNT, 1)] * 3
    assert system(wave).abs().max() < 20 * torch.finfo(dtype).eps
    # u ≡ 0 leaves −A sin φ and −A cos φ: the slope is in units of 2πf.
    a, _, phase = inputs
    _, value, slope = system.blocks(lambda x, a, f, phase: 0 * a)
    torch.testing.assert_close(value, -a * torch.sin(phase))
    torch.testing.assert_close(slope, -a * torch.cos(phase))


def test_the_equation_is_divided_by_the_wave_number_of_each_row() -> None:
    inputs = waves()
    x = pde.sobol(TIME, COUNT, dtype=torch.float64)
    k = number(x, *inputs)
    for given in (number, k, k.squeeze(1)):
        rows = pde.Helmholtz(given)(lambda x, *inputs: x**2, x, *inputs)
        torch.testing.assert_close(rows, 2 / k**2 + x**2)


def test_own_inputs_targets_as_tensors_and_anchors() -> None:
    inside, own, data = waves(), waves(20, 1), waves(30, 2)
    by_row = pde.Initial(TIME, "left", start(None, *own).squeeze(1), inputs=own)
    x = pde.uniform(TIME, 30, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    anchor = pde.Anchor(x, wave(x, *data), inputs=data)
    system = pde.System(pde.Helmholtz(number), TIME, [by_row, anchor], inputs=inside, dtype=torch.float64)
    assert [len(block) for block in system.blocks(wave)] == [COUNT, 20, 30]
    assert system(wave).abs().max() < 1e-13
    off = system.blocks(lambda x, a, f, phase: wave(x, a, f, phase) + a)
    torch.testing.assert_close(off[1], own[0])
    torch.testing.assert_close(off[2], data[0])


def test_parts_keep_the_values_of_their_rows() -> None:
    inside, own, data = waves(), waves(20, 1), waves(30, 2)
    by_row = pde.Initial(TIME, "left", start(None, *own), inputs=own)
    anchor = pde.Anchor(pde.sobol(TIME, 30, dtype=torch.float64), data[0], inputs=data)
    rows = [by_row, anchor, *conditions()]
    system = pde.System(
        pde.Helmholtz(number), TIME, rows, inputs=inside, weights=[1, 2, 3, 4, 5], dtype=torch.float64
    )

    def other(x: Tensor, a: Tensor, f: Tensor, phase: Tensor) -> Tensor:
        return a * torch.cos(f * x + phase)

    for size in (7, 1000):
        torch.testing.assert_close(torch.cat([part(other) for part in system.chunks(size)]), system(other))


def test_a_value_with_an_entry_for_each_row_of_the_system() -> None:
    a = torch.arange(1.0, 10.0, dtype=torch.float64)[:, None]
    box = pde.Rectangle()

    def model(x: Tensor, a: Tensor) -> Tensor:
        return a + x[:, :1]

    flat, column = (
        pde.System(pde.Poisson(), box, [pde.Dirichlet(box, "left", value)], inputs=(a,))
        for value in (a.squeeze(1) - 1, a - 1)
    )
    assert flat.blocks(model)[1].tolist() == [[1.0]] * 9
    torch.testing.assert_close(torch.cat([part(model) for part in flat.chunks(4)]), flat(model))
    drawn = pde.redrawn(flat, model, 9, generator=torch.Generator().manual_seed(0))
    assert drawn.blocks(model)[1].tolist() == [[1.0]] * 9  # each keeps its inputs
    assert flat.diagnose(warn=False, row=2) == column.diagnose(warn=False, row=2)


def test_diagnosis_where_no_anchor_belongs_to_the_row() -> None:
    f = torch.tensor([[1.3], [2.0]], dtype=torch.float64)
    anchor = pde.Anchor(torch.tensor([[0.5]]), torch.tensor([1.0]), inputs=(f[1:],))
    system = pde.System(pde.Helmholtz(lambda x, f: 3 * f), TIME, [anchor], inputs=(f,))
    unknown = [system.diagnose(warn=False, row=row) for row in (0, 1)]
    assert [found.size - found.rank for found in unknown] == [2, 1]  # type: ignore[operator]


def test_points_of_a_condition_have_the_dtype_of_its_inputs() -> None:
    a = torch.rand(5, 1, dtype=torch.float64)
    third = pde.Dirichlet(TIME, "left", lambda x, a: a / 3, inputs=(a,))
    assert third(lambda x, a: a / 3 + x).tolist() == [[0.0]] * 5


def test_faces_get_a_point_for_each_row_and_keep_those_that_are_given() -> None:
    a = 1 + torch.rand(50, 1, dtype=torch.float64)
    given = torch.tensor([[0.5, 0.0], [1.0, 0.0]], dtype=torch.float64)
    begin = pde.Initial(STRIP, "start", lambda x, a: a * x[:, :1])
    some = pde.Initial(STRIP, "start", torch.tensor([0.5, 2.0]), at=given, inputs=(a[:2] * 0 + 1,))
    system = pde.System(pde.Heat(lambda x, a: a), STRIP, [begin, some], inputs=(a,), dtype=torch.float64)
    x, inputs = begin.placed(system.points, system.inputs)
    assert x.shape == (50, 2)
    assert len(x.unique(dim=0)) == 50
    assert torch.equal(x[:, 1], torch.zeros(50, dtype=torch.float64))
    assert torch.equal(inputs[0], a)
    _, first, second = system.blocks(lambda x, a: a * x[:, :1])
    assert first.abs().max() == 0
    torch.testing.assert_close(second, torch.tensor([[0.0], [-1.0]], dtype=torch.float64))


def test_points_and_inputs_are_resampled_together() -> None:
    system = pde.System(pde.Helmholtz(number), TIME, conditions(), inputs=waves(), dtype=torch.float64)
    system.points = pde.sobol(TIME, 2 * COUNT, seed=1, dtype=torch.float64)
    with pytest.raises(
        ValueError, match=r"System: expected one row of inputs for each of 120 points, got input 0"
    ):
        system(wave)
    system.inputs = waves(2 * COUNT, 1)
    assert [len(block) for block in system.blocks(wave)] == [120] * 3
    assert system(wave).abs().max() < 1e-13
    with pytest.raises(ValueError, match="lie outside"):
        system.points = torch.full((120, 1), 3.0)


def test_a_network_of_waves_is_trained_by_levenberg_marquardt() -> None:
    class Waves(nn.Module):
        """A·N(x, f, φ)."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))

        def forward(self, x: Tensor, a: Tensor, f: Tensor, phase: Tensor) -> Tensor:
            return a * self.layers(torch.cat([x, f, phase], 1))

    model = Waves().double()
    system = pde.System(
        pde.Helmholtz(number), pde.Interval(0.0, 0.4), [], inputs=waves(200), dtype=torch.float64
    )
    short = system.domain
    system = pde.System(
        system.equation,
        short,
        [pde.Initial(short, "left", start), pde.Initial(short, "left", speed, order=1, scale=number)],
        inputs=system.inputs,
        dtype=torch.float64,
    )
    optimizer = fs.optim.LevenbergMarquardt(model.parameters())
    for _ in range(40):
        optimizer.step(lambda: system(model))
    x, fresh = pde.uniform(short, 100, generator=torch.Generator().manual_seed(9)).double(), waves(100, 9)
    assert (model(x, *fresh) - wave(x, *fresh)).square().mean().sqrt() < 2e-2


INPUTS = waves()
BAD = {
    "points": (
        lambda: pde.System(pde.Helmholtz(number), TIME, conditions(), 7, INPUTS),
        ValueError,
        r"one row of inputs for each of 7 points, got input 0 of shape \(60, 1\)",
    ),
    "ragged": (
        lambda: pde.System(pde.Helmholtz(number), TIME, inputs=(INPUTS[0], INPUTS[1][:3])),
        ValueError,
        r"same number of rows, got \[60, 3\]",
    ),
    "one tensor": (
        lambda: pde.System(pde.Helmholtz(number), TIME, inputs=INPUTS[0]),
        TypeError,
        r"Use inputs=\(tensor,\)",
    ),
    "anchor without": (
        lambda: pde.System(
            pde.Helmholtz(number), TIME, [pde.Anchor(torch.rand(2, 1), torch.rand(2))], inputs=INPUTS
        ),
        ValueError,
        "the system has 3 inputs; which ones belong to these values",
    ),
    "others": (
        lambda: pde.System(pde.Helmholtz(number), TIME, conditions(inputs=INPUTS[:2]), inputs=INPUTS),
        ValueError,
        r"inputs of Initial\(left, order 0\) like those at the collocation points",
    ),
    "no inputs inside": (
        lambda: pde.System(pde.Helmholtz(2.0), TIME, conditions(inputs=INPUTS)),
        ValueError,
        "like those at the collocation points",
    ),
    "rows of a call": (
        lambda: pde.Helmholtz(number)(wave, torch.rand(4, 1), *INPUTS),
        ValueError,
        "Helmholtz: expected one row of inputs for each of 4 points",
    ),
    "rows of a condition": (
        lambda: conditions()[0].residual(wave, torch.zeros(4, 1), *INPUTS),
        ValueError,
        "expected one row of inputs for each of 4 points",
    ),
    "anchor's rows": (
        lambda: pde.Anchor(torch.rand(2, 1), torch.rand(2), inputs=INPUTS),
        ValueError,
        r"Anchor\(2 points\): expected one row of inputs for each of 2 points",
    ),
    "target": (
        lambda: pde.Initial(TIME, "left", torch.rand(59), inputs=INPUTS)(wave),
        ValueError,
        r"for 60 points; got the shape \(59,\)",
    ),
    "anchor's components": (
        lambda: pde.Anchor(torch.rand(2, 1), torch.rand(2))(lambda x: torch.cat([x, x], 1)),
        ValueError,
        "y has 1 components, the model 2",
    ),
    "component": (
        lambda: pde.Dirichlet(TIME, "left", component=1)(lambda x: x),
        ValueError,
        "the model has 1 components, 0 to 0",
    ),
    "row to diagnose": (
        lambda: pde.System(pde.Helmholtz(number), TIME, inputs=INPUTS).diagnose(row=60),
        ValueError,
        "a row of inputs from 0 to 59, got 60",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_inputs_that_do_not_fit_are_a_sentence(name: str) -> None:
    call, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        call()


def test_numbers_among_the_inputs_are_handed_on() -> None:
    a = torch.rand(9, 1, dtype=torch.float64)
    x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    for inputs, own in (((2.0,), (2.0,)), ((a, 2.0), (a[:5], 2.0))):

        def model(x: Tensor, *inputs: Any) -> Tensor:
            return torch.cos(inputs[-1] * x)

        rows = [pde.Dirichlet(TIME, "left", 1.0), pde.Anchor(x, torch.cos(2 * x), inputs=own)]
        system = pde.System(pde.Helmholtz(lambda x, *inputs: inputs[-1]), TIME, rows, inputs=inputs)
        assert system(model).abs().max() < 1e-6
        assert system.diagnose(warn=False).rank is not None
        assert not system.report(model).findings


def test_points_have_the_dtype_of_the_inputs() -> None:
    assert pde.System(pde.Helmholtz(number), TIME, inputs=INPUTS).points.dtype == torch.float64
    assert pde.System(pde.Helmholtz(2.0), TIME).points.dtype == torch.get_default_dtype()


@pytest.mark.parametrize("kind", [pde.Neumann, pde.Robin, pde.Periodic])
def test_every_condition_takes_inputs(kind: Any) -> None:
    box = pde.Rectangle()
    a = 1 + torch.rand(8, 1, dtype=torch.float64)

    def model(x: Tensor, a: Tensor) -> Tensor:
        return a * torch.sin(2 * math.pi * x[:, :1]) * x[:, 1:]

    def slope(x: Tensor, a: Tensor) -> Tensor:
        return -2 * math.pi * a * x[:, 1:]

    condition = kind(box, "left", slope) if kind is not pde.Periodic else kind(box, "left")
    system = pde.System(pde.Poisson(), box, [condition], inputs=(a,))
    assert len(system.blocks(model)[1]) == 8
    assert system.blocks(model)[1].abs().max() < 1e-12
    report = system.report(model, held_out=20)
    assert [row.points for row in report.rows] == [8, 20, 8, 20]
    assert report.rows[3].largest < 1e-12


def test_diagnosis_of_one_row() -> None:
    line = pde.Interval(0.0, 1.0)
    f = torch.tensor([[1.3], [2.0]], dtype=torch.float64)
    ends = [pde.Dirichlet(line, "left", lambda x, f: f), pde.Dirichlet(line, "right", 0.5)]
    system = pde.System(pde.Helmholtz(lambda x, f: 2 * math.pi * f), line, ends, inputs=(f,))
    assert not system.diagnose(warn=False, row=0)
    assert any("resonant" in finding for finding in system.diagnose(warn=False, row=1).findings)
    values = [pde.Dirichlet(line, "left", f.squeeze(1), inputs=(f,)), *ends[1:]]
    values.append(pde.Anchor(torch.tensor([[0.0]] * 2), torch.tensor([9.0, 2.0]), inputs=(f,)))
    by_row = pde.System(pde.Helmholtz(lambda x, f: 3 * f), line, values, inputs=(f,))
    # The anchor contradicts the value at the left end of row 0 and repeats that of row 1.
    assert any("conflict" in finding for finding in by_row.diagnose(warn=False, row=0).findings)
    assert all("conflict" not in finding for finding in by_row.diagnose(warn=False, row=1).findings)
