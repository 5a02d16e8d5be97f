import pytest
import torch

from feasible.workbook.data import load_data
from feasible.workbook.models import ACTIVATIONS, OUTPUTS, RANGES, build_model, output_range
from feasible.workbook.tables import DataTable, ModelTable

WINE = load_data(DataTable(source="wine"))
INPUTS = 100 * torch.randn(2000, 13, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (ModelTable(hidden=()), ["head.weight", "head.bias"]),
        (ModelTable(hidden=(4,), bias=False), ["hidden1.weight", "head.weight"]),
        (
            ModelTable(hidden=(4, 5)),
            ["hidden1.weight", "hidden1.bias", "hidden2.weight", "hidden2.bias", "head.weight", "head.bias"],
        ),
    ],
)
def test_layers_have_names_to_point_at(model, names):
    network = build_model(model, WINE)
    assert [name for name, _ in network.named_parameters()] == names
    assert network(WINE.x_train).shape == (len(WINE.x_train), 3)


def test_the_seed_decides_the_weights_and_nothing_else():
    before = torch.get_rng_state()
    first, again, other = (build_model(ModelTable(), WINE, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_stated_range_of_an_activation_holds(activation):
    low, high = RANGES[activation]
    values = ACTIVATIONS[activation]()(torch.linspace(-30, 30, 100_001, dtype=torch.float64))
    assert low <= float(values.min())
    assert float(values.max()) <= high


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_no_output_leaves_the_proven_range(activation, output):
    model = ModelTable(hidden=(6,), activation=activation, output=output)
    network = build_model(model, WINE)
    low, high = output_range(model, network)
    with torch.no_grad():
        values = network(INPUTS)
    slack = 1e-5 * values.abs().clamp(min=1)
    assert bool((values >= low - slack).all())
    assert bool((values <= high + slack).all())


def test_a_non_negative_head_behind_a_relu_is_proven_non_negative():
    model = ModelTable(hidden=(6,))
    network = build_model(model, WINE)
    assert bool((output_range(model, network)[0] == -torch.inf).all())
    with torch.no_grad():
        network.head.weight.abs_()
        network.head.bias.abs_()
    low, high = output_range(model, network)
    assert torch.equal(low, network.head.bias)
    assert bool((high == torch.inf).all())


def test_a_linear_model_has_no_range():
    low, high = output_range(ModelTable(hidden=()), build_model(ModelTable(hidden=()), WINE))
    assert bool((low == -torch.inf).all())
    assert bool((high == torch.inf).all())
