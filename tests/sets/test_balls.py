"""The Euclidean ball where its arithmetic is delicate."""

import pytest
import torch

from feasible import L2Ball

DOUBLE = torch.float64


def test_interior_vectors_do_not_shrink() -> None:
    """A norm with an ε in its denominator loses a little in every one of many steps."""
    x = torch.tensor([[0.3, 0.4], [1.0, 0.0]])
    weight = x.clone()
    for _ in range(1000):
        L2Ball(1.0).project_all_([weight])
    assert torch.equal(weight, x)


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16, torch.float16])
def test_norms_end_at_the_radius_to_rounding(dtype: torch.dtype) -> None:
    x = (10 * torch.randn(200, 50)).to(dtype)
    norms = L2Ball(0.7).project(x).double().norm(dim=-1)
    assert ((norms / 0.7 - 1).abs() <= 3 * torch.finfo(dtype).eps).all()
    three_percent_long = torch.full((1, 100), 0.1, dtype=dtype)
    assert not L2Ball(0.97).contains(three_percent_long)


def test_the_norm_may_overflow_where_the_vector_does_not() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.full((4,), torch.finfo(dtype).max, dtype=dtype)
        assert torch.allclose(L2Ball(1.0).project(x), torch.full((4,), 0.5, dtype=dtype), rtol=0.01)
        assert torch.allclose(L2Ball(1.0).lmo(x), torch.full((4,), -0.5, dtype=dtype), rtol=0.01)


def test_lmo_of_tiny_gradients() -> None:
    for dtype in (DOUBLE, torch.float32):
        tiny = torch.finfo(dtype).tiny / 4
        gradient = torch.tensor([3 * tiny, 4 * tiny], dtype=dtype)
        assert torch.allclose(L2Ball(5.0).lmo(gradient), torch.tensor([-3.0, -4.0], dtype=dtype))
        assert torch.equal(L2Ball(5.0).lmo(torch.zeros(2)), torch.zeros(2))


def test_second_derivatives_at_the_centre() -> None:
    zero = torch.zeros(3, dtype=DOUBLE, requires_grad=True)
    ball = L2Ball(2.0)
    slack = torch.autograd.functional.hessian(lambda x: ball.slack(x)[0], zero)
    assert torch.equal(slack, -torch.eye(3, dtype=DOUBLE) / 2)
    barrier = torch.autograd.functional.hessian(ball.barrier, zero)
    assert torch.allclose(barrier, torch.eye(3, dtype=DOUBLE) / 2)
    projected = torch.autograd.functional.hessian(lambda x: ball.project(x).square().sum(), zero)
    assert torch.equal(projected, 2 * torch.eye(3, dtype=DOUBLE))


def test_interior_slack_is_the_margin() -> None:
    x = torch.tensor([[3.0, 4.0], [0.1, 0.0]], dtype=DOUBLE)
    (slack,) = L2Ball(1.0).slack(L2Ball(1.0).interior(x, 0.2))
    assert slack.tolist() == pytest.approx([0.2, 0.495])
    assert L2Ball(1.0).interior(x, 0.6).eq(0).all(), "no slack is that large: the centre"


def test_a_ball_of_radius_zero_is_a_point() -> None:
    point = L2Ball(0.0)
    assert point.project(torch.tensor([1.0, -2.0])).eq(0).all()
    assert not any(point.offers(name) for name in ("slack", "barrier", "interior", "chart"))
    with pytest.raises(ValueError, match="it is a single point"):
        point.barrier(torch.zeros(2))
    assert not point.contains(torch.tensor([1e-30, 0.0]))
