"""Relaxations: means of members that become members, from coordinates that favour the present weight."""

import copy
import itertools

import pytest
import torch

from feasible import Candidates, FiniteSet, Integers, KSparse, OneHot, Permutation, Simplex, UnsupportedError
from feasible.sets.relaxation import phase, relaxations_of
from feasible.sets.sinkhorn import sinkhorn

F64 = torch.float64
LIST = torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(5), dtype=F64)
ROWS = torch.tensor([True, False, True])
SETS = {
    "rows": (OneHot(), (3, 4)),
    "columns": (OneHot(dim=0), (3, 4)),
    "batches": (OneHot(dim=1), (2, 3, 4)),
    "whole": (OneHot(dim=None), (3, 4)),
    "single entries": (OneHot(), (3, 1)),
    "permutation": (Permutation(), (4, 4)),
    "stack of permutations": (Permutation(), (2, 3, 3)),
    "candidates": (Candidates(LIST), (3, 4)),
    "one candidate": (Candidates(LIST[:1]), (3, 4)),
    "values": (FiniteSet([-0.5, 0.1, 0.2]), (3, 4)),
    "one value": (FiniteSet([0.7]), (3, 4)),
    "integers": (Integers(-1, 4), (3, 4)),
    "masked values": (FiniteSet([0, 1]).where(ROWS[:, None]), (3, 4)),
    "picked": (OneHot(dim=0).where(ROWS[:, None]), (3, 4)),
    "picked matrix": (Permutation().where(ROWS[:, None] & ROWS), (3, 3)),
    "flattened": (OneHot().flatten(1), (3, 2, 2)),
}


def relaxed(name, dtype=F64, seed=0):
    set, shape = SETS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)
    bound = set.bind(x)
    chart = bound.relaxation()
    return bound, x, chart, chart.right_inverse(x)


def cool(chart, temperature):
    for relaxation in relaxations_of(chart):
        relaxation.follow(temperature, 0)


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", SETS)
def test_soft_weights_have_the_form_of_the_weight_and_become_members(name, dtype):
    bound, x, chart, latent = relaxed(name, dtype)
    assert latent.dtype == dtype
    for temperature in (1.0, 0.1, 1e-3, 1e-6):
        cool(chart, temperature)
        soft = chart(latent)
        assert soft.shape == x.shape
        assert soft.dtype == dtype
        assert bool(soft.isfinite().all())
        assert chart.relative_slope(latent).shape == latent.shape
    with phase(chart, "rounded"):
        assert bool(bound.contains(chart(latent)).all())


@pytest.mark.parametrize(
    "name", ["rows", "columns", "batches", "whole", "permutation", "values", "candidates"]
)
def test_cold_means_are_the_members_that_rounding_takes(name):
    _, _, chart, latent = relaxed(name)
    latent = latent + 0.01 * torch.randn(latent.shape, dtype=F64, generator=torch.Generator().manual_seed(3))
    with phase(chart, "rounded"):
        member = chart(latent)
    cool(chart, 1e-3)
    torch.testing.assert_close(chart(latent), member, atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", SETS)
def test_a_member_is_favoured_and_not_certain(name):
    bound, x, chart, _ = relaxed(name)
    member = bound.project(x)
    latent = chart.right_inverse(member)
    with phase(chart, "rounded"):
        torch.testing.assert_close(chart(latent), member, rtol=0, atol=0)
    soft = chart(latent)
    is_single = "one " in name or "single" in name
    assert is_single or not torch.allclose(soft, member, atol=1e-2)


@pytest.mark.parametrize("length", [2, 3, 10, 1000])
def test_a_unit_vector_begins_with_half_to_two_thirds_of_the_weight(length):
    chart = OneHot().relaxation()
    soft = chart(chart.right_inverse(torch.eye(length)[:1]))
    assert 0.5 <= float(soft[0, 0]) <= 0.67


def test_equal_entries_share_and_the_larger_entry_leads():
    chart = OneHot().relaxation()
    soft = chart(chart.right_inverse(torch.tensor([[0.2, 0.2, -0.3], [0.1, 0.1001, 0.0]])))
    assert soft[0, 0] == soft[0, 1] > soft[0, 2]
    assert int(soft[1].argmax()) == 1


@pytest.mark.parametrize("name", SETS)
def test_gradients_agree_with_differences(name):
    _, _, chart, latent = relaxed(name)
    cool(chart, 0.7)
    probe = latent.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(chart, (probe,), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", SETS)
def test_nan_is_not_a_member(name):
    _, _, chart, latent = relaxed(name)
    broken = torch.full_like(latent, torch.nan)
    assert bool(chart(broken).isnan().any())
    with phase(chart, "rounded"):
        assert bool(chart(broken).isnan().any())


def test_candidates_take_the_largest_share_not_the_nearest_to_the_mean():
    triple = Candidates(torch.tensor([[-1.0], [0.0], [1.0]]))
    chart = triple.bind(torch.zeros(1)).relaxation()
    latent = torch.tensor([1.0, 0.0, 0.99])
    assert abs(float(chart(latent))) < 0.1
    with phase(chart, "rounded"):
        assert chart(latent).tolist() == [-1.0]


def test_permutations_end_with_the_assignment_of_largest_score():
    scores = torch.randn(4, 4, dtype=F64, generator=torch.Generator().manual_seed(1))
    chart = Permutation().relaxation()
    chart.right_inverse(scores)
    with phase(chart, "rounded"):
        found = (chart(scores) * scores).sum()
    best = max(sum(scores[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(4)))
    assert float(found) == pytest.approx(float(best), abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_sinkhorn_balances(scale):
    scores = scale * torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(2), dtype=F64)
    balanced = sinkhorn(scores)
    assert bool(balanced.isfinite().all())
    torch.testing.assert_close(balanced.sum(-2), torch.ones(3, 6, dtype=F64))
    if scale == 1.0:
        torch.testing.assert_close(balanced.sum(-1), torch.ones(3, 6, dtype=F64), atol=1e-6, rtol=0)
        logs = balanced.log() - scores
        # What differs from the scores is one number a row and one a column.
        mixed = logs[:, 1:, 1:] - logs[:, :1, 1:] - logs[:, 1:, :1] + logs[:, :1, :1]
        torch.testing.assert_close(mixed, torch.zeros_like(mixed))


def test_sinkhorn_of_nothing():
    assert sinkhorn(torch.zeros(2, 0, 0)).shape == (2, 0, 0)


def test_noise_is_one_for_a_step_and_comes_back_with_the_seed():
    _, x, chart, latent = relaxed("columns", torch.float32)
    torch.manual_seed(0)
    chart.add_noise(1.0)
    chart.follow(1.0, 3)
    first = chart(latent)
    assert torch.equal(chart(latent), first)
    chart.eval()
    assert not torch.allclose(chart(latent), first)
    chart.train()
    chart.follow(1.0, 4)
    assert not torch.allclose(chart(latent), first)
    twin = SETS["columns"][0].relaxation()
    twin.right_inverse(x)
    twin.add_noise(1.0)
    twin.follow(1.0, 3)
    assert not torch.allclose(twin(latent), first)
    twin.load_state_dict(chart.state_dict())
    assert torch.equal(twin(latent), first)
    assert torch.equal(copy.deepcopy(twin)(latent), first)


def test_noise_is_gumbels():
    chart = OneHot().relaxation()
    chart.right_inverse(torch.zeros(1, 100_000))
    chart.add_noise(1.0)
    chart.follow(1.0, 1)
    assert float(chart.gumbel.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(chart.gumbel.var()) == pytest.approx(torch.pi**2 / 6, abs=0.05)


@pytest.mark.parametrize(
    "set",
    [
        Simplex(),
        KSparse(1),
        Integers(),
        Integers(0),
        Integers(0, 300),
        Candidates(LIST).where(ROWS[:, None]),
        Candidates(LIST).flatten(0),
        Simplex().where(ROWS),
    ],
    ids=repr,
)
def test_what_has_no_relaxation_says_so(set):
    assert not set.offers("relaxation")
    with pytest.raises(UnsupportedError, match="relaxation"):
        set.relaxation()


def test_sinkhorn_under_vmap() -> None:
    scores = torch.randn(3, 4, 4, dtype=torch.float64)

    def first_entry(one):
        return sinkhorn(one)[0, 0]

    together = torch.func.vmap(torch.func.grad(first_entry))(scores)
    for one, slope in zip(scores, together, strict=True):
        torch.testing.assert_close(torch.func.vmap(sinkhorn)(one[None])[0], sinkhorn(one), atol=1e-3, rtol=0)
        torch.testing.assert_close(slope, torch.func.grad(first_entry)(one), atol=1e-3, rtol=0)
