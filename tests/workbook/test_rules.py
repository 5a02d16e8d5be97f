import dataclasses

import pytest
import torch

from feasible import methods, schedules, sets
from feasible.workbook.errors import InputError
from feasible.workbook.rules import method_classes, parse_method, parse_set, schedule_classes, set_classes


@pytest.mark.parametrize("name", set_classes())
def test_every_public_set_can_be_written_in_toml(name):
    cls = set_classes()[name]
    arguments = {
        field.name: 1.0
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    try:
        expected = cls(**arguments)
    except (TypeError, ValueError):
        pytest.skip("its arguments are not numbers")
    assert parse_set({"name": name, **arguments}) == expected


@pytest.mark.parametrize("name", method_classes())
def test_every_public_method_can_be_written_in_toml(name):
    needed = {"Penalty": {"weight": 1.0}, "ProximalAnneal": {"steps": 9}, "SoftmaxAnneal": {"steps": 9}}
    method = parse_method({"name": name, **needed.get(name, {})})
    assert type(method) is getattr(methods, name)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            {"name": "HalfSpace", "normal": [1.0, 2.0], "offset": 3.0},
            lambda: sets.HalfSpace(torch.tensor([1.0, 2.0]), 3.0),
        ),
        (
            {"name": "Affine", "A": [[1.0, 2.0]], "b": [3.0]},
            lambda: sets.Affine(torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])),
        ),
    ],
)
def test_sets_of_vectors_and_matrices_are_written_as_lists(table, expected):
    assert parse_set(table) == expected()


def test_composed_sets_are_not_offered_by_name():
    assert {"Box", "NonNegative", "Simplex"} <= set(set_classes())
    assert not {"Set", "Intersection", "Where", "Flatten"} & set(set_classes())
    assert "Method" not in method_classes()
    assert {"Constant", "Linear", "Exponential"} <= set(schedule_classes())


def test_the_whole_tensor_is_one_vector_where_dim_is_all():
    assert parse_set({"name": "L2Ball", "radius": 1.0, "dim": "all"}) == sets.L2Ball(1.0, dim=None)


def test_lists_become_tensors_and_tables_schedules():
    box = parse_set({"name": "Box", "lower": [0.0, 1.0]})
    assert isinstance(box, sets.Box)
    assert torch.equal(torch.as_tensor(box.lower), torch.tensor([0.0, 1.0]))
    linear = {"name": "Linear", "start": 0.0, "end": 1.0, "steps": 4}
    assert parse_method({"name": "Penalty", "weight": linear}) == methods.Penalty(
        schedules.Linear(0.0, 1.0, 4)
    )


@pytest.mark.parametrize(
    ("parse", "table", "key", "message"),
    [
        (parse_set, "Boxx", ("name",), 'unknown set "Boxx". Closest: "Box".'),
        (parse_set, {"lower": 1}, (), 'a set needs a name: "'),
        (parse_set, {"name": 3}, (), 'a set needs a name: "'),
        (
            parse_set,
            {"name": "Box", "lover": 1},
            ("lover",),
            'Box has no argument "lover". Closest: "lower".',
        ),
        (parse_set, {"name": "NonNegative", "x": 1}, ("x",), 'NonNegative has no argument "x". It has none.'),
        (
            parse_set,
            {"name": "Box", "lower": ["a"]},
            ("lower",),
            "lower must be a list of numbers, got ['a'].",
        ),
        (parse_set, {"name": "Box", "lower": 2, "upper": 1}, (), "Box is empty: lower must not exceed upper"),
        (parse_set, {"name": "Box", "lower": "x"}, (), "lower must be a number"),
        (parse_set, {"name": "L2Ball"}, (), 'L2Ball needs the argument "radius".'),
        (parse_method, "Projekt", ("name",), 'unknown method "Projekt". Closest: "Project".'),
        (parse_method, "Penalty", (), 'Penalty needs the argument "weight".'),
        (parse_method, {"name": "Penalty", "weight": -1}, (), "weight must be positive"),
        (parse_method, {"name": "Penalty", "weight": "x"}, (), "weight must be a number or a schedule"),
        (
            parse_method,
            {"name": "Project", "moments": "x"},
            (),
            'moments must be "keep", "tangent" or "reset"',
        ),
        (
            parse_method,
            {"name": "Penalty", "weight": {"name": "Lin"}},
            ("weight", "name"),
            'unknown schedule "Lin"',
        ),
        (
            parse_method,
            {"name": "Penalty", "weight": {"name": "Constant"}},
            ("weight",),
            'needs the argument "value"',
        ),
    ],
)
def test_a_mistake_is_one_sentence_with_its_key(parse, table, key, message):
    with pytest.raises(InputError) as caught:
        parse(table)
    assert message in str(caught.value)
    assert caught.value.key == key
    assert "\n" not in str(caught.value)
