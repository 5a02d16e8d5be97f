import math

import pytest
import torch
from torch import nn

import feasible as fs
from feasible.workbook.configuration import Experiment, load_experiment
from feasible.workbook.data import load_data
from feasible.workbook.models import build_model
from feasible.workbook.tables import DataTable, ModelTable, TrainingTable
from feasible.workbook.trainer import batches, make_optimizer, regulariser
from feasible.workbook.training import RunResult, train

WEIGHTS = """
[data]
source = "wine"

[model]
hidden = [6]

[training]
learning_rate = 0.05

[budget]
epochs = 3

[[constraints]]
name = "range"
weights = "*"
set = { name = "Box", lower = -0.2, upper = 0.2 }

[methods.row]
"""

VALUES = """
[data]
source = "breast_cancer"
target = "mean concavity"
features = ["mean radius", "mean smoothness", "mean symmetry"]

[model]
hidden = [6]
activation = "tanh"

[training]
learning_rate = 0.05

[budget]
epochs = 3

[[constraints]]
name = "outputs ≥ 0"
value = "prediction"
set = "NonNegative"

[methods.row]
"""

POSITIVE_HEAD = """
model.activation = "relu"
[[methods.row.constraints]]
weights = "head.*"
set = "NonNegative"
by = "Project"
"""

WINE = load_data(DataTable(source="wine"))


@pytest.fixture
def experiment(tmp_path):
    def load(text: str, *overrides: str) -> Experiment:
        (tmp_path / "own.toml").write_text(text, encoding="utf-8")
        return load_experiment(tmp_path / "own.toml", overrides)

    return load


def trained(experiment: Experiment, variant: int = 1, seed: int = 0, progress=None) -> RunResult:
    return train(experiment, experiment.variants()[variant], seed, load_data(experiment.data), progress)


def test_the_same_seed_gives_the_same_weights(experiment):
    project = experiment(WEIGHTS + 'by = "Project"')
    torch.manual_seed(1)
    first = trained(project)
    torch.manual_seed(2)
    again, other = trained(project), trained(project, seed=1)
    assert first.history == again.history
    assert all(torch.equal(first.weights[name], again.weights[name]) for name in first.weights)
    assert not all(torch.equal(first.weights[name], other.weights[name]) for name in first.weights)


def test_training_leaves_random_numbers_and_threads_as_they_were(experiment):
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    trained(experiment(WEIGHTS, "budget.threads=2"))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads


HARD = ['"Project"', '{ name = "Project", moments = "reset" }', '"Barrier"']
HARD += [f'{{ name = "Reparametrize", chart = "{chart}" }}' for chart in ("tanh", "sigmoid")]
SOFT = ['{ name = "Penalty", weight = 10.0 }', '"AugmentedLagrangian"', '"Lagrangian"']


@pytest.mark.parametrize("by", HARD + SOFT)
def test_every_method_trains_and_is_measured(experiment, by):
    result = trained(experiment(WEIGHTS + f"by = {by}"))
    measured = result.measurements
    assert result.status == "finished"
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert measured["epochs"] == 3
    assert measured["milliseconds_per_step"] > 0
    assert measured["test_worst_violation"] is measured["test_feasible"] is None
    outside = max(float((w.abs() - 0.2).max()) for w in result.weights.values())
    assert measured["worst_violation"] == pytest.approx(max(outside, 0.0), abs=1e-6)
    assert measured["feasible"] == (outside <= 0)
    assert measured["report"]["rows"]
    if by in HARD:
        assert measured["feasible"]
        assert measured["guarantees"][0] in ("exact", "by construction", "projected")


def test_the_unconstrained_row_is_only_measured(experiment):
    result = trained(experiment(WEIGHTS), variant=0)
    assert not result.measurements["feasible"]
    assert result.measurements["guarantees"] == ["none"]
    assert result.measurements["report"] is None
    assert result.measurements["worst_violation"] > 0


@pytest.mark.parametrize("by", ['"Project"', '{ name = "Reparametrize", chart = "tanh" }'])
def test_the_final_weights_load_into_a_plain_network(experiment, by):
    loaded = experiment(WEIGHTS + f"by = {by}")
    result = trained(loaded)
    network = build_model(loaded.model, WINE, seed=9)
    network.load_state_dict(result.weights)
    with torch.no_grad():
        correct = network(WINE.x_test).argmax(1) == WINE.y_test
    assert float(correct.float().mean()) == pytest.approx(result.measurements["test_metric"])


@pytest.mark.parametrize(
    ("row", "proven"),
    [
        ('by = { name = "Penalty", weight = 10.0 }', False),
        ('by = "AugmentedLagrangian"', False),
        ('by = "AugmentedLagrangian"\nper = "index"', False),
        ('by = "SquaredSlack"\nper = "index"', False),
        ('by = "Lagrangian"', False),
        ('model.output = "exp"', True),
        ('model.output = "softplus"', True),
        (POSITIVE_HEAD, True),
    ],
)
def test_rules_about_predictions_are_measured_on_held_out_rows_too(experiment, row, proven):
    measured = trained(experiment(VALUES + row)).measurements
    assert math.isfinite(measured["test_metric"])
    assert measured["test_feasible"] == (measured["test_worst_violation"] == 0)
    assert measured["test_feasible"] == (measured["test_share_violated"] == 0)
    assert (measured["guarantees"] == ["proven, every input"]) == proven
    if proven:
        assert measured["feasible"]
        assert measured["test_feasible"]


def test_a_pair_that_cannot_work_is_a_failed_row(experiment):
    result = trained(
        experiment(
            WEIGHTS.replace('"Box", lower = -0.2, upper = 0.2', '"Equal", value = 0.1') + 'by = "Barrier"'
        )
    )
    assert result.status == "failed"
    assert "Barrier" in result.reason
    assert "\n" not in result.reason
    assert not result.weights


def test_a_training_that_diverges_is_a_failed_row(experiment):
    text = VALUES + 'training = { optimizer = "sgd", learning_rate = 1e12 }'
    result = trained(experiment(text))
    assert result.status == "failed"
    assert result.reason.startswith("diverged: the training loss was ")
    assert len(result.history) >= 1


def test_an_interruption_is_passed_on_and_told(experiment):
    class Interrupting:
        told = None

        def experiment_started(self, total_runs, skipped): ...

        def run_started(self, variant, seed, epochs): ...

        def epoch_finished(self, variant, seed, epoch, row):
            raise KeyboardInterrupt

        def run_finished(self, variant, seed, status, reason):
            self.told = (variant, seed, status, reason)

    progress = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        trained(experiment(WEIGHTS), progress=progress)
    assert progress.told == ("row", 0, "interrupted", None)


def test_the_budget_of_seconds_ends_a_training_early(experiment):
    result = trained(experiment(WEIGHTS, "budget.seconds=1e-9", "budget.epochs=500"))
    assert result.status == "finished"
    assert result.measurements["epochs"] == 1


def test_batches_hold_every_row_once():
    parts = list(batches(10, 4, torch.Generator().manual_seed(0)))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert sorted(torch.cat(parts).tolist()) == list(range(10))


def test_the_regulariser_sees_the_weights_as_the_network_uses_them():
    model = nn.Sequential(nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-3.0, 2.0]]))
    assert regulariser(model, TrainingTable(l1=2.0, l2=0.5)).item() == pytest.approx(2 * 5 + 0.5 * 13)
    assert regulariser(model, TrainingTable()) == 0.0
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 2.0]]))
    fs.Problem(model).constrain("0.weight", fs.NonNegative(), by=fs.Reparametrize("square"))
    assert regulariser(model, TrainingTable(l1=1.0)).item() == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_optimizers_are_made_from_the_table(name, kind):
    model = build_model(ModelTable(), WINE)
    optimizer = make_optimizer(TrainingTable(optimizer=name, learning_rate=0.5, weight_decay=0.25), model)
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[0]["weight_decay"] == 0.25


def test_a_cosine_ends_slower_than_it_began(experiment):
    moved = {}
    for schedule in ("constant", "cosine"):
        history = trained(experiment(WEIGHTS, f"training.schedule={schedule}", "budget.epochs=12")).history
        moved[schedule] = abs(history[-1]["train_loss"] - history[-2]["train_loss"])
    assert moved["cosine"] < moved["constant"]
