"""Ranges: exact bounds, bounds of mixed kind, half-infinite ones, many tensors at once; the logarithm."""

import pytest
import torch

from feasible import Box, Equal, NonNegative, UnsupportedError
from feasible.sets.elementwise import log_barrier

DOUBLE = torch.float64
NEXT = 0.1 + 2**-50
"""Close to 0.1: float32 cannot tell them apart."""


def test_numbers_are_not_rounded_to_float32() -> None:
    zeros = torch.zeros(2, dtype=DOUBLE)
    assert Equal(0.1).project(zeros).tolist() == [0.1, 0.1]
    assert Equal(0.1).support(zeros + 1).tolist() == [0.1, 0.1]
    assert Box(0.1, 0.7).lmo(torch.tensor([1.0, -1.0], dtype=DOUBLE)).tolist() == [0.1, 0.7]
    both = Box(0.1, 0.7) & Box(0.2, 0.6)
    assert both == Box(0.2, 0.6)
    assert Box(0.1, NEXT).offers("barrier"), "there is room between two numbers that float32 merges"
    with pytest.raises(ValueError, match="lower must not exceed upper"):
        Box(NEXT, 0.1)
    assert Box(-1e300, 1e300) == Box(-1e300, 1e300)
    assert Equal(1e300).project(zeros).tolist() == [1e300, 1e300]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_number_beyond_the_dtype_is_no_bound(dtype: torch.dtype) -> None:
    for bound in (1e5, 1e300):
        if bound <= torch.finfo(dtype).max:
            continue
        x = torch.randn(5).to(dtype)
        box = Box(-bound, bound)
        assert torch.equal(box.project(x), x)
        copies = [x.clone() for _ in range(5)]
        box.project_all_(copies)
        assert all(torch.equal(copy, x) for copy in copies)


def test_bounds_of_mixed_kind() -> None:
    upper = torch.tensor([0.5, 2.0])
    x = torch.tensor([[-1.0, 3.0], [0.25, 1.0]])
    for box in (Box(0, upper), Box(torch.zeros(()), upper), Box(0) & Box(upper=upper)):
        assert torch.equal(box.project(x), torch.tensor([[0.0, 2.0], [0.25, 1.0]]))
        assert box.bind(x) == box.bind(x)
    assert torch.equal(Box(upper=upper).project(x), torch.minimum(x, upper))


def test_half_infinite_bounds() -> None:
    inf = torch.inf
    box = Box(torch.tensor([0.0, -inf, -inf, 1.0]), torch.tensor([inf, 1.0, inf, 2.0]))
    samples = box.sample((1000, 4))
    assert samples.isfinite().all()
    assert box.contains(samples).all()
    assert (samples.std(0) > 0.1).all(), "samples spread out"
    assert box.size == 2.0
    assert not box.offers("lmo")
    x = torch.tensor([-1.0, 0.0, 5.0, 1.5])
    assert box.barrier(x).tolist() == [inf, 0.0, 0.0, pytest.approx(-2 * torch.tensor(0.5).log())]
    assert torch.equal(box.interior(x, 0.1), torch.tensor([0.1, 0.0, 5.0, 1.5]))
    with pytest.raises(UnsupportedError, match="it needs room between finite bounds"):
        box.chart()


def test_the_size_of_empty_bounds_is_one() -> None:
    assert Box(torch.zeros(0), torch.ones(0)).size == 1.0
    assert Box(torch.tensor([-torch.inf])).size == 1.0


def test_callers_keep_their_tensors() -> None:
    lower = torch.zeros(3, requires_grad=True)
    box = Box(lower)
    with torch.no_grad():
        lower.add_(5)
    assert box.project(torch.full((3,), -1.0)).eq(0).all()
    assert not box.project(torch.ones(3)).requires_grad


@pytest.mark.parametrize("count", [0, 1, 3, 4, 20])
@pytest.mark.parametrize(
    "box", [Box(-0.5, 0.5), Box(lower=0.1), Box(upper=0.1), Box(), NonNegative()], ids=repr
)
def test_many_tensors_of_any_shape_at_once(box: Box, count: int) -> None:
    shapes = [(3,), (2, 5), (), (0, 4), (1, 2, 3)]
    points = [torch.randn(shapes[i % len(shapes)]) for i in range(count)] + [torch.randn(300, 300)] * (
        count > 4
    )
    tensors = [point.clone() for point in points]
    box.project_all_(tensors)
    for tensor, point in zip(tensors, points, strict=True):
        assert torch.equal(tensor, box.project(point))
    gradients = [torch.randn_like(point) for point in points]
    mapped = [gradient.clone() for gradient in gradients]
    box.reduce_gradients_(tensors, mapped, 2.0**-7)
    for x, g, m in zip(tensors, gradients, mapped, strict=True):
        assert torch.allclose(m, (x - box.project(x - 2.0**-7 * g)) * 2**7, atol=2e-5)
        assert (m[(x == box.project(x - g))] == 0).all(), "nothing is left at a bound that g pushes against"


def test_weights_that_require_gradients_are_projected_without_a_graph() -> None:
    weight = torch.nn.Parameter(torch.randn(4))
    with torch.no_grad():
        for box in (Box(0, 1), Box(torch.zeros(4), 1)):
            box.project_all_([weight])
    assert weight.is_leaf
    assert ((weight >= 0) & (weight <= 1)).all()


def test_interior_finds_room_at_every_magnitude() -> None:
    for dtype in (DOUBLE, torch.float32, torch.bfloat16, torch.float16):
        for low, high in ((0.0, 1.0), (0.7, 0.9), (1000.0, 1010.0), (-3.0, 3.0)):
            box = Box(low, high)
            x = torch.tensor([low - 1, low, (low + high) / 2, high, high + 1], dtype=dtype)
            for margin in (0.0, 1e-9, 1e-2, 1e4):
                inside = box.interior(x, margin).double()
                assert ((inside > low) & (inside < high)).all(), (dtype, box, margin)


def test_log_barrier() -> None:
    slack = torch.tensor([-1.0, -0.0, 0.0, 1e-30, 1.0, torch.inf, torch.nan], requires_grad=True)
    barrier = log_barrier(slack)
    assert barrier[:3].eq(torch.inf).all()
    assert barrier[3].item() == pytest.approx(69.0776, rel=1e-5)
    assert barrier[4:6].tolist() == [0.0, -torch.inf]
    assert barrier[6].isnan()
    (gradient,) = torch.autograd.grad(barrier[:5].sum(), slack)
    assert torch.equal(gradient[[0, 1, 2, 4]], torch.tensor([0.0, 0.0, 0.0, -1.0]))
    near = torch.tensor([0.5, 2.0], dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradgradcheck(log_barrier, near)
