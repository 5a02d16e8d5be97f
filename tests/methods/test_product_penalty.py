"""Products of distances: the formula by brute force, finite everywhere, zero at members only, and what they reach."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from recovery import recovers
from torch import Tensor

import feasible as fs
from feasible.schedules import Exponential
from feasible.sets import Set

F64 = torch.float64
KINDS = ["product", "textbook-product"]
PICKED = torch.tensor([True, False, True, True])
LIST = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
PERMUTATIONS = torch.stack([torch.eye(4, dtype=F64)[list(p)] for p in itertools.permutations(range(4))])


@dataclass(frozen=True)
class Case:
    """A set, and its members unit by unit."""

    set: Set
    shape: tuple[int, ...]
    members: Tensor
    units: Callable[[Tensor], Tensor]

    def __str__(self):
        return repr(self.set)


def entries(x):
    return x.reshape(-1)


CASES = [
    Case(fs.FiniteSet([-1, 0, 1]), (3, 4), torch.tensor([-1.0, 0, 1], dtype=F64), entries),
    Case(fs.FiniteSet([-2.5, 0.3, 0.31, 4]), (12,), torch.tensor([-2.5, 0.3, 0.31, 4], dtype=F64), entries),
    Case(fs.FiniteSet([2]), (3, 4), torch.tensor([2.0], dtype=F64), entries),
    Case(fs.Integers(-2, 3), (3, 4), torch.arange(-2.0, 4, dtype=F64), entries),
    Case(fs.OneHot(), (2, 2, 3), torch.eye(3, dtype=F64), lambda x: x.reshape(-1, 3)),
    Case(fs.OneHot(dim=0), (3, 4), torch.eye(3, dtype=F64), lambda x: x.T),
    Case(fs.OneHot(dim=None), (3, 2), torch.eye(6, dtype=F64), lambda x: x.reshape(1, -1)),
    Case(fs.Permutation(), (2, 4, 4), PERMUTATIONS, lambda x: x),
    Case(fs.Candidates(torch.cat([LIST, LIST[:2]])), (2, 3), LIST, lambda x: x[None]),
    Case(fs.Candidates(LIST[:1]), (2, 3), LIST[:1], lambda x: x[None]),
    Case(
        fs.FiniteSet([0, 1]).where(PICKED),
        (3, 4),
        torch.tensor([0.0, 1], dtype=F64),
        lambda x: entries(x[:, PICKED]),
    ),
    Case(fs.OneHot().where(PICKED), (3, 4), torch.eye(3, dtype=F64), lambda x: x[:, PICKED]),
    Case(
        fs.OneHot().where(torch.tensor([[True], [False], [True]])),
        (3, 4),
        torch.eye(4, dtype=F64),
        lambda x: x[[0, 2]],
    ),
    Case(fs.OneHot().flatten(1), (3, 2, 2), torch.eye(4, dtype=F64), lambda x: x.flatten(1)),
]
EACH = pytest.mark.parametrize("case", CASES, ids=str)


def pull(set, x, kind="product", weight=1.0, **options):
    method = fs.Penalty(weight, kind=kind, **options)
    bound = set.bind(x)
    return method.pull(x, bound, method.bind(x, bound), 0)


def by_hand(case, x, kind):
    """The formula as it is written, with autograd."""
    total = torch.zeros((), dtype=F64)
    for unit in case.units(x):
        squares = torch.stack([(unit - member).square().sum() for member in case.members])
        nearest = squares.argmin()
        others = torch.cat([squares[:nearest], squares[nearest + 1 :]])
        mean = others.log().mean() if len(others) else others.sum()
        total = total + (squares[nearest] * mean.exp() if kind == "product" else squares.prod())
    return total


@EACH
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradient_are_the_formulas(case, kind):
    for seed in range(3):
        x = 1.5 * torch.randn(case.shape, generator=torch.Generator().manual_seed(seed), dtype=F64)
        probe = x.clone().requires_grad_()
        value = 0.7 * by_hand(case, probe, kind)
        (slope,) = torch.autograd.grad(value, probe)
        found = pull(case.set, x, kind, 0.7)
        torch.testing.assert_close(found.amount, value.detach())
        torch.testing.assert_close(found.gradient, slope)


@EACH
@pytest.mark.parametrize("kind", KINDS)
def test_zero_at_members_and_nowhere_else(case, kind):
    x = torch.randn(case.shape, generator=torch.Generator().manual_seed(5), dtype=F64)
    member = case.set.bind(x).project(x).contiguous()
    found = pull(case.set, member, kind)
    assert found.amount == 0
    assert not found.gradient.any()
    free = torch.zeros(case.shape, dtype=torch.bool)
    for entry in range(x.numel()):
        for step in (1e-8, 1e-3, 0.4):
            moved = member.clone()
            moved.view(-1)[entry] += step
            free.view(-1)[entry] = bool(case.set.bind(x).contains(moved).all())
            assert (pull(case.set, moved, kind).amount > 0) != bool(free.view(-1)[entry])


def test_matrices_made_of_several_candidates_are_no_members():
    rows = torch.eye(3)
    columns = [torch.stack(choice, -1) for choice in itertools.product(rows, repeat=4)]
    some = fs.Candidates(columns[::2])
    wrong = columns[1]
    entrywise = torch.stack([(wrong - member).square() for member in columns[::2]]).prod(0)
    assert not entrywise.any()
    assert pull(some, wrong).amount > 0.5


@pytest.mark.parametrize("count", [81, 10_000])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e3, 1e6])
def test_many_candidates_stay_finite_in_single_precision(count, scale):
    generator = torch.Generator().manual_seed(0)
    many = fs.Candidates(torch.randn(count, 3, 4, generator=generator))
    x = scale * torch.randn(3, 4, generator=generator)
    found = pull(many, x)
    assert bool(found.amount.isfinite())
    assert found.amount > 0
    assert bool(found.gradient.isfinite().all())
    assert bool(found.gradient.any())
    exact = pull(fs.Candidates(many.stack.double()), x.double())
    torch.testing.assert_close(found.gradient.double(), exact.gradient, rtol=1e-4, atol=0)


def test_ties_take_the_first_and_stay_finite():
    found = pull(fs.Candidates(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])), torch.zeros(2))
    assert found.amount == 1.0
    assert bool(found.gradient.isfinite().all())


def test_a_unit_from_the_members_makes_lists_of_all_sizes_alike():
    u = torch.tensor([0.3, 0.5, 1.5, -0.99], dtype=F64)
    for kind in KINDS:
        large, small = (
            pull(fs.FiniteSet([-size, 0, size]), size * u, kind, unit="auto") for size in (1.0, 0.05)
        )
        torch.testing.assert_close(large.amount, small.amount)
        torch.testing.assert_close(large.gradient, 0.05 * small.gradient)
        plain, halved = (pull(fs.FiniteSet([-1, 0, 1]), u, unit=unit) for unit in (1.0, 0.5))
        torch.testing.assert_close(halved.amount, plain.amount * 16)


def test_nan_stays_nan():
    for case in CASES[:5]:
        x = torch.zeros(case.shape, dtype=F64)
        x.view(-1)[0] = torch.nan
        found = pull(case.set, x)
        assert bool(found.amount.isnan())


@pytest.mark.parametrize(
    "set",
    [fs.Simplex(), fs.Box(0, 1), fs.Integers(), fs.Integers(0, 300), fs.OneHot() | fs.Simplex()],
    ids=repr,
)
def test_sets_without_a_list_are_refused(set):
    problem = fs.Problem(torch.nn.Linear(3, 3))
    with pytest.raises(fs.UnsupportedError, match="needs a list of members"):
        problem.constrain("weight", set, by=fs.Penalty(1.0, kind="product"))


@pytest.mark.parametrize(("size", "shown"), [(9, "362,880"), (2000, "2000!")])
def test_large_permutations_are_refused_when_declared(size, shown):
    problem = fs.Problem(torch.nn.Linear(size, size))
    with pytest.raises(fs.UnsupportedError, match=f"{shown}, and the limit is 8 rows"):
        problem.constrain("weight", fs.Permutation(), by=fs.Penalty(1.0, kind="product"))
    assert not problem.constraints


def digits(seed, method, steps, values=(-1, 0, 1)):
    """Accuracy of 64-32-10 on held-out digits with the last layer rounded after training."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    torch.manual_seed(seed)
    order = torch.randperm(len(x))
    train, test = order[:1437], order[1437:]
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    problem = fs.Problem(model)
    ternary = fs.FiniteSet(values)
    problem.constrain("2.weight", ternary, by=method)
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.01))
    for _ in range(steps):
        batch = train[torch.randint(len(train), (128,))]
        optimizer.zero_grad()
        problem.loss(torch.nn.functional.cross_entropy(model(x[batch]), y[batch])).backward()
        optimizer.step()
    problem.finish()
    with torch.no_grad():
        model[2].weight.copy_(ternary.project(model[2].weight))
        return float((model(x[test]).argmax(1) == y[test]).float().mean())


def growing(steps, **options):
    return fs.Penalty(Exponential(1e-3, 1e4 ** (1 / steps)), **{"kind": "product", **options})


def test_ternary_digits_survive_rounding():
    assert digits(0, growing(400), 400) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("steps", [700, 1500])
@pytest.mark.parametrize(
    ("method", "values"),
    [
        (growing, (-1, 0, 1)),
        (lambda steps: growing(steps, unit="auto"), (-0.3, 0, 0.3)),
        (fs.SoftmaxAnneal, (-1, 0, 1)),
    ],
    ids=["product", "product, small values", "SoftmaxAnneal"],
)
def test_ternary_digits_over_seeds(method, values, steps):
    accuracies = [digits(seed, method(steps), steps, values) for seed in range(5)]
    assert sum(accuracies) / 5 > 0.95


@pytest.mark.slow
def test_products_recover_fewer_partitions_than_annealing():
    by = growing(2000)
    found = sum(
        recovers(seed, lambda problem: problem.constrain("select.weight", fs.OneHot(dim=0), by=by))
        for seed in range(12)
    )
    assert 1 <= found <= 10
