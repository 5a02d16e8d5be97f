"""Jacobians of closures of every kind, step after step: never another matrix than autograd's, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from feasible.optim.residuals import Linearisation, Residual
from feasible.optim.vector import Vector

DOUBLE, ROWS = torch.float64, 12
Problem = tuple[list[Tensor], Callable[[], object]]
Case = tuple[str, Callable[[Tensor], Problem]]


def weight(*shape: int, value: float | None = None) -> Tensor:
    entries = torch.randn(shape, dtype=DOUBLE) if value is None else torch.full(shape, value, dtype=DOUBLE)
    return entries.requires_grad_()


def network(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*(layers or (nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)))).double()


class OwnProduct(torch.autograd.Function):
    """A product that no torch function shows."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w.T

    @staticmethod
    def backward(ctx, slope):
        x, w = ctx.saved_tensors
        return slope @ w, slope.T @ x


def plain(x: Tensor) -> Problem:
    model = network()
    return list(model.parameters()), lambda: model(x)


def gated_custom_function(x: Tensor) -> Problem:
    """Nothing of it is felt at first, and all of it later."""
    model, w, gate = network(), weight(1, 3), weight(1, value=0.0)
    return [w, gate, *model.parameters()], lambda: model(x) + gate * OwnProduct.apply(x, w)


def gated_item(x: Tensor) -> Problem:
    model, b, gate = network(), weight(1), weight(1, value=0.0)

    def residual() -> Tensor:
        z = torch.zeros(ROWS, 1, dtype=DOUBLE)
        z[:, 0] = b
        return model(x) + gate * z

    return [b, gate, *model.parameters()], residual


def rewritten_weight(x: Tensor) -> Problem:
    w = weight(5, 3)

    def residual() -> Tensor:
        own, h = w.clone(), x @ w.T
        own[0] = h[0, :3]
        return (x @ own.T).sum(1)

    return [w], residual


def in_place(x: Tensor) -> Problem:
    model, b = network(), weight(1)

    def residual() -> Tensor:
        h = model(x)
        h += b
        return h.mul_(2).tanh_()

    return [b, *model.parameters()], residual


def gradient_hook(x: Tensor) -> Problem:
    model = network()
    model[0].weight.register_hook(lambda gradient: 2 * gradient)
    return list(model.parameters()), lambda: model(x)


def own_gradient_norm(x: Tensor) -> Problem:
    """Constant offsets that the closure takes from its own gradients."""
    model = network()
    parameters = list(model.parameters())

    def residual() -> Tensor:
        rows = model(x)[:, 0]
        gradients = torch.autograd.grad(rows.sum(), parameters, retain_graph=True, allow_unused=True)
        return rows + sum(g.norm() for g in gradients if g is not None)

    return parameters, residual


def own_attention(x: Tensor) -> Problem:
    q, k, v = (nn.Linear(3, 3).double() for _ in range(3))
    words = torch.stack([x, x.flip(1), x.sin()], 1)

    def residual() -> Tensor:
        return nn.functional.scaled_dot_product_attention(q(words), k(words), v(words)).sum((1, 2))

    return [p for layer in (q, k, v) for p in layer.parameters()], residual


def attention_across_rows(x: Tensor) -> Problem:
    q, k, v = (nn.Linear(3, 3).double() for _ in range(3))
    parameters = [p for layer in (q, k, v) for p in layer.parameters()]
    return parameters, lambda: ((q(x) @ k(x).T).softmax(1) @ v(x)).sum(1)


def layer(kind: Callable[[], nn.Module]) -> Callable[[Tensor], Problem]:
    def problem(x: Tensor) -> Problem:
        model = network(nn.Linear(3, 4), kind(), nn.Tanh(), nn.Linear(4, 1))
        return list(model.parameters()), lambda: model(x)

    return problem


def convolution(x: Tensor) -> Problem:
    model = network(nn.Conv1d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4, 1))
    return list(model.parameters()), lambda: model(x[:, None])


def embedding(x: Tensor) -> Problem:
    table, model, index = nn.Embedding(4, 3).double(), network(), torch.arange(ROWS) % 4
    return [*table.parameters(), *model.parameters()], lambda: model(table(index))


def means_taken_off(x: Tensor) -> Problem:
    model = network()
    return list(model.parameters()), lambda: model(x) - model(x).mean()


def weakly_coupled(x: Tensor) -> Problem:
    model = network()
    return list(model.parameters()), lambda: model(x) + 1e-7 * model(x).mean()


def tied(x: Tensor) -> Problem:
    w = weight(4, 3)
    return [w], lambda: torch.tanh(x @ w.T) @ w - x


def expanded(x: Tensor) -> Problem:
    model, w = network(), weight(3)
    return [w, *model.parameters()], lambda: model(x * w.expand(ROWS, 3))


def where(x: Tensor) -> Problem:
    model, b = network(), weight(1)
    return [b, *model.parameters()], lambda: torch.where(x[:, :1] > 0, model(x), b)


def complex_numbers(x: Tensor) -> Problem:
    model, a, b = network(), weight(3, 3), weight(3)

    def residual() -> Tensor:
        z = torch.complex(x, x.flip(1)) @ torch.complex(a, a.T) * torch.exp(1j * b)
        return model(z.real + z.abs())

    return [a, b, *model.parameters()], residual


def checkpointed(x: Tensor) -> Problem:
    model = network()
    return list(model.parameters()), lambda: checkpoint(model, x.sin(), use_reentrant=False)


def mapped(x: Tensor) -> Problem:
    model, w = network(), weight(3)
    return [w, *model.parameters()], lambda: torch.vmap(lambda row: model(row * w)[0])(x)


def called_with_functions_of_weights(x: Tensor) -> Problem:
    model = network()
    own = dict(model.named_parameters())
    return list(model.parameters()), lambda: torch.func.functional_call(
        model, {name: 1.5 * p + p.square() for name, p in own.items()}, (x,)
    )


def views_made_before(x: Tensor) -> Problem:
    flat = weight(20)
    matrix, bias = flat[:15].view(5, 3), flat[15:]
    return [flat], lambda: torch.tanh(nn.functional.linear(x, matrix, bias)).sum(1)


def with_weight_decay(x: Tensor) -> Problem:
    model = network()
    return list(model.parameters()), lambda: (model(x), *[0.1 * p for p in model.parameters()])


def rows_by_rows(x: Tensor) -> Problem:
    model, b = network(), weight(ROWS)
    return [b, *model.parameters()], lambda: (model(x) + b).square().sum(1)


def scalars_and_nothing(x: Tensor) -> Problem:
    model, scale, none = network(), weight(), weight(0, 3)
    return [scale, none, *model.parameters()], lambda: scale * model(scale * x)[:, 0] + (x @ none.T).sum(1)


PER_SAMPLE: list[Case] = [
    ("plain", plain),
    ("attention of its own", own_attention),
    ("tied", tied),
    ("functions of weights", called_with_functions_of_weights),
    ("rows by rows", rows_by_rows),
]
OTHERS: list[Case] = [
    ("gated custom function", gated_custom_function),
    ("gated item", gated_item),
    ("rewritten weight", rewritten_weight),
    ("in place", in_place),
    ("gradient hook", gradient_hook),
    ("own gradient norm", own_gradient_norm),
    ("attention across rows", attention_across_rows),
    ("layer norm", layer(lambda: nn.LayerNorm(4))),
    ("batch norm", layer(lambda: nn.BatchNorm1d(4))),
    ("batch norm alone", layer(lambda: nn.BatchNorm1d(4, affine=False))),
    ("dropout and prelu", layer(lambda: nn.Sequential(nn.Dropout(0.5), nn.PReLU()))),
    ("convolution", convolution),
    ("embedding", embedding),
    ("means taken off", means_taken_off),
    ("weakly coupled", weakly_coupled),
    ("expanded", expanded),
    ("where", where),
    ("complex numbers", complex_numbers),
    ("checkpointed", checkpointed),
    ("mapped", mapped),
    ("views made before", views_made_before),
    ("weight decay", with_weight_decay),
    ("scalars and nothing", scalars_and_nothing),
]


def by_rows(residual: Callable[[], object], parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The residual and its Jacobian, one row and one weight at a time."""
    result = residual()
    parts = result if isinstance(result, tuple) else (result,)
    rows = torch.cat([part.reshape(-1) for part in parts])
    jacobian = []
    for row in rows:
        found = torch.autograd.grad(row, parameters, retain_graph=True, allow_unused=True)
        pairs = zip(found, parameters, strict=True)
        jacobian.append(torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs]))
    return rows.detach(), torch.stack(jacobian)


def compare(make: Callable[[Tensor], Problem]) -> Linearisation:
    torch.manual_seed(0)
    parameters, residual = make(torch.randn(ROWS, 3, dtype=DOUBLE))
    linearisation = Linearisation(Vector(parameters), "auto", None, 1e-8, 200)
    for step in range(4):
        torch.manual_seed(7)
        rows, system = linearisation.at(Residual(residual, None, torch.device("cpu")))
        torch.manual_seed(7)
        expected_rows, expected = by_rows(residual, parameters)
        assert torch.allclose(rows, expected_rows, rtol=1e-10, atol=1e-12), step
        assert torch.allclose(system.jacobian, expected, rtol=1e-9, atol=1e-9), step
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(0.5 * torch.randn_like(parameter))
    return linearisation


@pytest.mark.parametrize(("name", "make"), PER_SAMPLE, ids=[name for name, _ in PER_SAMPLE])
def test_rows_of_samples_of_their_own_come_from_one_pass(name, make):
    assert compare(make).used == "per-sample"


@pytest.mark.parametrize(("name", "make"), OTHERS, ids=[name for name, _ in OTHERS])
def test_all_others_are_noticed(name, make):
    linearisation = compare(make)
    assert linearisation.used == "batched"
    assert linearisation.objection
