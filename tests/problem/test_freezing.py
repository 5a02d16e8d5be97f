"""Frozen weights keep every bit, whatever the optimizer remembers, and cost nothing where they are whole."""

import io

import pytest
import torch

import feasible as fs

STEPS = 200
MASK = torch.tensor([[True, False, True], [False, True, False]])
HALF = torch.zeros(8, 6, dtype=torch.bool)
HALF[:4] = True

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.5),
    "adamw for-loop": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.5, foreach=False),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.5, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.5, fused=True),
    "adamw amsgrad": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.5, amsgrad=True),
    "adam decay": lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=0.1),
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=0.1),
    "sgd nesterov": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, weight_decay=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.02, weight_decay=0.1),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.02, weight_decay=0.1),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0, weight_decay=0.1),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.02, weight_decay=0.1),
}
WHAT = {
    "bias": [("0.bias", None)],
    "half the weights": [("0.weight", HALF)],
    "half and the bias": [("0.weight", HALF), ("0.bias", None)],
    "everything but one entry": [("0.weight", torch.arange(48).reshape(8, 6) != 5)],
}


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))


def step(problem, optimizer, generator, clip=None):
    x = torch.randn(16, 6, generator=generator)
    optimizer.zero_grad()
    problem.loss((problem.model(x) - x[:, :2]).square().mean()).backward()
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(problem.model.parameters(), clip)
    optimizer.step()


def frozen_and_free(model, what):
    """The frozen entries as bits, and the values of all others."""
    frozen, free = [], []
    for name, parameter in model.named_parameters():
        mask = torch.zeros_like(parameter, dtype=torch.bool)
        for pattern, picked in what:
            if pattern == name:
                mask = torch.ones_like(mask) if picked is None else picked
        values = parameter.detach()
        frozen.append(values[mask].contiguous().view(torch.int32).clone())
        free.append(values[~mask].clone())
    return torch.cat(frozen), torch.cat(free)


AT_ONCE = ("adamw", "adamw fused", "adamw amsgrad", "sgd momentum", "sgd nesterov", "rmsprop")
"""The others are tried among the slow tests, and all from the first step on."""
CASES = [
    pytest.param(
        optimizer,
        what,
        warm,
        marks=[] if optimizer in AT_ONCE and warm and "half" in what else [pytest.mark.slow],
    )
    for optimizer in OPTIMIZERS
    for what in WHAT
    for warm in (0, 20)
]


@pytest.mark.parametrize(("optimizer", "what", "warm"), CASES)
def test_no_optimizer_moves_what_is_frozen(optimizer, what, warm):
    model, generator = network(), torch.Generator().manual_seed(1)
    problem = fs.Problem(model)
    stepper = problem.attach(OPTIMIZERS[optimizer](model.parameters()))
    for _ in range(warm):
        step(problem, stepper, generator)
    for name, mask in WHAT[what]:
        problem.freeze(name, mask)
    bits, free = frozen_and_free(model, WHAT[what])
    for number in range(STEPS):
        step(problem, stepper, generator, clip=0.1 if number % 2 else None)
        assert torch.equal(frozen_and_free(model, WHAT[what])[0], bits)
    assert bool((frozen_and_free(model, WHAT[what])[1] != free).all())
    problem.finish()
    assert torch.equal(frozen_and_free(model, WHAT[what])[0], bits)
    assert all(row.guarantee == "exact" for row in problem.report().rows)


def test_a_mask_on_the_gradient_would_not_freeze():
    """What the methods here are measured against: with a mask the entries drift."""
    model, generator = network(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.5)
    before = model[0].weight.detach().clone()
    problem = fs.Problem(model)
    model[0].weight.register_hook(lambda gradient: gradient.masked_fill(HALF, 0))
    for _ in range(STEPS):
        step(problem, optimizer, generator)
    assert float((model[0].weight.detach() - before)[HALF].abs().max()) > 0.01


@pytest.mark.parametrize("what", WHAT)
def test_a_whole_freeze_leaves_the_free_weights_to_train_as_without_the_library(what):
    """Masked entries do not disturb the others either: their steps are those of a model that has them as constants."""

    class Parts(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            masks = dict(WHAT[what])
            self.fixed, self.free, self.masks = {}, torch.nn.ParameterDict(), {}
            for name, parameter in model.named_parameters():
                mask = masks[name] if name in masks else torch.zeros_like(parameter, dtype=torch.bool)
                self.masks[name] = torch.ones_like(parameter, dtype=torch.bool) if mask is None else mask
                self.fixed[name] = parameter.detach().clone()
                self.free[name.replace(".", "_")] = torch.nn.Parameter(parameter.detach().clone())

        def forward(self, x):
            w = {
                n: torch.where(m, self.fixed[n], self.free[n.replace(".", "_")])
                for n, m in self.masks.items()
            }
            return torch.tanh(x @ w["0.weight"].T + w["0.bias"]) @ w["2.weight"].T + w["2.bias"]

    ours, reference = network(), Parts(network())
    problem, plain = fs.Problem(ours), fs.Problem(reference)
    for name, mask in WHAT[what]:
        problem.freeze(name, mask)
    optimizer = problem.attach(torch.optim.Adam(ours.parameters(), lr=0.01))
    other = torch.optim.Adam(reference.parameters(), lr=0.01)
    generators = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    for _ in range(50):
        step(problem, optimizer, generators[0])
        step(plain, other, generators[1])
    x = torch.randn(5, 6)
    torch.testing.assert_close(ours(x), reference(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("through", ["problem", "optimizer"])
def test_a_resumed_training_keeps_the_bits(mask, through):
    def make(seed):
        torch.manual_seed(seed)
        model = torch.nn.Linear(3, 2)
        problem = fs.Problem(model)
        problem.freeze("weight", mask)
        return model, problem, problem.attach(torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5))

    def train(model, problem, optimizer, steps):
        generator = torch.Generator().manual_seed(2)
        for _ in range(steps):
            optimizer.zero_grad()
            problem.loss(model(torch.randn(4, 3, generator=generator)).square().mean()).backward()
            optimizer.step()

    picked = torch.ones(2, 3, dtype=torch.bool) if mask is None else mask
    model, problem, optimizer = make(0)
    frozen = model.weight.detach()[picked].clone()
    train(model, problem, optimizer, 20)
    buffer = io.BytesIO()
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    if through == "problem":
        saved["problem"] = problem.state_dict()
        saved["optimizer"].pop("feasible")
    torch.save(saved, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)

    resumed, other, stepper = make(1)
    resumed.load_state_dict(saved["model"])
    stepper.load_state_dict(saved["optimizer"])
    if through == "problem":
        other.load_state_dict(saved["problem"])
    train(resumed, other, stepper, 100)
    assert torch.equal(resumed.weight.detach()[picked], frozen)
    other.finish()
    assert torch.equal(resumed.weight.detach()[picked], frozen)
    if mask is not None:
        train(model, problem, optimizer, 100)
        assert torch.equal(model.weight, resumed.weight)


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_tied_weights_are_frozen_for_all_their_owners(mask):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.first(x) + self.second(x)

    model = Tied()
    problem = fs.Problem(model)
    problem.freeze("second.weight", mask)
    picked = torch.ones(2, 3, dtype=torch.bool) if mask is None else mask
    before = model.first.weight.detach().clone()
    optimizer = problem.attach(torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5))
    for _ in range(STEPS):
        optimizer.zero_grad()
        problem.loss(model(torch.randn(4, 3)).square().mean()).backward()
        optimizer.step()
    assert model.second.weight is model.first.weight
    assert torch.equal(model.second.weight.detach()[picked], before[picked])
    assert mask is None or not torch.equal(model.first.weight.detach()[~picked], before[~picked])


def test_a_whole_freeze_costs_no_call_in_a_step(monkeypatch):
    model = network()
    problem = fs.Problem(model)
    problem.freeze("0.weight")
    problem.freeze("2.bias")
    optimizer = problem.attach(torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.5))
    assert not model[0].weight.requires_grad
    step(problem, optimizer, torch.Generator().manual_seed(0))
    calls = []
    monkeypatch.setattr(fs.Frozen, "project_all_", lambda self, tensors: calls.extend(tensors))
    monkeypatch.setattr(fs.Frozen, "project", lambda self, x: calls.append(x))
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, *given: calls.append(self))
    step(problem, optimizer, torch.Generator().manual_seed(0))
    assert not calls
    assert model[0].weight.grad is None
    assert not optimizer.state.get(model[0].weight)  # nor memory


def test_a_gradient_scaler_changes_nothing():
    model, generator = network(), torch.Generator().manual_seed(1)
    problem = fs.Problem(model)
    problem.freeze("0.weight", HALF)
    problem.freeze("0.bias")
    before = frozen_and_free(model, WHAT["half and the bias"])[0]
    optimizer = problem.attach(torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.5))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for number in range(STEPS):
        x = torch.randn(16, 6, generator=generator)
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = problem.loss((model(x).float() - x[:, :2]).square().mean())
        scaler.scale(loss * (float("inf") if number % 50 == 3 else 1.0)).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(frozen_and_free(model, WHAT["half and the bias"])[0], before)


def test_a_whole_freeze_holds_under_lbfgs_and_a_masked_one_is_refused():
    def closure():
        optimizer.zero_grad()
        loss = problem.loss((model(x) - x[:, :2]).square().mean())
        loss.backward()
        return loss

    model, x = network(), torch.randn(32, 6)
    problem = fs.Problem(model)
    problem.freeze("0.bias")
    before = model[0].bias.detach().clone()
    optimizer = problem.attach(torch.optim.LBFGS(model.parameters(), lr=0.5, line_search_fn="strong_wolfe"))
    start = float(closure().detach())
    for _ in range(10):
        optimizer.step(closure)
        assert torch.equal(model[0].bias, before)
    assert float(closure().detach()) < 0.5 * start
    with pytest.raises(fs.UnsupportedError, match="LBFGS"):
        problem.freeze("0.weight", HALF)


@pytest.mark.parametrize("how", ["frozen", "attached anew", "switched on"])
def test_a_whole_freeze_in_the_middle_holds_under_lbfgs(how):
    """Its curvature pairs remember the weight: they would move it without a gradient."""

    def closure():
        optimizer.zero_grad()
        loss = problem.loss((model(x) - x[:, :2]).square().mean())
        loss.backward()
        return loss

    model, x = network(), torch.randn(32, 6)
    problem = fs.Problem(model)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    if how == "switched on":
        handle = problem.freeze("0.weight")
        handle.enabled = False
    problem.attach(optimizer)
    for _ in range(3):
        optimizer.step(closure)
    if how == "attached anew":
        problem.detach(optimizer)
    if how == "switched on":
        handle.enabled = True
        problem.finish()
        problem.attach(optimizer)
    else:
        problem.freeze("0.weight")
    if how == "attached anew":
        problem.attach(optimizer)
    before = model[0].weight.detach().clone()
    start = float(closure().detach())
    for _ in range(5):
        optimizer.step(closure)
        assert torch.equal(model[0].weight, before)
    assert float(closure().detach()) < start


@pytest.mark.parametrize("mask", [None, HALF], ids=["whole", "masked"])
def test_loading_over_a_frozen_weight_is_reported_and_mended_at_the_end(mask):
    model = network()
    problem = fs.Problem(model)
    problem.freeze("0.weight", mask)
    frozen = model[0].weight.detach().clone()
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    model.load_state_dict(network(seed=5).state_dict())
    assert problem.report()["0.weight"].guarantee == "broken"
    step(problem, optimizer, torch.Generator().manual_seed(0))
    problem.finish()
    picked = torch.ones(8, 6, dtype=torch.bool) if mask is None else mask
    assert torch.equal(model[0].weight.detach()[picked], frozen[picked])
    assert problem.report()["0.weight"].guarantee == "exact"


@pytest.mark.parametrize("mask", [None, HALF], ids=["whole", "masked"])
def test_what_is_released_trains_again(mask):
    model, generator = network(), torch.Generator().manual_seed(1)
    problem = fs.Problem(model)
    handle = problem.freeze("0.weight", mask)
    optimizer = problem.attach(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    step(problem, optimizer, generator)
    before = model[0].weight.detach().clone()
    handle.enabled = False
    step(problem, optimizer, generator)
    moved = model[0].weight.detach() != before
    assert bool(moved.all())
    handle.enabled = True
    back = model[0].weight.detach().clone()
    step(problem, optimizer, generator)
    picked = torch.ones(8, 6, dtype=torch.bool) if mask is None else mask
    assert torch.equal(model[0].weight.detach()[picked], (before if mask is not None else back)[picked])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_special_values_keep_their_bits(dtype):
    values = torch.tensor([0.0, -0.0, 5e-8, -1e-7, 1.0 / 3, -65504.0], dtype=torch.float64).to(dtype)
    w = torch.nn.Parameter(torch.cat([values, torch.ones(2, dtype=dtype)]))
    mask = torch.arange(8) < 6
    problem = fs.Problem([w])
    problem.freeze("0", mask)
    optimizer = problem.attach(torch.optim.AdamW([w], lr=0.1, weight_decay=0.5))
    bits = {8: torch.int64, 2: torch.int16}[dtype.itemsize]
    for _ in range(20):
        optimizer.zero_grad()
        problem.loss((w.double() - 2).clamp(-10, 10).square().sum()).backward()
        optimizer.step()
    assert torch.equal(w.detach()[:6].view(bits), values.view(bits))
    assert bool((w.detach()[6:] != 1).all())
