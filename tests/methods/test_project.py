"""Projection: every convex set reaches its constrained optimum under every optimizer, and masks stay frozen."""

import functools

import cvxpy as cp
import numpy as np
import pytest
import torch
from method_tables import CONVEX_SETS, F64, FACES, ITERATIVE, MASK, OF_EACH_SORT, SETS, target

import feasible as fs

STEPS = 600
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.5),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.0),
    "fused": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
}


@functools.cache
def quadratic(shape=(2, 3)):
    """½(x − a)ᵀH(x − a) with a full Hessian of condition 10: per-entry step sizes lead elsewhere."""
    rng, size = torch.Generator().manual_seed(3), shape[0] * shape[1]
    q, _ = torch.linalg.qr(torch.randn(size, size, dtype=F64, generator=rng))
    H = q @ torch.diag(torch.logspace(-0.7, 0.3, size, dtype=F64)) @ q.T
    return H, target(5, shape)


def objective(x):
    H, a = quadratic(tuple(x.shape))
    difference = (x - a).reshape(-1)
    return 0.5 * difference @ H @ difference


def stationarity(x, set):
    y = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(y), y)
    return float((y.detach() - set.project(y.detach() - gradient)).norm())


def train(set, make, method=None, steps=STEPS, shape=(2, 3)):
    x = torch.zeros(shape, dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    problem.constrain("0", set, by=method)
    optimizer = problem.attach(make([x]))
    # Long enough at a high rate, then down to where rounding rules.
    falling = lambda step: 10 ** min(0.0, 6 - 10 * step / steps)  # noqa: E731
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, falling)
    for step in range(steps):
        optimizer.zero_grad()
        problem.loss(objective(x)).backward()
        optimizer.step()
        scheduler.step()
        if step % 50 == 49 and stationarity(x, problem.constraints[0].bound) <= 1e-7:
            break
    return x, problem


@functools.cache
def trained(name, optimizer):
    set, shape = CONVEX_SETS[name]
    return train(set, OPTIMIZERS[optimizer], shape=shape)


def is_slow(name, optimizer):
    """Iterations are; of most sets two optimizers are tried at once, and the others among the slow tests."""
    return name in ITERATIVE or (name not in OF_EACH_SORT and optimizer not in ("sgd", "adam"))


CASES = [
    pytest.param(name, optimizer, marks=[pytest.mark.slow] if is_slow(name, optimizer) else [])
    for name in CONVEX_SETS
    for optimizer in OPTIMIZERS
]


@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_every_set_reaches_its_optimum(name, optimizer):
    x, problem = trained(name, optimizer)
    set = problem.constraints[0].bound
    assert bool(set.contains(x.detach()).all())
    assert stationarity(x, set) <= 1e-5
    row = problem.report()["0"]
    assert row.stationarity <= 1e-5
    assert row.guarantee in ("exact", "projected")


def test_no_convex_set_is_forgotten():
    kinds = {getattr(fs.sets, name) for name in fs.sets.__all__} - {
        fs.sets.Set,
        fs.Frozen,
    }  # nothing to train
    convex = {kind for kind in kinds if kind.convex is True}
    assert convex | {fs.Where, fs.Flatten, fs.Intersection} <= {type(set) for set, _ in CONVEX_SETS.values()}


SOLVED = {
    "sum of absolute values": lambda x: [cp.norm1(x[row, :]) <= 1 for row in (0, 1)],
    "polyhedron": lambda x: [FACES.numpy() @ x[row, :] <= [1, 0.3, 0.2, 0.2, 0.2] for row in (0, 1)],
    "cone": lambda x: [cp.norm(x[row, :2]) <= x[row, 2] for row in (0, 1)],
    "increasing": lambda x: [cp.diff(x, axis=1) >= 0],
    "simplex of some": lambda x: [x[:, [0, 2]] >= 0, x[:, 0] + x[:, 2] == 1],
    "eigenvalues in a range": lambda x: [x == x.T, x + 0.5 * np.eye(3) >> 0, np.eye(3) - x >> 0],
    "largest singular value": lambda x: [cp.sigma_max(x) <= 0.8],
    "sum of singular values": lambda x: [cp.normNuc(x) <= 1],
    "doubly stochastic": lambda x: [x >= 0, cp.sum(x, axis=0) == 1, cp.sum(x, axis=1) == 1],
    "transport": lambda x: [x >= 0, cp.sum(x, axis=0) == 2 / 3, cp.sum(x, axis=1) == 1],
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ITERATIVE else []) for name in SOLVED]
)
def test_the_optimum_is_what_a_conic_solver_finds(name):
    x, _ = trained(name, "adam")
    H, a = quadratic(tuple(x.shape))
    found = cp.Variable(x.shape)
    root = np.linalg.cholesky(H.numpy()).T
    distance = root @ cp.vec(found - a.numpy(), order="C")
    problem = cp.Problem(cp.Minimize(cp.sum_squares(distance)), SOLVED[name](found))
    problem.solve(solver=cp.CLARABEL)
    torch.testing.assert_close(x.detach(), torch.from_numpy(found.value), atol=1e-4, rtol=0)


def test_without_tangent_gradients_adam_ends_at_a_wrong_point():
    right, _ = train(fs.SumTo(1.5), OPTIMIZERS["adam"])
    wrong, problem = train(fs.SumTo(1.5), OPTIMIZERS["adam"], fs.Project(tangent=False))
    set = problem.constraints[0].bound
    assert bool(set.contains(wrong.detach()).all())
    assert stationarity(wrong, set) > 0.05
    assert float(objective(wrong).detach()) > float(objective(right).detach()) + 0.01


RATES = [(fs.L2Ball(1.0, dim=None), 0.5), (fs.L2Ball(1.0, dim=None), 0.2), (SETS["intersection"], 0.3)]


@pytest.mark.parametrize(("set", "rate"), RATES, ids=str)
def test_plain_steps_at_any_stable_rate_are_projected_gradient_steps(set, rate):
    """They converge at a constant rate below 2/L, and follow the textbook's iteration to rounding."""
    x = torch.zeros(2, 3, dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    problem.constrain("0", set)
    bound = problem.constraints[0].bound
    optimizer = problem.attach(torch.optim.SGD([x], lr=rate))
    for _ in range(60):
        optimizer.zero_grad()
        problem.loss(objective(x)).backward()
        expected = bound.project(x.detach() - rate * x.grad)
        optimizer.step()
        torch.testing.assert_close(x.detach(), expected, atol=1e-9, rtol=0)
    assert stationarity(x, bound) < 1e-3


def test_parameter_groups_have_rates_of_their_own():
    tensors = [torch.zeros(3, dtype=F64, requires_grad=True) for _ in range(2)]
    problem = fs.Problem(tensors)
    problem.constrain("*", fs.L2Ball(1.0))
    groups = [{"params": [x], "lr": rate} for x, rate in zip(tensors, (0.05, 0.5), strict=True)]
    optimizer = problem.attach(torch.optim.SGD(groups))
    a = target()[0]
    for _ in range(5):
        optimizer.zero_grad()
        problem.loss(sum((x - a).square().sum() for x in tensors)).backward()
        expected = [
            fs.L2Ball(1.0).project(x.detach() - group["lr"] * x.grad)
            for x, group in zip(tensors, optimizer.param_groups, strict=True)
        ]
        optimizer.step()
        for x, wanted in zip(tensors, expected, strict=True):
            torch.testing.assert_close(x.detach(), wanted, atol=1e-9, rtol=0)


MOMENTS = ["keep", "tangent", "reset"]


@pytest.mark.parametrize("moments", MOMENTS)
@pytest.mark.parametrize("name", ["non-negative", "simplex", "ball", "masked"])
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_every_moment_policy_reaches_the_optimum(moments, name, optimizer):
    x, problem = train(SETS[name], OPTIMIZERS[optimizer], fs.Project(moments=moments))
    # Adam without a memory takes steps of the learning rate, whatever the gradient: it ends that close.
    least = 1e-4 if (moments, optimizer) == ("reset", "adam") else 1e-5
    assert stationarity(x, problem.constraints[0].bound) <= least


def steps_to_leave(make, moments, against=200):
    """Steps that a weight needs to leave a bound once its gradient flips."""
    x = torch.zeros(1, dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    problem.constrain("0", fs.NonNegative(), by=fs.Project(moments=moments))
    optimizer = problem.attach(make([x]))
    for step in range(against + 300):
        optimizer.zero_grad()
        problem.loss(x.sum() if step < against else -x.sum()).backward()
        optimizer.step()
        if step >= against and float(x.detach()) > 0:
            return step - against + 1
    return None


LEAVING = [
    # after 200 steps against the bound: YARDSTICKS has 7 for Adam and 63 for SGD with momentum .99
    ("adam", lambda p: torch.optim.Adam(p, lr=0.01), 7),
    ("sgd .99", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.99), 63),
]


@pytest.mark.parametrize(("name", "make", "steps"), LEAVING, ids=[row[0] for row in LEAVING])
def test_moments_delay_leaving_a_bound_and_policies_mend_it(name, make, steps):
    assert abs(steps_to_leave(make, "keep") - steps) <= 2
    assert steps_to_leave(make, "tangent") == 1
    assert steps_to_leave(make, "reset") == 1


def test_projection_at_every_third_step_and_at_the_end():
    x = torch.zeros(2, requires_grad=True)
    problem = fs.Problem([x])
    problem.constrain("0", fs.NonNegative(), by=fs.Project(every=3))
    optimizer = problem.attach(torch.optim.SGD([x], lr=1.0))
    outside = []
    for _ in range(7):
        optimizer.zero_grad()
        problem.loss(x.sum()).backward()
        optimizer.step()
        outside.append(bool((x < 0).any()))
    assert outside == [True, True, False, True, True, False, True]
    problem.finish()
    assert x.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["sum", "simplex", "ball", "non-negative"])
def test_every_third_step_still_finds_the_optimum(name):
    x, problem = train(SETS[name], OPTIMIZERS["sgd"], fs.Project(every=3))
    problem.finish()
    # Gradients are taken outside now and then, a rate's length away.
    assert stationarity(x, problem.constraints[0].bound) <= 2e-2


@pytest.mark.parametrize("name", ["sum", "simplex", "ball", "non-negative"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_ascent(name, optimizer):
    """maximize=True on −f is the same as minimising f, to the bit."""
    points = []
    for sign in (1, -1):
        x = torch.zeros(2, 3, dtype=F64, requires_grad=True)
        problem = fs.Problem([x])
        problem.constrain("0", SETS[name])
        made = OPTIMIZERS[optimizer]([x])
        made.param_groups[0]["maximize"] = sign < 0
        problem.attach(made)
        for _ in range(50):
            made.zero_grad()
            problem.loss(sign * objective(x)).backward()
            made.step()
        row = problem.report()["0"]
        points.append((x.detach(), row.stationarity, row.multiplier))
    torch.testing.assert_close(points[0][0], points[1][0], atol=1e-12, rtol=0)
    assert points[0][1:] == pytest.approx(points[1][1:], rel=1e-6)


def test_terms_are_never_maximised():
    x = torch.zeros(2, requires_grad=True)
    problem = fs.Problem([x])
    problem.constrain("0", fs.NonNegative(), by=fs.Penalty(1.0))
    with pytest.raises(fs.UnsupportedError, match=r"maximize=True(?s:.*)negative of the loss"):
        problem.attach(torch.optim.SGD([x], lr=0.1, maximize=True))
    other = fs.Problem([x])
    other.attach(torch.optim.SGD([x], lr=0.1, maximize=True))
    with pytest.raises(fs.UnsupportedError, match="maximize=True"):
        other.require("v", fs.NonNegative())


# -- masks --------------------------------------------------------------------------------------------

FREEZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "fused": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
}


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("warm", [0, 20])
@pytest.mark.parametrize("make", FREEZERS.values(), ids=FREEZERS)
def test_masked_entries_are_frozen_bit_for_bit(make, warm, clip):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = make(model.parameters())
    problem = fs.Problem(model)
    problem.attach(optimizer)
    frozen = None
    for step in range(200 + warm):
        if step == warm:
            frozen = model.weight.detach().clone()
            problem.freeze("weight", MASK)
        optimizer.zero_grad()
        problem.loss(model(torch.randn(8, 3)).square().mean()).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        if step >= warm:
            assert torch.equal(model.weight[MASK], frozen[MASK])
    assert not torch.equal(model.weight[~MASK], frozen[~MASK])
    problem.finish()
    assert torch.equal(model.weight[MASK], frozen[MASK])
    assert problem.report()["weight"].guarantee == "exact"


@pytest.mark.parametrize("make", FREEZERS.values(), ids=FREEZERS)
def test_frozen_weights_stay_even_if_someone_gives_them_gradients_again(make):
    model = torch.nn.Linear(3, 2)
    problem = fs.Problem(model)
    handle = problem.freeze("weight")
    frozen = model.weight.detach().clone()
    optimizer = problem.attach(make(model.parameters()))
    for step in range(20):
        if step == 10:
            model.requires_grad_(True)
        optimizer.zero_grad()
        problem.loss(model(torch.randn(8, 3)).square().mean()).backward()
        optimizer.step()
        assert torch.equal(model.weight, frozen)
        assert (model.weight.grad is None) == (step < 10)
    handle.remove()
    optimizer.zero_grad()
    problem.loss(model(torch.randn(8, 3)).square().mean()).backward()
    optimizer.step()
    assert not torch.equal(model.weight, frozen)


def test_clamping_before_the_step_leaves_weights_outside():
    """A mistake often copied: the step that follows moves them out again."""
    outside = []
    for where in ("before", "after", "attached"):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1)
        problem = fs.Problem(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        if where == "attached":
            problem.constrain("weight", fs.Box(-0.1, 0.1))
            problem.attach(optimizer)
        x = torch.randn(64, 4)
        for _ in range(50):
            optimizer.zero_grad()
            (model(x).squeeze(1) - x.sum(1)).square().mean().backward()
            with torch.no_grad():
                if where == "before":
                    model.weight.clamp_(-0.1, 0.1)
                optimizer.step()
                if where == "after":
                    model.weight.clamp_(-0.1, 0.1)
        outside.append(bool((model.weight.abs() > 0.1).any()))
    assert outside == [True, False, False]


# -- gradients of every kind --------------------------------------------------------------------------

SPARSE = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sparse adam": lambda p: torch.optim.SparseAdam(p, lr=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
}


SPARSE_CASES = [
    pytest.param(set, SPARSE[name], id=f"{name}-{set}", marks=[pytest.mark.slow] if is_further else [])
    for name in SPARSE
    for set, is_further in (
        (fs.NonNegative(), False),
        (fs.Simplex(), False),
        (fs.L2Ball(0.5), name != "sgd"),
        (fs.SumTo(1.0), name != "sparse adam"),
    )
]


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # from Adagrad itself
@pytest.mark.parametrize(("set", "make"), SPARSE_CASES)
def test_sparse_gradients(set, make):
    torch.manual_seed(0)
    model = torch.nn.Embedding(10, 4, sparse=True).double()
    problem = fs.Problem(model)
    problem.constrain("weight", set)
    untouched = model.weight.detach()[5:].clone()
    optimizer = problem.attach(make(list(model.parameters())))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.993)
    aim = torch.randn(5, 4, dtype=F64)
    for step in range(700):
        optimizer.zero_grad()
        index = torch.tensor([step % 5, step % 5, (step + 1) % 5])
        problem.loss((model(index) - aim[index]).square().sum()).backward()
        assert model.weight.grad.is_sparse
        optimizer.step()
        scheduler.step()
    assert bool(set.contains(model.weight.detach()).all())
    torch.testing.assert_close(model.weight.detach()[5:], untouched)
    if "Adagrad" not in type(optimizer).__name__:
        torch.testing.assert_close(model.weight.detach()[:5], set.project(aim), atol=2e-2, rtol=0)
    assert problem.report()["weight"].stationarity is not None


@pytest.mark.parametrize("set", [fs.NonNegative(), fs.Simplex()], ids=repr)
def test_missing_gradients_and_frozen_parameters(set):
    model = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 2), "unused": torch.nn.Linear(2, 2)})
    model["used"].bias.requires_grad_(False)
    problem = fs.Problem(model)
    problem.constrain("*", set)
    bias = model["used"].bias.detach().clone()
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.1))
    for _ in range(3):
        optimizer.zero_grad()
        problem.loss(model["used"](torch.randn(4, 2)).sum()).backward()
        optimizer.step()
    assert problem.report().feasible
    assert torch.equal(model["used"].bias, bias)
    assert problem.report()["unused.weight"].stationarity is None


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(6, 4)
        self.output = torch.nn.Linear(4, 6, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, index):
        return self.output(self.embedding(index))


@pytest.mark.parametrize("pattern", ["embedding.weight", "output.weight", "*"])
@pytest.mark.parametrize("method", [fs.Project(), fs.Reparametrize(), fs.Reparametrize("softplus")], ids=str)
def test_tied_weights_are_one_weight(method, pattern):
    torch.manual_seed(0)
    model = Tied()
    keys = list(model.state_dict())
    problem = fs.Problem(model)
    assert list(problem.slots) == ["embedding.weight"]
    assert "tied with output.weight" in str(
        [problem.constrain(pattern, fs.NonNegative(), by=method), problem][1]
    )
    assert len(list(model.parameters())) == 1
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.05))
    index = torch.arange(6)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = problem.loss(torch.nn.functional.cross_entropy(model(index), index))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        assert torch.equal(model.output.weight, model.embedding.weight)
    assert losses[-1] < 0.5 * losses[0]
    problem.finish()
    assert model.output.weight is model.embedding.weight
    assert bool((model.output.weight >= 0).all())
    assert list(model.state_dict()) == keys


def test_a_module_used_twice_has_its_weight_once():
    shared = torch.nn.Linear(3, 3)
    for method in (fs.Project(), fs.Reparametrize("exp")):
        model = torch.nn.Sequential(shared, torch.nn.Tanh(), shared)
        keys = list(model.state_dict())
        problem = fs.Problem(model)
        problem.constrain("*weight", fs.NonNegative(), by=method)
        optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.1))
        x = torch.randn(16, 3)
        for _ in range(20):
            optimizer.zero_grad()
            problem.loss((model(x) - x).square().mean()).backward()
            optimizer.step()
        weight = shared.weight.detach().clone()
        assert bool((weight >= 0).all())
        problem.finish()
        torch.testing.assert_close(shared.weight.detach(), weight)
        assert list(model.state_dict()) == keys


def test_feasible_weights_keep_their_bits_and_others_move_the_least():
    model = torch.nn.Linear(4, 1)
    torch.nn.init.uniform_(model.weight, 0.1, 0.2)
    with torch.no_grad():
        model.bias.fill_(-3.0)
    before = model.weight.detach().clone()
    problem = fs.Problem(model)
    problem.constrain("*", fs.Box(0, 1))
    assert torch.equal(model.weight, before)
    assert model.bias.tolist() == [0.0]
    report = problem.report()
    assert report["weight"].moved == 0.0
    assert report["bias"].moved == 3.0
    assert "moved by 3" in report["bias"].diagnosis


@pytest.mark.parametrize("name", ["simplex", "ball", "box", "sum"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_weights(name, dtype):
    x = target().to(dtype).requires_grad_()
    problem = fs.Problem([x])
    problem.constrain("0", SETS[name])
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.05))
    for _ in range(20):
        optimizer.zero_grad()
        problem.loss((x - 1).float().square().sum()).backward()
        optimizer.step()
    row = problem.report()["0"]
    assert row.worst_violation == 0, row
    assert row.guarantee in ("exact", "projected")
