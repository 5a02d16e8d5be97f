from pathlib import Path

import pytest

from feasible.methods import Penalty, Project
from feasible.sets import Box, NonNegative
from feasible.workbook.configuration import (
    Experiment,
    experiment_file,
    list_experiments,
    load_experiment,
    load_rules,
)
from feasible.workbook.errors import InputError

EXAMPLE = """\
title = "Example"

[data]
source = "wine"
test_share = 0.25

[model]
hidden = [8]

[budget]
seeds = [3, 4]
epochs = 2

[[constraints]]
name = "range"
weights = "*.weight"
set = { name = "Box", lower = -1.0, upper = 1 }

[[constraints]]
value = "prediction"
set = "NonNegative"

[methods.project]
label = "projection"
by = { range = "Project" }

[methods.penalty]
by = { name = "Penalty", weight = { name = "Exponential", start = 1, factor = 1.1, maximum = inf } }
training = { l1 = 0.1 }
model.output = "exp"

[[methods.penalty.constraints]]
weights = "head.*"
set = "NonNegative"
by = "Project"
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "own.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_an_experiment_says_what_its_file_says(write):
    experiment = load_experiment(write(EXAMPLE))
    assert experiment.name == "own"
    assert experiment.budget.seed_list == (3, 4)
    assert experiment.model.hidden == (8,)
    assert experiment.training.optimizer == "adam"


def test_the_variants_are_the_methods_after_an_unconstrained_one(write):
    free, project, penalty = load_experiment(write(EXAMPLE)).variants()
    assert [rule.by for rule in free.rules] == [None, None]
    assert [rule.by for rule in project.rules] == [Project(), None]
    assert [rule.set for rule in project.rules] == [Box(-1.0, 1), NonNegative()]
    assert (project.label, penalty.label) == ("projection", "penalty")
    assert all(isinstance(rule.by, Penalty) for rule in penalty.rules)
    assert (penalty.training.l1, penalty.model.output, penalty.model.hidden) == (0.1, "exp", (8,))
    assert [(rule.weights, rule.by) for rule in penalty.own_rules] == [("head.*", Project())]


@pytest.mark.parametrize("name", [experiment.name for experiment in list_experiments()])
def test_the_resolved_configuration_loads_again_as_the_same_experiment(write, name):
    other = "data.test_share=0.3" if isinstance(load_experiment(name), Experiment) else "tolerance=0.1"
    experiment = load_experiment(name, ["budget.seeds=[7, 8]", other])
    assert load_experiment(write(experiment.to_toml())) == experiment
    assert load_experiment(name) != experiment


def test_the_resolved_configuration_keeps_nested_tables(write):
    experiment = load_experiment(write(EXAMPLE))
    again = load_experiment(write(experiment.to_toml(), "again.toml"))
    assert again == experiment
    assert again.variants() == experiment.variants()


def test_files_are_meant_relative_to_the_toml_file(write, tmp_path):
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    experiment = load_experiment(write('[data]\nsource = "data.csv"\ntarget = "b"\n'))
    assert experiment.data.source == str((tmp_path / "data.csv").resolve())


def test_a_file_of_the_command_line_is_meant_relative_to_the_present_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = load_experiment("own-table", ["data.source=mine.csv"])
    assert experiment.data.source == str((tmp_path / "mine.csv").resolve())


@pytest.mark.parametrize(
    ("override", "get", "value"),
    [
        ("budget.epochs=7", lambda e: e.budget.epochs, 7),
        ("budget.seeds=[1]", lambda e: e.budget.seed_list, (1,)),
        ("training.learning_rate = 1e-2", lambda e: e.training.learning_rate, 0.01),
        ("title=two words", lambda e: e.title, "two words"),
        ('title="quoted = yes"', lambda e: e.title, "quoted = yes"),
        ("constraints.0.set.upper=2.5", lambda e: e.variants()[0].rules[0].set, Box(-1.0, 2.5)),
        ("methods.project.by=Penalty", None, "Penalty needs the argument"),
        ("methods.new.by=Project", lambda e: len(e.variants()), 4),
    ],
)
def test_a_key_can_be_overridden(write, override, get, value):
    path = write(EXAMPLE.replace('value = "prediction"', 'weights = "*.bias"'))
    if get is None:
        with pytest.raises(InputError, match=value):
            load_experiment(path, [override])
    else:
        assert get(load_experiment(path, [override])) == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget.epochs=0", "--set budget.epochs=0: budget.epochs must be at least 1, got 0."),
        ("budget.epoch=1", '--set budget.epoch=1: unknown key "epoch". Closest: "epochs".'),
        ("epochs", '--set: "epochs" is not of the form key=value, such as budget.epochs=10.'),
        ("constraints.5.set=1", '--set constraints.5.set=1: "5" is not one of the indices 0 to 1.'),
        ("title.x=3", '--set title.x=3: "x" would stand inside a value, which is not a table.'),
        ("constraints.0.set=Bx", '--set constraints.0.set=Bx: unknown set "Bx". Closest: "Box".'),
    ],
)
def test_a_wrong_override_is_named(write, override, message):
    with pytest.raises(InputError) as caught:
        load_experiment(write(EXAMPLE), [override])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('title = "Example"', "titel = 3", 1, 'unknown key "titel". Closest: "title".'),
        ("[data]", "[dta]", 3, 'unknown key "dta". Closest: "data".'),
        ("test_share = 0.25", "test_share = 1.5", 5, "data.test_share must be less than 1, got 1.5."),
        ("test_share = 0.25", 'test_share = "a"', 5, 'data.test_share must be a number, got "a".'),
        ("hidden = [8]", "hidden = [0]", 8, "model.hidden.0 must be at least 1, got 0."),
        ("hidden = [8]", "hidden = 8", 8, "model.hidden must be a list, got 8."),
        (
            "seeds = [3, 4]",
            "seeds = []",
            11,
            "budget.seeds must be an integer or a list that is not empty, got [].",
        ),
        ("seeds = [3, 4]", "seeds = true", 11, "budget.seeds must be an integer or a list, got true."),
        ("epochs = 2", "epochs = 2.5", 12, "budget.epochs must be an integer, got 2.5."),
        ('weights = "*.weight"', 'weigths = "*"', 16, 'unknown key "weigths". Closest: "weights".'),
        (
            'weights = "*.weight"',
            'value = "predictions"',
            16,
            'must be "prediction" or "expectation", got "predictions". Closest: "prediction".',
        ),
        (
            'weights = "*.weight"',
            "",
            14,
            'a constraint needs one target: weights = "…" (a pattern), value = "prediction" or "expectation", '
            'or rate = { name = "…", positive = "…" }.',
        ),
        (
            'weights = "*.weight"',
            'rate = { name = "recal", positive = "a" }',
            16,
            'constraints.0.rate.name must be "accuracy", "recall", "precision", "false_positive_rate", '
            '"false_negative_rate" or "selection_rate", got "recal". Closest: "recall".',
        ),
        (
            'weights = "*.weight"',
            'rate = { name = "recall" }',
            16,
            'the key "constraints.0.rate.positive" is missing.',
        ),
        ('"Box"', '"Bx"', 17, 'unknown set "Bx". Closest: "Box".'),
        ("upper = 1", "upper = -3", 17, "Box is empty: lower must not exceed upper"),
        ("upper", "uper", 17, 'Box has no argument "uper". Closest: "upper".'),
        (
            'value = "prediction"',
            'name = "range"\nvalue = "prediction"',
            19,
            'two constraints are called "range"',
        ),
        ('range = "Project"', 'range = "Projct"', 25, 'unknown method "Projct". Closest: "Project".'),
        ('range = "Project"', 'rnge = "Project"', 25, 'no constraint is called "rnge". Closest: "range".'),
        ("weight = {", "wieght = {", 28, 'Penalty has no argument "wieght". Closest: "weight".'),
        ("factor = 1.1", "factor = -1", 28, "Exponential: factor must be positive, got -1."),
        ('"Exponential"', '"Exponental"', 28, 'unknown schedule "Exponental". Closest: "Exponential".'),
        ("l1 = 0.1", "l1 = -1", 29, "l1 must be at least 0, got -1."),
        ("l1 = 0.1", "l3 = 1", 29, 'unknown key "l3". Known: optimizer, '),
        ('"exp"', '"exq"', 30, 'got "exq". Closest: "exp".'),
        (
            'set = "NonNegative"\nby',
            'set = "Nonnegative"\nby',
            34,
            'unknown set "Nonnegative". Closest: "NonNegative".',
        ),
        ("[methods.project]", "[methods.unconstrained]", 25, "the unconstrained row enforces nothing"),
        ("[methods.project]", '[methods."a/b"]', 23, 'the method name "a/b" also names a folder'),
        ("hidden = [8]", "hidden [8]", 8, "this is not TOML: "),
        ("hidden = [8]", "hidden = [8]\nhidden = [9]", None, "this is not TOML: "),
    ],
)
def test_a_mistake_is_one_sentence_with_its_line(write, old, new, line, message):
    path = write(EXAMPLE.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load_experiment(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    if line is not None:
        assert str(caught.value).startswith(f"{path}, line {line}: ")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rnge", 'there is no experiment "rnge". Closest: "range".'),
        ("nowhere/own.toml", "own.toml: the file does not exist."),
    ],
)
def test_an_experiment_that_does_not_exist_is_named(name, message):
    with pytest.raises(InputError, match=message):
        load_experiment(name)


def test_a_misspelt_file_gets_the_closest_one(write):
    path = write(EXAMPLE)
    with pytest.raises(InputError, match=r'Closest: "own\.toml"'):
        load_experiment(path.with_name("owm.toml"))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="it is not UTF-8 text"):
        load_experiment(tmp_path / "x.toml")


def test_quick_is_a_smaller_budget_and_seeds_can_be_chosen(write):
    experiment = load_experiment(write(EXAMPLE + "[quick]\nseeds = 1\nepochs = 1\n"))
    assert experiment.quickened().budget.seed_list == (0,)
    assert experiment.quickened().budget.epochs == 1
    assert experiment.with_seeds([5]).budget.seed_list == (5,)
    with pytest.raises(InputError, match="at least 0"):
        experiment.with_seeds([-1])


def test_the_template_can_be_found_and_is_a_file():
    assert experiment_file("own-table").is_file()
    assert experiment_file("own-table").with_suffix(".csv").is_file()


def test_rules_come_from_a_file_of_constraints_or_from_an_experiment(write):
    constraints = EXAMPLE[EXAMPLE.index("[[constraints]]") : EXAMPLE.index("[methods.project]")]
    rules = load_rules(write(constraints, "rules.toml"))
    assert [(rule.name, rule.set) for rule in rules] == [
        ("range", Box(-1.0, 1)),
        ("prediction", NonNegative()),
    ]
    assert load_rules(write(EXAMPLE)) == rules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"rules.toml: it holds no \[\[constraints\]\] table."),
        ('[[constraint]]\nset = "Box"', 'line 1: unknown key "constraint". Closest: "constraints".'),
        ('[[constraints]]\nweights = "*"\nset = "Bax"', 'line 3: unknown set "Bax". Closest: "Box".'),
        ('[[constraints]]\nweights = "*"', 'line 1: the key "constraints.0.set" is missing.'),
    ],
)
def test_a_mistake_in_a_file_of_rules_is_named(write, text, message):
    with pytest.raises(InputError, match=message):
        load_rules(write(text, "rules.toml"))
