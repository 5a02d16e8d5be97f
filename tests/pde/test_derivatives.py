"""``pde.derivatives`` against sympy, nested ``autograd.grad`` and finite differences."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import feasible as fs
from feasible.pde.differentiation import derivatives

X, Y, Z = sympy.symbols("x y z")


class Explicit(nn.Module):
    """A function written twice."""

    def __init__(self, function: Callable[..., Tensor], formula: sympy.Expr) -> None:
        super().__init__()
        self.function, self.formula = function, formula

    def forward(self, x: Tensor) -> Tensor:
        return self.function(*(x[:, i : i + 1] for i in range(x.shape[1])))


EXPLICIT = {
    "polynomial": Explicit(lambda x, y: x**3 * y**2 - 2 * x * y + 1, X**3 * Y**2 - 2 * X * Y + 1),
    "waves": Explicit(
        lambda x, y: torch.sin(2 * x) * torch.cos(y) - torch.exp(-x * y),
        sympy.sin(2 * X) * sympy.cos(Y) - sympy.exp(-X * Y),
    ),
    "quotient": Explicit(
        lambda x, y: (1 + x * y) / (2 + x**2) + 3 / (2 + y), (1 + X * Y) / (2 + X**2) + 3 / (2 + Y)
    ),
    "powers": Explicit(
        lambda x, y: 2**x * (x + 3).sqrt() + (y + 3).log() - (y + 3) ** 1.5,
        2**X * sympy.sqrt(X + 3) + sympy.log(Y + 3) - (Y + 3) ** sympy.Rational(3, 2),
    ),
    "sigmoids": Explicit(
        lambda x, y: torch.tanh(x * y) + torch.sigmoid(x - y) * y,
        sympy.tanh(X * Y) + Y / (1 + sympy.exp(Y - X)),
    ),
    "unary": Explicit(
        lambda x, y: (-x).erf() + F.silu(y) * (x + 2).reciprocal() - x.square().mul(y),
        sympy.erf(-X) + Y / (1 + sympy.exp(-Y)) / (X + 2) - X**2 * Y,
    ),
    "by nested forward mode": Explicit(
        lambda x, y: torch.logaddexp(x, y) * torch.hypot(x + 3, y),
        sympy.log(sympy.exp(X) + sympy.exp(Y)) * sympy.sqrt((X + 3) ** 2 + Y**2),
    ),
}


def reference(case: Explicit, x: Tensor, which: str) -> Tensor:
    derived = sympy.diff(case.formula, *which) if which else case.formula
    evaluate = sympy.lambdify((X, Y), derived, "math")
    return torch.tensor([[float(evaluate(*map(float, row)))] for row in x], dtype=x.dtype)


@pytest.mark.parametrize("name", EXPLICIT)
@pytest.mark.parametrize("which", ["", "x", "yx", "xxy", "xyyx"])
def test_partials_are_those_of_sympy(name: str, which: str) -> None:
    case, x = EXPLICIT[name], torch.rand(7, 2, dtype=torch.float64) * 2 - 1
    u = derivatives(case, x)
    torch.testing.assert_close(u.partial(which), reference(case, x, which), rtol=1e-10, atol=1e-11)
    assert u.method.startswith("nested" if name.startswith("by") else "jet")


@pytest.mark.parametrize("name", EXPLICIT)
def test_gradient_laplacian_hessian_are_those_of_sympy(name: str) -> None:
    case, x = EXPLICIT[name], torch.rand(5, 2, dtype=torch.float64)
    for u in (derivatives(case, x), derivatives(case, x, order=2)):
        rows = [[reference(case, x, a + b)[:, 0] for b in "xy"] for a in "xy"]
        hessian = torch.stack([torch.stack(row, 1) for row in rows], 1)
        torch.testing.assert_close(u.laplacian[:, 0], hessian.diagonal(dim1=1, dim2=2).sum(1))
        torch.testing.assert_close(u.hessian[:, 0], hessian)
        torch.testing.assert_close(
            u.gradient[:, 0], torch.stack([reference(case, x, a)[:, 0] for a in "xy"], 1)
        )


def by_autograd(model: Callable[..., Tensor], x: Tensor, columns: tuple[int, ...], *inputs: Tensor) -> Tensor:
    """(n, m), each output by itself."""
    x = x.clone().requires_grad_()
    out = model(x, *inputs)
    found = []
    for j in range(out.shape[1]):
        part = out[:, j]
        for i in columns:
            (slope,) = torch.autograd.grad(
                part.sum(), x, create_graph=True, allow_unused=True, materialize_grads=True
            )
            part = slope[:, i]
        found.append(part)
    return torch.stack(found, 1)


def network(width: int, outputs: int, activation: nn.Module, inputs: int = 2) -> nn.Sequential:
    layers = (
        nn.Linear(inputs, width),
        activation,
        nn.Linear(width, width),
        activation,
        nn.Linear(width, outputs),
    )
    return nn.Sequential(*layers).double()


class Hyper(nn.Module):
    """Hidden units scaled by a network of other inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(1, 8), nn.Linear(8, 1)
        self.scale = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8))
        self.double()

    def forward(self, x: Tensor, *inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x)) * self.scale(torch.cat(inputs, 1))
        return self.last(F.silu(hidden))


class NoRule(nn.Module):
    """A normalisation behind a function that jets have no rule for."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.logaddexp(x, torch.zeros_like(x)))


class WrittenOut(nn.Module):
    """The same normalisation as a formula: torch's own is wrong beyond first derivatives."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.norm, nn.BatchNorm1d):
            centre, spread, eps = self.norm.running_mean, self.norm.running_var, self.norm.eps
        else:
            is_rms = isinstance(self.norm, nn.RMSNorm)
            centre = 0 if is_rms else x.mean(1, keepdim=True)
            spread = ((x - centre) ** 2).mean(1, keepdim=True)
            eps = torch.finfo(x.dtype).eps if is_rms else self.norm.eps
        scaled = (x - centre) / torch.sqrt(spread + eps) * self.norm.weight
        return scaled + getattr(self.norm, "bias", 0) if not isinstance(self.norm, nn.RMSNorm) else scaled


def plain(model: nn.Module) -> nn.Module:
    """The model whose normalisations are formulas; it shares the parameters."""
    twin = copy.copy(model)
    twin._modules = dict(model._modules)
    for name, child in model.named_children():
        is_norm = isinstance(child, (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d))
        twin._modules[name] = WrittenOut(child) if is_norm else plain(child)
    return twin


class Gates(nn.Module):
    """Gates, normalisation, a residual connection: partly without rules for jets."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(2, 6), nn.Linear(2, 6), nn.Linear(6, 3)
        self.norm = norm
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.a(x))
        hidden = gate * torch.sin(self.b(x)) + (1 - gate) * self.a(x)
        return self.out(self.norm(hidden) + hidden)


MODELS = {
    "tanh": (network(9, 1, nn.Tanh()), 2, 0),
    "sigmoid, 3 outputs": (network(7, 3, nn.Sigmoid()), 2, 0),
    "silu": (network(7, 1, nn.SiLU()), 2, 0),
    "gelu": (network(7, 1, nn.GELU()), 2, 0),
    "gelu by tanh": (network(7, 1, nn.GELU(approximate="tanh")), 2, 0),
    "softplus": (network(7, 2, nn.Softplus()), 2, 0),
    "softplus, sharper": (network(7, 2, nn.Softplus(beta=3.0)), 2, 0),
    "mish": (network(7, 1, nn.Mish()), 2, 0),
    "3-d": (network(7, 2, nn.Tanh(), 3), 3, 0),
    "hypernetwork": (Hyper(), 1, 3),
    "gates": (Gates(nn.Identity()), 2, 0),
    "layer norm": (Gates(nn.LayerNorm(6)), 2, 0),
    "rms norm": (Gates(nn.RMSNorm(6)), 2, 0),
    "batch norm": (Gates(nn.BatchNorm1d(6)).eval(), 2, 0),
    "no rule": (Gates(NoRule(nn.LayerNorm(6))), 2, 0),
    "linear": (nn.Linear(2, 2).double(), 2, 0),
}


@pytest.mark.parametrize("name", MODELS)
def test_values_and_gradients_are_those_of_nested_autograd(name: str) -> None:
    model, dim, extra = MODELS[name]
    x = torch.randn(6, dim, dtype=torch.float64)
    inputs = [torch.randn(6, 1, dtype=torch.float64) for _ in range(extra)]
    columns = [(), (0,), (dim - 1,), (0, dim - 1), (0, 0, dim - 1)]
    by_hand = plain(model)
    u = derivatives(model, x, *inputs, wanted=[*columns, "laplacian"])
    ours = [*(u.partial(c) for c in columns), u.laplacian]
    theirs = [by_autograd(by_hand, x, c, *inputs) for c in columns]
    theirs.append(sum(by_autograd(by_hand, x, (i, i), *inputs) for i in range(dim)))
    parameters = list(model.parameters())
    for own, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, their, rtol=1e-9, atol=1e-11)
        mix = torch.randn_like(own)
        for a, b in zip(
            *(
                torch.autograd.grad(
                    (each * mix).sum() + 0 * sum(p.sum() for p in parameters), parameters, retain_graph=True
                )
                for each in (own, their)
            ),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_a_laplacian_alone_is_that_of_the_hessian() -> None:
    model, x = network(9, 2, nn.Tanh(), 3), torch.randn(6, 3, dtype=torch.float64)
    alone = derivatives(model, x).laplacian
    torch.testing.assert_close(alone, derivatives(model, x).hessian.diagonal(dim1=2, dim2=3).sum(2))
    over = derivatives(model, x).laplacian_over((0, 2))
    torch.testing.assert_close(over, by_autograd(model, x, (0, 0)) + by_autograd(model, x, (2, 2)))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=5), st.integers(0, 4), st.integers(1, 3))
def test_any_partial_of_any_model_is_that_of_nested_autograd(
    columns: list[int], samples: int, outputs: int
) -> None:
    torch.manual_seed(len(columns))
    model, x = network(4, outputs, nn.Tanh(), 3), torch.randn(samples, 3, dtype=torch.float64)
    found = derivatives(model, x).partial(columns)
    assert found.shape == (samples, outputs)
    torch.testing.assert_close(found, by_autograd(model, x, tuple(columns)), rtol=1e-8, atol=1e-9)


def test_finite_differences_agree() -> None:
    model, x, h = network(9, 1, nn.Tanh()), torch.randn(5, 2, dtype=torch.float64), 1e-4
    step = torch.tensor([[h, 0.0]], dtype=torch.float64)
    with torch.no_grad():
        second = (model(x + step) - 2 * model(x) + model(x - step)) / h**2
        torch.testing.assert_close(derivatives(model, x).partial("xx"), second, rtol=1e-5, atol=1e-6)


def test_only_what_is_asked_for_is_computed() -> None:
    calls = 0

    def model(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.sin(x)

    x = torch.randn(4, 1)
    u = derivatives(model, x)
    assert calls == 0
    assert len({len(u.laplacian), len(u.value), len(u.gradient)}) == 1
    assert calls == 1
    u.partial("xxx")
    assert calls == 2
    assert "u_xxx" in repr(u)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_flat_values(dtype: torch.dtype) -> None:
    x = torch.rand(3, 2, dtype=dtype)
    u = derivatives(lambda x: x[:, 0] ** 2 * x[:, 1], x, order=2)
    assert {part.dtype for part in (u.value, u.gradient, u.hessian, u.laplacian)} == {dtype}
    torch.testing.assert_close(u.laplacian, 2 * x[:, 1:])
    assert derivatives(lambda x: torch.ones(3, 1), x).gradient.shape == (3, 1, 2)


def test_norms_that_cannot_be_right_are_refused() -> None:
    x = torch.rand(4, 2, dtype=torch.float64)
    with pytest.raises(fs.UnsupportedError, match=r"depend on the others.*\n.*eval"):
        derivatives(Gates(nn.BatchNorm1d(6)), x).laplacian  # noqa: B018
    with pytest.raises(fs.UnsupportedError, match="group_norm"):
        derivatives(Gates(nn.GroupNorm(2, 6)), x).laplacian  # noqa: B018


def test_gradients_flow_to_x_and_to_inputs_and_without_a_graph_none_is_kept() -> None:
    x, a = torch.rand(3, 1, requires_grad=True), torch.rand(3, 1, requires_grad=True)
    derivatives(lambda x, a: a * x**4, x, a).laplacian.sum().backward()
    torch.testing.assert_close(x.grad, 24 * a.detach() * x.detach())
    torch.testing.assert_close(a.grad, 12 * x.detach() ** 2)
    with torch.no_grad():
        assert not derivatives(network(4, 1, nn.Tanh(), 1), x.double()).laplacian.requires_grad


KINKED = {
    "ReLU": nn.ReLU(),
    "ReLU in place": nn.ReLU(inplace=True),
    "LeakyReLU": nn.LeakyReLU(),
    "Hardtanh": nn.Hardtanh(),
    "ReLU6": nn.ReLU6(),
    "Hardswish": nn.Hardswish(),
    "PReLU": nn.PReLU(),
    "SELU": nn.SELU(),
    "ELU, not smooth": nn.ELU(alpha=0.5),
}


@pytest.mark.parametrize("name", KINKED)
def test_kinks_under_second_derivatives_are_an_error_that_says_why(name: str) -> None:
    model, x = network(6, 1, copy.deepcopy(KINKED[name])), torch.rand(4, 2, dtype=torch.float64)
    with pytest.raises(fs.UnsupportedError, match=r"derivatives: the model uses .*kink"):
        derivatives(model, x).laplacian  # noqa: B018
    torch.testing.assert_close(derivatives(model, x).partial("x"), by_autograd(model, x, (0,)))


def test_kinks_are_found_without_jets_and_in_functions() -> None:
    def model(x: Tensor) -> Tensor:
        return torch.maximum(F.relu(x[:, :1] + 0.5 * x[:, 1:]), x[:, :1] - 5)

    u = derivatives(model, torch.rand(4, 2))
    assert u.gradient.shape == (4, 1, 2)
    assert u.method.startswith("nested")
    with pytest.raises(fs.UnsupportedError, match="relu"):
        derivatives(model, torch.rand(4, 2)).laplacian  # noqa: B018


PIECEWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "maximum": lambda z: torch.maximum(torch.zeros_like(z), z),
    "max": lambda z: torch.max(z, 0 * z),
    "where": lambda z: torch.where(z > 0, z, 0.1 * z),
    "mask": lambda z: z * (z > 0),
    "hardsigmoid": F.hardsigmoid,
    "threshold": lambda z: F.threshold(z, 0.0, 0.0),
    "leaky_relu": F.leaky_relu,
    "in place": lambda z: F.relu(z, inplace=True),
    "method": lambda z: z.relu(),
}


@pytest.mark.parametrize("name", PIECEWISE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("is_hyper", [False, True])
def test_piecewise_linear_models_of_any_style(name: str, dtype: torch.dtype, is_hyper: bool) -> None:
    torch.manual_seed(0)
    bend = PIECEWISE[name]
    first, last, hyper = (nn.Linear(2, 6).to(dtype), nn.Linear(6, 1).to(dtype), nn.Linear(1, 6).to(dtype))

    def model(x: Tensor, a: Tensor) -> Tensor:
        return last(bend(first(x) * hyper(a) if is_hyper else first(x)))

    x, a = torch.rand(5, 2, dtype=dtype), torch.rand(5, 1, dtype=dtype)
    assert derivatives(model, x, a).gradient.shape == (5, 1, 2)
    with pytest.raises(fs.UnsupportedError, match=r"second derivative|pieces(.|\n)*Use a smooth activation"):
        derivatives(model, x, a).laplacian  # noqa: B018


def test_decisions_about_other_inputs_and_smooth_pieces_are_no_error() -> None:
    x, a = torch.randn(5, 1, dtype=torch.float64), torch.randn(5, 1, dtype=torch.float64)
    chosen = derivatives(lambda x, a: torch.where(a > 0, x, -x) * torch.maximum(a, 0 * a), x, a)
    assert not chosen.laplacian.any()
    pieces = derivatives(lambda x: torch.where(x > 0, x**3, x**2), x)
    torch.testing.assert_close(pieces.laplacian, torch.where(x > 0, 6 * x, 2.0))


def test_a_model_of_another_dtype_is_one_sentence() -> None:
    with pytest.raises(
        TypeError, match=r"x is torch.float64, the model's parameters are torch.float32(.|\n)*model.to"
    ):
        derivatives(nn.Linear(1, 1), torch.rand(3, 1, dtype=torch.float64)).value  # noqa: B018


def test_smooth_models_that_contain_kinks_are_no_error() -> None:
    x = torch.randn(5, 1, dtype=torch.float64)
    cubed = derivatives(lambda x: F.relu(x) ** 3, x)
    torch.testing.assert_close(cubed.partial("xx"), 6 * x.clamp_min(0))
    linear = derivatives(lambda x, a: x * F.relu(a), x, torch.ones(5, 1, dtype=torch.float64))
    assert not linear.laplacian.any()
    plain = derivatives(lambda x: torch.logaddexp(x, x), x)
    assert not plain.laplacian.any()


def test_guards_are_no_kinks_unless_nothing_else_is_left() -> None:
    x = torch.rand(5, 2, dtype=torch.float64)
    guarded = derivatives(lambda x: x.square().sum(1).clamp_min(1e-9).sqrt(), x)
    radius = x.norm(dim=1, keepdim=True)
    torch.testing.assert_close(guarded.laplacian, 1 / radius)
    with pytest.raises(fs.UnsupportedError, match="abs"):
        derivatives(lambda x: x.abs().sum(1), x).laplacian  # noqa: B018


STYLES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "fourier": lambda x, W: torch.cat([torch.sin(x @ W), torch.cos(2 * math.pi * (x @ W))], -1).sum(-1),
    "unpacked": lambda x, W: x.unbind(1)[0] * x.unbind(1)[1] ** 2,
    "split": lambda x, W: math.prod(torch.split(torch.tanh(x), 1, dim=1)),
    "ellipsis": lambda x, W: 1 - x[..., :1] / (2 + x[..., -1:]) - (3 - x[..., 1]).unsqueeze(-1),
    "einsum": lambda x, W: torch.einsum("ni,ni->n", torch.sin(x), torch.exp(x)),
    "batched": lambda x, W: torch.bmm(torch.sin(x).unsqueeze(1), W.expand(len(x), 2, 3)).squeeze(1),
    "filled": lambda x, W: torch.cat([x * x, torch.full_like(x[:, :1], 2.0), x.new_zeros(len(x), 1)], 1),
    "stacked": lambda x, W: torch.stack([x[:, 0] ** 3, x[:, 1] * x[:, 0]], 1).mean(1),
    "product of matrices": lambda x, W: (W.T @ torch.sin(x).T).T,
    "attention": lambda x, W: torch.softmax(x @ W, 1),
    "in place": lambda x, W: (x @ W).sin_().mul_(2),
    "decided": lambda x, W: x**3 if float(x.detach().sum()) < 1e9 else x,
}


@pytest.mark.parametrize("name", STYLES)
def test_models_of_any_style(name: str) -> None:
    x, weights = torch.rand(5, 2, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        value = STYLES[name](x, weights)
        return value[:, None] if value.dim() == 1 else value

    for columns in ((), (0,), (0, 1), (1, 1)):
        torch.testing.assert_close(derivatives(model, x).partial(columns), by_autograd(model, x, columns))


def test_gated_units_are_products() -> None:
    x = torch.rand(5, 4, dtype=torch.float64)
    found = derivatives(lambda x: F.glu(torch.sin(x)), x, wanted=["laplacian"])
    expected = derivatives(
        lambda x: torch.sin(x[:, :2]) * torch.sigmoid(torch.sin(x[:, 2:])), x, wanted=["laplacian"]
    )
    assert found.method == "jet"
    torch.testing.assert_close(found.value, F.glu(torch.sin(x)))
    torch.testing.assert_close(found.laplacian, expected.laplacian)


def test_dropout_draws_one_mask() -> None:
    model, x = nn.Sequential(nn.Linear(2, 50), nn.Dropout(0.5), nn.Linear(50, 1)), torch.rand(3, 2)
    torch.manual_seed(5)
    u = derivatives(model, x, wanted=["gradient"])
    torch.manual_seed(5)
    torch.testing.assert_close(u.value, model(x))
    assert u.method == "jet"


def test_bad_input_is_one_sentence() -> None:
    x = torch.rand(3, 2)
    with pytest.raises(ValueError, match=r"\(n, d\), got \(3,\). Use x\[:, None\]"):
        derivatives(torch.sin, torch.rand(3))
    with pytest.raises(TypeError, match="floating-point"):
        derivatives(torch.sin, torch.arange(3)[:, None])
    with pytest.raises(ValueError, match="'xq' does not consist of the names of columns: x, y"):
        derivatives(torch.sin, x).partial("xq")
    with pytest.raises(ValueError, match="Closest: 'laplacian'"):
        derivatives(torch.sin, x, wanted=["laplacien"])
    with pytest.raises(ValueError, match="columns from 0 to 1"):
        derivatives(torch.sin, x).partial((0, 2))
    with pytest.raises(ValueError, match="must return"):
        derivatives(lambda x: x[:1], x).value  # noqa: B018
    with pytest.raises(TypeError, match="must return a tensor, got tuple"):
        derivatives(lambda x: (x, x), x).value  # noqa: B018
    with pytest.raises(ValueError, match="order must be"):
        derivatives(torch.sin, x, order=99)
    with pytest.raises(ZeroDivisionError):  # the model's own error, not one about jets
        derivatives(lambda x: x / 0 if 1 / 0 else x, x).value  # noqa: B018
    with pytest.raises(ValueError, match="2 different names"):
        derivatives(torch.sin, x, names=("x",))
    assert derivatives(torch.sin, x, names=("space", "t")).partial("spacet").shape == (3, 2)


@pytest.mark.parametrize("name", ["tanh", "silu", "sigmoid, 3 outputs", "hypernetwork"])
def test_levenberg_marquardt_sees_the_rows_of_each_sample(name: str) -> None:
    model, dim, extra = copy.deepcopy(MODELS[name])
    x = torch.rand(11, dim, dtype=torch.float64)
    inputs = [torch.rand(11, 1, dtype=torch.float64) for _ in range(extra)]

    def residual(taken: Callable[[], Tensor]) -> Callable[[], Tensor]:
        return lambda: torch.cat([taken()[:, 0] - 1, model(x[:2], *(i[:2] for i in inputs))[:, 0]])

    def by_jets() -> Tensor:
        u = derivatives(model, x, *inputs, wanted=["laplacian"])
        return u.laplacian + u.value

    def nested() -> Tensor:
        return model(x, *inputs) + sum(by_autograd(model, x, (i, i), *inputs) for i in range(dim))

    start = copy.deepcopy(model.state_dict())
    steps = {}
    for form, taken in (("per-sample", by_jets), ("batched", nested)):
        model.load_state_dict(start)
        optimizer = fs.optim.LevenbergMarquardt(model.parameters(), jacobian=form)
        for _ in range(3):
            optimizer.step(residual(taken))
        assert optimizer.last.jacobian == form
        steps[form] = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    torch.testing.assert_close(steps["per-sample"], steps["batched"], rtol=1e-5, atol=1e-7)
