"""What the generated matrix says is what really binds and trains, and every refusal names what works."""

import pytest
import torch
from method_tables import F64, METHODS, SETS, names, target

import feasible as fs
from feasible.methods.extensions import own_methods
from feasible.methods.matrix import check_pair, default_method, matrix, works_with

ALL = [(case, name) for case in METHODS for name in SETS]
REFUSED = [(case, name) for case, name in ALL if case.method.objection(SETS[name]) is not None]
SERVED = [(case, name) for case, name in ALL if case.method.objection(SETS[name]) is None]


class Holder(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(weight)


def test_every_method_has_an_example_and_a_row():
    public = {name for name in fs.methods.__all__ if name != "Method"}
    assert {listed.name for listed in own_methods()} == public
    assert {type(case.method).__name__ for case in METHODS} == public


def test_the_table_shows_what_objections_say():
    lines = matrix(SETS.values()).splitlines()
    examples = {listed.name: listed.example for listed in own_methods()}
    columns = [cell.strip() for cell in lines[0].strip("|").split("|")[1:]]
    for set, line in zip(SETS.values(), lines[2:], strict=True):
        cells = [cell.strip() for cell in line.strip("|").rsplit("|", len(columns))[1:]]
        for name, cell in zip(columns, cells, strict=True):
            assert bool(cell) == (examples[name].objection(set) is None), (name, set)


@pytest.mark.parametrize(("case", "name"), SERVED, ids=names)
def test_what_is_served_trains_a_weight(case, name):
    model = Holder(target())
    problem = fs.Problem(model)
    problem.constrain("weight", SETS[name], by=case.method)
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.01))
    for _ in range(3):
        optimizer.zero_grad()
        problem.loss((model.weight - target(1)).square().sum()).backward()
        optimizer.step()
    problem.finish()
    row = problem.report().rows[0]
    assert torch.isfinite(model.weight).all()
    if case.method.guarantee != "encouraged":
        assert row.worst_violation == 0
        assert row.guarantee in ("exact", "projected", "by construction")
    assert [type(p) for p in model.parameters()] == [torch.nn.Parameter]


@pytest.mark.parametrize(("case", "name"), SERVED, ids=names)
def test_what_is_served_trains_a_value(case, name):
    x = target().requires_grad_()
    problem = fs.Problem([x])
    if not case.method.for_values:
        with pytest.raises(fs.UnsupportedError, match=r"computed value(?s:.*)Works with it: .*Penalty"):
            problem.require("v", SETS[name], by=case.method)
        return
    problem.require("v", SETS[name], by=case.method)
    optimizer = problem.attach(torch.optim.SGD([x], lr=1e-3))
    for _ in range(3):
        optimizer.zero_grad()
        problem.loss((x - target(1)).square().sum(), v=1.0 * x).backward()
        optimizer.step()
    assert torch.isfinite(x).all()
    assert problem.report()["v"].nonfinite == 0


@pytest.mark.parametrize(("case", "name"), REFUSED, ids=names)
def test_what_is_refused_names_what_works(case, name):
    model = Holder(target())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    problem = fs.Problem(model)
    with pytest.raises(fs.UnsupportedError, match=type(case.method).__name__) as refusal:
        problem.constrain("weight", SETS[name], by=case.method)
    listed = str(refusal.value).partition("Works with it: ")[2].split(", ")
    assert listed == works_with(SETS[name])
    assert "Project" in listed
    assert not problem.constraints
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


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


WRONG_NUMBERS = [
    (lambda: fs.Penalty(0.0), "Penalty: weight must be positive"),
    (lambda: fs.Penalty(-1.0), "weight must be positive"),
    (lambda: fs.Penalty(float("nan")), "positive and finite"),
    (lambda: fs.Penalty("large"), "number or a schedule"),
    (lambda: fs.Penalty(1.0, kind="cubic"), "squared"),
    (lambda: fs.Penalty(lambda step: -1.0), "at step 0"),
    (lambda: fs.Barrier(0.0), "Barrier: weight"),
    (lambda: fs.Barrier(1.0, kind="exp"), "inverse"),
    (lambda: fs.Barrier(1.0, margin=0.0), "margin"),
    (lambda: fs.Lagrangian(dual_lr=0.0), "dual_lr"),
    (lambda: fs.Lagrangian(dual_lr=fs.schedules.Linear(0.0, 1.0, 5)), "at step 0"),
    (lambda: fs.AugmentedLagrangian(penalty=0.0), "penalty must be positive"),
    (lambda: fs.AugmentedLagrangian(penalty=fs.schedules.Linear(0.0, 1.0, 5)), "at step 0"),
    (lambda: fs.AugmentedLagrangian(dual_lr=-1.0), "dual_lr"),
    (lambda: fs.SquaredSlack(penalty=0.0), "penalty"),
    (lambda: fs.SquaredSlack(slack_lr=0.0), "slack_lr"),
    (lambda: fs.SquaredSlack(slack_lr=1.5), "slack_lr"),
    (lambda: fs.Project(every=0), "every"),
    (lambda: fs.Project(every=1.5), "every"),
    (lambda: fs.Project(tangent="always"), "tangent"),
    (lambda: fs.Project(moments="lose"), "moments"),
]


@pytest.mark.parametrize(("make", "message"), WRONG_NUMBERS)
def test_wrong_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


SCHEDULED = [
    fs.Penalty(fs.schedules.Linear(0.0, 5.0, 10)),
    fs.Barrier(fs.schedules.Exponential(0.1, 0.9)),
    fs.Lagrangian(fs.schedules.Constant(0.1)),
    fs.AugmentedLagrangian(fs.schedules.Exponential(1.0, 1.01, maximum=5.0), lambda step: 0.1),
    fs.SquaredSlack(fs.schedules.Exponential(1.0, 1.01, maximum=5.0), lambda step: 0.1),
]


@pytest.mark.parametrize("method", SCHEDULED, ids=lambda m: type(m).__name__)
def test_every_number_may_be_a_schedule_of_the_step(method):
    x = torch.tensor([2.0, -2.0], dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    problem.require("v", fs.Box(-1, 1), by=method)
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.01))
    for _ in range(30):
        optimizer.zero_grad()
        problem.loss((x - 3).square().sum(), v=x * 1).backward()
        optimizer.step()
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("case", METHODS, ids=names)
def test_methods_are_values(case):
    assert hash(case.method) == hash(type(case.method)(**vars(case.method)))
    with pytest.raises(AttributeError):
        case.method.penalty = 2.0
