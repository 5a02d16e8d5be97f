"""The threshold behind the simplex: three ways to find it, on inputs that are easy, hard and malicious."""

import numpy as np
import pytest
import torch
from torch import Tensor

from feasible import Simplex, SumTo
from feasible.sets.simplex import _above_threshold, _newton_threshold, _sorted_threshold, threshold


def geometric(n: int, ratio: float) -> Tensor:
    """Gaps that shrink geometrically: Newton's active set shrinks by few entries a step."""
    return -torch.cumsum(ratio ** torch.arange(n, dtype=torch.float64), 0).flip(0)


def family(name: str, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    normal = torch.randn(n, generator=generator, dtype=torch.float64)
    share = torch.rand(n, generator=generator, dtype=torch.float64)
    return {
        "normal": normal,
        "tiny scale": 1e-6 * normal,
        "near the simplex": torch.softmax(normal, 0) * (1 + 1e-3 * share),
        "heavy tails": normal.pow(5),
        "ties": normal.round(),
        "all equal": torch.full((n,), 0.25, dtype=torch.float64),
        "geometric": geometric(n, 0.9),
        "steep geometric": geometric(n, 2.0).clamp_min(-1e6),
        "one above many": torch.cat([torch.ones(1, dtype=torch.float64), 1e-7 * share[1:]]),
        "many far below": torch.cat([1e-6 * normal[: n // 2], torch.full((n - n // 2,), -10.0).double()]),
        "far from 0": 1000 + normal,
        "negative": -1.5 + share,
    }[name]


FAMILIES = [
    "normal", "tiny scale", "near the simplex", "heavy tails", "ties", "all equal", "geometric",
    "steep geometric", "one above many", "many far below", "far from 0", "negative",
]  # fmt: skip


def bisected(y: Tensor, total: float) -> float:
    """In numpy, on the sorted float64 entries."""
    low, high = float(y.max()) - total, float(y.max())
    entries = y.double().numpy()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(entries - middle, 0).sum() > total else (low, middle)
    return low


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
@pytest.mark.parametrize("name", FAMILIES)
def test_all_ways_to_the_threshold_agree(name: str, n: int) -> None:
    y = family(name, n)
    expected = bisected(y, 1.0)
    allowed = 1e-12 * max(1.0, float(y.abs().max()))
    for find in (threshold, _newton_threshold, _sorted_threshold):
        found = find(y, 1.0)
        if found is None:  # Newton may give up; then the sort answers
            continue
        assert found.shape == (1,)
        assert abs(float(found) - expected) <= allowed, find.__name__


@pytest.mark.parametrize("total", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("n", [1, 100, 10_000])
@pytest.mark.parametrize("name", FAMILIES)
def test_float32_projections_are_right_to_rounding(name: str, n: int, total: float) -> None:
    x = (family(name, n) * total).float()
    projected = _above_threshold(x, total).double()
    exact = _above_threshold(x.double(), total)
    unit = torch.finfo(torch.float32).eps
    assert abs(float(projected.sum()) / total - 1) <= 4 * unit
    assert float((projected - exact).norm()) <= 4 * unit * float(exact.norm())


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_million_entries_keep_their_sum(name: str) -> None:
    test_float32_projections_are_right_to_rounding(name, 1_000_000, 1.0)


def test_newton_gives_up_and_the_sort_answers() -> None:
    y = geometric(2000, 0.99)[None]
    assert _newton_threshold(y, 1.0, steps=1) is None
    assert torch.allclose(threshold(y, 1.0), _sorted_threshold(y, 1.0), rtol=1e-12)


def test_rows_do_not_notice_each_other() -> None:
    rows = torch.stack([family(name, 50) for name in FAMILIES])
    alone = torch.stack([_above_threshold(row, 1.0) for row in rows])
    assert torch.allclose(_above_threshold(rows, 1.0), alone, atol=1e-15)


def test_without_reading_values_back_the_result_is_the_same() -> None:
    rows = torch.stack([family(name, 50) for name in FAMILIES])
    mapped = torch.func.vmap(Simplex().project)(rows)
    assert torch.allclose(mapped, Simplex().project(rows), atol=1e-15)


def test_nan_and_infinity() -> None:
    nan, inf = torch.nan, torch.inf
    x = torch.tensor(
        [[0.0, nan, 1.0], [0.0, inf, 1.0], [-inf, 0.0, 3.0], [-inf, -inf, -inf], [1.0, 0.0, 0.0]]
    )
    projected = Simplex().project(x)
    assert projected[[0, 1, 3]].isnan().all()
    assert torch.equal(projected[2], torch.tensor([0.0, 0.0, 1.0]))
    assert torch.equal(projected[4], x[4])


def test_the_sum_of_large_numbers_is_right_to_their_rounding() -> None:
    x = 1e9 + 1e3 * torch.randn(50, 1000)
    projected = SumTo(1.0).project(x)
    sums, magnitudes = projected.double().sum(-1), projected.double().abs().sum(-1)
    assert ((sums - 1).abs() <= torch.finfo(torch.float32).eps * magnitudes).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_members_are_really_members(dtype: torch.dtype) -> None:
    shares = torch.full((1000,), 1.02e-3, dtype=dtype)
    assert not Simplex().contains(torch.cat([shares, shares])), "the sum is 2"
    off = torch.tensor([0.5, 0.55], dtype=dtype)
    assert not Simplex().contains(off)
    assert not SumTo(1.0).contains(off)
    for set in (Simplex(), SumTo(1.0)):
        projected = set.project(torch.randn(20, 300).to(dtype))
        error = (projected.double().sum(-1) - 1).abs()
        assert (error <= torch.finfo(dtype).eps * projected.double().abs().sum(-1)).all()


def test_a_sum_of_zero_has_no_scale_of_its_own() -> None:
    x = 1e-9 * torch.ones(4)
    assert not SumTo(0.0).contains(x)
    assert SumTo(0.0).project(x).abs().max() < 1e-16
    assert SumTo(0.0).contains(torch.zeros(4))


def test_tangents_in_bfloat16_count_beyond_256() -> None:
    x = torch.zeros(1000)
    x[0] = 1.0
    direction = torch.randn(1000)
    wide = Simplex().tangent(x, direction)
    half = Simplex().tangent(x.bfloat16(), direction.bfloat16())
    assert (half.float() - wide).abs().max() <= 0.02
