"""Every choice trained at once against the plain loop; ranking, merging, limits, errors."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop

import feasible as fs
from feasible import Candidates, FiniteSet, Integers, OneHot, Permutation

from .search_cases import (
    ONE_HOT,
    SIGNS,
    Recurrent,
    Replacing,
    Shared,
    absolutes,
    convolution,
    data,
    entropy,
    loop,
    mlp,
    network,
    normed,
    parametrized,
    search,
    squares,
)


def losses_in_order(result, choices, model):
    """The final losses in the order of the members, found by the choices themselves."""
    shapes = [model.get_parameter(name).shape for name in choices]
    members = itertools.product(*(set.members(shape) for set, shape in zip(choices.values(), shapes)))
    key = {
        tuple(tuple(row.choice[name].flatten().tolist()) for name in choices): row.loss
        for row in result.ranking
    }
    return [key[tuple(tuple(member.flatten().tolist()) for member in choice)] for choice in members]


OPTIMIZERS = {
    "adam": partial(Adam, lr=0.01),
    "adam-fused": partial(Adam, lr=0.01, fused=True),
    "adam-foreach": partial(Adam, lr=0.01, foreach=True, amsgrad=True),
    "adamw": partial(AdamW, lr=0.01, weight_decay=0.1),
    "sgd": partial(SGD, lr=0.03, momentum=0.9, nesterov=True),
    "rmsprop": partial(RMSprop, lr=0.003, momentum=0.5, centered=True),
    "adagrad": partial(Adagrad, lr=0.05),
}
THREE = Candidates([torch.eye(3, 4), torch.ones(3, 4), -torch.eye(3, 4)])
MODELS = {
    "mlp": (mlp, {"0.weight": OneHot(dim=0)}, squares),
    "two weights": (mlp, {"0.weight": THREE, "3.bias": FiniteSet([-0.5, 1])}, absolutes),
    "tied": (Shared, {"second.weight": Permutation()}, squares),
    "batch norm": (normed, {"0.bias": SIGNS}, squares),
    "own buffers": (Replacing, {"mix.weight": OneHot()}, squares),
    "attention": (Recurrent, {"head.weight": SIGNS}, squares),
    "convolution": (convolution, {"1.weight": SIGNS}, entropy),
    "frozen": (Shared, {"head.bias": Integers(-1, 1)}, absolutes),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_step_as_in_a_loop(optimizer) -> None:
    check_against_the_loop(
        partial(mlp, 3), ONE_HOT, squares, OPTIMIZERS[optimizer], data(3, parts=3), steps=40
    )


@pytest.mark.parametrize("name", MODELS)
def test_models_train_as_in_a_loop(name) -> None:
    check_against_the_loop(*MODELS[name], OPTIMIZERS["adamw"], data(parts=2), steps=30)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_single_precision_too(optimizer) -> None:
    batches = data(3, dtype=torch.float32)
    check_against_the_loop(
        partial(mlp, 3), ONE_HOT, squares, OPTIMIZERS[optimizer], batches, 40, torch.float32
    )


def check_against_the_loop(make, choices, loss, optimizer, batches, steps, dtype=torch.float64):
    model = network(make, dtype)
    before = copy.deepcopy(model)
    listed = {name.replace("second", "first"): set for name, set in choices.items()}
    expected, models = loop(before, listed, loss, batches, steps, optimizer)
    result = search(model, choices, loss, batches, steps, optimizer=optimizer)
    found = losses_in_order(result, listed, before)
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64), torch.stack(expected).double(), rtol=1e-5, atol=0
    )
    winner = models[min(range(len(expected)), key=lambda index: expected[index])]
    assert result.loss == min(found)
    for (name, mine), theirs in zip(model.state_dict().items(), winner.state_dict().values()):
        torch.testing.assert_close(
            mine, theirs, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
        )
    for name, set in listed.items():
        weight = model.get_parameter(name)
        assert weight.dtype == dtype
        assert bool(set.contains(weight.detach()).all())
        assert torch.equal(weight, winner.get_parameter(name))
        assert torch.equal(result.best[name], weight)
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    assert model.training == before.training


@pytest.mark.parametrize("chunk", [1, 7, 53, 54, 1000, "auto"])
def test_chunks_change_nothing(chunk) -> None:
    starts = 2
    model, whole, batches = network(partial(mlp, 3)), network(partial(mlp, 3)), data(3)
    expected = search(whole, batches=batches, starts=starts, steps=5)
    result = search(model, batches=batches, starts=starts, steps=5, chunk=chunk)
    assert result.count == 27
    assert result.chunk <= (54 if chunk == "auto" else chunk)
    for one, other in zip(result.ranking, expected.ranking):
        assert one.losses == pytest.approx(other.losses, rel=1e-10)
    for mine, theirs in zip(model.state_dict().values(), whole.state_dict().values()):
        torch.testing.assert_close(mine, theirs)


def test_starts_are_the_models_own_and_then_new_ones_the_same_for_all_choices() -> None:
    model = network()
    first = search(copy.deepcopy(model), steps=8)
    result = search(model, steps=8, starts=3)
    assert all(len(row.losses) == 3 and row.loss == min(row.losses) for row in result.ranking)
    own = sorted(row.losses[0] for row in result.ranking)
    assert own == pytest.approx([row.loss for row in first.ranking])
    # The second start is what reset_parameters gives under the next seed.
    other = network()
    torch.manual_seed(1)
    for part in other:
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    again = search(other, steps=8)
    seen = sorted(row.losses[1] for row in result.ranking)
    assert seen == pytest.approx(sorted(row.loss for row in again.ranking), rel=1e-9)


def test_the_winning_start_is_loaded() -> None:
    model = network()
    result = search(model, steps=40, starts=4)
    model.eval()
    assert squares(model, data()[0]).item() == pytest.approx(result.loss, rel=1e-9)


def test_the_callers_random_numbers_stay_where_they_were() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Dropout(0.5), nn.Linear(3, 1)).double()
    torch.manual_seed(5)
    search(model, steps=3, starts=2)
    assert torch.equal(torch.rand(3), expected)


def test_dropout_differs_between_members_and_repeats_with_the_seed() -> None:
    twins = Candidates([torch.eye(3, 4), torch.eye(3, 4) + 1e-12])

    def run(seed):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Dropout(0.5), nn.Linear(3, 1)).double()
        result = search(model, {"0.weight": twins}, steps=20, seed=seed)
        assert model.training
        return [row.loss for row in result.ranking]

    first = run(0)
    assert first[1] - first[0] > 1e-6 * first[0]
    assert run(0) == first != run(1)


def test_only_what_a_mask_picks_is_chosen_and_the_rest_is_trained() -> None:
    mask = torch.tensor([[True, False, True, False]])
    batches = data()
    for free in (True, False):
        model = nn.Sequential(nn.Linear(4, 1, bias=free)).double()
        model[0].weight.requires_grad_(free)
        before = model[0].weight.detach().clone()
        result = search(model, {"0.weight": SIGNS.where(mask)}, batches=batches, steps=1500)
        assert result.count == 4
        weight = model[0].weight.detach()
        assert weight[mask].abs().tolist() == [1.0, 1.0]
        assert torch.equal(weight, result.best["0.weight"])
        if not free:
            assert torch.equal(weight[~mask], before[~mask])
            continue
        # Each choice is a least-squares problem in what stays free.
        x, y = batches[0]
        rest = torch.cat([x[:, [1, 3]], torch.ones_like(y)], 1)
        exact = {}
        for signs in itertools.product((-1.0, 1.0), repeat=2):
            right = y - x[:, [0, 2]] @ torch.tensor(signs, dtype=torch.float64)[:, None]
            solved = torch.linalg.lstsq(rest, right).solution
            exact[signs] = float((rest @ solved - right).square().mean())
        for row in result.ranking:
            signs = tuple(row.choice["0.weight"][mask].tolist())
            assert row.loss == pytest.approx(exact[signs], rel=1e-4)


def test_masks_on_vectors_and_flattened_tensors() -> None:
    rows = torch.tensor([[True], [False], [True]])
    for set, count in (
        (OneHot().where(rows), 16),
        (OneHot(dim=None).where(rows & torch.tensor([True, True, False, True])), 6),
        (FiniteSet([0, 1]).where(torch.eye(3, 4, dtype=torch.bool)), 8),
    ):
        model = network()
        result = search(model, {"0.weight": set}, steps=2)
        assert result.count == count
        assert bool(set.contains(model[0].weight.detach()).all())
        assert len({tuple(row.choice["0.weight"].flatten().tolist()) for row in result.ranking}) == count


def test_a_pattern_names_several_weights() -> None:
    model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Tanh(), nn.Linear(2, 1, bias=False)).double()
    result = search(model, {"*.weight": FiniteSet([0, 1])}, steps=1)
    assert result.count == 2**10
    assert set(result.best) == {"0.weight", "2.weight"}


def partitions(rows: int, columns: int) -> int:
    """Ways to sort columns into at most so many unlabelled classes, by trying."""
    return len({frozenset(
        frozenset(c for c in range(columns) if choice[c] == r) for r in range(rows)
    ) - {frozenset()} for choice in itertools.product(range(rows), repeat=columns)})  # fmt: skip


@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (2, 5), (4, 3), (1, 3)])
def test_row_permutations_are_merged_when_asked(rows, columns) -> None:
    model = nn.Sequential(nn.Linear(columns, rows), nn.Linear(rows, 1)).double()
    result = search(model, batches=data(columns), steps=1, merge="rows")
    assert result.count == len(result.ranking) == partitions(rows, columns)
    assert result.members == sum(row.size for row in result.ranking) == rows**columns
    if (rows, columns) == (3, 4):
        assert result.count == 14
        assert "14 choices, which stand for 81," in str(result)


def test_columns_are_merged_and_weights_apart() -> None:
    result = search(network(), steps=1, merge={"0.weight": "columns"})
    assert (result.count, result.members) == (15, 81)  # multisets of 4 from 3
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1)).double()
    choices = {"0.weight": OneHot(dim=0), "1.weight": SIGNS, "0.bias": SIGNS}
    result = search(model, choices, steps=1, merge={"0.weight": "rows", "0.bias": "rows"})
    assert (result.count, result.members) == (8 * 4 * 3, 16 * 4 * 4)


def test_merged_choices_have_the_same_optimum() -> None:
    # With a linear next layer every choice of a class has the same least loss, so training reaches it for all.
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 1)).double()
    batches, rapid = data(3), partial(Adam, lr=0.03)
    full = search(copy.deepcopy(model), batches=batches, steps=1500, optimizer=rapid)
    merged = search(model, batches=batches, steps=1500, optimizer=rapid, merge="rows")
    assert merged.loss == pytest.approx(full.loss, rel=1e-4)
    assert full.ranking[0].tied
    assert full.warning.startswith("not identifiable: 2 choices share the smallest loss")
    assert merged.warning == ""


def test_ties_share_a_place() -> None:
    model = nn.Sequential(nn.Linear(1, 1)).double()
    x = torch.ones(5, 1, dtype=torch.float64)

    def away(call, batch):
        return (call(batch) - call(0 * batch)).square().mean()  # the weight's own square

    result = search(model, {"0.weight": FiniteSet([-2, -1, 1, 2, 3])}, away, [x], steps=1)
    assert [row.place for row in result.ranking] == [1, 1, 3, 3, 5]
    assert [row.tied for row in result.ranking] == [True, True, True, True, False]
    assert [row.loss for row in result.ranking] == [1, 1, 4, 4, 9]
    assert [row.choice["0.weight"].item() for row in result.ranking] == [-1, 1, -2, 2, 3]
    assert result.ranking[-1].place == 5
    assert [row.place for row in result.ranking[1:3]] == [1, 3]
    with pytest.raises(IndexError):
        result.ranking[5]
    wide = search(model, {"0.weight": FiniteSet([1, 1.1])}, away, [x], steps=1, ties=0.2)
    assert wide.ranking[1].tied
    assert model[0].weight.item() == 1


def test_the_spread_over_starts_is_a_warning() -> None:
    result = search(network(), steps=5, starts=3)
    first, second = result.ranking[:2]
    assert second.loss - first.loss < first.spread
    assert "within the spread of the best choice over its 3 starts" in result.warning
    assert result.warning in str(result)


def test_losses_that_are_not_finite_rank_last_and_do_not_spoil_the_others() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).double()
    x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]

    def loss(call, batch):
        return (call(batch) - batch).square().mean() + 0 * call(batch).square().square().mean()

    choices = {"0.weight": FiniteSet([-1e200, 1, 2, 1e200])}
    good = {"0.weight": FiniteSet([1, 2])}
    expected = search(copy.deepcopy(model), good, loss, [x], steps=30)
    result = search(model, choices, loss, [x], steps=30)
    assert result.diverged == 2
    assert [row.choice["0.weight"].item() for row in result.ranking[2:]] == [-1e200, 1e200]
    assert all(row.loss != row.loss for row in result.ranking[2:])
    assert [row.loss for row in result.ranking[:2]] == pytest.approx([row.loss for row in expected.ranking])
    assert "2 without a finite loss" in result.message


def test_nothing_finite_leaves_the_model_alone() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="none of 81 trained models ended with a finite loss"):
        search(model, loss=lambda call, batch: call(batch[0]).mean() * torch.nan, steps=2)
    assert all(torch.equal(mine, before[name]) for name, mine in model.state_dict().items())


class Interrupted(SGD):
    """Ctrl-C in the given step."""

    steps = 0
    stop = 0

    def step(self, closure=None):
        type(self).steps += 1
        if type(self).steps == type(self).stop:
            raise KeyboardInterrupt
        return super().step(closure)


@pytest.mark.parametrize(("stop", "done"), [(6 + 25, 20), (6 + 3, 0)], ids=["third chunk", "first chunk"])
def test_ctrl_c_keeps_the_best_so_far(stop, done, monkeypatch) -> None:
    monkeypatch.setattr(Interrupted, "stop", stop)  # the optimizer is tried for three steps of two
    monkeypatch.setattr(Interrupted, "steps", 0)
    model = network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyboardInterrupt) as caught:
        search(model, steps=10, chunk=10, optimizer=partial(Interrupted, lr=0.01))
    if not done:
        assert type(caught.value) is KeyboardInterrupt
        assert all(torch.equal(mine, before[name]) for name, mine in model.state_dict().items())
        return
    assert isinstance(caught.value, fs.SearchInterrupted)
    result = caught.value.result
    assert (result.count, result.members, result.complete) == (done, done, False)
    assert "interrupted: 20 of 81 choices" in str(caught.value)
    assert squares(model, data()[0]).item() == pytest.approx(result.loss)


def test_batches_in_any_form() -> None:
    batches = data(parts=3)
    expected = [row.loss for row in search(network(), batches=batches, steps=7).ranking]
    for form in (tuple(batches), iter(batches)):
        assert [row.loss for row in search(network(), batches=form, steps=7).ranking] == expected
    endless = search(network(), batches=itertools.cycle(batches), steps=3)
    assert endless.loss == search(network(), batches=batches, steps=3).loss
    x, y = data()[0]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    assert [row.loss for row in search(network(), batches=loader, steps=7).ranking] == expected


def test_whatever_a_batch_is() -> None:
    def loss(call, batch):
        return (call(batch["x"]) - batch["y"]).square().mean()

    x, y = data()[0]
    assert search(network(), loss=loss, batches=[{"x": x, "y": y}]).loss == search(network()).loss


def test_gradients_in_the_loss_by_torch_func() -> None:
    def slope(call, batch):
        x, _ = batch
        each = torch.func.vmap(torch.func.grad(lambda point: call(point[None])[0, 0]))
        return (each(x) - 1).square().mean()

    model = network()
    result = search(model, loss=slope, steps=10)
    assert slope(model, data()[0]).item() == pytest.approx(result.loss, rel=1e-9)


def test_results_are_frozen_print_well_and_can_be_pickled() -> None:
    result = search(network(), steps=2, merge="rows")
    text = str(result)
    assert re.search(r"place +loss +choice", text)
    assert "0.weight = [[" in text
    assert "… and 9 more" in text
    assert "SearchResult(loss=" in repr(result)
    with pytest.raises(AttributeError):
        result.loss = 0.0
    again = pickle.loads(pickle.dumps(result))
    assert again.loss == result.loss
    assert torch.equal(again.ranking[3].choice["0.weight"], result.ranking[3].choice["0.weight"])


def test_parametrized_neighbours_are_trained() -> None:
    model = parametrized().double()
    result = search(model, {"3.bias": FiniteSet([-1, 1])}, steps=2)
    assert result.count == 2
    weight = model[0].weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-6)


class Odd(nn.Module):
    """A number, a vector with one entry, and a weight without entries."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.shift = nn.Parameter(torch.zeros(1))
        self.none = nn.Parameter(torch.zeros(0, 3))

    def forward(self, x):
        return self.scale * x + self.shift + self.none.sum()


@pytest.mark.parametrize(
    ("choices", "merge", "count"),
    [
        ({"scale": Integers(-1, 2)}, None, 4),
        ({"none": SIGNS, "shift": SIGNS}, "rows", 2),
        ({"*": SIGNS}, None, 4),
    ],
)
def test_numbers_and_empty_weights(choices, merge, count) -> None:
    x = torch.linspace(-1, 1, 5)[:, None]
    model = Odd()
    result = search(model, choices, batches=[(x, 2 * x)], steps=3, merge=merge)
    assert result.count == count
    assert model.scale.shape == ()


def test_gradients_switched_off_outside() -> None:
    expected = search(network()).loss
    with torch.no_grad():
        assert search(network()).loss == expected
    model = network()
    with torch.inference_mode():
        assert search(model).loss == expected


def test_everything_chosen_needs_no_training() -> None:
    model = nn.Sequential(nn.Linear(4, 1, bias=False)).double()
    x = data()[0][0]
    truth = torch.tensor([[1.0, -1.0, 0.0, 1.0]], dtype=torch.float64)
    batches = [(x, x @ truth.T)]
    result = search(model, {"0.weight": FiniteSet([-1, 0, 1])}, batches=batches, steps=5)
    assert (result.count, result.loss) == (81, 0.0)
    assert torch.equal(model[0].weight, truth)
    assert not result.ranking[0].tied


def test_half_precision_members_are_what_the_dtype_holds() -> None:
    model = nn.Sequential(nn.Linear(2, 1)).to(torch.bfloat16)
    x = torch.randn(8, 2).to(torch.bfloat16)
    result = search(model, {"0.weight": Integers(256, 258)}, batches=[(x, x[:, :1])], steps=3)
    assert result.count == 4  # 257 is no number of bfloat16
    assert result.best["0.weight"].dtype == torch.bfloat16
