"""Each diagnosis on a training that shows exactly this, and none on trainings that are well."""

import itertools
import math
import re
import warnings

import pytest
import torch

import feasible as fs
from feasible.report.confidence import largest_share

F64 = torch.float64


def half_square(x):
    return 0.5 * x.square().sum()


def trained(requirements, loss=half_square, steps=400, lr=0.1, start=(0.3,), make=torch.optim.SGD):
    """The report after some descent; requirements: name → (set, method, value of x)."""
    x = torch.tensor(start, dtype=F64, requires_grad=True)
    problem = fs.Problem({"x": x})
    for name, (set, method, _value) in requirements.items():
        problem.require(name, set, by=method)
    optimizer = problem.attach(make([x], lr=lr))
    for _ in range(steps):
        optimizer.zero_grad()
        problem.loss(loss(x), {name: value(x) for name, (_, _, value) in requirements.items()}).backward()
        optimizer.step()
    return problem.report()


def same(x):
    return x * 1


def fixed(penalty=1.0, dual_lr=0.05):
    return fs.AugmentedLagrangian(penalty=penalty, dual_lr=dual_lr)


def settled(x):
    return 0 * x.sum()


# what is required; the rest of the training; what is said of the first requirement
SICK = {
    "infeasible together": (
        {"up": (fs.Box(1.0), fixed(), same), "down": (fs.Box(upper=0.0), fixed(), same)},
        {},
        r"looks infeasible: the multiplier grew from 6\.\d+ to 9\.\d+ over the last 200 steps, and the violation "
        r"did not fall \(0\.5 to 0\.5\)",
    ),
    "infeasible by default numbers": (
        {
            "up": (fs.Box(1.0), fs.AugmentedLagrangian(), same),
            "down": (fs.Box(upper=0.0), fs.AugmentedLagrangian(), same),
        },
        {},
        "looks infeasible",
    ),
    "infeasible and large": (
        {
            "up": (fs.Box(1.0), fixed(), lambda x: x.expand(50)),
            "down": (fs.Box(upper=0.0), fixed(50.0, 2.5), same),
        },
        {"steps": 900, "lr": 0.005},
        "looks infeasible",
    ),
    "too slow": (
        {"x": (fs.Equal(1.0), fixed(dual_lr=0.001), same)},
        {},
        r"its rate is too low: the multiplier grew from .* while the violation only fell from 0\.4\d+ to 0\.4\d+; at "
        r"this pace it takes about 10,000 more steps\. Multiply dual_lr by about 30",
    ),
    "circles": (
        {"x": (fs.Equal(1.0), fs.Lagrangian(dual_lr=0.05), same)},
        {"loss": settled, "start": (0.0,), "lr": 0.05, "steps": 900},
        r"oscillates between -\d.* and \d.* without settling, \d+ swings .* lower dual_lr, or raise the penalty",
    ),
    "flips": (
        {"x": (fs.Equal(1.0), fixed(penalty=19.01, dual_lr=0.01), same)},
        {},
        "oscillates from step to step .* too strong for the learning rate; lower the penalty",
    ),
    "never active": (
        {"x": (fs.Box(upper=1.0), fs.AugmentedLagrangian(), same)},
        {},
        "has never been active in 400 steps",
    ),
    "never active penalty": (
        {"x": (fs.Box(upper=1.0), fs.Penalty(1.0), same)},
        {},
        "has never been active in 400 steps",
    ),
    "rounded": (
        {"x": (fs.Equal(3.0), fs.AugmentedLagrangian(), torch.round)},
        {},
        r"its gradient has vanished: of a pull of 3 on the value 0 arrives at the weights",
    ),
    "saturated": (
        {"x": (fs.Equal(0.5), fixed(), torch.sigmoid)},
        {"start": (-60.0,), "loss": settled},
        "its gradient has vanished",
    ),
    "independent of the weights": (
        {"x": (fs.Equal(3.0), fixed(), lambda x: torch.ones(1, requires_grad=True) * 2)},
        {},
        "its gradient has vanished: of a pull of 1 on the value 0",
    ),
}


@pytest.mark.parametrize("case", SICK)
def test_each_illness_is_named(case):
    requirements, training, sentence = SICK[case]
    report = trained(requirements, **training)
    row = report.rows[0]
    with pytest.raises(AssertionError):
        assert_is_well(report)
    assert re.search(sentence, row.diagnosis), row.diagnosis
    assert f"{row.name}: {row.diagnosis}" in str(report)


def test_the_suggested_rate_is_one_that_arrives():
    slow = {"x": (fs.Equal(1.0), fixed(dual_lr=0.001), same)}
    factor = float(trained(slow).rows[0].diagnosis.rpartition("about ")[2])
    faster = trained({"x": (fs.Equal(1.0), fixed(dual_lr=0.001 * factor), same)})
    assert faster.rows[0].worst_violation < 3e-3 < 0.3 < trained(slow).rows[0].worst_violation
    assert_is_well(faster)


ILL = ("infeasible", "too low", "oscillates", "vanished", "gradient", "never been active", "no attached")


def assert_is_well(report, *names):
    for row in report.rows:
        if not names or row.name in names:
            assert not any(words in row.diagnosis for words in ILL), row.diagnosis


METHODS = [fs.AugmentedLagrangian(), fs.AugmentedLagrangian(1.0, 0.2), fs.Lagrangian(dual_lr=0.2)]


LENGTHS = [
    pytest.param(method, steps, id=f"{method}-{steps}", marks=[pytest.mark.slow] if is_slow else [])
    for method in METHODS
    for steps, is_slow in ((100, False), (300, False), (1000, method is not METHODS[0]))
]


@pytest.mark.parametrize(("method", "steps"), LENGTHS)
def test_known_answers_are_well(method, steps):
    """Platt and Barr; the die of mean 4.5; least norm under equalities and inequalities."""
    total = {"sum": (fs.Equal(1.0), method, torch.sum)}
    assert_is_well(trained(total, lambda x: x.square().sum(), steps, start=(0.0, 2.0)))
    faces = torch.arange(1.0, 7.0, dtype=F64)
    die = {"mean": (fs.Equal(4.5), method, lambda logits: faces @ logits.softmax(0))}

    def negative_entropy(logits):
        return (logits.softmax(0) * logits.log_softmax(0)).sum()

    assert_is_well(trained(die, negative_entropy, steps, 0.5, (0.3, 0.0, 0.0, 0.0, 0.0, 0.0)))
    generator = torch.Generator().manual_seed(0)
    A, G = (torch.randn(rows, 6, dtype=F64, generator=generator) / 2 for rows in (2, 3))
    b = torch.randn(2, dtype=F64, generator=generator)
    h = G @ (torch.linalg.pinv(A) @ b) + torch.tensor([-0.2, 1.0, -0.1], dtype=F64)
    rows = {
        "equal": (fs.Equal(b), method, lambda x: A @ x),
        "below": (fs.Box(upper=h), method, lambda x: G @ x),
    }
    assert_is_well(trained(rows, lambda x: x.square().sum(), steps, 0.05, (0.0,) * 6))


@pytest.mark.parametrize("batch", [2, 4])
def test_sampled_equations_are_well(batch):
    generator = torch.Generator().manual_seed(1)
    A = torch.randn(4, 10, dtype=F64, generator=generator) / math.sqrt(5)
    b = torch.randn(4, dtype=F64, generator=generator)
    x = torch.zeros(10, dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    problem.require("rows", fs.Equal(0.0), per="index", size=4, by=fixed(0.5, 0.1))
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.1))
    batches = itertools.chain.from_iterable(
        iter(lambda: torch.randperm(4, generator=generator).split(batch), None)
    )
    for index in itertools.islice(batches, 1000):
        optimizer.zero_grad()
        problem.loss(half_square(x), rows=(A[index] @ x - b[index], index)).backward()
        optimizer.step()
    assert_is_well(problem.report())


NOISE = [
    pytest.param(
        method, entries, set, id=f"{method}-{entries}-{set}", marks=[pytest.mark.slow] if is_slow else []
    )
    for method in (*METHODS, fixed())
    for entries, set, is_slow in (
        (1, fs.Equal(0.0), method is not METHODS[0]),
        (1, fs.Box(upper=0.0), False),
        (100, fs.Equal(0.0), False),
        (100, fs.Box(upper=0.0), method is not METHODS[0]),
    )
]


@pytest.mark.parametrize(("method", "entries", "set"), NOISE)
def test_noise_is_no_illness(set, entries, method):
    generator = torch.Generator().manual_seed(2)
    noisy = {"x": (set, method, lambda x: x + torch.randn(entries, dtype=F64, generator=generator))}
    assert_is_well(
        trained(noisy, lambda x: (x + 0.1).square().sum(), steps=1000, lr=0.02, start=(0.0,) * entries)
    )


def test_a_barrier_inside_its_set_is_active():
    assert_is_well(trained({"x": (fs.Box(-1.0, 3.0), fs.Barrier(0.1), same)}))


# -- never silent --------------------------------------------------------------------------------------


def test_values_without_a_gradient_are_said():
    x = torch.ones(2, requires_grad=True)
    problem = fs.Problem([x])
    problem.require("count", fs.Equal(0.0))
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.1))
    problem.loss(x.sum(), count=(x > 0).float().sum()).backward()
    with pytest.warns(
        UserWarning, match=r"the value of count came without a gradient.*Surrogate\(smooth, truth\)"
    ):
        optimizer.step()
    assert "without a gradient" in problem.report()["count"].diagnosis
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        problem.loss(x.sum(), count=(x > 0).float().sum()).backward()
        optimizer.step()


def test_weights_that_no_optimizer_holds_are_said():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    problem = fs.Problem(model)
    problem.constrain("*.weight", fs.NonNegative())
    optimizer = problem.attach(torch.optim.SGD(model[0].parameters(), lr=0.1))
    model(torch.ones(1, 2)).sum().backward()
    with pytest.warns(UserWarning, match=r"no attached optimizer holds 1\.weight: what holds there now"):
        optimizer.step()
    report = problem.report()
    assert "no attached optimizer holds this weight" in report["1.weight"].diagnosis
    assert_is_well(report, "0.weight")
    problem.attach(torch.optim.SGD(model[1].parameters(), lr=0.1))
    assert_is_well(problem.report())


def test_frozen_weights_need_no_optimizer():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    problem = fs.Problem(model)
    problem.freeze("1.*")
    optimizer = problem.attach(torch.optim.SGD(model[0].parameters(), lr=0.1))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()  # no warning
    assert_is_well(problem.report())


# -- training beside held-out values -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("violated", "points"),
    [(0, 1), (0, 360), (1, 2), (4, 360), (50, 100), (99, 100), (5, 10**6), (5 * 10**5, 10**6)],
)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_largest_share_is_that_of_clopper_and_pearson(violated, points, confidence):
    from scipy.stats import beta

    wanted = beta.ppf(confidence, violated + 1, points - violated)
    assert largest_share(violated, points, confidence) == pytest.approx(wanted, rel=1e-8)


def test_largest_share_at_the_ends():
    assert largest_share(0, 360) == pytest.approx(1 - 0.05 ** (1 / 360), rel=1e-12)
    assert largest_share(7, 7) == 1.0
    for wrong in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="expected 0 ≤ violated ≤ points"):
            largest_share(*wrong)


def test_held_out_points_stand_beside_those_of_training():
    x = torch.zeros(1, requires_grad=True)
    problem = fs.Problem([x])
    problem.require("v", fs.NonNegative(), per="sample", tolerance=0.0)
    problem.require("mean", fs.NonNegative())
    problem.loss(x.sum(), v=x + torch.tensor([[1.0, 2.0], [-0.5, 3.0]]), mean=x.sum() - 0.25)
    held_out = torch.ones(360, 2)
    held_out[:4] = torch.tensor([-0.003, -0.001])  # both entries of four points
    report = problem.report(v=held_out, mean=torch.tensor(-1.0))
    row = report["v"]
    assert (row.training_violation, row.training_share) == (0.5, 0.25)
    assert row.worst_violation == pytest.approx(0.003)
    assert row.largest_share == pytest.approx(largest_share(4, 360))
    assert row.generalisation == (
        "in the last training step worst violation 0.5, 1 of 2 points violated; "
        "360 points given: worst violation 0.003, 4 of 360 points violated; "
        "at most 2.5% of such points are violated, with 95% confidence, if these 360 were drawn independently and "
        "not trained on"
    )
    row = report["mean"]
    assert (row.training_violation, row.worst_violation, row.largest_share) == (0.25, 1.0, None)
    assert "worst violation 0.25; the value given: worst violation 1" in row.generalisation
    assert "in training" in str(report).splitlines()[0]
    assert row.generalisation in str(report)
    assert report["v"].generalisation in report._repr_html_()
    alone = problem.report()
    assert alone["v"].training_violation is None
    assert not alone["v"].generalisation
    assert "in training" not in str(alone).splitlines()[0]


# -- histories in the report, numbers for loggers -------------------------------------------------------


def test_histories_are_in_the_dictionary_and_in_the_figure():
    report = trained(
        {"x": (fs.Equal(1.0), fixed(), same), "p": (fs.Equal(1.0), fs.Penalty(1.0), same)}, steps=5
    )
    saved = report.to_dict()["histories"]
    assert saved["x"]["steps"] == [0, 1, 2, 3, 4]
    assert saved["x"]["violation"] == report.histories["x"].violation
    assert saved["p"]["multiplier"] == [None] * 5
    pytest.importorskip("plotly")
    figure = report.plot()
    lines = [trace for trace in figure.data if trace.type == "scatter"]
    assert len(lines) == 6
    assert list(lines[0].y) == report.histories["x"].violation


def test_metrics_are_flat_numbers():
    model = torch.nn.Linear(2, 1)
    problem = fs.Problem(model)
    assert problem.metrics() == {}
    problem.constrain("weight", fs.NonNegative())
    problem.constrain("bias", fs.NonNegative(), by=fs.Penalty(3.0))
    handle = problem.require("v", fs.Equal(1.0), by=fs.AugmentedLagrangian(penalty=2.0))
    assert problem.metrics() == {"weight/violation": 0.0, "bias/violation": max(0.0, -model.bias.item())}
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    problem.loss(model(torch.ones(1, 2)).sum(), v=model(torch.ones(1, 2)).sum()).backward()
    optimizer.step()
    metrics = problem.metrics()
    assert metrics["v/violation"] == pytest.approx(handle.violation)
    assert metrics["v/multiplier"] == pytest.approx(abs(handle.multiplier.item()))
    assert (metrics["v/penalty"], metrics["bias/penalty"]) == (2.0, 3.0)
    assert set(metrics) == {
        *("weight/violation", "bias/violation", "bias/penalty"),
        *("v/violation", "v/multiplier", "v/penalty"),
    }
