"""Rates: the truth is scikit-learn's, the smooth part has a useful slope, an empty group does no harm."""

import math

import pytest
import torch
from sklearn import metrics

import feasible as fs
from feasible import rates
from feasible.surrogate import stack

LABELLED = {
    "accuracy": metrics.accuracy_score,
    "recall": metrics.recall_score,
    "precision": metrics.precision_score,
    "false_positive_rate": lambda y, p: ((p == 1) & (y == 0)).sum() / (y == 0).sum(),
    "false_negative_rate": lambda y, p: 1 - metrics.recall_score(y, p),
}
SMOOTH = [
    (name, kind)
    for name in LABELLED
    for kind in ("sigmoid", "hinge")
    if (name, kind) != ("precision", "hinge")
]


def sample(n=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, generator=generator, dtype=torch.float64)
    labels = (scores + torch.randn(n, generator=generator) > 0.3).long()
    return scores.requires_grad_(), labels, torch.randint(0, 3, (n,), generator=generator)


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_the_truth_is_that_of_scikit_learn_overall_and_by_group(name, threshold):
    scores, labels, ids = sample()
    decided = (scores.detach() > threshold).long()
    rate, expected = getattr(rates, name), LABELLED[name]
    overall = rate(scores, labels, threshold=threshold)
    assert overall.truth.item() == pytest.approx(expected(labels.numpy(), decided.numpy()))
    by_group = rate(scores, labels, rates.groups(ids, 3), threshold=threshold)
    for group in range(3):
        y, p = labels[ids == group].numpy(), decided[ids == group].numpy()
        assert by_group.truth[group].item() == pytest.approx(expected(y, p))
        assert rate(scores, labels, ids == group, threshold=threshold).truth == by_group.truth[group]


def test_the_selection_rate_is_the_share_of_predicted_positives():
    scores, _, ids = sample()
    assert rates.selection_rate(scores).truth == (scores > 0).double().mean()
    by_group = rates.selection_rate(scores, rates.groups(ids, 3)).truth
    assert by_group.tolist() == [(scores[ids == g] > 0).double().mean().item() for g in range(3)]


@pytest.mark.parametrize("name", [*LABELLED, "selection_rate"])
def test_a_steep_sigmoid_is_the_truth(name):
    scores, labels, _ = sample()
    arguments = (scores,) if name == "selection_rate" else (scores, labels)
    value = getattr(rates, name)(*arguments, temperature=1e-5)
    assert value.smooth.item() == pytest.approx(value.truth.item(), abs=1e-3)


@pytest.mark.parametrize(("name", "kind"), SMOOTH)
def test_following_the_slope_raises_what_is_good_and_lowers_what_is_bad(name, kind):
    scores, labels, _ = sample()
    rate, sign = getattr(rates, name), -1.0 if name.startswith("false") else 1.0
    options = {} if name == "precision" else {"smooth": kind}
    before = sign * rate(scores, labels, **options).truth.item()
    for _ in range(30):
        (slope,) = torch.autograd.grad(rate(scores, labels, **options).smooth, scores)
        scores = (scores + sign * 20 * slope).detach().requires_grad_()
    assert sign * rate(scores, labels, **options).truth.item() > before + 0.05


def test_the_hinge_bounds_right_decisions_from_below_and_wrong_ones_from_above():
    scores, labels, _ = sample()
    for name in ("accuracy", "recall"):
        value = getattr(rates, name)(scores, labels, smooth="hinge")
        assert value.smooth <= value.truth
    for name in ("false_positive_rate", "false_negative_rate"):
        value = getattr(rates, name)(scores, labels, smooth="hinge")
        assert value.smooth >= value.truth


def test_gradients_are_right():
    scores, labels, ids = sample(12)
    masks = rates.groups(ids, 3)
    for rate in (rates.accuracy, rates.recall, rates.precision, rates.false_positive_rate):
        assert torch.autograd.gradcheck(
            lambda s, rate=rate: rate(s, labels, masks).smooth.nan_to_num(), scores
        )


def test_the_algebra_speaks_of_both_parts():
    a = fs.Surrogate(torch.tensor([0.2, 0.4]), torch.tensor([0.0, 1.0]))
    b = fs.Surrogate(torch.tensor(0.1), torch.tensor(0.5))
    assert (a - b).smooth.tolist() == pytest.approx([0.1, 0.3])
    assert (a - b).truth.tolist() == [-0.5, 0.5]
    assert (1 - 2 * a[1] + b / 2).truth.item() == -0.75
    assert (b - 0.5).truth.item() == 0
    assert sum([b, b]).truth.item() == 1.0
    assert stack([b, -b]).truth.tolist() == [0.5, -0.5]
    assert a.max().smooth.item() == pytest.approx(0.4)
    assert a.min().truth.item() == 0
    with pytest.raises(ValueError, match="at least one Surrogate"):
        stack([])


def test_the_largest_of_several_groups_pulls_at_the_group_that_is_truly_largest():
    smooth = torch.tensor([0.9, 0.3, 0.5, 0.7], requires_grad=True)
    value = fs.Surrogate(smooth, torch.tensor([0.2, 0.8, 0.8, math.nan])).max()
    value.smooth.backward()
    assert smooth.grad.tolist() == [0.0, 0.5, 0.5, 0.0]
    assert value.truth.item() == pytest.approx(0.8)
    assert fs.Surrogate(torch.zeros(2), torch.full((2,), math.nan)).max().truth.isnan()


@pytest.mark.parametrize("name", [*LABELLED, "selection_rate"])
def test_a_rate_of_nobody_is_nan_without_a_gradient(name):
    scores, _, _ = sample(8)
    nobody = torch.zeros(8, dtype=torch.bool)
    arguments = (scores,) if name == "selection_rate" else (scores, nobody)
    value = getattr(rates, name)(*arguments, where=nobody)
    assert value.truth.isnan()
    assert value.smooth.isnan()
    (slope,) = torch.autograd.grad(value.smooth, scores)
    assert torch.equal(slope, torch.zeros_like(slope))


def test_half_precision_is_counted_in_float32():
    scores = torch.full((1001,), 0.5, dtype=torch.bfloat16)
    assert rates.selection_rate(scores).truth == 1
    assert rates.selection_rate(scores).smooth.dtype == torch.float32


def test_a_score_that_is_no_number_makes_no_rate():
    assert rates.selection_rate(torch.tensor([0.3, math.nan])).truth.isnan()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, y: rates.recall(s[:, None], y), r"shape \(n,\); got torch.float64 of shape \(4, 1\)"),
        (lambda s, y: rates.recall(s, y[:3]), r"shape of scores, \(4,\); got \(3,\)"),
        (lambda s, y: rates.recall(s, 2 * y - 1), "labels must be 0 or 1"),
        (lambda s, y: rates.recall(s, y, y), r"where must be a bool mask of shape \(…, 4\), got torch.int64"),
        (
            lambda s, y: rates.recall(s, y, temperature=0.0),
            "temperature must be positive and finite, got 0.0",
        ),
        (lambda s, y: rates.recall(s, y, smooth="tanh"), 'smooth must be "sigmoid" or "hinge"'),
        (lambda s, y: rates.groups(s, 2), "one integer a sample"),
        (lambda s, y: rates.groups(y, 0), "count must be at least 1"),
    ],
)
def test_misuse_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(4, dtype=torch.float64), torch.tensor([0, 1, 1, 0]))


def separable_in_part(n=400):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 2, generator=generator)
    labels = (x[:, 0] + torch.randn(n, generator=generator) > 1.2).long()
    return x, labels, (torch.rand(n, generator=generator) < 0.02).long()


def train(problem, model, value, epochs=60, batch=50):
    """The value is a function of scores, labels and group ids."""
    x, y, ids = separable_in_part()
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.02))
    for _ in range(epochs):
        for rows in torch.arange(len(x)).split(batch):
            optimizer.zero_grad()
            scores = model(x[rows]).squeeze(1)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, y[rows].float())
            problem.loss(loss, rate=value(scores, y[rows], ids[rows])).backward()
            assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
            optimizer.step()
    return value(model(x).squeeze(1), y, ids).truth


def linear(set, **options):
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    problem = fs.Problem(model)
    return model, problem, problem.require("rate", set, **options)


def test_recall_of_nine_tenths_is_reached_where_it_was_a_half():
    free = train(*linear(fs.Box(lower=0.0))[1::-1], lambda s, y, _: rates.recall(s, y))
    model, problem, handle = linear(fs.Box(lower=0.9), average=0.9)
    bound = train(problem, model, lambda s, y, _: rates.recall(s, y), epochs=150)
    assert free < 0.6
    assert 0.89 <= bound <= 0.93
    assert handle.multiplier < 0


def test_batches_without_the_group_neither_pull_nor_move_the_multiplier():
    model, problem, handle = linear(fs.Box(-0.05, 0.05), average=0.9)
    train(
        problem,
        model,
        lambda s, y, ids: rates.recall(s, y, ids == 1) - rates.recall(s, y, ids == 0),
        epochs=3,
    )
    assert handle.multiplier.isfinite()
    assert problem.report()["rate"].nonfinite > 0
    x, y, _ = separable_in_part()
    gap = rates.recall(model(x).squeeze(1), y, torch.zeros(400, dtype=torch.bool)) - 0.5
    before = handle.multiplier.clone()
    assert problem.loss(torch.zeros(()), rate=gap).item() == 0
    assert torch.equal(handle.multiplier, before)


def test_a_nan_that_does_not_count_spoils_nothing():
    scores = torch.tensor([0.5, float("nan"), -1.0], requires_grad=True)
    counted = torch.tensor([True, False, True])
    rate = rates.selection_rate(scores, where=counted)
    assert float(rate.truth) == 0.5
    (gradient,) = torch.autograd.grad(rate.smooth, scores)
    assert bool(gradient.isfinite().all())
    assert float(gradient[1]) == 0
    assert rates.selection_rate(scores).truth.isnan()
