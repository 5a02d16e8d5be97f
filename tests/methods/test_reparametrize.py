"""Reparametrization: every chart, plain state afterwards, and dead weights that come back."""

import copy
import pickle

import pytest
import torch
from method_tables import F64, MASK, target

import feasible as fs

HALF_LINE = ["abs", "softplus", "exp", "square", "relu"]
INTERVAL = ["sigmoid", "tanh", "sine"]
CHARTS = [
    *[(fs.NonNegative(), kind) for kind in HALF_LINE],
    *[(fs.Box(upper=0.5), kind) for kind in HALF_LINE],
    *[(fs.Box(-1, 1), kind) for kind in INTERVAL],
    *[(fs.Box(torch.tensor([[-1.0], [0.0]]), torch.tensor([[1.0], [5.0]])), kind) for kind in INTERVAL],
    (fs.Simplex(), "softmax"),
    (fs.Simplex(2.0, dim=0), "softmax"),
    (fs.SumTo(1.5), "mean"),
    (fs.L2Ball(0.8), "radial"),
    (fs.L2Ball(1.0, dim=None), "radial"),
    (fs.NonNegative().where(MASK), "softplus"),
    (fs.Simplex().flatten(0), "softmax"),
]


class Model(torch.nn.Module):
    """Three parameters and a buffer, in an order that must survive."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Parameter(torch.randn(3))
        self.weight = torch.nn.Parameter(target().float())
        self.last = torch.nn.Parameter(torch.randn(2))
        self.register_buffer("count", torch.tensor(7))
        self.inner = torch.nn.Linear(3, 2)

    def forward(self, x):
        return (x * self.first) @ self.weight.T + self.last + self.inner(x)


def train(model, problem, optimizer, steps=5, seed=0):
    torch.manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        x = torch.randn(16, 3)
        problem.loss((model(x) - x[:, :2]).square().mean()).backward()
        optimizer.step()


@pytest.mark.parametrize(("set", "kind"), CHARTS, ids=str)
def test_every_chart_trains_inside_and_leaves_a_plain_model(set, kind):
    torch.manual_seed(0)
    model = Model()
    keys, plain = list(model.state_dict()), copy.deepcopy(model)
    original = model.weight
    problem = fs.Problem(model)
    problem.constrain("weight", set, by=fs.Reparametrize(kind))
    assert bool(set.contains(model.weight.detach()).all())
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.1))
    start = model.weight.detach().clone()
    train(model, problem, optimizer, steps=30)
    trained = model.weight.detach().clone()
    assert not torch.equal(start, trained)
    assert bool(set.contains(trained).all())
    report = problem.report()["weight"]
    assert report.guarantee == "by construction"
    assert report.saturation is not None

    ahead = problem.feasible_state_dict()
    present = {key: value.clone() for key, value in model.state_dict().items()}
    assert list(ahead) == keys
    assert all(torch.equal(value, present[key]) for key, value in model.state_dict().items())

    problem.finish()
    state = model.state_dict()
    assert list(state) == keys
    assert all(torch.equal(state[key], ahead[key]) for key in keys)
    assert torch.equal(model.weight, trained)
    assert model.weight is original
    assert type(model) is Model
    plain.load_state_dict(state)
    x = torch.randn(4, 3)
    assert torch.equal(plain(x), model(x))
    assert problem.report()["weight"].worst_violation == 0
    pickle.loads(pickle.dumps(model))
    assert copy.deepcopy(model).state_dict().keys() == state.keys()


def test_several_weights_of_one_module_in_any_order():
    for patterns in (("weight", "first"), ("first", "weight"), ("last", "inner.*", "first")):
        model = Model()
        keys = list(model.state_dict())
        problem = fs.Problem(model)
        handles = [problem.constrain(p, fs.NonNegative(), by=fs.Reparametrize("exp")) for p in patterns]
        assert list(problem.feasible_state_dict()) == keys
        handles[0].remove()
        assert list(problem.feasible_state_dict()) == keys
        problem.finish()
        assert list(model.state_dict()) == keys
        assert not any("feasible" in name for name in vars(model))


def test_the_users_own_parametrizations_stay():
    model = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2))
    keys = list(model.state_dict())
    problem = fs.Problem(model)
    problem.constrain("bias", fs.NonNegative(), by=fs.Reparametrize("softplus"))
    assert sorted(problem.feasible_state_dict()) == sorted(keys)
    problem.finish()
    assert sorted(model.state_dict()) == sorted(keys)


@pytest.mark.parametrize(
    "make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.LBFGS], ids=lambda m: m.__name__
)
def test_the_optimizer_goes_on_with_the_plain_weight_and_fresh_moments(make):
    torch.manual_seed(0)
    model = Model()
    problem = fs.Problem(model)
    problem.constrain("weight", fs.NonNegative(), by=fs.Reparametrize("softplus"))
    optimizer = problem.attach(make(model.parameters(), lr=0.1))
    x = torch.randn(16, 3)

    def closure():
        optimizer.zero_grad()
        loss = problem.loss((model(x) - 3 * x[:, :2]).square().mean())
        loss.backward()
        return loss

    optimizer.step(closure)
    problem.finish()
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert any(p is model.weight for p in held)
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    assert model.weight not in optimizer.state
    before = model.weight.detach().clone()
    optimizer.step(closure)
    assert not torch.equal(before, model.weight)


def test_removing_the_constraint_does_the_same():
    model = Model()
    problem = fs.Problem(model)
    handle = problem.constrain("weight", fs.NonNegative(), by=fs.Reparametrize("softplus"))
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    train(model, problem, optimizer)
    value = model.weight.detach().clone()
    handle.remove()
    assert torch.equal(model.weight, value)
    assert "weight" in dict(model.named_parameters())
    train(model, problem, optimizer)
    assert not torch.equal(model.weight, value)
    assert not problem.report().rows


def test_stale_optimizers_are_refused():
    model = Model()
    optimizer = torch.optim.Adam(model.parameters())
    problem = fs.Problem(model)
    problem.constrain("weight", fs.NonNegative(), by=fs.Reparametrize())
    with pytest.raises(
        ValueError, match=r"Adam holds parameters that a reparametrization has replaced: weight"
    ):
        problem.attach(optimizer)
    with pytest.raises(ValueError, match="none of the model's parameters"):
        problem.attach(torch.optim.Adam(Model().parameters()))


def test_a_chart_cannot_come_after_the_optimizer():
    model = Model()
    problem = fs.Problem(model)
    problem.attach(torch.optim.Adam(model.parameters()))
    with pytest.raises(ValueError, match=r"attached Adam already holds the old ones(?s:.*)Constrain first"):
        problem.constrain("weight", fs.NonNegative(), by=fs.Reparametrize())
    assert isinstance(model.weight, torch.nn.Parameter)
    problem.constrain("weight", fs.NonNegative())  # in place: any time


def test_bare_tensors_cannot_be_reparametrized():
    problem = fs.Problem([torch.zeros(2, requires_grad=True)])
    with pytest.raises(fs.UnsupportedError, match="bare tensors"):
        problem.constrain("0", fs.NonNegative(), by=fs.Reparametrize())


def test_switching_a_chart_off_is_refused():
    problem = fs.Problem(Model())
    handle = problem.constrain("weight", fs.NonNegative(), by=fs.Reparametrize())
    with pytest.raises(ValueError, match="remove"):
        handle.enabled = False
    assert handle.enabled


@pytest.mark.parametrize("kind", ["abs", "softplus"])
def test_deep_copies_of_the_model_are_independent(kind):
    model = Model()
    problem = fs.Problem(model)
    problem.constrain("weight", fs.NonNegative(), by=fs.Reparametrize(kind))
    twin = copy.deepcopy(model)
    x = torch.randn(4, 3)
    assert torch.equal(twin(x), model(x))
    before = twin(x).detach().clone()
    train(model, problem, problem.attach(torch.optim.SGD(model.parameters(), lr=0.1)))
    assert torch.equal(twin(x), before)
    other = fs.Problem(twin)
    assert "weight.original" in other.slots  # another problem's coordinates are just parameters
    problem.finish()
    assert torch.equal(twin(x), before)


def test_an_averaged_model_outlives_the_problem():
    model = Model()
    problem = fs.Problem(model)
    problem.constrain("weight", fs.NonNegative(), by=fs.Reparametrize("softplus"))
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    average = torch.optim.swa_utils.AveragedModel(model)
    for _ in range(3):
        train(model, problem, optimizer)
        average.update_parameters(model)
    x = torch.randn(4, 3)
    before = average(x).detach()
    problem.finish()
    assert torch.equal(average(x), before)


def test_a_copy_does_not_gain_the_charts_of_later_constraints():
    model = Model()
    problem = fs.Problem(model)
    problem.constrain("weight", fs.NonNegative(), by=fs.Reparametrize("softplus"))
    twin = copy.deepcopy(model)
    problem.constrain("first", fs.NonNegative(), by=fs.Reparametrize("softplus"))
    assert isinstance(twin.first, torch.nn.Parameter)
    twin(torch.randn(4, 3)).sum().backward()


def test_initialisation_is_kept_where_the_chart_allows_it():
    model = Model()
    with torch.no_grad():
        model.weight.abs_()
    before = model.weight.detach().clone()
    problem = fs.Problem(model)
    problem.constrain("weight", fs.NonNegative(), by=fs.Reparametrize())
    assert torch.equal(model.weight, before)  # the default keeps every bit
    assert problem.report()["weight"].moved == 0


# -- saturation ---------------------------------------------------------------------------------------

# kind, set, a latent deep in the flat part, and the sign of the gradient on the weight that calls it back
DEAD = [
    ("softplus", fs.NonNegative(), -30.0, -1.0),
    ("exp", fs.NonNegative(), -30.0, -1.0),
    ("relu", fs.NonNegative(), -3.0, -1.0),
    ("square", fs.NonNegative(), 1e-9, -1.0),
    ("sigmoid", fs.Box(0, 1), -25.0, -1.0),
    ("sigmoid", fs.Box(0, 1), 15.0, 1.0),
    ("tanh", fs.Box(0, 1), -8.0, -1.0),
    ("tanh", fs.Box(0, 1), 8.0, 1.0),
]


def saturated_model(kind, set, latent, revive):
    model = torch.nn.Linear(3, 1, bias=False)
    problem = fs.Problem(model)
    problem.constrain("weight", set, by=fs.Reparametrize(kind, revive=revive))
    with torch.no_grad():
        model.parametrizations.weight.original.fill_(latent)
    return model, problem


@pytest.mark.parametrize(("kind", "set", "latent", "sign"), DEAD)
@pytest.mark.parametrize("revive", [False, True])
def test_dead_entries_are_reported_and_revived(kind, set, latent, sign, revive):
    model, problem = saturated_model(kind, set, latent, revive)
    row = problem.report()["weight"]
    assert row.saturation == 1.0
    assert "revive=True" in row.diagnosis
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.05))
    middle = 0.5

    # The task wants the weights in the middle of the range now.
    for _ in range(200):
        optimizer.zero_grad()
        problem.loss((model.weight - middle).square().sum()).backward()
        optimizer.step()
    came_back = bool(((model.weight - middle).abs() < 0.1).all())
    if revive:
        assert came_back
        assert problem.report()["weight"].saturation == 0
    else:
        assert not came_back or kind in ("square", "sigmoid", "tanh")  # Adam lifts what is not wholly flat


@pytest.mark.parametrize("kind", ["softplus", "exp", "relu", "sigmoid"])
def test_revived_entries_do_not_leave_a_bound_that_they_should_keep(kind):
    set = fs.Box(0, 1) if kind == "sigmoid" else fs.NonNegative()
    model, problem = saturated_model(kind, set, 0.5, True)
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.1))
    for _ in range(300):
        optimizer.zero_grad()
        problem.loss(model.weight.sum()).backward()  # down, always
        optimizer.step()
    assert float(model.weight.detach().max()) < 0.02


def test_the_default_chart_of_the_orthant_does_not_saturate():
    torch.manual_seed(0)
    model = Model()
    problem = fs.Problem(model)
    problem.constrain("*weight", fs.NonNegative(), by=fs.Reparametrize())
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.5))
    for sign in (1, -1):
        for _ in range(200):
            optimizer.zero_grad()
            problem.loss(sign * model.weight.sum()).backward()
            optimizer.step()
        assert problem.report()["weight"].saturation == 0
    assert float(model.weight.detach().min()) > 1  # it came back without help


def test_saturation_is_remembered_by_the_final_report():
    _, problem = saturated_model("softplus", fs.NonNegative(), -30.0, False)
    problem.finish()
    assert problem.report()["weight"].saturation == 1.0


# -- beside other methods -----------------------------------------------------------------------------


def test_soft_constraints_act_on_the_weight_not_on_its_coordinates():
    model = Model().double()
    problem = fs.Problem(model)
    problem.constrain("weight", fs.NonNegative(), by=fs.Reparametrize("exp"))
    handle = problem.constrain("weight", fs.SumTo(1.0), by=fs.AugmentedLagrangian(), name="sum")
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.02))
    a = target()
    for _ in range(2500):
        optimizer.zero_grad()
        problem.loss(0.5 * (model.weight - a).square().sum()).backward()
        optimizer.step()
    nearest = fs.Simplex().project(a)
    torch.testing.assert_close(model.weight.detach(), nearest, atol=1e-3, rtol=0)
    assert handle.violation < 1e-4


def test_revival_under_a_line_search_is_refused():
    model = Model()
    problem = fs.Problem(model)
    problem.constrain("weight", fs.NonNegative(), by=fs.Reparametrize("softplus", revive=True))
    with pytest.raises(fs.UnsupportedError, match="LBFGS"):
        problem.attach(torch.optim.LBFGS(model.parameters()))


def test_two_methods_that_move_one_weight():
    moving = [fs.Project(), fs.Reparametrize("softplus"), fs.Barrier()]
    for first in moving:
        for second in moving:
            problem = fs.Problem(Model())
            problem.constrain("weight", fs.NonNegative(), by=first)
            with pytest.raises(
                ValueError, match=r"already held(?s:.*)\(NonNegative\(\)\) & \(Box\(upper=1\)\)"
            ):
                problem.constrain("weight", fs.Box(upper=1.0), by=second)
            problem.constrain("weight", fs.Box(upper=1.0), by=fs.Penalty(1.0))
            problem.constrain("weight", fs.Box(upper=1.0), by=fs.AugmentedLagrangian())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("before", [True, False])
def test_moving_the_model_to_another_dtype(dtype, before):
    model = Model()
    if before:
        model.to(dtype)
    problem = fs.Problem(model)
    problem.constrain("weight", fs.Box(-1, 1), by=fs.Reparametrize())
    problem.constrain("first", fs.Simplex())
    problem.constrain("last", fs.Box(torch.tensor([-0.1, 0.0]), torch.tensor([0.1, 0.2])))
    problem.constrain("inner.weight", fs.NonNegative(), by=fs.AugmentedLagrangian())
    problem.constrain("inner.bias", fs.Box(0, 1), by=fs.SquaredSlack())
    problem.freeze("inner.weight", MASK)
    model.to(dtype)
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.01))
    for _ in range(3):
        optimizer.zero_grad()
        x = torch.randn(16, 3, dtype=dtype)
        problem.loss((model(x) - x[:, :2]).square().mean()).backward()
        optimizer.step()
    wide = torch.promote_types(dtype, torch.float32)
    assert all(value.dtype == wide for c in problem.constraints for value in c.state.values())
    problem.finish()
    assert all(p.dtype == dtype for p in model.parameters())
    assert problem.report()["first"].worst_violation == 0
    assert problem.report()["weight"].worst_violation == 0


def test_float64_is_really_used():
    model = Model().double()
    problem = fs.Problem(model)
    problem.constrain("weight", fs.Box(-1, 1), by=fs.Reparametrize("tanh"))
    assert model.weight.dtype == F64
