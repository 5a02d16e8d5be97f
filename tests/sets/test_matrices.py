"""Sets of matrices: what the table does not say."""

import pytest
import torch

from feasible import SkewSymmetric, Symmetric, UnsupportedError


@pytest.mark.parametrize(("set", "sign"), [(Symmetric(), 1), (SkewSymmetric(), -1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e-40, 1.0, 1e4])
def test_mirrored_to_the_bit(set, sign, dtype, scale) -> None:
    x = (torch.randn(5, 7, 7, dtype=torch.float64) * scale).to(dtype)
    projected = set.project(x)
    assert torch.equal(projected, sign * projected.mT)


def test_halves_do_not_overflow() -> None:
    largest = torch.finfo(torch.float32).max
    assert torch.equal(Symmetric().project(torch.full((2, 2), largest)), torch.full((2, 2), largest))


def test_the_triangle_chart_hears_the_lower_triangle_only() -> None:
    latent = torch.randn(3, 3, requires_grad=True)
    Symmetric().chart("triangle")(latent).square().sum().backward()
    assert latent.grad is not None
    assert torch.equal(latent.grad.triu(1), torch.zeros(3, 3))
    assert bool((latent.grad.tril() != 0).sum() == 6)


def test_a_subspace_has_no_barrier_and_says_what_it_has() -> None:
    with pytest.raises(UnsupportedError, match="It has: project, chart, support, tangent"):
        Symmetric().barrier(torch.eye(2))


def test_frobenius_norm_neither_overflows_nor_underflows() -> None:
    for scale in (1e200, 1e-200):
        x = torch.full((2, 2), scale, dtype=torch.float64)
        torch.testing.assert_close(Symmetric().norm(x), torch.tensor(2 * scale, dtype=torch.float64))
