"""Which way to discrete weights: the rule of thumb, its words, and that its code runs."""

import itertools

import pytest
import torch
from torch import nn

import feasible as fs
from feasible import (
    Box,
    Candidates,
    FiniteSet,
    Integers,
    NofM,
    NonNegative,
    OneHot,
    Permutation,
    ProximalAnneal,
    SoftmaxAnneal,
    StraightThrough,
    suggest,
)
from feasible.solve.counting import Count, count_members

TERNARY = FiniteSet([-1, 0, 1])


def model(*sizes, last=()):
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1], *last)


MASK = torch.tensor([True, False, True, True])
ROWS = [
    (model(4, 3, 2), "0.weight", OneHot(dim=0), "search", "3^4 = 81", "81 trainings side by side"),
    (model(4, 3), "0.weight", OneHot(dim=0), "search", "3^4 = 81", "exact_last_layer"),
    (model(4, 32, 10), "2.weight", TERNARY, "exact", "3^320", "32 unknowns for each of 10 outputs"),
    (model(4, 32, 10, last=(nn.Dropout(),)), "2.weight", TERNARY, "exact", "3^320", "exact_last_layer"),
    (model(4, 32, 10, last=(nn.Softmax(-1),)), "2.weight", TERNARY, "annealing", "3^320", "StraightThrough"),
    (model(64, 32, 10), "0.weight", TERNARY, "annealing", "3^2048", "by=fs.StraightThrough()"),
    (model(4, 100, 10), "2.weight", TERNARY, "annealing", "3^1000", "polish"),
    (model(64, 32, 10), "*.weight", TERNARY, "annealing", "3^2368", r"\*.weight (2 weights)"),
    (model(4, 8, 8), "0.weight", Integers(-128, 127), "annealing", "256^32", "StraightThrough"),
    (model(4, 4, 1), "0.weight", Integers(), "annealing", None, "infinitely many choices: train with"),
    (model(8, 8), "0.weight", Integers(), "exact", None, "8 unknowns"),
    (model(20, 20, 1), "0.weight", Permutation(), "annealing", "20!", "SoftmaxAnneal"),
    (model(9, 9), "0.weight", Permutation(), "exact", "362,880", "9 rows to choose"),
    (model(40, 30, 1), "0.weight", OneHot(dim=0), "annealing", "30^40", "SoftmaxAnneal"),
    (model(2, 2, 2), "0.weight", Candidates(torch.randn(81, 2, 2)), "search", "81", "your_set"),
    (
        model(2, 2, 2),
        "0.weight",
        Candidates(torch.randn(20_000, 2, 2)),
        "annealing",
        "20,000",
        "SoftmaxAnneal",
    ),
    (model(4, 3, 2), "0.weight", TERNARY.where(MASK), "annealing", "3^9 = 19,683", "your_set"),
    (model(4, 1, 2), "0.weight", TERNARY.where(MASK), "annealing", "3^3 = 27", "beside free entries"),
    (model(4, 3, 2), "0.weight", FiniteSet([1, 1.0]), "constraint", "1", "single choice"),
    (model(4, 3, 2), "0.weight", NonNegative(), "constraint", None, "not discrete"),
    (model(4, 3, 2), "0.weight", NofM(2, 4), "constraint", None, "not discrete"),
    (
        [torch.zeros(2, 2)],
        "0",
        TERNARY,
        "annealing",
        "3^4 = 81",
        "ProximalAnneal, the method for bare tensors",
    ),
    (
        model(64, 32, 10),
        "0.weight",
        TERNARY,
        "annealing",
        "3^2048",
        "no module may change, or for bare tensors",
    ),
    (model(4, 3, 2), "0.weight", OneHot(dim=0), "search", "3^4 = 81", 'merge="rows" where the bias'),
    (model(4, 32, 10), "2.weight", TERNARY, "exact", "3^320", 'batches, bias="free")'),
    (model(4, 32, 10), "2.weight", TERNARY, "exact", "3^320", "not class labels"),
    (
        nn.Linear(8, 8, bias=False),
        "weight",
        TERNARY,
        "exact",
        "3^64",
        "'weight', fs.FiniteSet([-1, 0, 1]), batches)",
    ),
]


@pytest.mark.parametrize(
    ("net", "pattern", "set_", "way", "count", "words"),
    ROWS,
    ids=[f"{i}-{row[3]}" for i, row in enumerate(ROWS)],
)
def test_the_way_the_count_and_the_words(net, pattern, set_, way, count, words) -> None:
    suggestion = suggest(net, pattern, set_)
    assert suggestion.way == way
    assert suggestion.count == count
    assert words.replace("\\", "") in str(suggestion)
    assert "training" in str(suggestion)
    assert suggest(net, pattern, set_) == suggestion


@pytest.mark.parametrize(
    ("net", "pattern", "set_"),
    [row[:3] for row in ROWS if row[3] == "annealing"],
    ids=[str(i) for i, row in enumerate(ROWS) if row[3] == "annealing"],
)
def test_the_line_for_annealing_runs(net, pattern, set_) -> None:
    declaration = suggest(net, pattern, set_).code.splitlines()[0]
    problem = fs.Problem(net)
    eval(declaration, {"problem": problem, "fs": fs, "your_set": set_, "torch": torch})
    assert isinstance(problem.constraints[0].method, (SoftmaxAnneal, ProximalAnneal, StraightThrough))
    problem.finish()


def test_the_line_for_the_exact_solver_runs() -> None:
    net = model(3, 5, 2)
    code = suggest(net, "2.weight", FiniteSet([-2, -1, 0, 1, 2])).code
    batches = [(torch.randn(20, 3), torch.randn(20, 2))]
    names = {"fs": fs, "model": net, "batches": batches}
    exec(code, names)
    assert names["result"].proven


def test_the_line_for_the_search_runs() -> None:
    net = model(2, 2, 1)
    code = suggest(net, "0.weight", OneHot(dim=0)).code
    batches = [(torch.randn(20, 2), torch.randn(20, 1))]

    def loss(call, batch):
        return (call(batch[0]) - batch[1]).square().mean()

    names = {"fs": fs, "model": net, "batches": batches, "loss": loss, "steps": 2}
    exec(code, names)
    assert len(names["result"].ranking) == 4


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"Closest: '0.weight'"):
        suggest(model(2, 2), "0.wieght", TERNARY)
    with pytest.raises(ValueError, match="expected a set"):
        suggest(model(2, 2), "0.weight", FiniteSet)
    with pytest.raises(ValueError, match=r"0\.weight: .*shape"):
        suggest(model(2, 2), "0.weight", Candidates(torch.zeros(1, 3)))


@pytest.mark.parametrize(
    ("set_", "shape", "shown"),
    [
        (TERNARY, (100_000, 100_000), "3^10000000000"),
        (TERNARY, (2,), "3^2 = 9"),
        (TERNARY, (), "3"),
        (TERNARY, (0,), "1"),
        (FiniteSet([4]), (10**6,), "1"),
        (Permutation(), (2, 5, 5), "120^2 = 14,400"),
        (Permutation(), (7, 50, 50), "50!^7"),
        (OneHot(dim=None), (2, 3), "6"),
        (OneHot().flatten(1), (4, 3, 3), "9^4 = 6,561"),
        (FiniteSet([1]) | Integers(0, 1), (3,), "2^3 = 8"),
        (
            Permutation().where(
                torch.tensor([True, False, True])[:, None] & torch.tensor([True, True, False])
            ),
            (3, 3),
            "2",
        ),
    ],
    ids=str,
)
def test_counting(set_, shape, shown) -> None:
    assert str(count_members(set_, shape)) == shown
    if set_.offers("count") and sum(shape) < 100:
        assert count_members(set_, shape).number in (set_.count(shape), None)


def test_counts_multiply() -> None:
    both = Count.of_all(
        [count_members(TERNARY, (5,)), count_members(TERNARY, (4,)), count_members(OneHot(), (7,))]
    )
    assert str(both) == "3^9 · 7 = 137,781"
    assert not Count.of_all([both, count_members(Box(0, 1), (3,))]).is_finite
