"""Exact solutions for a linear layer, beside trying every member."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import nn

from feasible import (
    Candidates,
    ExactStatus,
    FiniteSet,
    Integers,
    KSparse,
    NofM,
    NonNegative,
    OneHot,
    Permutation,
    UnsupportedError,
    exact_last_layer,
    exact_linear_fit,
    integer_least_squares,
)
from feasible.solve.exact import branching
from feasible.solve.exact.losses import best_bias, total

TERNARY = FiniteSet([-1, 0, 1])


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def loss_of(A, B, W, loss, c=0.0):
    A, B, W = A.detach(), B.detach(), W.detach()
    residual = A @ W + torch.as_tensor(c).detach() - B
    if loss == "squared":
        return float(residual.square().sum())
    if loss == "l1":
        return float(residual.abs().sum())
    return float((1 - B * (residual + B)).clamp_min(0).sum())


def least(A, B, set_, loss="squared", bias=False):
    """The smallest loss of all members; the free bias by scipy's bounded search over a convex function."""
    found = []
    for member in set_.bind(torch.zeros(A.shape[1:] + B.shape[1:])).members(A.shape[1:] + B.shape[1:]):
        W = member.double()
        if not bias:
            found.append(loss_of(A, B, W, loss))
            continue
        columns = zip(W.reshape(A.shape[1], -1).T, B.reshape(len(B), -1).T)
        far = float((A @ W).abs().max() + B.abs().max()) + 1
        found.append(
            sum(
                minimize_scalar(
                    lambda c, w=w, b=b: loss_of(A, b, w, loss, c),
                    bounds=(-far, far),
                    method="bounded",
                    options={"xatol": 1e-9},
                ).fun
                for w, b in columns
            )
        )
    return min(found)


def check(result, A, B, set_, loss="squared"):
    """What the result says of itself is so."""
    assert bool(set_.bind(result.weight).is_member(result.weight).all())
    shift = 0.0 if result.bias is None else result.bias.double()
    assert result.loss == pytest.approx(loss_of(A.double(), B.double(), result.weight.double(), loss, shift))
    assert result.lower_bound <= result.loss
    assert result.proven == (result.status is ExactStatus.OPTIMAL)
    assert result.gap == pytest.approx(result.loss - result.lower_bound)


# -- squared loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_ternary_least_squares_is_proven_and_optimal(seed) -> None:
    A, w = normal(12, 10, seed=seed), normal(10, seed=100 + seed).sign() * (normal(10, seed=200 + seed) > 0)
    b = A @ w + 0.7 * normal(12, seed=300 + seed)
    result = integer_least_squares(A, b, TERNARY)
    members = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 10)
    assert result.proven
    assert result.gap == 0
    assert result.loss == pytest.approx(float((members @ A.T - b).square().sum(-1).min()), rel=1e-12)
    check(result, A, b, TERNARY)


SETS = [
    (FiniteSet([2.5, -1, 0, -1]), (2, 2)),
    (FiniteSet([0.3]), (3, 2)),
    (FiniteSet([-1, 1]), (5,)),
    (FiniteSet([-1, 0, 1]), (1, 3)),
    (FiniteSet([-1, 1]).flatten(), (2, 2)),
    (Integers(-1, 2), (4,)),
    (OneHot(dim=0), (4, 3)),
    (OneHot(dim=1), (4, 3)),
    (OneHot(dim=-2), (4, 3)),
    (OneHot(dim=None), (4, 3)),
    (OneHot(), (5,)),
    (OneHot().flatten(), (2, 3)),
    (OneHot().flatten(-1), (3, 2)),
    (Permutation(), (4, 4)),
    (Permutation(), (1, 1)),
    (Candidates(normal(7, 3, 2, dtype=torch.float32)), (3, 2)),
    (Candidates(normal(1, 3, dtype=torch.float32)), (3,)),
]
CASES = [
    (set_, shape, n, bias, loss)
    for set_, shape in SETS
    for n, losses in ((2, ("squared",)), (7, ("squared", "l1", "hinge")))
    for bias in (False, True)
    for loss in losses
]


def ids(case):
    return str(case).replace(" ", "")


@pytest.mark.parametrize(("set_", "shape", "n", "bias", "loss"), CASES, ids=ids)
def test_every_set_and_loss_by_trying_all(set_, shape, n, bias, loss) -> None:
    A, B = normal(n, shape[0], seed=n), normal(n, *shape[1:], seed=n + 1)
    A = A.float().double()
    B = B.sign() if loss == "hinge" else B
    result = exact_linear_fit(A.float() if isinstance(set_, Candidates) else A, B, set_, loss=loss, bias=bias)
    assert result.proven
    assert result.loss == pytest.approx(least(A, B, set_, loss, bias), rel=1e-6, abs=1e-6)
    assert result.weight.shape == shape
    check(result, A, B, set_, loss)


@st.composite
def instances(draw):
    d, n = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    number = st.floats(-3, 3, allow_subnormal=False).map(lambda x: round(x, 2))
    rows = [[draw(number) for _ in range(d)] for _ in range(n)]
    values = draw(st.lists(number, min_size=1, max_size=4))
    return torch.tensor(rows).double(), torch.tensor([draw(number) for _ in range(n)]).double(), values


@settings(max_examples=150, deadline=None)
@given(instances())
def test_any_small_instance(instance) -> None:
    A, b, values = instance
    result = integer_least_squares(A, b, FiniteSet(values))
    grid = torch.cartesian_prod(*[torch.tensor(sorted({*values})).double()] * A.shape[1]).reshape(
        -1, A.shape[1]
    )
    assert result.proven
    assert result.loss == pytest.approx(float((grid @ A.T - b).square().sum(-1).min()), rel=1e-5, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(instances(), st.randoms(use_true_random=False))
def test_the_order_of_inputs_does_not_matter(instance, random) -> None:
    A, b, values = instance
    order = list(range(A.shape[1]))
    random.shuffle(order)
    first, second = (integer_least_squares(x, b, FiniteSet(values)) for x in (A, A[:, order]))
    assert first.loss == pytest.approx(second.loss, rel=1e-9, abs=1e-12)


def zero_column(A):
    A[:, 2] = 0


def duplicates(A):
    A[:, 1] = A[:, 3]


def combination(A):
    A[:, 0] = A[:, 1] - 2 * A[:, 2]


def all_zero(A):
    A.zero_()


def huge_and_tiny(A):
    A[:, 0] *= 1e8
    A[:, 1] *= 1e-8


@pytest.mark.parametrize("damage", [zero_column, duplicates, combination, all_zero, huge_and_tiny])
@pytest.mark.parametrize("n", [3, 20])
def test_degenerate_inputs(damage, n) -> None:
    A, b = normal(n, 6), normal(n, seed=1)
    damage(A)
    result = integer_least_squares(A, b, TERNARY)
    assert result.proven
    assert result.loss == pytest.approx(least(A, b, TERNARY), rel=1e-9)


@pytest.mark.parametrize(("n", "d", "noise"), [(30, 30, 1.0), (60, 30, 3.0), (40, 40, 1.0)])
def test_thirty_unknowns_and_more_are_proven(n, d, noise) -> None:
    A, w = normal(n, d), normal(d, seed=5).sign() * (normal(d, seed=6) > 0)
    b = A @ w + noise * normal(n, seed=7)
    result = integer_least_squares(A, b, TERNARY)
    assert result.proven
    assert result.loss <= loss_of(A, b, w, "squared") + 1e-9


@pytest.mark.parametrize("scale", [3.0, 30.0])
def test_values_far_from_the_real_solution(scale) -> None:
    """The best choice lies in a corner, and every choice leaves a large rest."""
    A = normal(60, 30)
    b = A @ (scale * normal(30, seed=1)) + normal(60, seed=2)
    result = integer_least_squares(A, b, TERNARY, seconds=20.0)
    assert result.proven
    small = integer_least_squares(A[:, :9], b, TERNARY)
    assert small.loss == pytest.approx(least(A[:, :9], b, TERNARY), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_boxes_that_are_split_hold_the_optimum(seed, monkeypatch) -> None:
    monkeypatch.setattr(branching, "_GLANCE", 8)
    monkeypatch.setattr(branching, "_PIECE", 8)
    A, b = normal(5, 7, seed=seed), 3 * normal(5, seed=50 + seed)
    result = integer_least_squares(A, b, TERNARY)
    assert result.proven
    assert result.loss == pytest.approx(least(A, b, TERNARY), rel=1e-9)


def test_a_real_relaxation_is_never_above_and_agrees_with_cvxpy_where_it_is_whole() -> None:
    A, w = normal(30, 8), torch.tensor([1.0, -1, 0, 0, 1, 1, -1, 0], dtype=torch.float64)
    b = A @ w
    x = cp.Variable(8)
    relaxed = cp.Problem(cp.Minimize(cp.sum_squares(A.numpy() @ x - b.numpy())), [x >= -1, x <= 1])
    relaxed.solve()
    result = integer_least_squares(A, b, TERNARY)
    assert torch.equal(result.weight, w)
    assert np.allclose(x.value, w.numpy(), atol=1e-4)
    noisy = b + normal(30, seed=3)
    bound = cp.Problem(cp.Minimize(cp.sum_squares(A.numpy() @ x - noisy.numpy())), [x >= -1, x <= 1]).solve()
    assert integer_least_squares(A, noisy, TERNARY).loss >= bound - 1e-6


def test_whole_numbers_without_bounds() -> None:
    A, w = normal(12, 5), torch.tensor([170.0, -3, 0, 12, -900], dtype=torch.float64)
    b = A @ w + 0.4 * normal(12, seed=2)
    result = integer_least_squares(A, b, Integers())
    wide = integer_least_squares(A, b, Integers(-2000, 2000))
    assert torch.equal(result.weight, wide.weight)
    assert result.proven
    below = integer_least_squares(A, b, Integers(upper=-1000))
    narrow = integer_least_squares(A, b, Integers(-3000, -1000))
    assert below.proven
    assert narrow.proven
    assert below.loss == pytest.approx(narrow.loss, rel=1e-12)
    # float32 and bfloat16 do not hold every whole number.
    coarse = integer_least_squares(A.bfloat16(), b, Integers())
    assert torch.equal(coarse.weight, coarse.weight.round())
    with pytest.raises(UnsupportedError, match="Give both bounds"):
        integer_least_squares(torch.zeros(3, 2), torch.zeros(3), Integers())
    with pytest.raises(UnsupportedError, match="short list"):
        exact_linear_fit(A, b, Integers(), loss="l1")


@pytest.mark.parametrize("loss", ["squared", "l1", "hinge"])
@pytest.mark.parametrize("bias", [False, True])
def test_some_entries_are_free(loss, bias) -> None:
    A, B = normal(14, 4), normal(14, 2, seed=1)
    B = B.sign() if loss == "hinge" else B
    mask = torch.tensor([[True, False], [True, True], [False, True], [True, True]])
    result = exact_linear_fit(A, B, TERNARY.where(mask), loss=loss, bias=bias)
    assert result.proven
    check(result, A, B, TERNARY.where(mask), loss)
    total_loss = 0.0
    for j in range(2):
        fixed, free = A[:, mask[:, j]].numpy(), A[:, ~mask[:, j]].numpy()
        best = np.inf
        for w in torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 3).double().numpy():
            v, c = cp.Variable(1), cp.Variable()
            prediction = fixed @ w + free @ v + (c if bias else 0)
            b = B[:, j].numpy()
            objective = {
                "squared": lambda p, b=b: cp.sum_squares(p - b),
                "l1": lambda p, b=b: cp.norm1(p - b),
                "hinge": lambda p, b=b: cp.sum(cp.pos(1 - cp.multiply(b, p))),
            }[loss](prediction)
            best = min(best, cp.Problem(cp.Minimize(objective)).solve(solver="CLARABEL"))
        total_loss += best
    assert result.loss == pytest.approx(total_loss, rel=1e-5)


# -- budgets ---------------------------------------------------------------------------------------


HARD = [
    (TERNARY, (10, 30), (10,), "squared"),
    (OneHot(dim=1), (20, 30), (20, 4), "squared"),
    (Permutation(), (12, 12), (12, 12), "squared"),
    (TERNARY, (60, 30), (60,), "l1"),
]


@pytest.mark.parametrize(("set_", "a", "b", "loss"), HARD, ids=ids)
def test_a_spent_budget_gives_a_gap(set_, a, b, loss) -> None:
    A, B = normal(*a), normal(*b, seed=1) * 5
    result = exact_linear_fit(A, B, set_, loss=loss, seconds=0.5)
    assert result.status is ExactStatus.BUDGET
    assert result.gap > 0
    assert result.seconds < 4
    assert "best member found" in result.message
    check(result, A, B, set_, loss)


def test_the_bound_is_below_the_optimum_however_small_the_budget() -> None:
    A, b = normal(12, 12), 4 * normal(12, seed=1)
    best = integer_least_squares(A, b, TERNARY)
    assert best.proven
    for nodes in (0, 1, 20, 200):
        result = integer_least_squares(A, b, TERNARY, max_nodes=nodes)
        assert result.lower_bound <= best.loss * (1 + 1e-12)
        assert result.loss >= best.loss * (1 - 1e-12)
        assert result.nodes <= max(nodes, 1) + 2 * 12
        check(result, A, b, TERNARY)
    timed = exact_linear_fit(A, b, TERNARY, loss="l1", seconds=0.0)
    assert not timed.proven
    check(timed, A, b, TERNARY, "l1")


@pytest.mark.parametrize("loss", ["l1", "hinge"])
@pytest.mark.parametrize("nodes", [0, 2, 30])
def test_programs_stop_at_the_budget(loss, nodes) -> None:
    for seed in range(4):
        A, b = normal(8, 9, seed=seed), 3 * normal(8, seed=seed + 100)
        b = b.sign() if loss == "hinge" else b
        best = exact_linear_fit(A, b, TERNARY, loss=loss)
        result = exact_linear_fit(A, b, TERNARY, loss=loss, max_nodes=nodes)
        assert result.lower_bound <= best.loss + 1e-5 <= result.loss + 2e-5
        check(result, A, b, TERNARY, loss)


def test_outputs_share_the_budget() -> None:
    A, B = normal(10, 30), 5 * normal(10, 3, seed=1)
    A[0], B[:, 2] = 0, 0  # the last output is easy
    A[0, 0] = 1
    result = integer_least_squares(A, B, TERNARY, seconds=0.6)
    assert result.seconds < 3
    assert result.weight[:, 2].abs().sum() == 0


def test_the_same_call_gives_the_same_weight() -> None:
    A, b = normal(10, 30), 5 * normal(10, seed=1)
    first, second = (integer_least_squares(A, b, TERNARY, max_nodes=5000, seconds=None) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert (first.loss, first.lower_bound, first.nodes) == (second.loss, second.lower_bound, second.nodes)


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_weight_has_the_dtype_and_the_bits_of_members(dtype) -> None:
    A = normal(9, 6).to(dtype)
    set_ = FiniteSet([0.1, -0.3, 0.7])
    result = integer_least_squares(A, normal(9, seed=1), set_)
    assert result.weight.dtype == dtype
    held = torch.tensor([0.1, -0.3, 0.7], dtype=torch.float64).to(dtype)
    assert bool((result.weight[:, None] == held).any(-1).all())


def test_strided_whole_and_differentiable_inputs() -> None:
    A, b = normal(6, 9), normal(9, seed=1)
    plain = integer_least_squares(A.T.contiguous(), b, TERNARY)
    assert torch.equal(integer_least_squares(A.T, b, TERNARY).weight, plain.weight)
    assert torch.equal(
        integer_least_squares(A.T.requires_grad_(), b.requires_grad_(), TERNARY).weight, plain.weight
    )
    whole = integer_least_squares(torch.tensor([[1, 2], [0, 1]]), torch.tensor([3, 1]), TERNARY)
    assert whole.weight.tolist() == [1.0, 1.0]
    assert whole.loss == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"A": torch.tensor([[1.0, float("nan")]])}, "A must be finite, but 1 of its 2"),
        ({"B": torch.tensor([float("inf")])}, "B must be finite"),
        ({"A": torch.ones(1, 2, dtype=torch.complex64)}, "real numbers"),
        ({"A": torch.ones(2, 2)}, "expected A of shape"),
        ({"A": torch.ones(2)}, "expected A of shape"),
        ({"A": torch.ones(1, 0)}, "not empty"),
        ({"loss": "absolute"}, 'loss must be "squared"'),
        ({"loss": "hinge"}, "1 or −1"),
        ({"seconds": -1}, "seconds must be"),
        ({"max_nodes": float("nan")}, "max_nodes must be"),
        ({"set": FiniteSet}, "expected a set such as"),
        ({"set": Candidates(torch.zeros(1, 3))}, "shape"),
        ({"set": Permutation()}, "square|matri"),
    ],
    ids=lambda value: ids(value)[:40] if isinstance(value, str) else "",
)
def test_bad_arguments(change, message) -> None:
    arguments = {"A": torch.ones(1, 2), "B": torch.zeros(1), "set": TERNARY} | change
    A, B, set_ = (arguments.pop(name) for name in ("A", "B", "set"))
    with pytest.raises(ValueError, match=message):
        exact_linear_fit(A, B, set_, **arguments)


@pytest.mark.parametrize(
    "set_",
    [NonNegative(), NofM(1, 2), KSparse(1), OneHot(0).where(torch.tensor([True, False, True, True]))],
    ids=ids,
)
def test_sets_without_an_exact_solver(set_) -> None:
    with pytest.raises(UnsupportedError, match="no exact solver"):
        integer_least_squares(torch.ones(3, 4), torch.zeros(3), set_)


def test_too_many_members_to_list() -> None:
    with pytest.raises(UnsupportedError, match="too many members"):
        integer_least_squares(torch.ones(3, 2000), torch.zeros(3, 2000), OneHot(dim=None))


# -- the best bias ---------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**20), st.sampled_from(["squared", "l1", "hinge"]))
def test_the_best_bias_beside_scipy(n, seed, loss) -> None:
    random = np.random.default_rng(seed)
    p, b = random.normal(size=(n, 1)).round(1), random.normal(size=(n, 1))
    b = np.where(b >= random.normal(), 1.0, -1.0) if loss == "hinge" else b
    reference = minimize_scalar(
        lambda c: float(total(p + c, b, loss)), bounds=(-9, 9), method="bounded", options={"xatol": 1e-10}
    )
    assert float(total(p + best_bias(p, b, loss), b, loss)) == pytest.approx(reference.fun, abs=1e-7)


# -- the last layer of a model ---------------------------------------------------------------------


def network(outputs=3, dtype=torch.float32, **options):
    torch.manual_seed(1)
    layers = [nn.Linear(4, 5), nn.Dropout(0.5), nn.BatchNorm1d(5), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(5, outputs, **options)).to(dtype)


@pytest.mark.parametrize("loss", ["squared", "l1", "hinge"])
@pytest.mark.parametrize("bias", ["keep", "free"])
@pytest.mark.parametrize("set_", [FiniteSet([-0.5, 1.1]), OneHot(dim=0), OneHot(dim=1)], ids=ids)
def test_the_last_layer_is_the_best_one(loss, bias, set_) -> None:
    model, x = network(2, dtype=torch.float64), normal(20, 4)
    y = normal(20, 2, seed=1).sign() if loss == "hinge" else normal(20, 2, seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    result = exact_last_layer(model, "4.weight", set_, [(x[:7], y[:7]), (x[7:], y[7:])], loss=loss, bias=bias)
    assert result.proven
    assert torch.equal(model[4].weight, result.weight)
    assert model.training
    assert model[2].training
    changed = {name for name, old in before.items() if not torch.equal(model.state_dict()[name], old)}
    assert changed == {"4.weight"} | ({"4.bias"} if bias == "free" else set())
    model.eval()
    head = loss_of(model[:4](x), y, model[4].weight.T, loss, model[4].bias)
    assert head == pytest.approx(result.loss)
    features = model[:4](x).detach()
    kept = before["4.bias"]
    members = (m.double() for m in set_.bind(model[4].weight.detach()).members((2, 5)))
    if bias == "keep":
        found = min(loss_of(features, y, W.T, loss, kept) for W in members)
    else:
        found = min(
            float(total((s := (features @ W.T).numpy()) + best_bias(s, y.numpy(), loss), y.numpy(), loss))
            for W in members
        )
    assert result.loss == pytest.approx(found, rel=1e-6)


def test_classes_become_signs() -> None:
    x, classes = normal(30, 4).float(), torch.randint(3, (30,))
    by_class = exact_last_layer(network(), "4.weight", TERNARY, (x, classes), loss="hinge")
    signs = nn.functional.one_hot(classes, 3) * 2.0 - 1
    by_sign = exact_last_layer(network(), "4.weight", TERNARY, (x, signs), loss="hinge")
    assert torch.equal(by_class.weight, by_sign.weight)
    zero_one = torch.randint(2, (30,))
    first = exact_last_layer(network(1), "4.weight", TERNARY, (x, zero_one), loss="hinge")
    second = exact_last_layer(network(1), "4.weight", TERNARY, (x, zero_one * 2 - 1), loss="hinge")
    assert torch.equal(first.weight, second.weight)
    with pytest.raises(ValueError, match="between 0 and 2"):
        exact_last_layer(network(), "4.weight", TERNARY, (x, classes + 1), loss="hinge")


class Wrapped(nn.Module):
    def __init__(self, after=None, twice=False) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 5), nn.Linear(5, 1)
        self.after, self.twice = after, twice

    def forward(self, x, scale=1.0):
        features = self.body(x * scale).tanh()
        if self.twice:
            self.head(features)
        out = self.head(features)
        return out.squeeze(-1) if self.after is None else self.after(out)


def test_views_arguments_and_sequences() -> None:
    x, y = normal(12, 4).float(), normal(12, seed=1)
    model = Wrapped()
    plain = exact_last_layer(model, "head.weight", TERNARY, [(x, y)])
    for batch in (((x, 1.0), y), ({"x": x, "scale": 1.0}, y), (x, y.reshape(12, 1)), (x.reshape(3, 4, 4), y)):
        assert torch.equal(exact_last_layer(model, "head.weight", TERNARY, [batch]).weight, plain.weight)


def doubled(out):
    return out * 2


def refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_refused_leaves_the_model_alone() -> None:
    x, y = normal(12, 4).float(), normal(12, 1, seed=1)
    model = Wrapped()
    before = model.head.weight.clone()

    def fit(model=model, name="head.weight", data=(x, y), set_=TERNARY, **options):
        return lambda: exact_last_layer(model, name, set_, data, **options)

    refused(fit(name="body.weight"), "not the model's last layer")
    refused(fit(Wrapped(doubled)), "not the model's last layer")
    refused(fit(Wrapped(torch.relu_)), "not the model's last layer")
    refused(fit(Wrapped(nn.Softmax(-1))), "not the model's last layer")
    refused(fit(Wrapped(twice=True)), "runs 2 times")
    refused(fit(name="head.wieght"), r"matches no parameter of the model. Closest: 'head.weight'")
    refused(fit(name="*.weight"), "Name one weight")
    refused(fit(name="head.bias"), "not the plain weight of an nn.Linear")
    refused(fit(data=[]), "no batch")
    refused(fit(data=[(x,)]), "pair")
    refused(fit(data=(x, y[:5])), "12 rows of 1 outputs")
    refused(fit(data=[(x, y), (x, y.repeat(1, 2))]), "different shapes")
    refused(fit(data=(x * torch.nan, y)), "inputs of head.weight must be finite")
    refused(fit(data=(x, y * torch.nan)), "targets must be finite")
    refused(fit(set_=Candidates(torch.zeros(1, 5, 1))), "head.weight: ")
    refused(fit(loss="hinge"), "1 or −1")
    labels = torch.randint(3, (12,))
    refused(fit(network(), "4.weight", (x, labels)), "class labels: give the real-valued model's own outputs")
    refused(fit(network(), "4.weight", (x, labels.float())), r"targets of shape \(12, 3\)")
    refused(fit(loss="cross_entropy"), 'cross-entropy, give the real-valued .* with loss="squared"')
    refused(fit(bias="both"), 'bias must be "keep" or "free"')
    refused(fit(network(bias=False), "4.weight", bias="free"), "no bias that could be free")
    assert torch.equal(model.head.weight, before)
    assert not model.head._forward_hooks
    tied = Wrapped()
    tied.body = nn.Linear(4, 1)
    tied.body.weight = nn.Parameter(torch.zeros(1, 5))
    tied.head.weight = tied.body.weight
    refused(fit(tied), "shared with head.weight|shared with body.weight")


def test_one_column_of_a_float32_layer_on_many_rows() -> None:
    model, x = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)), normal(500, 8).float()
    y = normal(500, 1, seed=3)
    result = exact_last_layer(model, "2.weight", TERNARY, (x, y), bias="free")
    assert result.proven
    assert set(model[2].weight.flatten().tolist()) <= {-1.0, 0.0, 1.0}
    assert float((model(x).detach() - y).square().sum()) == pytest.approx(result.loss, rel=1e-4)
