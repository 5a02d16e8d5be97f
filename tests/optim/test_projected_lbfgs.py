"""Full batches: the solutions of others, in every set, and what goes wrong is said."""

import copy
import io
import pickle
import warnings

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import BOUNDS, COUPLED, LEAST_SQUARES, POLYHEDRON, SLOPED, closure_of, numbers

import feasible as fs
from feasible.optim import ProjectedLBFGS

EXACT = {"max_iter": 1000, "max_eval": 5000, "tolerance_grad": 1e-10, "tolerance_change": 0.0}


def solve(loss, *parameters, sets=None, steps=1, **options):
    optimizer = ProjectedLBFGS(list(parameters), sets=sets, **{**EXACT, **options})
    closure = closure_of(optimizer, lambda: loss(*parameters))
    for _ in range(steps):
        optimizer.step(closure)
    return optimizer, float(loss(*parameters).detach())


def vector(*shape, dtype=torch.float64, seed=0):
    return numbers(*shape, seed=seed).to(dtype).requires_grad_()


def state(optimizer):
    return optimizer.state_dict()["state"][0]


# -- the optimum -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [LEAST_SQUARES, SLOPED], ids=str)
@pytest.mark.parametrize("row", BOUNDS + COUPLED, ids=str)
def test_the_minimum_over_a_set_is_that_of_cvxpy(row, objective):
    x = vector(*row.shape)
    _, value = solve(objective.loss, x, sets=row.set)
    expected = objective.minimum(row)
    assert abs(value - expected) <= 1e-8 * abs(expected)
    assert row.set.bind(x.detach()).contains(x.detach()).all()


@pytest.mark.slow
def test_the_minimum_over_a_polyhedron_is_that_of_cvxpy():
    test_the_minimum_over_a_set_is_that_of_cvxpy(POLYHEDRON, LEAST_SQUARES)


@pytest.mark.parametrize("row", BOUNDS + COUPLED, ids=str)
def test_single_precision_arrives_as_far_as_it_can(row):
    x = vector(*row.shape, dtype=torch.float32)
    _, value = solve(LEAST_SQUARES.loss, x, sets=row.set, tolerance_grad=1e-4, tolerance_change=1e-9)
    expected = LEAST_SQUARES.minimum(row)
    assert abs(value - expected) <= 1e-5 * abs(expected)
    assert row.set.bind(x.detach()).contains(x.detach()).all()


@pytest.mark.parametrize(("n", "rows", "condition"), [(60, 90, 1), (60, 90, 30), (80, 50, 1), (50, 50, 1)])
def test_non_negative_least_squares_is_that_of_scipy(n, rows, condition):
    generator = np.random.default_rng(0)
    design = generator.standard_normal((rows, n)) * np.logspace(0, np.log10(condition), n)
    target = generator.standard_normal(rows)
    expected = scipy.optimize.nnls(design, target, maxiter=10_000)[1] ** 2 / 2
    a, b = torch.tensor(design), torch.tensor(target)
    x = torch.zeros(n, dtype=torch.float64, requires_grad=True)
    _, value = solve(lambda x: 0.5 * (a @ x - b).square().sum(), x, sets=fs.NonNegative())
    assert abs(value - expected) <= 1e-9 * (1 + expected)


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.parametrize("bounds", [(-2.0, 2.0), (-1.0, 0.5), (1.5, 3.0), (None, 0.8)], ids=str)
def test_a_crooked_valley_in_a_box_is_that_of_scipy(bounds):
    x = torch.full((10,), -0.7, dtype=torch.float64, requires_grad=True)
    optimizer, value = solve(rosenbrock, x, sets=fs.Box(*bounds))
    expected = scipy.optimize.minimize(
        scipy.optimize.rosen,
        np.clip(np.full(10, -0.7), *bounds),
        jac=scipy.optimize.rosen_der,
        method="L-BFGS-B",
        bounds=[bounds] * 10,
        options={"ftol": 0, "gtol": 1e-10, "maxiter": 5000, "maxfun": 10_000},
    )
    assert abs(value - expected.fun) <= 1e-8 * (1 + expected.fun)
    assert state(optimizer)["func_evals"] <= 2 * expected.nfev + 20


def test_without_sets_it_goes_where_torch_goes_in_no_more_evaluations():
    found = []
    for make in (
        lambda x: ProjectedLBFGS([x], **EXACT),
        lambda x: torch.optim.LBFGS([x], line_search_fn="strong_wolfe", **EXACT),
    ):
        x = torch.full((20,), -0.7, dtype=torch.float64, requires_grad=True)
        optimizer = make(x)
        optimizer.step(closure_of(optimizer, lambda x=x: rosenbrock(x)))
        found.append((float(rosenbrock(x).detach()), state(optimizer)["func_evals"]))
    (ours, evaluations), (theirs, peers_evaluations) = found
    assert abs(ours) <= max(1e-15, 2 * abs(theirs))
    assert evaluations <= 1.2 * peers_evaluations


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.sampled_from([0.0, 1e-3, 1.0]))
def test_random_quadratics_in_random_boxes_end_stationary(seed, n, ridge):
    root, linear, ends = numbers(n, n, seed=seed), numbers(n, seed=seed + 1), numbers(2, n, seed=seed + 2)
    box = fs.Box(ends.amin(0), ends.amax(0))
    x = vector(n, seed=seed + 3)

    def loss(x):
        return 0.5 * (root @ x).square().sum() + 0.5 * ridge * x.square().sum() + linear @ x

    solve(loss, x, sets=box)
    (gradient,) = torch.autograd.grad(loss(x), x)
    at = x.detach()
    assert (at - box.project(at - gradient)).abs().max() <= 1e-8 * (1 + gradient.abs().max())


@pytest.mark.parametrize("shape", [(20, 3), (3, 20)], ids=str)
def test_orthonormal_matrices_find_the_least_eigenvalues(shape):
    m = numbers(20, 20, seed=5)
    m = m + m.T
    x = vector(*shape)

    def loss(x):
        tall = x if shape[0] > shape[1] else x.T
        return (tall * (m @ tall)).sum()

    _, value = solve(loss, x, sets=fs.Stiefel())
    assert abs(value - float(torch.linalg.eigvalsh(m)[:3].sum())) < 1e-9
    assert fs.Stiefel().contains(x.detach())


def test_a_sphere_finds_the_least_eigenvalue():
    m = numbers(20, 20, seed=5)
    m = m + m.T
    x = vector(20)
    _, value = solve(lambda x: x @ m @ x, x, sets=fs.Sphere(2.0))
    assert abs(value - 4 * float(torch.linalg.eigvalsh(m)[0])) < 1e-9


GROUPS = [(1.0, 1.0, 1.0), (1.0, 0.1, 0.5), (0.3, 0.3, 0.3)]


@pytest.mark.parametrize("rates", GROUPS, ids=str)
@pytest.mark.parametrize("coupled", [fs.Simplex(), fs.Box(-0.2, 0.2)], ids=str)
def test_groups_with_sets_and_rates_of_their_own(rates, coupled):
    """Any rates lead to the same solution, that of cvxpy."""
    import cvxpy as cp

    design, target = numbers(20, 9, seed=6), 3 * numbers(20, seed=7)
    a, b, c = (torch.zeros(3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    sets = [fs.NonNegative(), coupled, None]
    groups = [
        {"params": [p], "lr": lr} | ({} if s is None else {"set": s})
        for p, lr, s in zip((a, b, c), rates, sets)
    ]
    optimizer = ProjectedLBFGS(groups, **EXACT)

    def loss():
        return 0.5 * (design @ torch.cat([a, b, c]) - target).square().sum()

    optimizer.step(closure_of(optimizer, loss))
    v = cp.Variable(9)
    second = [v[3:6] >= 0, cp.sum(v[3:6]) == 1] if coupled == fs.Simplex() else [cp.abs(v[3:6]) <= 0.2]
    problem = cp.Problem(
        cp.Minimize(0.5 * cp.sum_squares(design.numpy() @ v - target.numpy())), [v[:3] >= 0, *second]
    )
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    assert abs(float(loss().detach()) - problem.value) <= 1e-8 * problem.value


def test_a_group_with_rate_zero_stays():
    a, b = vector(3), vector(3, seed=1)
    before = b.detach().clone()
    optimizer = ProjectedLBFGS([{"params": [a]}, {"params": [b], "lr": 0.0}], **EXACT)
    optimizer.step(closure_of(optimizer, lambda: (a - 1).square().sum() + (b - a).square().sum()))
    assert torch.equal(b, before)
    assert float((a - (1 + b) / 2).detach().abs().max()) < 1e-9


def test_maximize():
    x = vector(4)
    solve(lambda x: -(x - 3).square().sum(), x, sets=fs.Box(-1, 1), maximize=True)
    assert torch.equal(x.detach(), torch.ones(4).double())


# -- a step ----------------------------------------------------------------------------------------------


def test_a_step_ends_with_the_gradient_of_where_it_ends():
    x = vector(5)
    optimizer = ProjectedLBFGS([x], sets=fs.Box(-1, 0.3), max_iter=7)
    for _ in range(3):
        optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))
        (gradient,) = torch.autograd.grad(rosenbrock(x), x)
        assert torch.equal(gradient, x.grad)


def test_every_evaluation_is_inside():
    seen = []
    x = vector(6)

    def loss(x):
        seen.append(x.detach().clone())
        return rosenbrock(x)

    solve(loss, x, sets=fs.Box(-0.5, 0.3))
    assert all(fs.Box(-0.5, 0.3).contains(point).all() for point in seen)


def test_values_fall_from_step_to_step():
    x = vector(8)
    optimizer = ProjectedLBFGS([x], sets=fs.NonNegative(), max_iter=3)
    closure = closure_of(optimizer, lambda: rosenbrock(x))
    values = [float(optimizer.step(closure).detach()) for _ in range(15)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] / 10


def test_it_stops_by_each_of_its_limits():
    def evaluations(**limits):
        x = torch.full((10,), -0.7, dtype=torch.float64, requires_grad=True)
        options = {"max_iter": 100, "tolerance_grad": 0.0, "tolerance_change": 0.0, **limits}
        optimizer = ProjectedLBFGS([x], **options)
        optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))
        return state(optimizer)["func_evals"], state(optimizer)["n_iter"]

    full = evaluations()
    assert evaluations(max_iter=5)[1] == 5
    assert evaluations(max_eval=10)[0] <= 10 + 25
    assert evaluations(tolerance_grad=1e-1) < full
    assert evaluations(tolerance_change=1e-2) < full


def test_at_the_solution_one_evaluation_is_enough():
    x = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = ProjectedLBFGS([x], sets=fs.NonNegative())
    optimizer.step(closure_of(optimizer, lambda: (x - torch.tensor([-1.0, 1.0])).square().sum()))
    assert state(optimizer)["func_evals"] == 1
    assert x.tolist() == [0.0, 1.0]


# -- sets, parameters ------------------------------------------------------------------------------------


def test_sets_are_given_in_every_way():
    def weights():
        return [torch.full((2,), -1.0, requires_grad=True) for _ in range(3)]

    a, b, c = weights()
    ProjectedLBFGS([a, b, c], sets=fs.NonNegative())
    assert [float(w.detach().min()) for w in (a, b, c)] == [0, 0, 0]
    a, b, c = weights()
    ProjectedLBFGS([a, b, c], sets=[fs.NonNegative(), None, fs.Box(-0.5, 0.5)])
    assert [float(w.detach().min()) for w in (a, b, c)] == [0, -1, -0.5]
    a, b, c = weights()
    ProjectedLBFGS([a, b, c], sets={b: fs.NonNegative()})
    assert [float(w.detach().min()) for w in (a, b, c)] == [-1, 0, -1]
    a, b, c = weights()
    ProjectedLBFGS([{"params": [a, b], "set": fs.Box(-0.5, 1)}, {"params": c}], sets=fs.NonNegative())
    assert [float(w.detach().min()) for w in (a, b, c)] == [-0.5, -0.5, 0]
    a, b, c = weights()
    ProjectedLBFGS([{"params": [a, b]}, {"params": c}], sets=[fs.NonNegative(), None])
    assert [float(w.detach().min()) for w in (a, b, c)] == [0, 0, -1]
    a, b, c = weights()
    optimizer = ProjectedLBFGS([("a", a), ("b", b)])
    optimizer.add_param_group({"params": [("c", c)], "set": fs.NonNegative()})
    assert [float(w.detach().min()) for w in (a, b, c)] == [-1, -1, 0]
    optimizer.constrain_(a, fs.NonNegative())
    assert optimizer.set_of(a) == fs.NonNegative()
    optimizer.constrain_(a, None)
    assert optimizer.set_of(a) is None


def test_members_keep_their_bits():
    x = torch.tensor([0.1, 0.2, 0.7], requires_grad=True)
    before = x.detach().clone()
    ProjectedLBFGS([x], sets=fs.Simplex())
    assert torch.equal(x.detach(), before)


def test_weights_that_were_moved_outside_come_back_before_the_first_evaluation():
    x = torch.zeros(2, requires_grad=True)
    optimizer = ProjectedLBFGS([x], sets=fs.NonNegative())
    x.data.fill_(-3.0)
    seen = []

    def loss():
        seen.append(x.detach().clone())
        return (x - 1).square().sum()

    optimizer.step(closure_of(optimizer, loss))
    assert torch.equal(seen[0], torch.zeros(2))


@pytest.mark.parametrize(
    "set", [fs.FiniteSet([0, 1]), fs.Integers(), fs.OneHot(), fs.KSparse(1), fs.LowRank(1)], ids=repr
)
def test_sets_without_tangent_planes_are_refused(set):
    x = torch.zeros(3, 3, requires_grad=True)
    with pytest.raises(fs.UnsupportedError, match="ProjectedLBFGS cannot hold a weight in"):
        ProjectedLBFGS([x], sets=set)


def test_bad_arguments_say_what_is_wrong():
    x = torch.zeros(2, requires_grad=True)
    for options, message in [
        ({"lr": -1.0}, "lr must be"),
        ({"lr": float("nan")}, "lr must be"),
        ({"max_iter": 0}, "max_iter must be"),
        ({"history_size": 0}, "history_size must be"),
        ({"tolerance_grad": -1.0}, "tolerance_grad must be"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"sets": "NonNegative"}, "sets must be"),
        ({"sets": [fs.NonNegative(), None]}, "got 2 sets for 1"),
        ({"sets": [3]}, "expected a set"),
        ({"sets": {torch.zeros(2): fs.NonNegative()}}, "not one of its parameters"),
        ({"sets": fs.Box(torch.zeros(3), None)}, "does not broadcast"),
    ]:
        with pytest.raises(ValueError, match=message):
            ProjectedLBFGS([x], **options)
    with pytest.raises(ValueError, match="complex64"):
        ProjectedLBFGS([torch.zeros(2, dtype=torch.complex64, requires_grad=True)])
    with pytest.raises(TypeError, match="iterable"):
        ProjectedLBFGS(x)
    with pytest.raises(ValueError, match="empty"):
        ProjectedLBFGS([])


def test_a_step_needs_a_closure_that_returns_the_loss():
    x = torch.ones(2, requires_grad=True)
    optimizer = ProjectedLBFGS([x])
    with pytest.raises(ValueError, match=r"needs a closure(?s:.*)GradScaler"):
        optimizer.step()
    with pytest.raises(ValueError, match="return loss"):
        optimizer.step(lambda: None)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(x.sum()).backward()
    with pytest.raises(ValueError, match="GradScaler"):
        scaler.step(optimizer)


def test_weights_without_gradients_stay():
    a, frozen, unused, empty = (torch.ones(2, requires_grad=True) for _ in range(4))
    frozen.requires_grad_(False)
    empty = torch.zeros(0, 3, requires_grad=True)
    optimizer = ProjectedLBFGS([a, frozen, unused, empty], sets=fs.NonNegative())
    optimizer.step(closure_of(optimizer, lambda: (a * frozen + 2).square().sum() + empty.sum()))
    assert a.tolist() == [0, 0]
    assert frozen.tolist() == unused.tolist() == [1, 1]


def test_nothing_to_do():
    x = torch.ones(2, requires_grad=True)
    optimizer = ProjectedLBFGS([x])
    x.requires_grad_(False)
    assert optimizer.step(lambda: 3.0) == 3.0


def test_a_weight_that_is_frozen_or_melted_between_steps():
    a, b = vector(3), vector(3, seed=1)
    optimizer = ProjectedLBFGS([a, b], **EXACT)
    closure = closure_of(optimizer, lambda: (a - 1).square().sum() + (a * b - 2).square().sum())
    b.requires_grad_(False)
    kept = b.detach().clone()
    optimizer.step(closure)
    assert torch.equal(b, kept)
    b.requires_grad_(True)
    optimizer.step(closure)
    assert float(closure().detach()) < 1e-15


def test_matrices_and_layouts():
    """A transposed weight is written back in its own layout."""
    x = torch.randn(3, 4, dtype=torch.float64).T.requires_grad_()
    target = torch.randn(4, 3, dtype=torch.float64)
    solve(lambda x: (x - target).square().sum(), x, sets=fs.NonNegative())
    assert torch.allclose(x.detach(), target.clamp_min(0), atol=1e-9)


def test_sparse_gradients_count():
    table = torch.nn.Embedding(5, 2, sparse=True).double()
    optimizer = ProjectedLBFGS(table.parameters(), sets=fs.NonNegative(), **EXACT)
    optimizer.step(closure_of(optimizer, lambda: (table(torch.tensor([1, 3])) + 1).square().sum()))
    assert float(table.weight.detach()[[1, 3]].abs().max()) == 0


def test_half_precision_stays_on_its_grid_and_inside():
    x = torch.ones(4, dtype=torch.bfloat16, requires_grad=True)
    optimizer = ProjectedLBFGS([x], sets=fs.Box(0.3, 2.0))
    target = torch.tensor([-1.0, 0.5, 1.5, 5.0], dtype=torch.bfloat16)
    optimizer.step(closure_of(optimizer, lambda: (x - target).float().square().sum()))
    assert fs.Box(0.3, 2.0).contains(x.detach()).all()
    assert (x.detach() - target.clamp(0.3, 2.0)).abs().max() < 0.02


# -- broken numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_the_search_turns_back_from_broken_numbers(broken):
    """log x is no number below 0, and the first steps try it."""
    x = torch.full((3,), 5.0, dtype=torch.float64, requires_grad=True)

    def loss(x):
        value = (x - torch.log(x.clamp_min(1e-300))).sum()
        return torch.where((x <= 0.05).any(), broken, value)

    _, value = solve(loss, x)
    assert abs(value - 3.0) < 1e-12


def test_a_broken_start_says_where():
    a, b = torch.ones(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = ProjectedLBFGS([("first", a), ("second", b)])
    with pytest.raises(FloatingPointError, match=r"loss is nan, and the gradient of second is not finite"):
        optimizer.step(closure_of(optimizer, lambda: a.sum() + (b / b).sum()))
    assert a.tolist() == [1, 1]
    x = torch.tensor([float("nan")], requires_grad=True)
    optimizer = ProjectedLBFGS([x], sets=fs.NonNegative())
    with pytest.raises(FloatingPointError, match="the weight of parameter 0 of group 0"):
        optimizer.step(closure_of(optimizer, lambda: x.sum()))


def test_a_point_with_no_way_out_says_so_and_stays():
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = ProjectedLBFGS([x])
    with pytest.raises(FloatingPointError, match="loss is nan"):
        optimizer.step(closure_of(optimizer, lambda: x.sum() + (torch.nan if x.item() else 1.0)))
    assert x.item() == 0


# -- copies, checkpoints ---------------------------------------------------------------------------------


class Run:
    """A network whose first layer is non-negative and whose second has rows on the simplex."""

    def __init__(self, **options):
        torch.manual_seed(0)
        self.x, self.y = torch.randn(32, 3), torch.randn(32, 4)
        self.network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))
        hidden, head = self.network[0], self.network[2]
        groups = [
            {"params": [hidden.weight], "set": fs.NonNegative()},
            {"params": [head.weight], "set": options.pop("second", fs.Simplex())},
            {"params": [hidden.bias, head.bias], "lr": 0.5},
        ]
        self.optimizer = ProjectedLBFGS(groups, max_iter=4, **options)

    def train(self, steps):
        for step in range(steps):
            rows = slice(8 * (step % 4), 8 * (step % 4) + 8) if self.stochastic else slice(None)
            loss = closure_of(
                self.optimizer,
                lambda rows=rows: (self.network(self.x[rows]) - self.y[rows]).square().mean(),
            )
            self.optimizer.step(loss)
        return self

    @property
    def stochastic(self):
        return self.optimizer.param_groups[0]["stochastic"]

    @property
    def weights(self):
        return torch.cat([w.detach().reshape(-1) for w in self.network.parameters()])


KINDS = [
    {},
    {"second": fs.Box(-0.1, 0.1)},
    {"stochastic": True, "second": fs.Box(-0.1, 0.1)},
    {"stochastic": True, "curvature_every": 3},
]


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_checkpoint_resumes_to_the_bit(options):
    run = Run(**options).train(6)
    file = io.BytesIO()
    torch.save([run.network.state_dict(), run.optimizer.state_dict()], file)
    file.seek(0)
    network, optimizer = torch.load(file, weights_only=True)
    run.train(4)
    other = Run(**options)
    other.network.load_state_dict(network)
    other.optimizer.load_state_dict(optimizer)
    assert torch.equal(other.train(4).weights, run.weights)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_copies_go_on_by_themselves(options, copied):
    run = Run(**options).train(6)
    twin = copied(run)
    before = run.weights.clone()
    twin.train(4)
    assert torch.equal(run.weights, before)
    assert torch.equal(run.train(4).weights, twin.weights)
    assert twin.optimizer.set_of(twin.network[0].weight) == fs.NonNegative()


def test_a_checkpoint_of_other_weights_is_refused():
    run, other = Run().train(2), Run()
    other.network[0].weight.requires_grad_(False)
    other.optimizer.load_state_dict(run.optimizer.state_dict())
    with pytest.raises(ValueError, match="the checkpoint holds curvature of shape"):
        other.train(1)


def test_a_state_dict_does_not_change_while_the_training_goes_on():
    run = Run().train(3)
    saved = run.optimizer.state_dict()
    kept = copy.deepcopy(saved)
    run.train(3)
    for key, value in saved["state"][0].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(kept["state"][0][key])), key


def test_schedulers_and_hooks_of_torch_work():
    run = Run(stochastic=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(run.optimizer, 5)
    calls = []
    run.optimizer.register_step_post_hook(lambda *_: calls.append(1))
    for _ in range(5):
        run.train(1)
        schedule.step()
    assert calls == [1] * 5
    assert run.optimizer.param_groups[0]["lr"] == 0.0


# -- mini-batches ----------------------------------------------------------------------------------------


def regression(seed=0, rows=2000, n=60):
    """Non-negative least squares of condition 10⁴ with some noise, and the least loss."""
    scale = torch.logspace(0, -1.5, n, dtype=torch.float64)
    design = numbers(rows, n, seed=seed) * scale @ torch.linalg.qr(numbers(n, n, seed=seed + 1))[0].abs()
    target = design @ numbers(n, seed=seed + 2).clamp_min(0) + 0.1 * numbers(rows, seed=seed + 3)
    least = scipy.optimize.nnls(design.numpy(), target.numpy())[1] ** 2 / 2 / rows
    return design, target, least


def descend(make, design, target, epochs, batch=100):
    """The loss after so many passes, the learning rate fading."""
    x = torch.zeros(design.shape[1], dtype=design.dtype, requires_grad=True)
    optimizer = make(x)
    steps = len(design) // batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    order = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(len(design), generator=order).split(batch):
            optimizer.step(
                closure_of(
                    optimizer, lambda rows=rows: 0.5 * (design[rows] @ x - target[rows]).square().mean()
                )
            )
            schedule.step()
            assert (x >= 0).all()
    return float(0.5 * (design @ x.detach() - target).square().mean())


def test_on_an_ill_conditioned_regression_it_beats_projected_adam_per_gradient():
    """Adam may choose the best of four learning rates; ProjectedLBFGS keeps its own."""
    design, target, least = regression()

    def adam(lr):
        def make(x):
            problem = fs.Problem([x])
            problem.constrain("0", fs.NonNegative())
            return problem.attach(torch.optim.Adam([x], lr=lr))

        return make

    ours = descend(
        lambda x: ProjectedLBFGS([x], sets=fs.NonNegative(), stochastic=True), design, target, epochs=10
    )
    theirs = min(descend(adam(lr), design, target, epochs=20) for lr in (0.01, 0.1, 0.3, 1.0))
    assert ours - least < 0.7 * (theirs - least)


def test_momentum_and_rare_curvature_still_arrive():
    design, target, least = regression()
    for options in ({"momentum": 0.0}, {"curvature_every": 4}, {"history_size": 3}):
        value = descend(
            lambda x, options=options: ProjectedLBFGS([x], sets=fs.NonNegative(), stochastic=True, **options),
            design,
            target,
            epochs=10,
        )
        assert value < 2 * least, options


@pytest.mark.parametrize("set", [fs.Simplex(), fs.L2Ball(0.5), fs.Sphere(1.0), fs.Box(-1, 1)], ids=repr)
def test_every_step_on_mini_batches_ends_in_the_set(set):
    x = vector(6)
    optimizer = ProjectedLBFGS([x], sets=set, stochastic=True)
    for seed in range(30):
        design = numbers(4, 6, seed=seed)
        optimizer.step(closure_of(optimizer, lambda design=design: (design @ x - 1).square().mean()))
        assert set.contains(x.detach()).all()


def test_both_calls_see_the_same_batch_and_the_same_dropout():
    x = vector(50)
    optimizer = ProjectedLBFGS([x], stochastic=True)
    masks = []

    def loss():
        masks.append(torch.rand(50) > 0.5)
        return (x * masks[-1] - 1).square().sum()

    for _ in range(3):
        optimizer.step(closure_of(optimizer, loss))
    assert all(torch.equal(first, second) for first, second in zip(masks[::2], masks[1::2]))
    assert not torch.equal(masks[0], masks[2])


def test_calls_a_step():
    for every, expected in ((1, 12), (3, 8)):
        x = vector(4)
        optimizer = ProjectedLBFGS([x], stochastic=True, curvature_every=every)
        for _ in range(6):
            optimizer.step(closure_of(optimizer, lambda x=x: x.square().sum()))
        assert state(optimizer)["func_evals"] == expected


def test_a_step_that_goes_far_too_far_is_taken_back():
    x = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    optimizer = ProjectedLBFGS([x], stochastic=True, lr=50.0)
    for _ in range(20):
        before = x.item()
        optimizer.step(closure_of(optimizer, lambda: x.square().sum()))
        assert abs(x.item()) <= abs(before)


def test_a_broken_batch_is_left_out():
    x = vector(3)
    optimizer = ProjectedLBFGS([x], stochastic=True)
    closure = closure_of(optimizer, lambda: x.square().sum())
    optimizer.step(closure)
    before = x.detach().clone()
    with pytest.warns(UserWarning, match="This batch is left out"):
        optimizer.step(closure_of(optimizer, lambda: (x * torch.nan).sum()))
    assert torch.equal(x.detach(), before)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step(closure)
    assert not torch.equal(x.detach(), before)


def test_a_batch_that_breaks_on_the_way_is_taken_back():
    x = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    optimizer = ProjectedLBFGS([x], stochastic=True)
    with pytest.warns(UserWarning, match="taken back"):
        optimizer.step(closure_of(optimizer, lambda: x.sum() * (torch.nan if x.item() < 1 else 1.0)))
    assert x.item() == 1.0
