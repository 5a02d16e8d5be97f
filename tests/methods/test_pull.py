"""What a method adds to the loss, by its formula (that its gradient is its derivative: test_conformance)."""

import pytest
import torch
from method_tables import F64, SETS, names, pairs, target

import feasible as fs
from feasible.methods.method import Method, attach_gradient


def has_term(case):
    return type(case.method).pull is not Method.pull


def learned(method, set, x, steps=5):
    """The state after some steps, so that multipliers are not all 0."""
    state = method.bind(x, set)
    for step in range(steps):
        state = {**state, **method.update(x + 0.1 * step, set, state, step, False)}
    return state


@pytest.mark.parametrize(("case", "set"), pairs(lambda c: has_term(c) and c.smooth), ids=names)
def test_members_are_not_pulled_before_a_multiplier_has_grown(case, set):
    x = SETS[set].bind(target()).project(target())
    set = SETS[set].bind(x)
    state = case.method.bind(x, set)
    pull = case.method.pull(x, set, state, 0)
    assert pull.gradient.shape == x.shape
    if isinstance(case.method, (fs.AugmentedLagrangian, fs.Lagrangian, fs.Penalty)):
        # With λ = 0 a member is not pulled at all.
        assert float(pull.gradient.abs().max()) < 1e-12
        assert abs(float(pull.amount)) < 1e-12


def explicit(method, v, set, multiplier):
    """The formulas of DESIGN.md, written for autograd (P is differentiated too, and must drop out)."""
    if isinstance(method, fs.Penalty):
        residual = v - set.project(v)
        if method.kind == "squared":
            return method.weight / 2 * residual.square().sum()
        return method.weight * set.norm(residual).sum()
    rho = method.penalty
    shifted = v + multiplier / rho
    residual = shifted - set.project(shifted)
    return rho / 2 * residual.square().sum() - multiplier.square().sum() / (2 * rho)


FORMULAS = [fs.Penalty(2.0), fs.Penalty(2.0, kind="exact"), fs.AugmentedLagrangian(penalty=3.0)]


@pytest.mark.parametrize("name", [n for n in SETS if n != "intersection"])
@pytest.mark.parametrize("method", FORMULAS, ids=lambda m: f"{type(m).__name__}-{getattr(m, 'kind', '')}")
def test_autograd_of_the_formula_agrees(method, name):
    v = target().requires_grad_()
    set = SETS[name].bind(v.detach())
    state = learned(method, set, v.detach()) if method.has_multiplier else {}
    amount = explicit(method, v, set, state.get("multiplier", torch.zeros_like(v)))
    (gradient,) = torch.autograd.grad(amount, v)
    pull = method.pull(v.detach(), set, state, 0)
    torch.testing.assert_close(pull.amount, amount.detach())
    torch.testing.assert_close(pull.gradient, gradient, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize(("case", "set"), pairs(lambda c: c.finds_multipliers), ids=names)
def test_multiplier_stays_in_the_normal_cone(case, set):
    """⟨λ, s − P⟩ ≤ 0 for members s, where P is the member that λ is normal to: λ⁺ = ρ(y − P y) for some y."""
    if isinstance(case.method, (fs.SquaredSlack, fs.PenaltyBarrier)):
        pytest.skip("its multiplier is in the cone only at the solution")
    x = target()
    set = SETS[set].bind(x)
    state = case.method.bind(x, set)
    state = {**state, **case.method.update(x, set, state, 0, True)}
    lagrangian = isinstance(case.method, fs.Lagrangian)
    rho = (case.method.dual_lr or 0.05) if lagrangian else (case.method.penalty or 1.0)
    member = set.project(x)
    torch.testing.assert_close(state["multiplier"], rho * (x - member))
    for seed in range(5):
        other = set.sample((2, 3), torch.Generator().manual_seed(seed)).double()
        other = set.project(other)
        assert float((state["multiplier"] * (other - member)).sum()) <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3)])
def test_attached_gradient_has_value_and_derivative(dtype, shape):
    value = torch.randn(shape, dtype=dtype, requires_grad=True)
    work = torch.promote_types(dtype, torch.float32)
    pull = fs.methods.method.Pull(torch.tensor(7.5, dtype=work), torch.randn(shape, dtype=work))
    term = attach_gradient(value, pull)
    assert term.dtype == work
    assert float(term.detach()) == 7.5
    term.backward()
    torch.testing.assert_close(value.grad, pull.gradient.to(dtype))


def test_attached_gradient_of_an_expanded_and_an_empty_value():
    row = torch.randn(3, requires_grad=True)
    value = row.expand(4, 3)
    pull = fs.methods.method.Pull(torch.tensor(1.0), torch.ones(4, 3))
    attach_gradient(value, pull).backward()
    torch.testing.assert_close(row.grad, torch.full((3,), 4.0))
    empty = torch.zeros(0, 3, requires_grad=True)
    nothing = attach_gradient(empty, fs.methods.method.Pull(torch.tensor(0.0), torch.zeros(0, 3)))
    assert float(nothing.detach()) == 0


REDUCTIONS = [
    # per, method, what the loss gains at v with rows (−1, −2) and (3, −2) under x ≥ 0
    ("value", fs.Penalty(1.0), (1 + 4 + 4) / 2),
    ("value", fs.Penalty(1.0, kind="exact"), 1 + 2 + 2),
    ("sample", fs.Penalty(1.0), (5 + 4) / 2 / 2),
    ("sample", fs.Penalty(1.0, kind="exact"), (3 + 2) / 2),
    ("index", fs.Penalty(1.0), (5 + 4) / 2 * 10 / 2),
    ("value", fs.AugmentedLagrangian(penalty=1.0), 4.5),
    ("index", fs.AugmentedLagrangian(penalty=1.0), 4.5 * 5),
    # one number: the mean of the row distances √5 and 2
    ("sample", fs.AugmentedLagrangian(penalty=1.0), ((5**0.5 + 2) / 2) ** 2 / 2),
]


@pytest.mark.parametrize(("per", "method", "expected"), REDUCTIONS)
def test_reductions(per, method, expected):
    x = torch.tensor([[-1.0, -2.0], [3.0, -2.0]], requires_grad=True)
    problem = fs.Problem([x])
    extra = {"size": 10} if per == "index" else {"tolerance": 0.0} if per == "sample" else {}
    problem.require("v", fs.NonNegative(), by=method, per=per, **extra)
    handed = (x, torch.tensor([3, 7])) if per == "index" else x
    loss = problem.loss(torch.tensor(0.0), v=handed)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    # and its derivative is what autograd says of the same number
    loss.backward()
    step = 1e-3
    for entry in range(4):
        moved = []
        for sign in (1, -1):
            y = x.detach().clone()
            y.view(-1)[entry] += sign * step
            other = fs.Problem([torch.zeros(1, requires_grad=True)])
            other.require("v", fs.NonNegative(), by=method, per=per, **extra)
            handed = (y, torch.tensor([3, 7])) if per == "index" else y
            moved.append(float(other.loss(torch.tensor(0.0), v=handed)))
        assert float(x.grad.view(-1)[entry]) == pytest.approx((moved[0] - moved[1]) / (2 * step), abs=5e-3)


@pytest.mark.parametrize("p", ["mean", 1, 2.0, 8.0])
def test_p_means_of_sample_distances(p):
    x = torch.tensor([[-1.0, 0.0], [0.0, 3.0], [-3.0, -4.0]], dtype=F64, requires_grad=True)
    problem = fs.Problem([x])
    method = fs.AugmentedLagrangian(penalty=1.0)
    problem.require("v", fs.NonNegative(), by=method, per="sample", reduction=p, tolerance=0.5)
    loss = problem.loss(torch.zeros((), dtype=F64), v=x)
    q = 1 if p == "mean" else p
    distance = torch.tensor([1.0, 0.0, 5.0], dtype=F64)
    excess = distance.pow(q).mean().pow(1 / q) - 0.5
    assert float(loss.detach()) == pytest.approx(float(excess.clamp_min(0).square() / 2))
    explicit = (x - x.clamp_min(0)).norm(dim=1).clamp_min(1e-30).pow(q).mean().pow(1 / q) - 0.5
    (wanted,) = torch.autograd.grad(explicit.square() / 2, x)
    loss.backward()
    torch.testing.assert_close(x.grad, wanted)
