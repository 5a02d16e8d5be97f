"""Some entries only, flattened views, sets inside sets."""

import pytest
import torch
from torch.nn.utils import parametrize

from feasible import Box, Equal, Frozen, L2Ball, NonNegative, Simplex, SumTo

MASK = torch.tensor([True, False, True])


def test_free_entries_may_be_anything() -> None:
    inf, nan = torch.inf, torch.nan
    x = torch.tensor([-1.0, nan, 2.0])
    set = Box(0, 1).where(MASK)
    assert torch.equal(set.project(x)[[0, 2]], torch.tensor([0.0, 1.0]))
    assert set.project(x)[1].isnan()
    assert set.contains(torch.tensor([0.5, 1e30, 1.0])).all()
    assert set.barrier(torch.tensor([0.5, -inf, 0.5])).isfinite().all()
    (first, second) = set.slack(torch.tensor([0.25, -7.0, 0.5]))
    assert first.tolist() == [0.25, 1.0, 0.5]
    assert second.tolist() == [0.75, 1.0, 0.5]


def test_gradients_of_free_entries() -> None:
    x = torch.tensor([0.5, -3.0, 0.25], requires_grad=True)
    set = Box(0, 1).where(MASK)
    (gradient,) = torch.autograd.grad(set.barrier(x).sum(), x)
    assert gradient.tolist() == pytest.approx([0.0, 0.0, -4 + 4 / 3])
    (gradient,) = torch.autograd.grad(set.project(x).sum(), x)
    assert torch.equal(gradient, torch.ones(3))


def test_a_chart_never_sees_free_entries() -> None:
    """exp(1000) is infinite, and 0 · inf would be the gradient of an entry that it has nothing to do with."""
    chart = NonNegative().where(MASK).chart("exp")
    latent = torch.tensor([0.0, 1000.0, 1.0], requires_grad=True)
    point = chart(latent)
    assert point[1] == 1000
    (gradient,) = torch.autograd.grad(point.sum(), latent)
    assert gradient[1] == 1
    member = torch.tensor([1.0, -1000.0, 3.0])
    assert torch.allclose(chart(chart.right_inverse(member)), member)


def test_support_where_entries_are_free() -> None:
    set = Box(0, 1).where(MASK)
    y = torch.tensor([2.0, 0.0, -1.0])
    assert set.support(y).tolist() == [2.0, 0.0, 0.0]
    assert set.support(torch.tensor([0.0, 1e-9, 0.0]))[1] == torch.inf
    assert set.support(torch.tensor([0.0, torch.nan, 0.0]))[1].isnan()
    assert not set.offers("lmo"), "a free entry makes it unbounded"


def test_frozen_entries_take_their_value_at_binding() -> None:
    weight = torch.tensor([1.0, 2.0, 3.0])
    bound = Frozen().where(MASK).bind(weight)
    with torch.no_grad():
        weight.zero_()
    assert torch.equal(bound.project(torch.full((3,), 9.0)), torch.tensor([1.0, 9.0, 3.0]))
    moved = torch.full((3,), torch.nan)
    bound.project_all_([moved])
    assert torch.equal(moved[MASK], torch.tensor([1.0, 3.0]))
    assert bound.bind(torch.zeros(3)) == bound, "a value taken before is kept"


def test_masks_of_another_memory_are_not_followed() -> None:
    mask = MASK.clone()
    set = Equal(0.0).where(mask)
    mask.fill_(True)
    assert set.project(torch.ones(3)).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("start", [0, 1, -1, -2])
def test_flatten_is_the_view(start: int) -> None:
    x = torch.randn(2, 3, 4)
    for inner in (Simplex(), SumTo(1.0), L2Ball(0.5)):
        set = inner.flatten(start)
        flat = x.flatten(start)
        assert torch.equal(set.project(x), inner.project(flat).reshape(x.shape))
        assert torch.equal(set.distance(x), inner.distance(flat))
        assert torch.equal(set.contains(x), inner.contains(flat))
        assert set.spread(set.norm(x), x).shape == x.shape


def test_flatten_of_a_single_number() -> None:
    number = torch.tensor(3.0)
    for set in (Simplex().flatten(), SumTo(1.0).flatten(), L2Ball(1.0).flatten(), Box(0, 1).flatten()):
        assert set.project(number) == 1
        assert set.chart(None)(number).shape == ()
        assert set.contains(number).shape == ()


def test_filters_of_a_convolution_stay_in_their_ball() -> None:
    layer = torch.nn.Conv2d(3, 4, 3)
    ball = L2Ball(0.1).flatten(1)
    assert ball.project(layer.weight.detach()).flatten(1).norm(dim=1).le(0.1 + 1e-6).all()
    parametrize.register_parametrization(layer, "weight", ball.chart())
    assert layer(torch.randn(1, 3, 5, 5)).shape == (1, 4, 3, 3)
    assert ball.contains(layer.weight).all()


def test_sets_print_as_they_are_written() -> None:
    assert repr((L2Ball(1.0) & NonNegative()).flatten(1)) == "(L2Ball(radius=1) & NonNegative()).flatten(1)"
    assert repr(Box(0, 1 / 3)) == "Box(lower=0, upper=0.3333333333333333)"
    assert repr(Simplex(dim=None)) == "Simplex(dim=None)"
    assert repr(Box(torch.tensor(0.5), torch.ones(2, 3))) == "Box(lower=0.5, upper=tensor(2×3))"


def test_what_an_intersection_says_of_its_units() -> None:
    rows, columns = SumTo(1.0), SumTo(1.0, dim=0)
    assert (rows & Box(0, 1)).unit == "vector along -1"
    assert (rows & columns).unit == "tensor"
    assert (Box(0, 1).where(MASK) & NonNegative()).unit == "entry"
    x = torch.full((3, 3), 1 / 3)
    x[0, 0] = 9
    assert (rows & Box(0, 1)).contains(x).tolist() == [False, True, True]
    assert (rows & columns).contains(x).item() is False
    assert Box(0, 1) & Box(0, 1) == Box(0, 1)
    with pytest.raises(TypeError):
        Box(0, 1) & 3


def test_barriers_of_intersections_add_up_per_unit() -> None:
    x = torch.full((3, 4), 0.1)
    both = NonNegative() & L2Ball(1.0)
    expected = NonNegative().barrier(x).sum(-1) + L2Ball(1.0).barrier(x)
    assert torch.allclose(both.barrier(x), expected)
    assert len(both.slack(x)) == 2
