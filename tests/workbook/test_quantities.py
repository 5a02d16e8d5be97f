"""Expectations, rates and known solutions: what a file may ask of its data, and what a network then shows."""

import math

import pytest
import torch

from feasible.workbook.configuration import load_experiment
from feasible.workbook.data import load_data
from feasible.workbook.errors import InputError
from feasible.workbook.evaluation import negative_entropy
from feasible.workbook.quantities import quantity, truth
from feasible.workbook.runner import prepare

TUMOURS = """
[data]
source = "breast_cancer"
features = ["mean texture"]

[model]
hidden = []

[[constraints]]
name = "found"
rate = { name = "recall", positive = "malignant" }
set = { name = "Box", lower = 0.9 }

[methods.multiplier]
by = "AugmentedLagrangian"
"""

WINE = TUMOURS.replace("breast_cancer", "wine").replace("mean texture", "hue").replace("malignant", "class_1")


@pytest.fixture
def load(tmp_path):
    def load(text, old="", new=""):
        assert old in text
        (tmp_path / "own.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
        return load_experiment(tmp_path / "own.toml")

    return load


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('"malignant"', '"malign"', 11, '"malign" is no class of target. Closest: "malignant".'),
        (
            '"malignant" }',
            '"malignant", by = "age" }',
            11,
            'by = "age" is not among the groups. Write [data] groups = ["age"].',
        ),
        (
            'rate = { name = "recall", positive = "malignant" }',
            'value = "expectation"',
            11,
            'value = "expectation" needs [data] task = "distribution".',
        ),
        (
            'features = ["mean texture"]',
            'target = "mean radius"\ntarget_unit = 1\nfeatures = ["mean texture"]',
            13,
            'a rate needs classes, and the target "mean radius" has none.',
        ),
        (
            "[methods.multiplier]",
            '[known]\nweights = { "head.weigth" = [[1.0]] }\n[methods.multiplier]',
            15,
            '"head.weigth" is no parameter of the network. Closest: "head.weight".',
        ),
        (
            "[methods.multiplier]",
            '[known]\nweights = { "head.weight" = [[1.0]] }\n[methods.multiplier]',
            15,
            "head.weight has the shape (2, 1), the known weights have (1, 1).",
        ),
        (
            "[methods.multiplier]",
            '[known]\nweights = { "head.weight" = [["x"]] }\n[methods.multiplier]',
            15,
            "head.weight must be lists of numbers of equal length.",
        ),
    ],
)
def test_what_the_data_do_not_have_is_refused_with_its_line(load, old, new, line, message):
    with pytest.raises(InputError) as caught:
        prepare(load(TUMOURS, old, new))
    assert message in str(caught.value)
    assert f"line {line}" in str(caught.value)


def test_the_rules_of_one_method_are_checked_too(load):
    own = (
        "[methods.multiplier]\n[[methods.multiplier.constraints]]\n"
        'rate = { name = "recall", positive = "x" }\nset = "NonNegative"\nby = "AugmentedLagrangian"\n[methods.b]'
    )
    with pytest.raises(InputError, match='"x" is no class of target'):
        prepare(load(TUMOURS, "[methods.multiplier]", own))


def test_one_class_is_decided_against_all_others(load):
    experiment = load(WINE)
    data = load_data(experiment.data)
    rule = experiment.variants()[0].rules[0]
    prediction = torch.randn(len(data.x_train), 3, generator=torch.Generator().manual_seed(0))
    positive = data.y_train == data.classes.index("class_1")
    found = (prediction.argmax(1) == 1)[positive].float().mean()
    assert truth(quantity(rule, prediction, data.train, data)) == pytest.approx(found.item())


def test_the_negative_entropy_is_continued_by_its_tangent():
    p = torch.tensor([0.5, 1e-6, 0.0, -0.1], dtype=torch.float64, requires_grad=True)
    value = negative_entropy(p)
    value.backward()
    slope = 1 + math.log(1e-6)
    assert value.item() == pytest.approx(0.5 * math.log(0.5) + 3e-6 * math.log(1e-6) - slope * (0.1 + 2e-6))
    assert p.grad.tolist() == pytest.approx([1 + math.log(0.5), slope, slope, slope])
