"""Declaring: what matches, what is refused, and what a problem prints."""

import pytest
import torch

import feasible as fs


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4))
        self.head = torch.nn.Linear(4, 2)


NAMES = ["body.0.weight", "body.0.bias", "body.2.weight", "body.2.bias", "head.weight", "head.bias"]

PATTERNS = [
    ("*", (), NAMES),
    ("*.weight", (), [n for n in NAMES if n.endswith("weight")]),
    ("*.weight", "head.*", ["body.0.weight", "body.2.weight"]),
    ("*", ("head.*", "*.bias"), ["body.0.weight", "body.2.weight"]),
    ("head.bias", (), ["head.bias"]),
    ("body.[02].bias", (), ["body.0.bias", "body.2.bias"]),
]


@pytest.mark.parametrize(("pattern", "exclude", "matched"), PATTERNS)
def test_patterns(pattern, exclude, matched):
    problem = fs.Problem(Net())
    handle = problem.constrain(pattern, fs.Box(-9, 9), exclude=exclude)
    assert [c.name for c in problem.constraints] == matched
    assert handle.name == pattern
    assert list(handle.multipliers) == matched


MISSING = [
    (
        "head.weigth",
        (),
        r"matches no parameter(?s:.*)Closest: 'head.weight'(?s:.*)The model has: body.0.weight, ",
    ),
    ("*", "*", r"once \['\*'\] are excluded"),
    ("weight", (), "The model has"),
]


@pytest.mark.parametrize(("pattern", "exclude", "message"), MISSING)
def test_patterns_that_match_nothing_list_the_names(pattern, exclude, message):
    with pytest.raises(ValueError, match=message):
        fs.Problem(Net()).constrain(pattern, fs.NonNegative(), exclude=exclude)


def test_long_lists_of_names_are_cut():
    tensors = {f"w{i}": torch.zeros(1, requires_grad=True) for i in range(100)}
    with pytest.raises(ValueError, match="and 70 more"):
        fs.Problem(tensors).constrain("x", fs.NonNegative())


REFUSED = [
    (lambda p: p.constrain("head.bias", fs.NonNegative), r"Did you mean NonNegative\(…\)"),
    (lambda p: p.constrain("head.bias", fs.NonNegative(), by=fs.Project), r"Did you mean Project\(…\)"),
    (lambda p: p.constrain("*", fs.Box(torch.zeros(3), None)), r"body.0.bias: .*does not broadcast"),
    (lambda p: p.freeze("head.bias", torch.ones(3, dtype=torch.bool)), "head.bias: "),
    (lambda p: p.freeze("head.bias", torch.ones(2)), "bool"),
    (lambda p: p.constrain("head.bias", fs.Simplex(dim=3)), r"head.bias: .*dimension 3"),
]


@pytest.mark.parametrize(("declare", "message"), REFUSED)
def test_refusals_change_nothing(declare, message):
    model = Net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    problem = fs.Problem(model)
    with pytest.raises(ValueError, match=message):
        declare(problem)
    assert not problem.constraints
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_names_of_constraints_are_unique():
    problem = fs.Problem(Net())
    problem.constrain("head.bias", fs.NonNegative())
    problem.constrain("head.bias", fs.Box(-1, 1), by=fs.Penalty(1.0))
    problem.constrain("*.bias", fs.Box(-2, 2), by=fs.Penalty(1.0), name="soft")
    names = [c.name for c in problem.constraints]
    assert names[:2] == ["head.bias", "head.bias#2"]
    assert names[2:] == ["soft/body.0.bias", "soft/body.2.bias", "soft/head.bias"]
    problem.constrain("head.weight", fs.NonNegative(), name="mine")
    with pytest.raises(ValueError, match="'mine' exists already"):
        problem.constrain("body.0.weight", fs.NonNegative(), name="mine")


def test_bare_tensors_in_a_dict_or_a_list():
    a, b = torch.tensor([-1.0], requires_grad=True), torch.tensor([-1.0], requires_grad=True)
    for tensors, names in (({"a": a, "b": b, "again": a}, ["a", "b"]), ([a, b], ["0", "1"])):
        problem = fs.Problem(tensors)
        assert list(problem.slots) == names
        problem.constrain(names[0], fs.NonNegative())
        assert a.tolist() == [0.0]
        assert sorted(problem.feasible_state_dict()) == sorted(
            tensors if isinstance(tensors, dict) else names
        )
    with pytest.raises(ValueError, match=r"leaf tensor.*got a computed tensor"):
        fs.Problem([a * 2])
    with pytest.raises(ValueError, match="got float"):
        fs.Problem({"a": 1.0})
    with pytest.raises(ValueError, match="floating-point"):
        fs.Problem({"a": torch.ones(2, dtype=torch.int64)}).constrain("a", fs.NonNegative())


def test_lazy_parameters_have_to_be_materialised_first():
    model = torch.nn.LazyLinear(2)
    with pytest.raises(ValueError, match="run the model once"):
        fs.Problem(model).constrain("weight", fs.NonNegative())


def test_the_overview_says_what_matches_what_before_any_step():
    problem = fs.Problem(Net())
    problem.constrain("*.weight", fs.NonNegative(), exclude="head.*")
    handle = problem.constrain("head.weight", fs.Simplex(dim=0), by=fs.Reparametrize())
    off = problem.require("positive", fs.NonNegative(), per="sample")
    off.enabled = False
    shown = str(problem).splitlines()
    assert shown[0] == "Problem: 4 constraints on 6 tensors, 3 of them free"
    assert shown[1].split() == ["constraint", "on", "set", "method", "guarantee"]
    text = str(problem)
    for words in ("body.0.weight", "weight 4×3", "Simplex(dim=0)", "by construction", "projected"):
        assert words in text
    assert "positive (off)" in text
    assert "value, per sample" in text
    assert "Simplex(dim=0) by Reparametrize" in repr(handle)


def test_an_empty_problem_is_harmless():
    model = Net()
    problem = fs.Problem(model)
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    problem.loss(model.head(torch.ones(1, 4)).sum()).backward()
    optimizer.step()
    problem.finish()
    assert problem.report().feasible
    assert str(problem.report()) is not None
    assert list(problem.feasible_state_dict()) == list(model.state_dict())


def test_finish_projects_what_has_drifted_and_takes_the_hooks_off():
    model = Net()
    problem = fs.Problem(model)
    problem.constrain("head.weight", fs.Simplex())
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    with torch.no_grad():
        model.head.weight.add_(1.0)
    ahead = problem.feasible_state_dict()
    assert float(model.head.weight.detach().sum()) > 2.5
    problem.finish()
    assert torch.equal(model.head.weight, ahead["head.weight"])
    assert problem.report().feasible
    with torch.no_grad():
        model.head.weight.add_(1.0)
    model.head(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert problem.report()["head.weight"].guarantee == "broken"
    assert not problem.report().feasible


@pytest.mark.parametrize("learns", [True, False])
def test_a_thawed_weight_learns_only_if_it_did_before(learns):
    w = torch.ones(2, requires_grad=learns)
    handle = fs.Problem([w]).freeze("0")
    assert not w.requires_grad
    handle.remove()
    assert w.requires_grad is learns


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda problem: fs.Problem(None), "expected a module, or a dict or list of tensors, got NoneType"),
        (
            lambda problem: fs.Problem(torch.ones(3)),
            "expected a module, or a dict or list of tensors, got Tensor",
        ),
        (
            lambda problem: problem.constrain(None, fs.NonNegative()),
            "expected the pattern of weights' names as a string",
        ),
        (lambda problem: problem.constrain(["0"], fs.NonNegative()), r"such as \"\*.weight\", got \['0'\]"),
        (
            lambda problem: problem.require(3, fs.NonNegative()),
            "expected the value's name as a string, got 3",
        ),
        (lambda problem: problem.constrain("0", [-1, 0, 1]), r"Did you mean FiniteSet\(\[-1, 0, 1\]\)\?"),
        (lambda problem: problem.freeze("00"), "freeze: '00' matches no parameter"),
        (lambda problem: fs.Problem(torch.nn.Linear(2, 2)).freeze("b"), "freeze: 'b' .* Closest: 'bias'"),
        (
            lambda problem: problem.freeze("0", torch.ones(3) > 0),
            r"mask has shape \(3,\).*\n  Give a bool tensor of shape \(2,\)",
        ),
        (lambda problem: problem.freeze("0", torch.zeros(2) > 0), "freeze: the mask picks no entry"),
        (
            lambda problem: fs.Candidates(torch.zeros(2)).bind(torch.zeros(2)),
            r"wrapped in a list: Candidates\(\[tensor\]\)",
        ),
        (
            lambda problem: fs.Candidates(torch.zeros(2, 3)).bind(torch.zeros(2)),
            r"but the tensor has shape \(2,\)\.$",
        ),
        (
            lambda problem: problem.constrain("0", fs.Integers(), by=fs.SoftmaxAnneal(5)),
            r"needs two bounds, .* as in Integers\(-8, 7\)",
        ),
        (lambda problem: fs.FiniteSet(torch.tensor([1 + 1j])), "must be a list of numbers, got tensor"),
        (lambda problem: problem.attach(None), "expected a torch.optim optimizer .* got NoneType"),
        (lambda problem: problem.load_state_dict(None), "expected the state of a problem, .* got NoneType"),
    ],
    ids=range(16),
)
def test_things_of_the_wrong_kind_are_told_apart(misuse, message):
    problem = fs.Problem([torch.zeros(2, requires_grad=True)])
    with pytest.raises(ValueError, match=message):
        misuse(problem)


@pytest.mark.parametrize(("name", "closest"), [("FinitSet", "FiniteSet"), ("SoftMaxAnneal", "SoftmaxAnneal")])
def test_misspelt_names_of_the_library_have_a_closest_one(name, closest):
    with pytest.raises(AttributeError, match=f"feasible has no attribute '{name}'. Closest: '{closest}'"):
        getattr(fs, name)
    assert not hasattr(fs, "nothing_like_it")
