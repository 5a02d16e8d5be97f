"""Exact multipliers: contraction, KKT points, the study's formula, forms, Jacobians from graphs, refusals."""

import copy

import cvxpy as cp
import pytest
import torch
from torch import nn

import feasible as fs
from feasible.methods.multiplier_system import solve
from feasible.optim.graph import GraphRows
from feasible.optim.per_sample import NotPerSampleError

# torch.func imports it where forward mode is first used.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

F64 = torch.float64
OPTIMIZERS = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}, 3.0),
    "momentum": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}, 3.0),
    "Nesterov": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}, 3.0),
    "Adam": (torch.optim.Adam, {"lr": 1e-2}, 20.0),
    "AMSGrad": (torch.optim.Adam, {"lr": 1e-2, "amsgrad": True}, 20.0),
    "AdamW": (torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.0}, 20.0),
    "RMSprop": (torch.optim.RMSprop, {"lr": 1e-3, "centered": True}, 20.0),
    "Adagrad": (torch.optim.Adagrad, {"lr": 0.1}, 2.0),
}


class Quadratic:
    """min ½ xᵀQx − cᵀx with Ax − b in a set."""

    def __init__(self, method, make, set=None, rows=4, dtype=F64, A=None, seed=0, **options):
        generator = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=F64)  # noqa: E731
        self.Q, self.c = torch.eye(12, dtype=F64) + (lambda M: M @ M.T / 12)(draw(12, 12)), draw(12)
        self.A = draw(rows, 12) if A is None else A
        self.b = self.A @ draw(12)
        self.x = draw(12).to(dtype).requires_grad_()
        self.Q, self.c, self.A, self.b = (part.to(dtype) for part in (self.Q, self.c, self.A, self.b))
        self.problem = fs.Problem([self.x])
        self.handle = self.problem.require("r", set or fs.Equal(0.0), by=method, **options)
        self.optimizer = self.problem.attach(make([self.x]))

    def residual(self):
        return self.A @ self.x - self.b

    def task(self):
        return self.x @ self.Q @ self.x / 2 - self.c @ self.x

    def step(self):
        self.optimizer.zero_grad()
        self.problem.loss(self.task(), r=self.residual()).backward()
        self.optimizer.step()

    def run(self, steps, solved=lambda: False):
        """So many steps, or fewer once it is solved."""
        for step in range(steps):
            if step % 20 == 19 and solved():
                break
            self.step()
        return self

    def solution(self):
        m = len(self.A)
        K = torch.cat(
            [torch.cat([self.Q, self.A.T], 1), torch.cat([self.A, torch.zeros(m, m, dtype=F64)], 1)]
        )
        found = torch.linalg.solve(K, torch.cat([self.c, self.b]))
        return found[:12], found[12:]


def sgd(lr):
    return lambda parameters: torch.optim.SGD(parameters, lr=lr)


def test_one_step_of_rate_one_lands_on_the_constraint():
    trial = Quadratic(fs.ExactMultipliers(1.0, 0.0), sgd(1.0)).run(1)
    assert trial.residual().abs().max() < 1e-12


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_residuals_contract_by_the_wanted_factor(name):
    kind, options, rate = OPTIMIZERS[name]
    trial = Quadratic(fs.ExactMultipliers(rate, 0.0), lambda p: kind(p, **options))
    for _ in range(5):
        before = trial.residual().detach()
        trial.step()
        assert torch.allclose(trial.residual(), (1 - rate * options["lr"]) * before, rtol=1e-9, atol=1e-12)


LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("AMSGrad", "Adagrad")]


@pytest.mark.parametrize("name", ["SGD", "momentum", "Nesterov", "Adam", *LONG])
def test_the_rest_point_is_the_solution_with_its_multiplier(name):
    kind, options, rate = OPTIMIZERS[name]
    trial = Quadratic(fs.ExactMultipliers(rate), lambda p: kind(p, **options))
    x, multiplier = trial.solution()

    def solved():
        pairs = ((trial.x.detach(), x), (trial.handle.multiplier, multiplier))
        return all(float((got - wanted).abs().max()) < 2e-5 for got, wanted in pairs)

    trial.run(1500, solved)
    assert torch.allclose(trial.x, x, atol=1e-4)
    assert torch.allclose(trial.handle.multiplier, multiplier, atol=1e-4)


def test_a_rate_that_is_left_out_takes_a_tenth_away():
    trial = Quadratic(fs.ExactMultipliers(), sgd(0.05))
    before = trial.residual().detach()
    assert torch.allclose(trial.run(1).residual(), 0.9 * before, atol=1e-5)


def test_groups_with_rates_of_their_own_contract_all_the_same():
    x, y = (
        torch.tensor([2.0], dtype=F64, requires_grad=True),
        torch.tensor([3.0], dtype=F64, requires_grad=True),
    )
    problem = fs.Problem([x, y])
    problem.require("r", fs.Equal(1.0), by=fs.ExactMultipliers(2.0, 0.0))
    optimizer = problem.attach(torch.optim.SGD([{"params": [x], "lr": 0.1}, {"params": [y], "lr": 0.01}]))
    problem.loss(x.square().sum() + y.square().sum(), r=(x * 1 + y)).backward()
    optimizer.step()
    assert (x + y - 1).item() == pytest.approx(4 * (1 - 0.2))


# -- the study's form ---------------------------------------------------------------------------------


def network(dtype=F64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 7), nn.Tanh(), nn.Linear(7, 1)).to(dtype)


def helmholtz(model, x):
    x = x.clone().requires_grad_()
    u = model(x)
    (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), x, create_graph=True)
    return second[:, 0] + 4 * u[:, 0]


def study(model, task, value):
    """A gradient for each scalar, ``∇f + Jᵀ (J Jᵀ)⁻¹ (g − J ∇f)``."""
    parameters = list(model.parameters())

    def flat(output):
        found = torch.autograd.grad(output, parameters, create_graph=True, allow_unused=True)
        return torch.cat(
            [(torch.zeros_like(p) if g is None else g).reshape(-1) for p, g in zip(parameters, found)]
        )

    J, f = torch.stack([flat(row) for row in value]), flat(task)
    return (f + J.T @ torch.linalg.solve(J @ J.T, value - J @ f)).detach(), J


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_the_study_s_gradient(kind):
    model, x = network(), torch.randn(9, 2, dtype=F64)
    expected, _ = study(model, model(x).square().mean(), helmholtz(model, x))
    problem = fs.Problem(model)
    by = fs.ExactMultipliers(1.0, 0.0, preconditioner="identity")
    problem.require("r", fs.Equal(0.0), by=by)
    optimizer = problem.attach(kind(model.parameters(), lr=1e-3))
    problem.loss(model(x).square().mean(), r=helmholtz(model, x)).backward()
    optimizer.step()
    got = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    assert torch.allclose(got, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


def test_plain_gradient_steps_are_the_study_s_too():
    model, x = network(), torch.randn(9, 2, dtype=F64)
    start = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    expected, _ = study(model, model(x).square().mean(), helmholtz(model, x))
    problem = fs.Problem(model)
    problem.require("r", fs.Equal(0.0), by=fs.ExactMultipliers(1.0, 0.0))
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=1e-3))
    problem.loss(model(x).square().mean(), r=helmholtz(model, x)).backward()
    optimizer.step()
    now = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    assert torch.allclose((start - now) / 1e-3, expected, rtol=1e-7, atol=1e-7)


def test_multipliers_of_no_loss_do_not_see_it():
    trial = Quadratic(fs.ExactMultipliers(2.0, 0.0, projecting=False), sgd(0.1))
    g = trial.residual().detach()
    trial.step()
    expected = torch.linalg.solve(trial.A @ trial.A.T, 2.0 * g)
    assert torch.allclose(trial.handle.multiplier, expected)


def test_broyden_s_jacobian_is_exact_where_the_value_is_linear_and_learns_where_it_is_not():
    linear = Quadratic(fs.ExactMultipliers(2.0, 0.0, jacobian="broyden"), sgd(0.1)).run(200)
    assert linear.residual().abs().max() < 1e-12
    x = torch.tensor([2.0, 0.5], dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    problem.require("circle", fs.Equal(1.0), by=fs.ExactMultipliers(2.0, jacobian="broyden"))
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.1))
    Y = s = last = None
    for step in range(3):
        y = x.square().sum().detach()
        optimizer.zero_grad()
        problem.loss(x.sum() * 0.1, circle=x.square().sum()).backward()
        known = problem.constraints[0].linearised.records[-1].jacobian.flatten()
        Y = 2 * x.detach() if Y is None else Y + (y - last - Y @ s) * s / (s @ s)
        assert torch.allclose(known, Y), step
        before, last = x.detach().clone(), y
        optimizer.step()
        s = x.detach() - before


# -- rank, inequalities, forms ------------------------------------------------------------------------


REPEATED = [
    pytest.param(dtype, options, id=f"{options}-{name}", marks=[pytest.mark.slow] if is_further else [])
    for options in ({}, {"damping": 1e-3}, {"truncation": 1e-4}, {"damping": 0.0})
    for dtype, name, is_further in ((torch.float32, "float32", bool(options)), (F64, "float64", False))
]


@pytest.mark.parametrize(("dtype", "options"), REPEATED)
def test_repeated_rows_are_no_trouble(dtype, options):
    A = torch.randn(4, 12, dtype=F64, generator=torch.Generator().manual_seed(3))
    trial = Quadratic(
        fs.ExactMultipliers(2.0, **options),
        lambda p: torch.optim.Adam(p, lr=0.02),
        A=torch.cat([A, A[:2]]),
        dtype=dtype,
    ).run(400)
    # Damping holds back μλ/κ of each residual.
    assert trial.residual().abs().max() < (1e-2 if dtype == torch.float32 or options.get("damping") else 1e-6)
    assert "6 rows had numerical rank 4" in trial.problem.report().rows[0].diagnosis


def test_rows_that_contradict_each_other_meet_in_the_middle():
    x = torch.tensor([3.0], requires_grad=True)
    problem = fs.Problem([x])
    problem.require("both", fs.Equal(torch.tensor([0.0, 1.0])), by=fs.ExactMultipliers())
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.1))
    for _ in range(200):
        optimizer.zero_grad()
        problem.loss(x.square().sum(), both=x.expand(2) * 1).backward()
        optimizer.step()
    assert x.item() == pytest.approx(0.5, abs=1e-2)


@pytest.mark.parametrize(
    ("rows", "name"),
    [(6, "SGD"), (6, "Adam"), (15, "SGD"), pytest.param(15, "Adam", marks=pytest.mark.slow)],
)
def test_inequalities_find_the_solution_of_cvxpy(name, rows):
    kind, options, _ = OPTIMIZERS[name]
    lr = 5 * options["lr"] if name == "Adam" else options["lr"]
    trial = Quadratic(fs.ExactMultipliers(5.0), lambda p: kind(p, lr=lr), fs.Box(-0.5, 0.1), rows=rows)
    z = cp.Variable(12)
    value = trial.A.numpy() @ z - trial.b.numpy()
    bounds = [value <= 0.1, value >= -0.5]
    cost = cp.quad_form(z, cp.psd_wrap(trial.Q.numpy())) / 2 - trial.c.numpy() @ z
    cp.Problem(cp.Minimize(cost), bounds).solve(solver=cp.CLARABEL)
    solution, expected = torch.tensor(z.value), torch.tensor(bounds[0].dual_value - bounds[1].dual_value)

    def solved():
        off = float((trial.handle.multiplier - expected).abs().max()) if rows < 12 else 0.0
        return off < 1e-3 and float((trial.x.detach() - solution).abs().max()) < 1e-4

    trial.run(600, solved)
    assert torch.allclose(trial.x, solution, atol=1e-3)
    if rows < 12:
        assert torch.allclose(trial.handle.multiplier, expected, atol=1e-2)


@pytest.mark.parametrize(
    "set", [fs.L2Ball(0.3), fs.Simplex(), fs.SumTo(1.0), fs.FiniteSet([-1, 0, 1])], ids=repr
)
def test_sets_that_tie_entries_are_reached(set):
    trial = Quadratic(fs.ExactMultipliers(2.0), sgd(0.1), set)
    trial.run(400, lambda: float(set.distance(trial.residual().detach()).max()) < 0.005)
    assert set.distance(trial.residual().detach()).max() < 0.05


def test_each_sample_has_its_own_multiplier_and_the_forces_are_averaged():
    model, x = network(), torch.randn(5, 2, dtype=F64)
    task = lambda: model(x).square().mean()  # noqa: E731
    _, J = study(model, task(), helmholtz(model, x))
    f = torch.cat([g.reshape(-1) for g in torch.autograd.grad(task(), model.parameters())])
    g = helmholtz(model, x).detach()
    multiplier = (1.5 * g - J.detach() @ f) / J.detach().square().sum(1)
    expected = f + J.detach().T @ multiplier / 5
    problem = fs.Problem(model)
    handle = problem.require("r", fs.Equal(0.0), by=fs.ExactMultipliers(1.5, 0.0), per="sample")
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=1e-2))
    problem.loss(task(), r=helmholtz(model, x)).backward()
    optimizer.step()
    got = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    assert torch.allclose(got, expected, atol=1e-8)
    assert torch.allclose(handle.multiplier, multiplier, atol=1e-8)
    assert "1 row had numerical rank 1 in the last step (the least of 5 samples)" in str(problem.report())


@pytest.mark.parametrize("reduction", [2.0, 4, "huber"])
def test_reductions_are_one_constraint(reduction):
    model, x = network(), torch.randn(20, 2, dtype=F64)
    problem = fs.Problem(model)
    by = fs.ExactMultipliers(5.0)
    handle = problem.require("r", fs.Equal(0.0), by=by, per="sample", reduction=reduction)
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.02))
    first = helmholtz(model, x).square().mean()
    for _ in range(60):
        optimizer.zero_grad()
        problem.loss(model(x).square().mean() * 0, r=helmholtz(model, x)).backward()
        optimizer.step()
    assert helmholtz(model, x).square().mean() < 0.1 * first
    assert handle.multiplier.shape == ()


def test_batches_of_any_size_as_one_system():
    model = network()
    problem = fs.Problem(model)
    handle = problem.require("r", fs.Equal(0.0), by=fs.ExactMultipliers(5.0, form="batch"), per="sample")
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.02))
    for size in (7, 3, 7):
        x = torch.randn(size, 2, dtype=F64)
        optimizer.zero_grad()
        value = helmholtz(model, x)
        problem.loss(model(x).square().mean(), r=value).backward()
        optimizer.step()
        assert handle.multiplier.shape == (size,)
        assert helmholtz(model, x).norm() < value.norm()


def test_several_constraints_are_solved_together():
    halves = Quadratic(fs.ExactMultipliers(3.0, 0.0), sgd(0.1))
    whole = Quadratic(fs.ExactMultipliers(3.0, 0.0), sgd(0.1))
    halves.handle.remove()
    for name in ("a", "b"):
        halves.problem.require(name, fs.Equal(0.0), by=fs.ExactMultipliers(3.0, 0.0))
    for _ in range(20):
        whole.step()
        halves.optimizer.zero_grad()
        r = halves.residual()
        halves.problem.loss(halves.task(), a=r[:2], b=1000 * r[2:]).backward()
        halves.optimizer.step()
    assert torch.allclose(halves.x, whole.x, atol=1e-10)


# -- the loop -----------------------------------------------------------------------------------------


def test_micro_batches_are_one_step():
    trial, split = (Quadratic(fs.ExactMultipliers(3.0), sgd(0.1)) for _ in range(2))
    trial.run(3)
    for _ in range(3):
        split.optimizer.zero_grad()
        for share in (0.25, 0.75):
            split.problem.loss(split.task() * share, r=split.residual()).backward()
        split.optimizer.step()
    assert torch.allclose(split.x, trial.x)


def test_clipping_leaves_the_contraction_alone():
    trial = Quadratic(fs.ExactMultipliers(3.0, 0.0), sgd(0.1))
    before = trial.residual().detach()
    trial.problem.loss(trial.task(), r=trial.residual()).backward()
    nn.utils.clip_grad_norm_([trial.x], 1e-3)
    trial.optimizer.step()
    assert torch.allclose(trial.residual(), 0.7 * before)


def test_closures_that_run_once_are_steps():
    trial, plain = (Quadratic(fs.ExactMultipliers(3.0), sgd(0.1)) for _ in range(2))
    plain.step()

    def closure():
        trial.optimizer.zero_grad()
        loss = trial.problem.loss(trial.task(), r=trial.residual())
        loss.backward()
        return loss

    trial.optimizer.step(closure)
    assert torch.equal(trial.x, plain.x)


def test_losses_that_were_not_backpropagated_do_not_count():
    trial, plain = (Quadratic(fs.ExactMultipliers(3.0), sgd(0.1)) for _ in range(2))
    trial.problem.loss(trial.task(), r=trial.residual() + 100)
    trial.step()
    plain.step()
    assert torch.equal(trial.x, plain.x)


def test_frozen_weights_stay_and_the_others_do_it_alone():
    model, x = network(), torch.randn(6, 2, dtype=F64)
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    problem = fs.Problem(model)
    problem.require("u", fs.Equal(0.0), by=fs.ExactMultipliers(5.0))
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.01))
    first = model(x).norm()
    for _ in range(100):
        optimizer.zero_grad()
        problem.loss((model(x) - 1).square().mean(), u=model(x)).backward()
        optimizer.step()
    assert torch.equal(model[0].weight, before)
    assert model(x).norm() < 0.05 * first


def test_a_nan_moves_nothing_by_the_constraint_and_is_counted():
    trial = Quadratic(fs.ExactMultipliers(3.0), sgd(0.1))
    trial.problem.loss(trial.x.sum() * 0, r=trial.residual() * torch.tensor(float("nan"))).backward()
    before = trial.x.detach().clone()
    trial.optimizer.step()
    assert torch.equal(trial.x, before)
    assert trial.problem.report().rows[0].nonfinite == 1


def test_a_resumed_training_goes_on_as_it_would():
    make = lambda p: torch.optim.Adam(p, lr=0.01)  # noqa: E731
    trial, resumed = (Quadratic(fs.ExactMultipliers(3.0), make) for _ in range(2))
    trial.run(5)
    saved = copy.deepcopy(trial.optimizer.state_dict())
    resumed.x.data.copy_(trial.x)
    resumed.optimizer.load_state_dict(saved)
    assert torch.equal(trial.run(5).x, resumed.run(5).x)


# -- Jacobians from graphs ----------------------------------------------------------------------------


def derivative(model, x):
    """By forward mode under vmap."""
    along = torch.eye(2, dtype=x.dtype)[:, None].expand(2, *x.shape)
    return torch.vmap(lambda t: torch.func.jvp(model, (x,), (t,))[1])(along).sum(0)


VALUES = {
    "outputs": lambda model, x: model(x),
    "Helmholtz": helmholtz,
    "forward mode": derivative,
    "shuffled": lambda model, x: model(x)[torch.randperm(len(x))],
    "centred": lambda model, x: model(x) - model(x).mean(),
    "centred slope": lambda model, x: (
        derivative(model, x) - derivative(model, x).mean()
    ),  # no trace of the last bias
    "joined": lambda model, x: torch.cat([helmholtz(model, x), model(x)[:3, 0]]),
    "nonlinear in a weight": lambda model, x: model(x) * model[2].bias.exp(),
}


@pytest.mark.parametrize("name", VALUES)
def test_rows_are_those_of_single_backward_passes(name):
    model = network()
    parameters = list(model.parameters())
    rows = GraphRows(parameters)
    for seed in range(4):
        torch.manual_seed(seed)
        value = VALUES[name](model, torch.randn(6, 2, dtype=F64)).reshape(-1)
        expected = torch.stack(
            [
                torch.cat(
                    [
                        part.reshape(-1)
                        for part in torch.autograd.grad(
                            row, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
                        )
                    ]
                )
                for row in value
            ]
        )
        try:
            found = rows.rows(value)
        except NotPerSampleError:
            assert name in ("centred", "centred slope", "nonlinear in a weight")
        else:
            assert torch.allclose(found, expected, atol=1e-12)
            assert not name.startswith("centred")


@pytest.mark.parametrize("name", VALUES)
def test_every_kind_of_value_contracts(name):
    model, x = network(), torch.randn(6, 2, dtype=F64)
    problem = fs.Problem(model)
    problem.require("v", fs.Equal(0.1), by=fs.ExactMultipliers(10.0))
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=1e-4))
    torch.manual_seed(1)
    before = VALUES[name](model, x)
    problem.loss(model(x).square().mean(), v=before).backward()
    optimizer.step()
    torch.manual_seed(1)
    after = VALUES[name](model, x)
    moved = (after - 0.1) - (1 - 1e-3) * (before - 0.1)
    if name.startswith("centred"):  # their sum cannot move
        moved = moved - moved.mean()
    assert moved.norm() < 0.05 * 1e-3 * (before - 0.1).norm()


@pytest.mark.parametrize(("rows", "columns"), [(4, 9), (9, 4)])
def test_both_sides_of_a_system_give_the_same_force(rows, columns):
    A = torch.randn(1, rows, columns, dtype=F64, generator=torch.Generator().manual_seed(0))
    b = torch.randn(1, rows, dtype=F64, generator=torch.Generator().manual_seed(1))
    found = solve(A, b, 1e-3, None)
    expected = A.mT @ torch.linalg.solve(A @ A.mT + 1e-3 * torch.eye(rows, dtype=F64), b.unsqueeze(-1))
    assert torch.allclose(found.force.unsqueeze(-1), expected, atol=1e-9)
    assert torch.allclose(A.mT @ found.multiplier.unsqueeze(-1), expected, rtol=1e-2, atol=1e-2)


# -- what is refused ----------------------------------------------------------------------------------


def declare(**options):
    problem = fs.Problem([torch.zeros(2, requires_grad=True)])
    problem.require("v", fs.Equal(0.0), by=options.pop("by", fs.ExactMultipliers()), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per": "index", "size": 4}, "keeps no multipliers between steps"),
        ({"by": fs.ExactMultipliers(form="sample")}, 'form="sample" needs per="sample"'),
        ({"average": 0.9}, "average=0.9 has no place"),
    ],
    ids=["index", "form", "average"],
)
def test_declarations_that_have_no_meaning(options, message):
    with pytest.raises((ValueError, fs.UnsupportedError), match=message):
        declare(**options)


def test_weights_are_for_other_methods():
    problem = fs.Problem([torch.zeros(2, requires_grad=True)])
    with pytest.raises(fs.UnsupportedError, match="Project or Reparametrize"):
        problem.constrain("0", fs.NonNegative(), by=fs.ExactMultipliers())


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, torch.optim.NAdam, fs.optim.ProjectedLBFGS])
def test_optimizers_whose_metric_is_unknown(kind):
    with pytest.raises(fs.UnsupportedError, match="metric of the optimizer's own steps"):
        Quadratic(fs.ExactMultipliers(), kind)


def test_a_rate_that_would_make_residuals_grow():
    trial = Quadratic(fs.ExactMultipliers(30.0), sgd(0.1))
    before = trial.x.detach().clone()
    with pytest.raises(ValueError, match="Give a rate below 10"):
        trial.step()
    assert torch.equal(trial.x, before)
