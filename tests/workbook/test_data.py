import math

import pandas as pd
import pytest
import torch

from feasible.workbook.data import load_data
from feasible.workbook.errors import InputError
from feasible.workbook.tables import DataTable

TABLE = pd.DataFrame(
    {
        "id": [f"n{i}" for i in range(60)],
        "area": [30.0 + i for i in range(60)],
        "rooms": [1 + i % 4 for i in range(60)],
        "garden": [i % 3 == 0 for i in range(60)],
        "region": [("north", "south", "east")[i % 3] for i in range(60)],
        "price": [1000.0 * (30 + i) + 100 * (i % 4) for i in range(60)],
    }
)


@pytest.fixture
def table(tmp_path):
    def write(frame=TABLE, name="flats.csv", **keys) -> DataTable:
        path = tmp_path / name
        if isinstance(frame, str):
            path.write_text(frame, encoding="utf-8")
        elif name.lower().endswith(".csv"):
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path)
        return DataTable(**{"source": str(path), "target": "price", "exclude": ("id",), **keys})

    return write


@pytest.mark.parametrize(
    ("source", "rows", "features", "outputs", "task"),
    [
        ("digits", 1797, 64, 10, "classification"),
        ("wine", 178, 13, 3, "classification"),
        ("breast_cancer", 569, 30, 2, "classification"),
        ("diabetes", 442, 10, 1, "regression"),
        ("hmda", 2380, 20, 2, "classification"),
    ],
)
def test_the_data_sets_that_packages_ship(source, rows, features, outputs, task):
    data = load_data(DataTable(source=source))
    assert len(data.x_train) + len(data.x_test) == rows
    assert data.x_train.shape[1] == len(data.features) == features
    assert (data.outputs, data.task) == (outputs, task)
    assert data.x_train.dtype == torch.float32
    assert data.y_train.dtype == (torch.int64 if task == "classification" else torch.float32)


def test_another_column_of_a_data_set_can_be_the_target():
    data = load_data(DataTable(source="breast_cancer", target="mean concavity"))
    assert (data.task, data.outputs, data.target_unit) == ("regression", 1, 0.1)
    assert "target" not in data.features
    assert "mean concavity" not in data.features


@pytest.mark.parametrize("name", ["flats.csv", "flats.parquet", "FLATS.CSV"])
def test_a_table_of_ones_own(table, name):
    data = load_data(table(TABLE, name))
    assert data.features == ("area", "rooms", "garden", "region=east", "region=north", "region=south")
    assert data.target_unit == 10_000
    assert len(data.x_train) == 48
    assert len(data.x_test) == 12
    assert any("region became 3 columns" in note for note in data.notes)
    assert any("price is measured in units of 10000" in note for note in data.notes)


def test_the_rows_fit_together_after_everything(table):
    data = load_data(table(scaling="none", target_unit=1.0))
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert torch.equal(1000 * x[:, 0] + 100 * ((x[:, 0] - 30) % 4), y[:, 0])
        assert torch.equal(x[:, 3:].sum(1), torch.ones(len(x)))
    everything = torch.cat([data.x_train, data.x_test])[:, 0]
    assert torch.equal(everything.sort().values, torch.arange(30.0, 90.0))


def test_standard_scaling_knows_the_training_rows_only(table):
    data = load_data(table(scaling="standard"))
    torch.testing.assert_close(data.x_train.mean(0), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(data.x_train.std(0), torch.ones(6))
    assert (data.x_test.mean(0).abs() > 1e-4).any()


def test_unit_scaling_and_complements(table):
    data = load_data(table(scaling="unit", complement=True))
    assert data.x_train.shape[1] == 12
    assert data.features[6] == "1 − area"
    assert float(data.x_train.min()) == 0
    assert float(data.x_train.max()) == 1
    torch.testing.assert_close(data.x_train[:, :6] + data.x_train[:, 6:], torch.ones(48, 6))


def test_the_same_split_seed_gives_the_same_split(table):
    first, again, other = (load_data(table(split_seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first.x_test, again.x_test)
    assert not torch.equal(first.x_test, other.x_test)


def test_nothing_may_be_held_out(table):
    data = load_data(table(test_share=0.0))
    assert torch.equal(data.x_train, data.x_test)
    assert len(data.x_train) == 60
    assert not data.is_held_out
    assert data.notes[-1] == "60 rows to train on, none held out"


def test_groups_are_numbered_by_the_alphabet_and_go_with_their_rows(table):
    holes = TABLE.assign(region=TABLE["region"].where(TABLE.index != 4))
    data = load_data(table(holes, groups=("region",), exclude=("id", "region"), scaling="none"))
    assert data.groups == {"region": ("east", "north", "south")}
    for rows in (data.train, data.test):
        number = (rows.x[:, 0] - 30).long()
        expected = torch.tensor([1, 2, 0])[number % 3].where(number != 4, -1)
        assert torch.equal(rows.groups["region"], expected)
    assert len(data.train[torch.arange(3)]) == 3


def test_the_outcomes_of_a_distribution_have_numbers(table):
    data = load_data(table(target="rooms", task="distribution", target_unit=1))
    assert (data.task, data.outputs) == ("distribution", 1)


def test_text_means_classes(table):
    data = load_data(table(target="region"))
    assert (data.task, data.classes) == ("classification", ("east", "north", "south"))
    assert set(data.y_train.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("target", ["garden", "rooms"])
def test_classification_of_whole_numbers_and_booleans_can_be_asked_for(table, target):
    assert load_data(table(target=target, task="classification")).outputs in (2, 4)


def test_missing_rows_are_dropped_with_a_note(table):
    holes = TABLE.assign(
        area=TABLE["area"].where(TABLE.index != 5), price=TABLE["price"].where(TABLE.index > 1)
    )
    data = load_data(table(holes, missing="drop"))
    assert len(data.x_train) + len(data.x_test) == 57
    assert data.notes[0] == "dropped 3 of 60 rows with missing or infinite values, in area (1), price (2)"


def test_constant_features_are_mentioned_and_harmless(table):
    data = load_data(table(TABLE.assign(floor=2)))
    assert any("constant on the training rows: floor" in note for note in data.notes)
    assert bool(data.x_train.isfinite().all())


HOLES = TABLE.assign(area=TABLE["area"].where(TABLE.index != 5))
WORDS = TABLE.assign(price=[*TABLE["price"].astype(str)[:-1], "cheap"])


@pytest.mark.parametrize(
    ("frame", "keys", "key", "message"),
    [
        (TABLE, {"source": "nowhere.csv"}, "source", '"nowhere.csv" does not exist'),
        (TABLE, {"source": "diabets"}, "source", 'Closest: "diabetes".'),
        (TABLE, {"source": "x.xlsx"}, "source", "neither a data set nor a CSV or Parquet file"),
        (TABLE, {"target": "prise"}, "target", 'column "prise" is not in flats.csv. Closest: "price".'),
        (TABLE, {"target": None}, "target", "name the column to predict"),
        (TABLE, {"exclude": ("idd",)}, "exclude", 'column "idd" is not in flats.csv. Closest: "id".'),
        (TABLE, {"features": ("area", "roms")}, "features", 'Closest: "rooms".'),
        (TABLE, {"groups": ("regio",)}, "groups", 'column "regio" is not in flats.csv. Closest: "region".'),
        (TABLE, {"features": ("area", "price")}, "features", 'the target "price" cannot also be a feature'),
        (TABLE, {"features": ("area",), "exclude": ("area",)}, "exclude", "no feature is left"),
        (TABLE, {"exclude": ()}, "source", 'column "id" holds 60 different texts, such as "n0"'),
        (
            TABLE,
            {"target": "region", "task": "regression"},
            "task",
            'the target "region" holds "north" in row 2',
        ),
        (WORDS, {"task": "regression"}, "task", 'holds "cheap" in row 61'),
        (TABLE, {"target": "area", "task": "classification"}, "target", "60 different values in 60 rows"),
        (HOLES, {}, "source", "1 of 60 rows have missing or infinite values, in area (1). Repair them, or"),
        (
            TABLE.assign(area=math.inf),
            {},
            "source",
            "60 of 60 rows have missing or infinite values, in area (60)",
        ),
        (
            TABLE.assign(price=5.0),
            {},
            "target",
            'the target "price" is always 5.0: there is nothing to learn',
        ),
        (TABLE[:1], {}, "source", "1 usable row cannot be split"),
        (TABLE[:2], {}, "source", "2 usable rows cannot be split"),
        (TABLE[:0], {}, "source", "flats.csv has no rows"),
        ("", {}, "source", "flats.csv is empty"),
        ("id;price\na;1\nb;2\n", {}, "source", "the columns are not separated by commas"),
        ("price\n1\n2\n", {}, "source", "it has a single column"),
        ('id,price\na,1\n"b,2\n', {}, "source", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_key(table, frame, keys, key, message):
    data = table(frame, **keys) if "source" not in keys else DataTable(target="price", **keys)
    with pytest.raises(InputError) as caught:
        load_data(data)
    assert message in str(caught.value)
    assert caught.value.key[0] == key
    assert "\n" not in str(caught.value)


def test_a_broken_parquet_file_is_refused(table):
    with pytest.raises(InputError, match=r"flats\.parquet cannot be read"):
        load_data(table("not parquet", "flats.parquet"))


def test_an_index_of_a_parquet_file_is_no_feature(table):
    data = load_data(table(TABLE.set_index("region"), "flats.parquet"))
    assert data.features == ("area", "rooms", "garden")
    words = WORDS.set_index("region")
    with pytest.raises(InputError, match='holds "cheap" in row 61'):
        load_data(table(words, "flats.parquet", task="regression"))


def test_dates_are_refused(table):
    dated = TABLE.assign(sold=pd.date_range("2020-01-01", periods=60))
    with pytest.raises(InputError, match='column "sold" holds dates'):
        load_data(table(dated, "flats.parquet"))


def test_a_misspelt_file_gets_the_closest_one(table, tmp_path):
    table()
    with pytest.raises(InputError, match=r'Closest: "flats\.csv"'):
        load_data(DataTable(source=str(tmp_path / "flts.csv"), target="price"))
