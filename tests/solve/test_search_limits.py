"""What a search would take, what is too large for it, and what it refuses."""

from __future__ import annotations

import copy
import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adam

import feasible as fs
from feasible import Box, Candidates, FiniteSet, Integers, OneHot, Permutation, UnsupportedError

from .search_cases import ONE_HOT, SIGNS, data, mlp, network, parametrized, search, squares


def test_an_estimate_counts_without_listing() -> None:
    x = data(30)
    model = nn.Sequential(nn.Linear(30, 40), nn.Linear(40, 1)).double()
    before = copy.deepcopy(model.state_dict())
    for values, text in ((range(-1, 2), "about 10^573 choices"), (range(-500, 501), "about 10^3601 choices")):
        choices = {"0.weight": FiniteSet(values)}
        estimate = fs.estimate_search(model, choices, squares, x, steps=10)
        assert estimate.count == len(values) ** 1200
        assert str(estimate).startswith(text)
        assert "years" in str(estimate)
        assert "exhaustive_search refuses more than limit=1,000,000 choices" in str(estimate)
        assert estimate.memory > 0
        with pytest.raises(UnsupportedError, match=re.escape(text.removesuffix(" choices"))) as caught:
            search(model, choices, batches=x)
        assert all(
            word in str(caught.value) for word in ("SoftmaxAnneal", "ProximalAnneal", "polish", "limit")
        )
    assert all(torch.equal(mine, before[name]) for name, mine in model.state_dict().items())


def test_an_estimate_of_the_yardstick() -> None:
    estimate = fs.estimate_search(network(), ONE_HOT, squares, data(), steps=100, starts=2, merge="rows")
    assert (estimate.count, estimate.starts, estimate.steps, estimate.chunk) == (14, 2, 100, 28)
    held = 4 * 8 * (3 * 16 + 16 + 16 + 1)
    assert held < estimate.memory / 28 < 20 * held
    result = search(network(), steps=100, starts=2, merge="rows")
    assert result.seconds / 10 < estimate.seconds < result.seconds * 10
    assert re.fullmatch(
        r"14 choices for 100 steps from 2 starts, 28 models at a time: .* MiB and .*", str(estimate)
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.00012, "0.00012 s"),
        (1.04, "1 s"),
        (99.6, "100 s"),
        (115, "120 s"),
        (120, "2 min"),
        (10_800, "3 h"),
        (4.7e9, "150 years"),
        (8.9e10, "2,820 years"),
        (3.2e12, "101,400 years"),
        (3.2e17, "about 10^10 years"),
    ],
    ids=str,
)
def test_times_are_written_as_one_says_them(seconds, shown) -> None:
    estimate = fs.SearchEstimate(81, 1, 10, 81, 2**20, seconds)
    assert f"about 1 MiB and {shown}" in str(estimate)
    assert ("refuses more than max_seconds=3600" in str(estimate)) == (seconds > 3600)


def test_auto_chunks_fit_into_the_memory(monkeypatch) -> None:
    from feasible.solve.search import plan

    whole = fs.estimate_search(network(), ONE_HOT, squares, data(), steps=1)
    monkeypatch.setattr(plan, "MEMORY", whole.memory // 9)
    parts = fs.estimate_search(network(), ONE_HOT, squares, data(), steps=1)
    assert (whole.chunk, parts.chunk) == (81, 9)
    assert search(network(), steps=1).chunk == 9


def test_the_limits_may_be_moved() -> None:
    with pytest.raises(UnsupportedError, match="81 choices are more than limit=80"):
        search(network(), limit=80)
    assert search(network(), limit=81, steps=1).count == 81
    with pytest.raises(
        UnsupportedError, match=r"81 models for 1,000,000 steps would take about .* (s|min|h), longer"
    ):
        search(network(), steps=1_000_000, max_seconds=1.0)


def raising(call, batch):
    """Steers Python by a value."""
    return call(batch[0]).square().mean() if call(batch[0]).sum() > 0 else call(batch[0]).mean()


def own(model):
    return lambda call, batch: squares(model, batch)


class Bare(nn.Module):
    """A parameter that nothing resets."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 3)
        self.head = nn.Parameter(torch.ones(3, 1))

    def forward(self, x):
        return self.mix(x) @ self.head


def clipped(parameters):
    optimizer = SGD(parameters, lr=0.1)

    def clip(*_):
        nn.utils.clip_grad_norm_(parameters, 0.1)

    optimizer.register_step_pre_hook(clip)
    return optimizer


REFUSED = {
    "no module": ({"model": [1]}, "model must be a torch.nn.Module, got list"),
    "no choices": ({"choices": {}}, "choices must be a dict of weights and their sets"),
    "a list of choices": ({"choices": ["0.weight"]}, "choices must be a dict"),
    "a name": ({"choices": {"0.wieght": SIGNS}}, "'0.wieght' matches no parameter. Closest: '0.weight'"),
    "a name of no string": ({"choices": {0: SIGNS}}, "must be a string, got 0"),
    "twice": ({"choices": {"0.weight": SIGNS, "0.*": SIGNS}}, "0.weight is chosen twice"),
    "a class": ({"choices": {"0.weight": OneHot}}, "Did you mean OneHot(…)?"),
    "no members": ({"choices": {"0.weight": Box(-1, 1)}}, "Works with: FiniteSet, Integers(lower, upper)"),
    "endless members": ({"choices": {"0.weight": Integers()}}, "cannot be listed"),
    "free members": ({"choices": {"0.weight": Box(0, 1).where(torch.ones(3, 4) > 0)}}, "cannot be listed"),
    "another shape": ({"choices": {"0.weight": Candidates([torch.zeros(4, 3)])}}, "0.weight: Candidates"),
    "not square": ({"choices": {"0.weight": Permutation()}}, "0.weight: "),
    "no function": ({"loss": 3.0}, "loss must be a function loss(call, batch), got 3.0"),
    "a vector": ({"loss": lambda call, b: call(b[0]).square()}, "must return a scalar tensor, got shape (24, 1)"),
    "a float": ({"loss": lambda call, b: squares(call, b).item()}, "got float. Leave out .item()"),
    "one argument": ({"loss": lambda call: 1.0}, "loss(call, batch), got one of (call)"),
    "a criterion": ({"loss": nn.functional.mse_loss}, "criterion(call(batch[0]), batch[1])"),
    "detached": ({"loss": lambda call, b: squares(call, b).detach()}, "or is detached from it"),
    "a constant": ({"loss": lambda call, b: b[0].mean()}, "does not depend on anything that is trained"),
    "the model itself": ({"loss": own(network())}, "Run the model through the first argument"),
    "steered": ({"loss": raising}, "not for several at once under torch.func.vmap"),
    "no batches": ({"batches": []}, "batches is empty"),
    "a used iterator": ({"batches": iter([])}, "batches is empty"),
    "a pair": ({"batches": data()[0]}, "batches=[(x, y)]"),
    "a tensor": ({"batches": torch.ones(3, 4)}, "got Tensor"),
    "a number": ({"batches": 3}, "got int"),
    "no steps": ({"steps": 0}, "steps must be a whole number ≥ 1, got 0"),
    "half a step": ({"steps": 1.5}, "steps must be a whole number ≥ 1, got 1.5"),
    "no starts": ({"starts": 0}, "starts must be a whole number ≥ 1, got 0"),
    "no chunk": ({"chunk": 0}, 'chunk must be a whole number ≥ 1, or "auto", got 0'),
    "another chunk": ({"chunk": "all"}, 'or "auto", got \'all\''),
    "an optimizer": ({"optimizer": Adam(mlp().parameters())}, "must be a function that makes an optimizer"),
    "no optimizer": ({"optimizer": 1e-3}, "must be a function that makes an optimizer"),
    "nothing made": ({"optimizer": lambda parameters: None}, "must give a torch.optim.Optimizer, got None"),
    "others": ({"optimizer": lambda parameters: Adam(mlp().parameters())}, "does not hold just the parameters"),
    "a closure": ({"optimizer": LBFGS}, "LBFGS cannot train all choices at once: it needs a closure"),
    "factored": ({"optimizer": torch.optim.Adafactor}, "Adafactor cannot train all choices at once"),
    "clipping": ({"optimizer": clipped}, "a member moves otherwise beside another than alone"),
    "maximising": ({"optimizer": partial(SGD, maximize=True)}, "Negate the loss"),
    "another merge": ({"merge": "rows and columns"}, 'merge must be None, "rows", "columns"'),
    "merge elsewhere": ({"merge": {"1.weight": "rows"}}, "merge: '1.weight' matches no parameter"),
    "merge of a mask": (
        {"merge": "rows", "choices": {"0.weight": SIGNS.where(torch.eye(3, 4) > 0)}},
        "some of its entries stay free",
    ),
    "merge of a vector": ({"merge": "columns", "choices": {"1.bias": SIGNS}}, "it has no columns"),
    "lazy": ({"model": nn.Sequential(nn.Linear(4, 3), nn.LazyLinear(1)).double()}, "run the model once"),
    "lazy choice": ({"model": nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1)).double()}, "run the model once"),
    "parametrized": ({"model": parametrized().double()}, "0.weight is computed by a parametrization"),
    "no reset": (
        {"model": Bare().double(), "choices": {"mix.weight": OneHot(dim=0)}, "starts": 2},
        "head cannot: no module with reset_parameters()",
    ),
    "parametrized starts": (
        {"model": parametrized().double(), "choices": {"3.bias": SIGNS}, "starts": 2},
        "0.parametrizations.weight.original cannot",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_with_a_sentence(case) -> None:
    changes, message = REFUSED[case]
    given = {"model": network(), "choices": ONE_HOT, "loss": squares, "batches": data(), "steps": 2}
    for run in (fs.exhaustive_search, fs.estimate_search):
        with pytest.raises(ValueError, match=re.escape(message)):
            run(**{**given, **changes})


@pytest.mark.parametrize(
    ("set", "shown"),
    [(FiniteSet([-1, 0, 1]), "10^477121"), (FiniteSet([-1, 0, 1]) | Integers(5, 6), "10^698970")],
    ids=repr,
)
def test_numbers_that_take_long_to_compute_are_not_computed(set, shown, monkeypatch) -> None:
    for kind in (FiniteSet, fs.Union):
        monkeypatch.setattr(kind, "count", _counting(kind.count))
    model = nn.Sequential(nn.Linear(1000, 1000, bias=False), nn.Linear(1000, 1))
    batches, choices = [torch.randn(2, 1000)], {"0.weight": set}
    estimate = fs.estimate_search(model, choices, squares, batches, steps=1)
    assert estimate.count == float("inf")
    assert str(estimate).startswith("more than 10^100000 choices for 1 steps")
    with pytest.raises(UnsupportedError, match=re.escape(f"about {shown} choices are more than limit")):
        search(model, choices, batches=batches)
    assert fs.suggest(model, "0.weight", set).way == "annealing"


def _counting(count):
    def count_small(self, shape):
        assert torch.Size(shape).numel() < 1000
        return count(self, shape)

    return count_small
