"""The matrix shows what methods object to, and defaults come from it (that it is true: test_conformance)."""

import pytest
import torch
from method_tables import ELSEWHERE, METHODS, SETS, target

import feasible as fs
from feasible.methods.extensions import own_methods
from feasible.methods.matrix import check_pair, default_method, matrix, works_with


class Holder(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(weight)


def test_every_method_has_an_example_and_a_row():
    public = {name for name in fs.methods.__all__ if name != "Method"}
    assert {listed.name for listed in own_methods()} == public
    assert {type(case.method).__name__ for case in METHODS} | ELSEWHERE == public


def test_the_table_shows_what_objections_say():
    lines = matrix(SETS.values()).splitlines()
    examples = {listed.name: listed.example for listed in own_methods()}
    columns = [cell.strip() for cell in lines[0].strip("|").split("|")[1:]]
    for set, line in zip(SETS.values(), lines[2:], strict=True):
        cells = [cell.strip() for cell in line.strip("|").rsplit("|", len(columns))[1:]]
        for name, cell in zip(columns, cells, strict=True):
            assert bool(cell) == (examples[name].objection(set) is None), (name, set)


def test_a_set_that_is_not_convex_is_refused_by_the_lagrangian_alone():
    class Ring(fs.L2Ball):
        convex = False

    check_pair(fs.AugmentedLagrangian(), Ring(1.0))
    with pytest.raises(fs.UnsupportedError, match="convex"):
        check_pair(fs.Lagrangian(), Ring(1.0))
    assert "○" in matrix([Ring(1.0)])


def test_a_bound_with_finite_and_infinite_entries_has_no_chart_and_says_so():
    mixed = fs.Box(torch.tensor([0.0, -torch.inf]), None)
    assert "Reparametrize" not in works_with(mixed)
    with pytest.raises(fs.UnsupportedError, match=r"chart(?s:.*)Works with it: .*Project"):
        check_pair(fs.Reparametrize(), mixed)
    assert matrix([mixed]).count("●") >= 5


def test_unknown_chart_is_a_value_error():
    with pytest.raises(ValueError, match=r"no chart 'cosine'.*Choose one of: .*softplus"):
        fs.Problem(Holder(target())).constrain("weight", fs.NonNegative(), by=fs.Reparametrize("cosine"))


def test_defaults():
    assert default_method(fs.NonNegative()) == fs.Project()

    class Choosy(fs.L2Ball):
        default_method = None

    with pytest.raises(ValueError, match=r"give by=(?s:.*)Works with it: Aug"):
        fs.Problem(Holder(target())).constrain("weight", Choosy(1.0))
