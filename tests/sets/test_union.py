"""The nearer of several sets, unit by unit."""

import pytest
import torch

from feasible import (
    Box,
    Candidates,
    FiniteSet,
    Frozen,
    Integers,
    KSparse,
    L2Ball,
    NonNegative,
    OneHot,
    Permutation,
    Simplex,
    Sphere,
    Union,
    UnsupportedError,
)

GAP = Box(-2, -1) | Box(1, 3)


def test_the_nearer_part_for_every_unit() -> None:
    x = torch.tensor([-9.0, -1.5, -0.1, 0.0, 0.1, 2.0, torch.nan])
    projected = GAP.project(x)
    assert projected[:6].tolist() == [-2, -1.5, -1, -1, 1, 2]
    assert projected[6].isnan()
    assert GAP.contains(x).tolist() == [False, True, False, False, False, True, False]


@pytest.mark.parametrize(
    "parts", [(OneHot(), L2Ball(0.5)), (Sphere(1.0), KSparse(1), Simplex()), (KSparse(2),)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_vectors_go_to_the_nearest_of_all_parts(parts, dtype) -> None:
    x = torch.randn(200, 3, dtype=dtype)
    projected = Union(parts).project(x)
    rivals = torch.stack([part.project(x) for part in parts])
    distances = (rivals.double() - x.double()).norm(dim=-1)
    assert torch.allclose((projected.double() - x.double()).norm(dim=-1), distances.amin(0))
    assert torch.equal(projected, rivals[distances.argmin(0), torch.arange(200)])


def test_ties_go_to_the_first_part() -> None:
    x = torch.zeros(3)
    assert torch.equal((Box(1, 2) | Box(-2, -1)).project(x), torch.ones(3))
    assert torch.equal((Box(-2, -1) | Box(1, 2)).project(x), -torch.ones(3))


def test_an_infinite_member_stays() -> None:
    x = torch.tensor([torch.inf, -torch.inf])
    assert (Box(upper=-1) | NonNegative()).project(x).tolist() == [torch.inf, -torch.inf]


def test_the_derivative_is_that_of_the_nearer_part() -> None:
    x = torch.tensor([-1.5, 0.2, 2.0, 9.0], requires_grad=True)
    GAP.project(x).sum().backward()
    assert x.grad.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("union", "expected"),
    [
        (FiniteSet([1, 0]) | FiniteSet([1, 2]), FiniteSet([0, 1, 2])),
        (Box(0, 1) | Box(0, 1), Box(0, 1)),
        ((Box(0, 1) | Box(2, 3)) | Box(4, 5), Union((Box(0, 1), Box(2, 3), Box(4, 5)))),
        (Box(0, 1) | (Box(2, 3) | Box(0, 1)), Union((Box(0, 1), Box(2, 3)))),
        (Box(2, 3) | FiniteSet([0]) | FiniteSet([1]), Union((Box(2, 3), FiniteSet([0, 1])))),
        (Candidates(torch.eye(2)) | Candidates(torch.ones(1, 2)), Candidates([*torch.eye(2), torch.ones(2)])),
    ],
)
def test_nested_and_like_parts_become_one(union, expected) -> None:
    assert union == expected
    assert repr(union) == repr(expected)


def test_what_the_parts_are_the_union_is() -> None:
    assert not GAP.convex
    assert not GAP.discrete
    assert GAP.separable
    assert GAP.exact
    assert GAP.default_method == "Project"
    mixed = Integers() | Box(0.25, 0.75)
    assert mixed.default_method is None
    assert not mixed.discrete
    assert (OneHot() | Simplex()).tolerance(torch.float32) == Simplex().tolerance(torch.float32)
    assert not (OneHot() | Simplex()).exact
    assert (Integers(0, 1) | FiniteSet([0.5])).discrete


def test_linear_minima_and_support_are_the_best_of_the_parts() -> None:
    union = OneHot() | L2Ball(0.9)
    g = torch.randn(50, 3)
    values = torch.stack([(part.lmo(g) * g).sum(-1) for part in union.parts])
    assert torch.allclose((union.lmo(g) * g).sum(-1), values.amin(0))
    assert torch.allclose(union.support(-g), -values.amin(0))
    assert not (OneHot() | KSparse(1)).offers("lmo")


FOUR = Candidates([torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.ones(2, 2), torch.zeros(2, 2)])
ENUMERATED = [
    (FiniteSet([0, 0.5]) | Integers(0, 1), (2, 2), 3**4),
    (FiniteSet([-0.0]) | Integers(0, 0), (3,), 1),
    (OneHot(dim=None) | FOUR, (2, 2), 4 + 2),
    (OneHot(dim=0).flatten(1) | OneHot(dim=0).flatten(1), (2, 1, 2), 4),
    ((Integers(0, 1) | FiniteSet([3])).flatten(), (2, 1), 9),
    (FiniteSet([0, 1]) | Integers(1, 2), (0, 3), 1),
    (Union((OneHot(), OneHot())), (2, 3), 9),
    (Union((OneHot(dim=0), OneHot(dim=0))), (2, 1, 3), 8),
    (Union((Permutation(), Permutation())), (2, 2, 2), 4),
]


@pytest.mark.parametrize(("union", "shape", "count"), ENUMERATED)
def test_members_of_finite_parts_come_once(union, shape, count) -> None:
    members = list(union.members(shape))
    assert union.count(shape) == len(members) == count
    assert len({tuple(member.flatten().tolist()) for member in members}) == count
    for member in members:
        assert union.contains(member).all()
        assert torch.equal(union.project(member), member)


def test_infinite_parts_have_no_list_of_members() -> None:
    with pytest.raises(UnsupportedError, match="has no list of members"):
        (Integers(0) | FiniteSet([0.5])).members((2,))
    with pytest.raises(UnsupportedError, match="has no count of members"):
        (FiniteSet([0.5]) | Box(0, 1)).count((2,))


def test_values_that_were_taken_come_back() -> None:
    first, second = torch.randn(3), torch.randn(3)
    union = Frozen() | FiniteSet([0])
    bound = union.bind(first)
    assert bound.with_taken(union.bind(second).taken()) == union.bind(second)
    assert torch.equal(bound.project(first), first)


def test_a_union_needs_sets() -> None:
    with pytest.raises(TypeError, match="needs two sets"):
        Box(0, 1) | 3
