"""Values handed to ``loss``: names and shapes, numbers that are not finite, half precision, empty batches."""

import math

import pytest
import torch

import feasible as fs

METHODS = [fs.AugmentedLagrangian(), fs.Lagrangian(), fs.SquaredSlack(), fs.Penalty(1.0), fs.Barrier(0.1)]
VALUED = [*METHODS, fs.Penalty(1.0, kind="exact")]


def make(method=None, per="value", size=None, set=None, **extra):
    x = torch.tensor([0.5, -0.5], requires_grad=True)
    problem = fs.Problem([x])
    handle = problem.require("v", set or fs.Box(-1, 1), by=method, per=per, size=size, **extra)
    return x, problem, handle, problem.attach(torch.optim.SGD([x], lr=0.01))


def step(x, problem, optimizer, value):
    optimizer.zero_grad()
    loss = problem.loss(0.0 * x.sum(), v=value)
    loss.backward()
    x.grad.nan_to_num_(0.0, 0.0, 0.0)
    optimizer.step()
    return loss.detach()


# -- names and shapes ---------------------------------------------------------------------------------

WRONG = [
    (lambda x: {"w": x, "v": x}, r"unknown: w(?s:.*)Required by name: v"),
    (lambda x: {}, "missing: v"),
    (lambda x: {"v": x[:1]}, r"expected a value of shape \(2,\) as in its first step, got \(1,\)"),
    (lambda x: {"v": x.unsqueeze(0)}, r"got \(1, 2\)"),
    (lambda x: {"v": x.sum()}, r"got \(\)"),
    (lambda x: {"v": [1.0, 2.0]}, "expected a tensor, got list"),
    (lambda x: {"v": None}, "expected a tensor, got NoneType"),
    (lambda x: {"v": (x, torch.tensor([0, 1]))}, "expected a tensor, got tuple"),
]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("values", "message"), WRONG)
def test_wrong_values_are_errors_and_never_broadcast(values, message, first):
    x, problem, _handle, optimizer = make()
    if not first:
        step(x, problem, optimizer, 1 * x)
    elif "shape" in message or "got (" in message.replace("\\", ""):
        return  # the first value decides the shape
    with pytest.raises(ValueError, match=message):
        problem.loss(x.sum(), values(x))
    with pytest.raises(ValueError, match=message):
        problem.terms(values(x))
    step(x, problem, optimizer, 1 * x)  # nothing is broken
    assert problem.report()["v"].nonfinite == 0


def test_a_first_value_that_is_refused_decides_nothing():
    x, problem, _, optimizer = make(per="index", size=4)
    wrong = [x, (x,), (x, torch.tensor([0.0, 1.0])), (x, torch.tensor([0])), (x, torch.tensor([0, 4]))]
    for value in wrong:
        with pytest.raises(ValueError, match="v: "):
            problem.loss(x.sum(), v=value)
    pair = (torch.stack([x, x], dim=1), torch.tensor([0, 3]))
    step(x, problem, optimizer, pair)
    with pytest.raises(ValueError, match="shape"):
        problem.loss(x.sum(), v=(x, torch.tensor([0, 3])))


@pytest.mark.parametrize("per", ["sample", "index"])
def test_samples_need_a_batch_and_one_shape(per):
    x, problem, _, _ = make(per=per, size=4 if per == "index" else None)
    pair = (lambda v: (v, torch.arange(len(v)))) if per == "index" else lambda v: v
    with pytest.raises(ValueError, match="dimension 0"):
        problem.loss(x.sum(), v=(x.sum(), torch.tensor(0)) if per == "index" else x.sum())
    problem.loss(x.sum(), v=pair(torch.ones(3, 2)))
    problem.loss(x.sum(), v=pair(torch.ones(1, 2)))  # batches may differ
    with pytest.raises(ValueError, match=r"shape \(batch\) \+ \(2,\)"):
        problem.loss(x.sum(), v=pair(torch.ones(3, 1)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_whole_numbers_are_refused(dtype):
    x, problem, _, _ = make()
    with pytest.raises(ValueError, match=r"floating-point(?s:.*)\.float\(\)"):
        problem.loss(x.sum(), v=torch.ones(2, dtype=dtype))


@pytest.mark.parametrize("loss", [1.0, torch.ones(2), None])
def test_the_loss_is_a_scalar(loss):
    _, problem, _, _ = make()
    with pytest.raises(ValueError, match="scalar"):
        problem.loss(loss, v=torch.ones(2))


def test_a_set_that_cannot_hold_the_value_says_so():
    x, problem, _, optimizer = make(set=fs.Box(torch.zeros(3), None))
    with pytest.raises(ValueError, match="lower has shape"):
        problem.loss(x.sum(), v=x)
    step(x, problem, optimizer, torch.cat([x, x[:1]]))


DECLARATIONS = [
    ({"per": "batch"}, "per must be"),
    ({"per": "index"}, "size=N"),
    ({"per": "index", "size": 0}, "size=N"),
    ({"size": 3}, "size=N"),
    ({"reduction": "sum"}, "reduction"),
    ({"reduction": 0.5}, "reduction"),
    ({"tolerance": -1.0}, "tolerance"),
    ({"tolerance": math.nan}, "tolerance"),
    ({"average": "mean"}, "average"),
    ({"average": 1.0}, "average"),
    ({"average": 0.0}, "average"),
    ({"per": "sample", "fn": lambda model: None}, "fn="),
    ({"set": fs.Box}, r"Did you mean Box\(…\)"),
    ({"set": "box"}, "expected a set"),
    ({"method": fs.Penalty}, r"Did you mean Penalty\(…\)"),
    ({"method": "penalty"}, "by= expects a method"),
]


@pytest.mark.parametrize(("arguments", "message"), DECLARATIONS)
def test_wrong_declarations(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize("name", ["v", "not a name", "1", ""])
def test_names_of_values_are_new_keywords(name):
    _, problem, _, _ = make()
    with pytest.raises(ValueError, match="Choose another one"):
        problem.require(name, fs.NonNegative())


# -- not finite ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("per", ["value", "sample", "index"])
@pytest.mark.parametrize("average", [None, "window", 0.9])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_numbers_that_are_not_finite_leave_the_state_as_it_was(method, per, average, bad):
    if per == "index" and average:
        pytest.skip("rows have no average")
    x, problem, _handle, optimizer = make(method, per, 2 if per == "index" else None, average=average)
    wrap = (lambda v: (v, torch.tensor([0, 1]))) if per == "index" else (lambda v: v)
    step(x, problem, optimizer, wrap(4 * x))
    before = {key: value.clone() for key, value in problem.constraints[0].state.items()}
    for _ in range(2):
        step(x, problem, optimizer, wrap(4 * x + torch.tensor([bad, 0.0])))
    after = problem.constraints[0].state
    for key, value in before.items():  # entries of their own go on, the spoilt one stays
        assert torch.equal(after[key][0], value[0]) if value.dim() else torch.equal(after[key], value), key
    assert all(value.isfinite().all() for value in after.values())
    row = problem.report()["v"]
    assert row.steps == 3
    if not (isinstance(method, fs.Barrier) and bad == math.inf) and average is None:
        assert row.nonfinite == 2 or math.isinf(bad)
    step(x, problem, optimizer, wrap(4 * x))  # it recovers
    assert all(value.isfinite().all() for value in problem.constraints[0].state.values())


def test_they_are_counted_and_shown():
    x, problem, handle, optimizer = make()
    for value in (1.0, math.nan, math.inf, 1.0):
        step(x, problem, optimizer, value * x)
    row = problem.report()["v"]
    assert row.nonfinite == 2
    assert "2 terms were not finite" in row.diagnosis
    x, problem, handle, optimizer = make()
    for _ in range(600):  # more than are kept at a time
        step(x, problem, optimizer, math.nan * x)
    assert problem.report()["v"].nonfinite == 600
    assert math.isnan(handle.violation)
    assert math.isnan(problem.report()["v"].worst_violation)
    assert "holds NaN" in problem.report()["v"].diagnosis
    assert not problem.report().feasible


def test_a_first_batch_of_nans_does_not_set_the_tolerance():
    x, problem, handle, optimizer = make(per="sample")
    step(x, problem, optimizer, math.nan * x)
    step(x, problem, optimizer, 4 * x)
    assert float(handle.multiplier) > 0


# -- half precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("per", ["value", "sample", "index"])
@pytest.mark.parametrize("method", VALUED, ids=str)
def test_half_precision_values_have_float32_states(method, per, dtype):
    x, problem, _handle, optimizer = make(method, per, 2 if per == "index" else None)
    for _ in range(3):
        value = (3 * x).to(dtype)
        loss = step(x, problem, optimizer, (value, torch.tensor([0, 1])) if per == "index" else value)
        assert loss.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in problem.constraints[0].state.values())
    assert torch.isfinite(x).all()
    assert problem.report()["v"].worst_violation is not None


def test_small_dual_steps_survive_half_precision():
    x, problem, handle, optimizer = make(fs.AugmentedLagrangian(1.0, 1e-4), set=fs.Equal(0.0))
    for _ in range(200):
        step(x, problem, optimizer, 0 * x.bfloat16() + 1.0)
    # λ⁺ is λ + 1 at each step
    torch.testing.assert_close(handle.multiplier, torch.full((2,), 0.02), rtol=1e-3, atol=0)


def test_autocast():
    model = torch.nn.Linear(4, 2)
    problem = fs.Problem(model)
    handle = problem.require("v", fs.NonNegative(), per="sample")
    optimizer = problem.attach(torch.optim.Adam(model.parameters()))
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(torch.randn(8, 4))
            assert out.dtype == torch.bfloat16
            loss = problem.loss(out.float().square().mean(), v=out)
        loss.backward()
        optimizer.step()
    assert handle.multiplier.dtype == torch.float32


# -- shapes of every kind -----------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["sample", "index"])
@pytest.mark.parametrize("method", VALUED, ids=str)
@pytest.mark.parametrize("first", [True, False])
def test_empty_batches(method, per, first):
    torch.manual_seed(0)
    x, problem, _handle, optimizer = make(method, per, 5 if per == "index" else None)

    def batch(rows):
        value = 3 * x.expand(rows, 2)
        return (value, torch.arange(rows)) if per == "index" else value

    if not first:
        step(x, problem, optimizer, batch(3))
    before = {key: value.clone() for key, value in problem.constraints[0].state.items()}
    optimizer.zero_grad()
    loss = problem.loss(0.0 * x.sum(), v=batch(0))
    loss.backward()
    assert float(loss.detach()) == 0
    optimizer.step()
    for key, value in before.items():
        torch.testing.assert_close(problem.constraints[0].state[key], value, equal_nan=True)
    step(x, problem, optimizer, batch(2))
    # an empty micro-batch beside a full one weighs nothing
    optimizer.zero_grad()
    problem.loss(0.0 * x.sum(), v=batch(0)).backward()
    problem.loss(0.0 * x.sum(), v=batch(3)).backward()
    optimizer.step()
    assert torch.isfinite(x).all()
    assert problem.report()["v"].nonfinite == 0
    seen = problem.constraints[0].state.get("multiplier", torch.zeros(()))
    assert seen.isfinite().all()


def test_micro_batches_of_samples_are_weighted_by_their_size():
    x, problem, handle, optimizer = make(fs.AugmentedLagrangian(1.0, 1.0), "sample", tolerance=0.0)
    for rows, value in ((3, 2.0), (1, 6.0)):  # distances 1 and 5
        problem.loss(0.0 * x.sum(), v=0 * x.expand(rows, 2) + torch.tensor([value, 0.0])).backward()
    optimizer.step()
    assert float(handle.multiplier) == pytest.approx((3 * 1 + 1 * 5) / 4)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("method", VALUED, ids=str)
def test_values_of_every_shape(method, shape):
    x = torch.randn(shape, requires_grad=True)
    problem = fs.Problem([x])
    handle = problem.require("v", fs.Box(-0.5, 0.5), by=method)
    optimizer = problem.attach(torch.optim.SGD([x], lr=0.01))
    for _ in range(3):
        optimizer.zero_grad()
        problem.loss((x * x).sum(), v=x * 2).backward()
        assert x.grad.shape == shape
        optimizer.step()
    if method.has_multiplier:
        assert handle.multiplier.shape == shape
    problem.report()


def test_values_may_be_views_and_expanded():
    x, problem, _, optimizer = make(set=fs.Simplex())
    step(x, problem, optimizer, x.expand(3, 2).T)
    step(x, problem, optimizer, torch.stack([x, x, x], dim=1))


# -- fn=, terms and several multipliers ------------------------------------------------------------------


def test_functions_of_the_model_are_evaluated_unless_a_value_is_handed_in():
    model = torch.nn.Linear(2, 1).double()
    calls = []

    def norm(module):
        calls.append(module)
        return module.weight.square().sum() + module.bias.square().sum()

    problem = fs.Problem(model)
    handle = problem.require("norm", fs.Box(upper=1.0), by=fs.AugmentedLagrangian(2.0, 0.2), fn=norm)
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.02))
    for _ in range(1500):
        optimizer.zero_grad()
        problem.loss(-(3 * model.weight.sum() + model.bias.sum())).backward()
        optimizer.step()
    assert all(call is model for call in calls)
    assert float(norm(model).detach()) == pytest.approx(1.0, abs=1e-3)
    assert float(handle.multiplier) == pytest.approx(19**0.5 / 2, abs=1e-2)
    assert problem.report()["norm"].scope == "the value now"
    seen = len(calls)
    problem.loss(torch.zeros(()), norm=norm(model))
    assert len(calls) == seen + 1


def test_terms_add_up_to_what_the_loss_gains():
    x, problem, _, optimizer = make()
    problem.constrain("0", fs.NonNegative(), by=fs.Penalty(3.0), name="soft")
    step(x, problem, optimizer, 5 * x)
    terms = problem.terms(v=5 * x)
    assert list(terms) == ["v", "soft"]
    total = problem.loss(torch.tensor(1.5), v=5 * x)
    torch.testing.assert_close(total.detach(), 1.5 + sum(terms.values()).detach())


@pytest.mark.parametrize("method", [fs.AugmentedLagrangian(), fs.Lagrangian(), fs.SquaredSlack()], ids=str)
@pytest.mark.parametrize("set", [fs.Box(-1, 1), fs.NonNegative(), fs.L2Ball(1.0)], ids=repr)
def test_multipliers_of_weights_exist_from_the_start(method, set):
    model = torch.nn.Linear(3, 2)
    problem = fs.Problem(model)
    handle = problem.constrain("*", set, by=method)
    assert handle.multiplier is None
    assert {name: tuple(m.shape) for name, m in handle.multipliers.items()} == {
        "weight": (2, 3),
        "bias": (2,),
    }
    assert "weight" in str(problem.report())
    assert handle.violation >= 0


def test_handles_of_nan_weights_say_nan():
    model = torch.nn.Linear(3, 2)
    problem = fs.Problem(model)
    handle = problem.constrain("*", fs.Box(-9, 9))
    assert handle.violation == 0
    with torch.no_grad():
        model.bias[0] = math.nan
    assert math.isnan(handle.violation)
