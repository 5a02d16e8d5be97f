"""The report: every number is checked against what it claims to be."""

import json
import math

import pytest
import torch

import feasible as fs

F64 = torch.float64


def trained(set, method, steps=400, lr=0.2, value=False, maximize=False, aim=(2.0, 0.1, -3.0)):
    """min ½‖x − a‖² with x in the set, nearly solved; the step at the end leaves its gradient."""
    a = torch.tensor(aim, dtype=F64)
    x = torch.zeros(3, dtype=F64, requires_grad=True)
    problem = fs.Problem({"x": x})
    if value:
        problem.require("c", set, by=method)
    else:
        problem.constrain("x", set, by=method, name="c")
    optimizer = problem.attach(torch.optim.SGD([x], lr=lr, maximize=maximize))
    for _ in range(steps):
        optimizer.zero_grad()
        loss = 0.5 * (x - a).square().sum()
        problem.loss(-loss if maximize else loss, {"c": x} if value else {}).backward()
        optimizer.step()
    return x.detach(), problem


# set, method, worst violation, share violated, active share, largest multiplier, shadow price
ROWS = [
    (fs.Box(-1, 1), fs.Project(), 0.0, 0.0, 2 / 3, -2.0, 3.0),
    (fs.NonNegative(), fs.Project(), 0.0, 0.0, 1 / 3, -3.0, 3.0),
    (fs.L2Ball(1.0), fs.Project(), 0.0, 0.0, 1.0, None, math.sqrt(13.01) - 1),
    (fs.SumTo(1.0), fs.Project(), 0.0, 0.0, 1.0, None, 1.9 / math.sqrt(3)),
    (fs.Box(-9, 9), fs.Project(), 0.0, 0.0, 0.0, 0.0, 0.0),
    (fs.Box(-1, 1), fs.AugmentedLagrangian(1.0, 0.2), 0.0, 0.0, None, -2.0, 3.0),
    (fs.Box(-1, 1), fs.Penalty(1.0), 1.0, 2 / 3, 2 / 3, None, None),
    (fs.Equal(0.0), fs.Penalty(1.0), 1.5, 1.0, 1.0, None, None),
]


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize(("set", "method", "worst", "share", "active", "multiplier", "price"), ROWS, ids=str)
def test_numbers(set, method, worst, share, active, multiplier, price, value):
    if value and not method.for_values:
        return
    _x, problem = trained(set, method, value=value)
    row = problem.report()["c"]
    assert row.worst_violation == pytest.approx(worst, abs=1e-6)
    if worst:
        assert row.share_violated == pytest.approx(share)
    if active is not None:
        assert row.active_share == pytest.approx(active)
    assert row.stationarity == pytest.approx(0, abs=1e-6)
    if price is None:
        assert row.multiplier is None
        assert row.shadow_price is None
    else:
        assert row.shadow_price == pytest.approx(price, abs=1e-4)
    if multiplier is not None:
        assert row.multiplier == pytest.approx(multiplier, abs=1e-4)
    assert row.steps == 400
    assert (row.set, row.method) == (repr(set), repr(method))
    assert problem.report().feasible == (row.worst_violation == 0)


def test_numbers_do_not_depend_on_the_sign_of_the_task():
    for set in (fs.Box(-1, 1), fs.L2Ball(1.0)):
        rows = [trained(set, fs.Project(), maximize=maximize)[1].report()["c"] for maximize in (False, True)]
        assert rows[0].stationarity == pytest.approx(rows[1].stationarity, abs=1e-9)
        assert rows[0].multiplier == pytest.approx(rows[1].multiplier)


def test_stationarity_far_from_the_solution():
    _x, problem = trained(fs.Box(-1, 1), fs.Project(), steps=1, lr=1e-9)
    # at 0 the gradient is −a: the mapping is P(a) − 0 = (1, 0.1, −1)
    assert problem.report()["c"].stationarity == pytest.approx(math.sqrt(2.01), abs=1e-6)
    _, problem = trained(fs.SumTo(0.0), fs.Project(), steps=1, lr=1e-9)
    a = torch.tensor([2.0, 0.1, -3.0], dtype=F64)
    assert problem.report()["c"].stationarity == pytest.approx(float((a - a.mean()).norm()), abs=1e-6)


GUARANTEES = [
    (fs.NonNegative(), fs.Project(), "exact", "projected"),
    (fs.L2Ball(1.0), fs.Project(), "projected", "projected"),
    (fs.Box(0, 1), fs.Barrier(), "exact", "projected"),
    (fs.NonNegative(), fs.Reparametrize(), "by construction", "by construction"),
    (fs.Simplex(), fs.Reparametrize(), "by construction", "by construction"),
    (fs.NonNegative(), fs.Penalty(1.0), "encouraged", "encouraged"),
]


@pytest.mark.parametrize(("set", "method", "checked", "promised"), GUARANTEES, ids=str)
def test_guarantees_are_checked_results(set, method, checked, promised):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    problem = fs.Problem(model)
    problem.constrain("weight", set, by=method)
    assert promised in str(problem)
    row = problem.report()["weight"]
    assert row.guarantee == checked
    assert row.scope == "all 6 entries"
    if method.guarantee == "projected":
        with torch.no_grad():
            model.weight.fill_(-5.0)
        row = problem.report()["weight"]
        assert row.guarantee == "broken"
        assert row.worst_violation > 0


def test_an_encouraged_weight_that_obeys_is_exact():
    x = torch.ones(3, requires_grad=True)
    problem = fs.Problem([x])
    problem.constrain("0", fs.NonNegative(), by=fs.Penalty(1.0))
    assert problem.report()["0"].guarantee == "exact"


def test_values_are_checked_at_these_points():
    model = torch.nn.Linear(2, 1)
    problem = fs.Problem(model)
    problem.require("v", fs.NonNegative(), per="sample")
    row = problem.report()["v"]
    assert (row.scope, row.guarantee, row.worst_violation) == ("never seen", "encouraged", None)
    assert "never been called" in row.diagnosis
    assert not problem.report().feasible
    problem.loss(torch.zeros(()), v=torch.tensor([[1.0], [-2.0], [0.5], [3.0]]))
    row = problem.report()["v"]
    assert row.scope == "4 points of the last training step"
    assert (row.worst_violation, row.share_violated, row.guarantee) == (2.0, 0.25, "encouraged")
    assert "a thousandth of the first value's RMS" in row.diagnosis
    held_out = problem.report(v=torch.ones(1437, 1))["v"]
    assert held_out.scope == "1,437 points given"
    assert (held_out.worst_violation, held_out.guarantee) == (0.0, "at these points")
    assert problem.report({"v": torch.ones(2, 1)}).feasible
    assert problem.report(v=torch.ones(0, 1))["v"].worst_violation == 0.0


def test_indexed_values_may_be_given_with_or_without_their_index():
    x = torch.ones(2, requires_grad=True)
    problem = fs.Problem([x])
    problem.require("v", fs.NonNegative(), per="index", size=5, by=fs.SquaredSlack())
    given = torch.tensor([1.0, -1.0, 0.0])
    assert problem.report(v=given)["v"].worst_violation == 1.0  # before the first step, too
    problem.loss(x.sum(), v=(x, torch.tensor([0, 4])))
    for value in (given, (given, torch.arange(3))):
        assert problem.report(v=value)["v"].worst_violation == 1.0
    assert problem.report()["v"].shadow_price == 0.0


WRONG = [
    (lambda: {"w": torch.ones(2)}, "nothing is required under w"),
    (lambda: {"0": torch.ones(2)}, "nothing is required under 0"),
    (lambda: {"v": torch.ones(3)}, "expected a value of shape"),
    (lambda: {"v": torch.ones(1, 2)}, "expected a value of shape"),
    (lambda: {"v": [1.0, 2.0]}, "expected a tensor, got float"),
    (lambda: {"v": 1.0}, "expected a tensor, got float"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_wrong_values_are_errors(values, message):
    x = torch.ones(2, requires_grad=True)
    problem = fs.Problem([x])
    problem.constrain("0", fs.NonNegative())
    problem.require("v", fs.NonNegative())
    problem.loss(x.sum(), v=x)
    with pytest.raises(ValueError, match=message):
        problem.report(values())


def test_reporting_changes_nothing():
    def run(reporting):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        problem = fs.Problem(model)
        problem.constrain("weight", fs.Simplex())
        problem.require("v", fs.NonNegative(), per="sample")
        optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.1))
        if reporting:
            problem.report(v=torch.ones(3, 2))
        for _ in range(5):
            optimizer.zero_grad()
            out = model(torch.randn(4, 3))
            problem.loss(out.square().mean(), v=out).backward()
            if reporting:
                str(problem.report()), problem.report(v=out)
            optimizer.step()
            if reporting:
                problem.report()
        return {**model.state_dict(), **problem.state_dict()}

    first, second = run(True), run(False)
    assert all(torch.equal(first[key], second[key]) for key in second)


# -- how it is shown ------------------------------------------------------------------------------------


def a_report():
    x = torch.tensor([0.5, -2.0], requires_grad=True)
    problem = fs.Problem({"a<b>&": x})
    problem.constrain("*", fs.NonNegative())
    problem.require("bad", fs.NonNegative())
    problem.loss(x.sum(), bad=x * math.nan)
    return problem.report()


def test_it_prints_as_a_table():
    text = str(a_report())
    lines = text.splitlines()
    columns = ("constraint", "guarantee", "scope", "worst violation", "violated", "active", "stationarity")
    assert lines[0].split() == " ".join([*columns, "multiplier", "shadow price", "saturated"]).split()
    for words in ("a<b>&", "exact", "all 2 entries", "50.0%", "moved by 2", "not finite", "holds NaN"):
        assert words in text, words
    assert "Never attached" in lines[-1]
    assert text == f"{a_report()}"


def test_to_dict_is_json():
    read = json.loads(json.dumps(a_report().to_dict(), allow_nan=False))
    assert read["feasible"] is False
    assert [row["name"] for row in read["rows"]] == ["a<b>&", "bad"]
    assert read["rows"][0]["worst_violation"] == 0
    assert read["rows"][1]["worst_violation"] is None  # NaN
    assert read["notes"]


def test_the_page_is_escaped():
    page = a_report()._repr_html_()
    assert "<b>" not in page
    assert "a&lt;b&gt;&amp;" in page
    assert page.count("<tr>") == 3


def test_frames_and_plots():
    pytest.importorskip("pandas")
    pytest.importorskip("plotly")
    report = a_report()
    frame = report.to_frame()
    assert list(frame.index) == ["a<b>&", "bad"]
    assert frame.loc["a<b>&", "moved"] == 2.0
    figure = report.plot()
    assert len(figure.data) == 3
    assert [trace.y for trace in figure.data] == [("a<b>&", "bad")] * 3


@pytest.mark.parametrize(("package", "method"), [("pandas", "to_frame"), ("plotly", "plot")])
def test_missing_packages_are_named(monkeypatch, package, method):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.subplots", None)
    with pytest.raises(ImportError, match=rf"{package}: pip install"):
        getattr(a_report(), method)()


def test_rows_by_name():
    report = a_report()
    assert report["bad"] is report.rows[1]
    with pytest.raises(KeyError, match=r"no constraint 'worse'; the report has: a<b>&, bad"):
        report["worse"]


def test_before_anything_has_happened():
    problem = fs.Problem([torch.ones(2, requires_grad=True)])
    assert problem.report().rows == ()
    assert problem.report().feasible
    assert str(problem.report())
    assert problem.report().to_dict()["rows"] == []
    assert problem.report()._repr_html_()
    problem.constrain("0", fs.Simplex())
    row = problem.report()["0"]
    assert (row.stationarity, row.multiplier, row.shadow_price, row.saturation) == (None,) * 4
    optimizer = torch.optim.SGD([problem.slots["0"].leaf], lr=0.1)
    problem.attach(optimizer)
    assert "no step has been taken" in problem.report()["0"].diagnosis
    assert not problem.report().notes


def test_masks_count_what_they_pick():
    weight = torch.tensor([[1.0, -2.0], [3.0, 4.0]], requires_grad=True)
    problem = fs.Problem([weight])
    problem.constrain("0", fs.Equal(0.0).where(torch.tensor([[True, True], [False, False]])))
    row = problem.report()["0"]
    assert (row.scope, row.active_share, row.share_violated) == ("2 of 4 entries", 1.0, 0.0)
    with torch.no_grad():
        weight[0, 0] = 1.0
    assert problem.report()["0"].share_violated == 0.5
