"""Charts at their extremes: overflow, flat parts, what is lifted and what is kept."""

import pytest
import torch

from feasible import Box, L2Ball, NonNegative, Simplex, SumTo

DOUBLE = torch.float64


def test_far_out_coordinates_reach_the_boundary_of_the_ball() -> None:
    chart = L2Ball(2.0).chart()
    for scale in (1e20, 1e30, 3e38):
        latent = torch.tensor([0.6, 0.8]) * scale
        assert torch.allclose(chart(latent), torch.tensor([1.2, 1.6]))
        assert chart.saturated(latent).all()
    lifted = torch.tensor([6e20, 8e20])
    chart.floor_(lifted, torch.ones(2, dtype=torch.bool), 0.01)
    assert torch.allclose(chart.relative_slope(lifted), torch.full((2,), 0.01), rtol=1e-3)


def test_the_default_chart_of_the_orthant_never_dies_and_keeps_members() -> None:
    chart = NonNegative().chart()
    member = torch.rand(100)
    member[0] = 0
    assert torch.equal(chart(chart.right_inverse(member)), member)
    latent = torch.randn(100)
    assert not chart.saturated(latent).any()
    assert torch.equal(chart.relative_slope(latent), torch.ones(100))


@pytest.mark.parametrize("kind", ["softplus", "exp", "square", "relu"])
def test_flat_coordinates_are_lifted_to_the_wanted_slope(kind: str) -> None:
    chart = NonNegative().chart(kind)
    latent = (
        torch.tensor([-30.0, -1e-9, 0.0, 1e-9, 1.0]) if kind != "exp" else torch.tensor([-30.0, -20.0, 1.0])
    )
    flat = chart.saturated(latent)
    assert flat.any()
    lifted = latent.clone()
    chart.floor_(lifted, flat, 0.01)
    assert (chart.relative_slope(lifted) >= 0.0099).all()
    assert torch.equal(lifted[~flat], latent[~flat])


@pytest.mark.parametrize("kind", ["sigmoid", "tanh", "sine"])
def test_ranges_reach_from_bound_to_bound(kind: str) -> None:
    chart = Box(-3, 5).chart(kind)
    far = (
        chart(torch.tensor([-1e3, 1e3])) if kind != "sine" else chart(torch.tensor([-torch.pi, torch.pi]) / 2)
    )
    assert far.tolist() == [-3.0, 5.0]
    assert chart(torch.zeros(1)).item() == pytest.approx(1.0)
    middle = torch.linspace(-2.8, 4.8, 20, dtype=DOUBLE)
    assert torch.allclose(chart(chart.right_inverse(middle)), middle)


def test_one_sided_ranges_from_above() -> None:
    chart = Box(upper=1.0).chart()
    assert torch.equal(chart(torch.tensor([0.0, 2.0, -2.0])), torch.tensor([1.0, -1.0, -1.0]))
    x = torch.tensor([-3.0, 0.5, 1.0])
    assert torch.equal(chart(chart.right_inverse(x)), x)


def test_large_common_shifts_do_not_spoil_the_sum() -> None:
    latent = 1e8 + torch.randn(5, 100)
    assert SumTo(1.0).contains(SumTo(1.0).chart()(latent)).all()
    latent = latent.bfloat16()
    assert SumTo(1.0).contains(SumTo(1.0).chart()(latent)).all()


@pytest.mark.parametrize("kind", ["softmax", "stick-breaking"])
def test_simplex_vertices_move_inside_by_a_hundredth(kind: str) -> None:
    chart = Simplex(2.0).chart(kind)
    vertex = torch.tensor([2.0, 0.0, 0.0, 0.0])
    returned = chart(chart.right_inverse(vertex))
    assert Simplex(2.0).contains(returned)
    assert torch.allclose(returned, vertex, atol=0.02)
    assert (returned > 0).all()
    assert chart.saturated(torch.tensor([100.0, 0.0, 0.0, 0.0]))[0]


@pytest.mark.parametrize("kind", ["softmax", "stick-breaking"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_charts_of_long_vectors_stay_on_the_simplex(kind: str, dtype: torch.dtype) -> None:
    for scale in (1.0, 10.0):
        latent = (scale * torch.randn(3, 1000)).to(dtype)
        assert Simplex().contains(Simplex().chart(kind)(latent)).all()


def test_stick_breaking_is_the_one_that_torch_has() -> None:
    latent = torch.randn(4, 6, dtype=DOUBLE)
    chart = Simplex().chart("stick-breaking")
    expected = torch.distributions.transforms.StickBreakingTransform()(latent[:, :-1])
    assert torch.allclose(chart(latent), expected)
    assert torch.allclose(chart(torch.zeros(5)), torch.full((5,), 0.2))
    member = Simplex().sample((20, 6)).double()
    away = member.amin(-1) > 1e-2 / 6
    assert torch.allclose(chart(chart.right_inverse(member))[away], member[away])


def test_breaks_that_took_everything_are_lifted() -> None:
    chart = Simplex().chart("stick-breaking")
    latent = torch.tensor([30.0, 0.0, -20.0, 0.0])
    flat = chart.saturated(latent)
    assert flat.tolist() == [True, False, True, False]
    chart.floor_(latent, flat, 0.01)
    assert torch.allclose(chart.relative_slope(latent)[flat], torch.full((2,), 0.01), rtol=1e-3)
