"""Which entries differ from zero: ties, signs and every way the largest entries are found."""

from itertools import islice, product

import pytest
import torch
from torch import Tensor

from feasible import KSparse, NofM, OneHot
from feasible.testing.subject import same_bits


def keep_first_largest(x: Tensor, count: int) -> Tensor:
    """By a stable sort of each row: zeros in the place of all but ``count`` entries."""
    order = x.abs().double().argsort(dim=-1, descending=True, stable=True)
    kept = torch.zeros_like(x, dtype=torch.bool).scatter(-1, order[..., :count], True)
    return torch.where(kept, x, torch.zeros_like(x))


KINDS = {
    "normal": lambda shape: torch.randn(shape),
    "many ties": lambda shape: (2 * torch.randn(shape)).round() / 2,
    "signs": lambda shape: torch.randn(shape).sign(),
    "mostly zeros": lambda shape: torch.nn.functional.hardshrink(torch.randn(shape), 1.8),
    "clamped": lambda shape: torch.randn(shape).clamp(-0.7, 0.7),
    "all zeros": lambda shape: torch.zeros(shape),
    "infinities": lambda shape: torch.where(torch.rand(shape) < 0.2, torch.inf, torch.randn(shape)),
    "huge": lambda shape: torch.randn(shape) * 1e38,
    "subnormal": lambda shape: torch.randn(shape) * 1e-42,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("shape", "k"),
    [((5, 16), 3), ((5, 17), 1), ((5, 17), 16), ((300, 128), 2), ((300, 128), 40), ((4, 3, 40), 9)],
)
def test_the_k_largest_by_every_route(kind, dtype, shape, k) -> None:
    x = KINDS[kind](shape).to(dtype)
    expected = keep_first_largest(x, k)
    projected = KSparse(k).project(x)
    assert torch.equal(projected, expected)
    assert KSparse(k).contains(projected).all()
    assert same_bits(KSparse(k).project(projected), projected)
    # Without reading numbers back, as on an accelerator.
    assert torch.equal(torch.func.vmap(KSparse(k).project)(x), expected)
    assert torch.equal(KSparse(k, dim=0).project(x.movedim(-1, 0)).movedim(0, -1), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 2), (3, 8), (4, 24), (4, 4)])
def test_the_n_largest_of_each_group(kind, n, m) -> None:
    x = KINDS[kind]((6, 48))
    expected = keep_first_largest(x.reshape(6, -1, m), n).reshape(6, 48)
    assert torch.equal(NofM(n, m).project(x), expected)
    assert torch.equal(NofM(n, m, dim=0).project(x.mT), expected.mT)
    assert torch.equal(NofM(n, m, dim=None).project(x), expected)
    assert torch.equal(torch.func.vmap(NofM(n, m).project)(x), expected)
    member = NofM(n, m).contains(x)
    assert torch.equal(member, (expected == x).all(-1))


@pytest.mark.parametrize("set", [KSparse(2), KSparse(30), NofM(2, 4), NofM(10, 40)])
def test_members_keep_the_sign_of_their_zeros(set) -> None:
    x = set.project(torch.randn(900, 40))
    member = torch.where(x == 0, -x.abs(), x)
    assert same_bits(set.project(member), member)


@pytest.mark.parametrize("length", [8, 40, 128])
@pytest.mark.parametrize("k", [1, 5, 8])
def test_a_nan_spoils_its_row_only(length, k) -> None:
    x = torch.randn(400, length)
    spoilt = x.clone()
    spoilt[3, 2] = torch.nan
    for project in (KSparse(k).project, torch.func.vmap(KSparse(k).project)):
        projected = project(spoilt)
        assert projected[3].isnan().all()
        assert torch.equal(projected[4:], keep_first_largest(x, k)[4:])
    assert KSparse(k).contains(projected).sum() == 399


@pytest.mark.parametrize("set", [KSparse(2), NofM(1, 3)])
def test_the_derivative_is_that_of_what_is_kept(set) -> None:
    x = torch.tensor([[3.0, -1.0, 2.0], [0.0, 0.0, -4.0], [0.0, 5.0, 6.0]], requires_grad=True)
    kept = set.project(x)
    kept.sum().backward()
    moved = x.detach() != 0
    assert torch.equal(x.grad[moved], (kept != 0)[moved].to(x.grad))
    assert x.grad[2, 0] == 0


def test_unit_vectors_are_counted_and_listed() -> None:
    columns = OneHot(dim=0)
    assert columns.count((3, 4)) == 81
    members = list(columns.members((3, 4)))
    assert [tuple(m.argmax(0).tolist()) for m in members] == list(product(range(3), repeat=4))
    assert all(m.dtype == torch.get_default_dtype() and columns.contains(m).all() for m in members)
    assert [m.argmax().item() for m in OneHot(dim=None).members((2, 2))] == [0, 1, 2, 3]
    assert OneHot().count((1000, 10)) == 10**1000
    assert [m[-1].argmax().item() for m in islice(OneHot().members((500, 10)), 3)] == [0, 1, 2]
    assert OneHot().count((0, 3)) == OneHot(dim=0).count((3, 0)) == len(list(OneHot().members((0, 3)))) == 1
    with pytest.raises(ValueError, match="is empty: a vector without entries"):
        OneHot().count((3, 0))


def test_ones_go_to_the_first_of_the_largest() -> None:
    x = torch.tensor([[1.0, 1.0, 1.0], [-torch.inf] * 3, [0.0, torch.inf, torch.inf], [torch.nan, 9.0, 0.0]])
    for project in (OneHot().project, torch.func.vmap(OneHot().project)):
        projected = project(x)
        assert projected[:3].argmax(-1).tolist() == [0, 0, 1]
        assert torch.equal(projected[:3].sum(-1), torch.ones(3))
        assert projected[3].isnan().all()
    member = torch.tensor([[-0.0, 1.0, 0.0]])
    assert same_bits(OneHot().project(member), member)


def test_linear_minima_and_support_of_unit_vectors_by_trying_all() -> None:
    g = torch.tensor([[2.0, -1.0, -1.0], [0.0, 0.0, 0.0]])
    products = [(member * g).sum(-1) for member in OneHot().members((2, 3))]
    assert torch.equal((OneHot().lmo(g) * g).sum(-1), torch.stack(products).amin(0))
    assert torch.equal(OneHot().support(g), torch.stack(products).amax(0))
    assert OneHot().lmo(g).argmax(-1).tolist() == [1, 0]
