"""Straight-through and proximal annealing: members to the bit, whatever the set, the dtype and the loop."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss

import feasible as fs
from feasible.errors import UnsupportedError
from feasible.testing.subject import same_bits

CANDIDATES = torch.arange(48.0).reshape(3, 4, 4).sin()
ROWS = torch.tensor([True, False, True, True])
ENTRIES = torch.arange(16).reshape(4, 4).remainder(3) == 0
SETS = {
    "ternary": fs.FiniteSet([-1, 0, 1]),
    "uneven": fs.FiniteSet([-0.3, 0.1, 0.11, 5.0]),
    "one value": fs.FiniteSet([0.1]),
    "integers": fs.Integers(),
    "range": fs.Integers(-2, 1),
    "rows": fs.OneHot(),
    "columns": fs.OneHot(dim=0),
    "whole": fs.OneHot(dim=None),
    "permutation": fs.Permutation(),
    "candidates": fs.Candidates(CANDIDATES),
    "some entries": fs.FiniteSet([-1, 0.1]).where(ENTRIES),
    "some rows": fs.OneHot().where(ROWS[:, None]),
    "flattened": fs.OneHot().flatten(0),
    "union": fs.OneHot() | fs.OneHot().where(ROWS),
    "lists": fs.FiniteSet([0, 1]) & fs.Box(0.5, 2),
}
METHODS = {"straight-through": fs.StraightThrough(), "anneal": fs.ProximalAnneal(steps=8)}
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def layer(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    return torch.nn.Linear(4, 4, bias=False, dtype=dtype)


def trained(model, set, method, steps=8, make=torch.optim.Adam, rate=0.1, pattern="weight"):
    """The problem after some steps towards a random target."""
    problem = fs.Problem(model)
    problem.constrain(pattern, set, by=method)
    optimizer = problem.attach(make(model.parameters(), lr=rate))
    run(model, problem, optimizer, range(steps))
    return problem, optimizer


def run(model, problem, optimizer, steps):
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        dtype = next(model.parameters()).dtype
        x, y = (torch.randn(8, 4, generator=generator).to(dtype) for _ in range(2))
        optimizer.zero_grad()
        problem.loss(mse_loss(model(x), y)).backward()
        optimizer.step()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("set", SETS.values(), ids=SETS.keys())
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_training_ends_with_the_bits_of_members(method, set, dtype):
    model = layer(dtype)
    problem, _ = trained(model, set, method, steps=5)
    problem.finish()
    weight = model.weight.detach()
    assert type(model.weight) is torch.nn.Parameter
    assert [*model.state_dict()] == ["weight"]
    assert same_bits(set.bind(weight).project(weight), weight)
    assert problem.report()["weight"].worst_violation == 0


@pytest.mark.parametrize("set", [SETS["ternary"], SETS["some entries"], SETS["rows"]], ids=str)
def test_the_model_computes_with_members_and_the_gradient_passes(set):
    model = layer()
    free = model.weight.detach().clone()
    problem = fs.Problem(model)
    problem.constrain("weight", set)
    assert problem.constraints[0].method == fs.StraightThrough()
    bound = set.bind(free)
    assert same_bits(model.weight.detach(), bound.project(free))
    latent = problem.slots["weight"].leaf
    direction = torch.randn(4, 4)
    (model.weight * direction).sum().backward()
    assert torch.equal(latent.grad, direction)
    assert torch.equal(latent.detach(), free)


def test_free_entries_learn_normally():
    set = SETS["some entries"]
    for method in (fs.StraightThrough(), fs.ProximalAnneal(steps=3)):
        held, free = layer(), layer()
        direction = torch.randn(4, 4)
        problem = fs.Problem(held)
        problem.constrain("weight", set, by=method)
        optimizers = [problem.attach(torch.optim.SGD(held.parameters(), lr=0.1))]
        optimizers.append(torch.optim.SGD(free.parameters(), lr=0.1))
        for _ in range(5):
            for model, optimizer in zip((held, free), optimizers, strict=True):
                optimizer.zero_grad()
                (model.weight * direction).sum().backward()
                optimizer.step()
        problem.finish()
        assert torch.equal(held.weight[~ENTRIES], free.weight[~ENTRIES])
        assert bool(set.contains(held.weight).all())


def test_not_finite_latents():
    model = layer()
    with torch.no_grad():
        model.weight[0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    fs.Problem(model).constrain("weight", fs.FiniteSet([-1, 0, 1]))
    first = model.weight[0]
    assert bool(first[0].isnan())
    assert first[1:3].tolist() == [1, -1]


def test_latents_under_torch_func_and_compile():
    model = layer()
    fs.Problem(model).constrain("weight", fs.FiniteSet([-1, 0, 1]))
    x = torch.randn(5, 4)
    parameters = dict(model.named_parameters())

    def loss(parameters, x):
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    mapped = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for row, gradient in zip(x, *mapped.values(), strict=True):
        model.zero_grad()
        model(row).square().sum().backward()
        assert torch.allclose(gradient, next(model.parameters()).grad)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    model.zero_grad()
    compiled(x).square().sum().backward()
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    assert torch.allclose(next(model.parameters()).grad, expected[0])
    assert torch.equal(compiled(x), model(x))


def test_the_mask_of_a_latent_follows_the_module():
    model = layer()
    problem = fs.Problem(model)
    problem.constrain("weight", fs.FiniteSet([-0.1, 0.1]).where(ENTRIES))
    copied = copy.deepcopy(model).double()
    assert copied.weight.dtype == torch.float64
    assert copied.weight[ENTRIES].abs().unique().tolist() == [torch.tensor(0.1).item()]
    model.double()
    problem.finish()
    assert problem.report()["weight"].worst_violation == 0


class Tied(torch.nn.Module):
    """One weight with two owners, and a second matrix beside it."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Bilinear(4, 4, 4, bias=True)
        self.second = torch.nn.Linear(4, 4, bias=False)
        self.third = torch.nn.Linear(4, 4)
        self.third.weight = self.second.weight

    def forward(self, x):
        return self.third(self.second(self.first(x, x)))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_tied_weights_and_two_weights_of_a_module(method):
    model = Tied()
    names = [*model.state_dict()]
    problem, _ = trained(model, fs.FiniteSet([-0.5, 0, 0.5]), method, pattern="*")
    problem.finish()
    assert model.third.weight is model.second.weight
    assert [*model.state_dict()] == names
    for weight in model.parameters():
        assert set(weight.unique().tolist()) <= {-0.5, 0, 0.5}


def test_bare_tensors_anneal_and_are_told_so():
    w = torch.tensor([0.4, -3.0], requires_grad=True)
    with pytest.raises(UnsupportedError, match=r"Use ProximalAnneal\(steps=…\)"):
        fs.Problem({"w": w}).constrain("w", fs.FiniteSet([-1, 0, 1]))
    problem = fs.Problem({"w": w})
    problem.constrain("w", fs.FiniteSet([-1, 0, 1]), by=fs.ProximalAnneal(steps=100))
    assert w.tolist() == [torch.tensor(0.4).item(), -3.0]
    problem.finish()
    assert w.tolist() == [0, -1]


def test_convex_sets_are_refused():
    for method in METHODS.values():
        with pytest.raises(UnsupportedError, match="is convex, and Project or Reparametrize get there"):
            fs.Problem(layer()).constrain("weight", fs.Box(-1, 1), by=method)


# -- the schedule ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("steps", [1, 2, 50, 10_000])
def test_left_alone_the_distance_follows_the_schedule(steps, scale):
    method = fs.ProximalAnneal(steps)
    w = torch.tensor([0.3, 0.6, 7.0], dtype=torch.float64) * scale
    w.requires_grad_()
    problem = fs.Problem([w])
    problem.constrain("*", fs.FiniteSet([-scale, 0, scale]), by=method)
    start = fs.FiniteSet([-scale, 0, scale]).residual(w.detach())
    for step in range(1, steps + 1):
        problem.step()
        if step % max(steps // 10, 1) == 0 or step > steps - 3:
            left = fs.FiniteSet([-scale, 0, scale]).residual(w.detach()) / start
            share = (1 - (step / steps) ** 12) ** 16
            assert bool((left > share - 1e-12).all() and (left < 4 * share + 1e-12).all()), step
    assert w.tolist() == [0, scale, scale]


def test_vectors_shrink_towards_their_nearest_member_as_a_whole():
    w = torch.tensor([[0.9, 0.2], [0.1, -0.4]], dtype=torch.float64).requires_grad_()
    start = fs.OneHot().residual(w.detach())
    problem = fs.Problem([w])
    problem.constrain("*", fs.OneHot(), by=fs.ProximalAnneal(steps=20))
    for _ in range(18):
        problem.step()
    ratio = fs.OneHot().residual(w.detach()) / start
    assert torch.allclose(ratio, ratio[0, 0].expand(2, 2))
    assert 0 < float(ratio[0, 0]) < 1


@pytest.mark.parametrize("through", ["problem", "optimizer"])
@pytest.mark.parametrize("at", [3, 17, 19, 25])
def test_it_resumes_in_the_middle_bit_for_bit(at, through):
    def made():
        model = layer()
        return (model, *trained(model, fs.FiniteSet([-0.2, 0, 0.2]), fs.ProximalAnneal(steps=20), steps=0))

    model, problem, optimizer = made()
    run(model, problem, optimizer, range(at))
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), problem.state_dict()))
    again, other, resumed = made()
    again.load_state_dict(saved[0])
    if through == "optimizer":
        resumed.load_state_dict(saved[1])
    else:
        resumed.load_state_dict({key: value for key, value in saved[1].items() if key != "feasible"})
        other.load_state_dict(saved[2])
    for step in range(at, 30):
        run(model, problem, optimizer, [step])
        run(again, other, resumed, [step])
        assert same_bits(model.weight.detach(), again.weight.detach())
        assert problem.report()["weight"].guarantee == other.report()["weight"].guarantee


def test_skipped_steps_anneal_nothing():
    w = torch.tensor([0.3], requires_grad=True)
    problem = fs.Problem([w])
    problem.constrain("*", fs.FiniteSet([0, 1]), by=fs.ProximalAnneal(steps=4, strength=1.0, power=1.0))
    optimizer = problem.attach(torch.optim.SGD([w], lr=0.0, fused=True))
    for skipped in (True, True, False, True, False, True, True, False):
        w.grad = torch.ones(1)
        optimizer.found_inf = torch.tensor(float(skipped))
        before = w.item()
        optimizer.step()
        assert not skipped or w.item() == before
    assert problem.constraints[0].ticks == 3
    assert w.item() == pytest.approx(0.3 * 0.25)


def test_the_report_says_how_far_it_is_and_what_the_end_moved():
    model = layer()
    problem, _ = trained(model, fs.FiniteSet([-1, 0, 1]), fs.ProximalAnneal(steps=2_000), steps=300)
    row = problem.report()["weight"]
    assert row.guarantee == "encouraged"
    assert "annealing: 300 of 2,000 steps; finish() rounds" in row.diagnosis
    before = model.weight.detach().clone()
    problem.finish()
    row = problem.report()["weight"]
    moved = (model.weight.detach() - before).abs()
    assert row.guarantee == "exact"
    assert row.finish_moved == int((moved != 0).sum())
    assert row.finish_distance == pytest.approx(float(moved.max()))
    assert f"finish() moved {row.finish_moved} of 16 entries, the farthest by" in row.diagnosis
    problem.finish()
    assert problem.report()["weight"] == row
    problem, _ = trained(layer(), fs.FiniteSet([-1, 0, 1]), fs.ProximalAnneal(steps=10), steps=12)
    assert problem.report()["weight"].guarantee == "exact"
    assert "anneal" not in problem.report()["weight"].diagnosis


def test_from_the_end_on_the_weight_is_a_member_after_every_step():
    model = layer()
    values = fs.FiniteSet([-0.2, 0, 0.2])
    problem, optimizer = trained(model, values, fs.ProximalAnneal(steps=10), steps=10)
    for step in range(10):
        assert bool(values.bind(model.weight).contains(model.weight).all())
        run(model, problem, optimizer, [step])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "scale"),
    [(torch.optim.Adam, 0.05), (torch.optim.Adam, 1.0), (torch.optim.Adam, 20.0), (torch.optim.SGD, 1.0)],
    ids=["Adam, 0.05", "Adam, 1", "Adam, 20", "SGD, 1"],
)
@pytest.mark.parametrize("method", [fs.StraightThrough(), fs.ProximalAnneal(600)], ids=["straight", "anneal"])
def test_a_ternary_classifier_of_any_scale(method, make, scale):
    """Points in four quarters of the plane, by a last layer of {−s, 0, s}."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 2, generator=generator)
    y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    torch.manual_seed(0)
    body, head = torch.nn.Linear(2, 16), torch.nn.Linear(16, 4)
    with torch.no_grad():
        head.weight.mul_(2 * scale)
    model = torch.nn.Sequential(body, torch.nn.ReLU(), head)
    problem = fs.Problem(model)
    problem.constrain("2.weight", fs.FiniteSet([-scale, 0, scale]), by=method)
    rate = 0.02 if make is torch.optim.Adam else 0.3
    groups = [
        {"params": [*body.parameters(), head.bias], "lr": rate / max(scale, 1.0)},
        {"params": [problem.slots["2.weight"].leaf], "lr": rate * scale},
    ]
    optimizer = problem.attach(make(groups, lr=rate))
    for _ in range(600):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    problem.finish()
    assert float((model(x).argmax(1) == y).float().mean()) > 0.93
