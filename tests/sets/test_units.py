"""Norms, members that keep their bits, vectors along any dimension."""

import numpy as np
import pytest
import torch
from torch import Tensor

import feasible as fs
from feasible.sets.precision import roundoff
from feasible.sets.units import (
    along,
    is_differentiated,
    keep_members,
    precise_norm,
    shift_to_sum,
    vector_norm,
    vector_sum,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [-0.99, -0.5, 0.0, 0.5, 0.99])
def test_norm_neither_overflows_nor_underflows(dtype: torch.dtype, exponent: float) -> None:
    limit = torch.finfo(dtype).max if exponent > 0 else 1 / torch.finfo(dtype).tiny
    x = torch.tensor([3.0, 4.0], dtype=torch.float64) * limit**exponent / 5
    rounded = x.to(dtype)
    norm = vector_norm(rounded, -1)
    assert norm.dtype == dtype
    assert abs(float(norm) / (limit**exponent) - 1) < 4 * torch.finfo(dtype).eps


def test_norm_of_subnormal_numbers() -> None:
    for dtype in (torch.float64, torch.float32):
        least = torch.tensor(torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps, dtype=dtype)
        assert vector_norm(torch.stack([3 * least, 4 * least]), -1) == 5 * least


def test_norm_of_special_values() -> None:
    x = torch.tensor([[0.0, 0.0], [torch.inf, 1.0], [torch.nan, 1.0], [torch.inf, torch.nan]])
    for dtype in DTYPES:
        norm = vector_norm(x.to(dtype), -1)
        assert norm[0] == 0
        assert norm[1] == torch.inf
        assert norm[2:].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "dim"), [((2, 3, 4), -1), ((2, 3, 4), 0), ((2, 3, 4), 1), ((2, 3, 4), -2), ((2, 3, 4), None),
                       ((), None), ((0, 3), -1), ((3, 0), -1), ((0, 3), None), ((5,), 0)]
)  # fmt: skip
def test_norm_and_sum_reduce_as_torch_does(
    shape: tuple[int, ...], dim: int | None, dtype: torch.dtype
) -> None:
    x = torch.randn(shape).to(dtype)
    for keepdim in (False, True):
        expected = torch.linalg.vector_norm(x.double(), dim=dim, keepdim=keepdim)
        norm = vector_norm(x, dim, keepdim)
        assert norm.shape == expected.shape
        assert torch.allclose(norm.double(), expected, rtol=2 * torch.finfo(dtype).eps)
        summed = vector_sum(x, dim, keepdim)
        assert summed.shape == expected.shape
        assert summed.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_norm_is_twice_differentiable_off_zero_and_quiet_at_zero() -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    for dim in (-1, 0, None):
        assert torch.autograd.gradcheck(lambda x, dim=dim: precise_norm(x, dim), x)
        assert torch.autograd.gradgradcheck(lambda x, dim=dim: precise_norm(x, dim), x)
    for dtype in (torch.float64, torch.float32):
        zero = torch.zeros(3, dtype=dtype, requires_grad=True)
        (first,) = torch.autograd.grad(vector_norm(zero, -1), zero, create_graph=True)
        (second,) = torch.autograd.grad(first.sum() + (first * first).sum(), zero)
        assert torch.equal(first, torch.zeros(3, dtype=dtype))
        assert torch.equal(second, torch.zeros(3, dtype=dtype))


def _halved(x: Tensor) -> Tensor:
    member = torch.tensor([True, False, True])
    return keep_members(member, x, x / 2)


@pytest.mark.usefixtures("forward_mode")
def test_members_keep_their_bits_and_the_projection_its_derivative() -> None:
    x = torch.tensor([-0.0, 3.0, 1 / 3], dtype=torch.float64)
    plain = _halved(x)
    assert torch.equal(plain, torch.tensor([0.0, 1.5, 1 / 3], dtype=torch.float64))
    leaf = x.clone().requires_grad_()
    differentiated = _halved(leaf)
    for value in (plain, differentiated):
        assert value.detach().view(torch.int64)[[0, 2]].equal(x.view(torch.int64)[[0, 2]])
    assert torch.autograd.grad(differentiated.sum(), leaf)[0].eq(0.5).all()
    _, tangent = torch.func.jvp(_halved, (x,), (torch.ones_like(x),))
    assert tangent.eq(0.5).all()


@pytest.mark.usefixtures("forward_mode")
def test_differentiation_is_noticed() -> None:
    x = torch.ones(2)
    leaf = x.clone().requires_grad_()
    assert not is_differentiated(x)
    assert is_differentiated(leaf)
    with torch.no_grad():
        assert not is_differentiated(leaf), "weights are projected without a graph"
    seen: list[bool] = []

    def look(x: Tensor) -> Tensor:
        seen.append(is_differentiated(x))
        return x.sum()

    torch.func.grad(look)(x)
    torch.func.vmap(torch.func.grad(look))(torch.ones(3, 2))
    torch.func.grad(lambda x: torch.func.vmap(look)(x).sum())(torch.ones(3, 2))
    torch.func.jvp(look, (x,), (x,))
    assert seen == [True] * 4


@pytest.mark.parametrize("dim", [None, 0, 1, 2, -1, -2, -3])
def test_along_takes_vectors_of_any_dimension(dim: int | None) -> None:
    x = torch.randn(2, 3, 4)
    expected = x.cumsum(dim) if dim is not None else x.reshape(-1).cumsum(0).reshape(x.shape)
    assert torch.equal(along(dim, x, lambda rows: rows.cumsum(-1)), expected)


def test_shift_to_sum_survives_cancellation() -> None:
    x = torch.tensor([[1e8, 1e8, 1e8, -1e8]])
    assert abs(float(shift_to_sum(x, 3.0).double().sum()) - 3) <= 16
    small = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    assert torch.equal(shift_to_sum(small, 3.0), torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64))


def test_roundoff_counts_the_units_of_the_arithmetic() -> None:
    assert roundoff(torch.float32) == 8 * 2.0**-23
    assert roundoff(torch.float64) == 8 * 2.0**-52
    assert 2**-7 < roundoff(torch.bfloat16) < 2**-5


VECTORS = {
    "OneHot": lambda dim: fs.OneHot(dim=dim),
    "KSparse": lambda dim: fs.KSparse(1, dim=dim),
    "NofM": lambda dim: fs.NofM(1, 2, dim=dim),
    "Simplex": lambda dim: fs.Simplex(dim=dim),
    "SumTo": lambda dim: fs.SumTo(1.0, dim=dim),
    "L1Ball": lambda dim: fs.L1Ball(1.0, dim=dim),
    "L2Ball": lambda dim: fs.L2Ball(1.0, dim=dim),
    "LInfBall": lambda dim: fs.LInfBall(1.0, dim=dim),
    "Sphere": lambda dim: fs.Sphere(1.0, dim=dim),
    "SecondOrderCone": lambda dim: fs.SecondOrderCone(dim=dim),
    "Monotone": lambda dim: fs.Monotone(dim=dim),
    "HalfSpace": lambda dim: fs.HalfSpace([1.0], 0.0, dim=dim),
    "Affine": lambda dim: fs.Affine([[1.0, 1.0]], [0.0], dim=dim),
    "Polyhedron": lambda dim: fs.Polyhedron([[1.0, 1.0]], [0.0], dim=dim),
}


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("dim", ["a", 0.5, True, [0]], ids=repr)
def test_a_dimension_is_a_whole_number(name, dim) -> None:
    with pytest.raises(ValueError, match=f"^{name}: dim must be a whole number, or None"):
        VECTORS[name](dim)


@pytest.mark.parametrize("name", VECTORS)
def test_whole_numbers_of_any_kind_are_dimensions(name) -> None:
    assert VECTORS[name](np.int64(0)) == VECTORS[name](0)
    assert type(VECTORS[name](np.int64(0)).dim) is int
