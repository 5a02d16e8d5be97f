"""Equations: manufactured solutions by sympy, scales, coefficients, and what the text may say."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from feasible import pde

X, Y, T = sympy.symbols("x y t")


class Case(NamedTuple):
    """An equation with a source, the left side by sympy, and any function to put in."""

    equation: Any
    """A function of the source."""
    left: Any
    """A function of u."""
    solution: sympy.Expr
    columns: tuple[sympy.Symbol, ...]
    scale: float


PLANE, LINE_TIME = (X, Y), (X, T)
WAVES = sympy.sin(2 * X) * sympy.exp(Y / 2) + X * Y**2
MOVING = sympy.sin(X - 2 * T) + X * T**2
CASES = {
    "Helmholtz": Case(
        lambda f: pde.Helmholtz(3.0, f), lambda u: u.diff(X, 2) + u.diff(Y, 2) + 9 * u, WAVES, PLANE, 9.0
    ),
    "Poisson": Case(lambda f: pde.Poisson(f), lambda u: u.diff(X, 2) + u.diff(Y, 2), WAVES, PLANE, 1.0),
    "Heat": Case(lambda f: pde.Heat(5.0, f), lambda u: u.diff(T) - 5 * u.diff(X, 2), MOVING, LINE_TIME, 5.0),
    "Heat, plane": Case(
        lambda f: pde.Heat(0.5, f),
        lambda u: u.diff(T) - (u.diff(X, 2) + u.diff(Y, 2)) / 2,
        MOVING * sympy.cos(Y),
        (X, Y, T),
        1.0,
    ),
    "Wave": Case(
        lambda f: pde.Wave(3.0, f), lambda u: u.diff(T, 2) - 9 * u.diff(X, 2), MOVING, LINE_TIME, 9.0
    ),
    "Burgers": Case(
        lambda f: pde.Burgers(0.1, f),
        lambda u: u.diff(T) + u * u.diff(X) - u.diff(X, 2) / 10,
        MOVING,
        LINE_TIME,
        1.0,
    ),
    "written, second order": Case(
        lambda f: pde.equation("u_xx + u_yy + k**2*u - f", k=3.0, f=f),
        lambda u: u.diff(X, 2) + u.diff(Y, 2) + 9 * u,
        WAVES,
        PLANE,
        9.0,
    ),
    "written, everything": Case(
        lambda f: pde.equation("u_t + sin(x)*u*u_xxx/2 = pi*u_xt**2 + sqrt(2 + t) + f", f=f),
        lambda u: (
            u.diff(T) + sympy.sin(X) * u * u.diff(X, 3) / 2 - sympy.pi * u.diff(X, T) ** 2 - sympy.sqrt(2 + T)
        ),
        MOVING,
        LINE_TIME,
        1.0,
    ),
}


def callable_of(expression: sympy.Expr, columns: tuple[sympy.Symbol, ...]) -> Any:
    evaluate = sympy.lambdify(columns, expression, torch)
    return lambda x, *inputs: evaluate(*(x[:, i] for i in range(len(columns)))) + 0 * x[:, 0]


@pytest.mark.parametrize("name", CASES)
def test_manufactured_solutions_have_no_residual_and_others_have_that_of_sympy(name: str) -> None:
    case = CASES[name]
    x = torch.rand(9, len(case.columns), dtype=torch.float64)
    solved = case.equation(callable_of(case.left(case.solution), case.columns))
    u = callable_of(case.solution, case.columns)
    assert solved(u, x).shape == (9, 1)
    assert solved(u, x).abs().max() < 1e-12
    assert float(solved.scale(x)) == case.scale
    other = case.solution + X**3 / 3 + case.columns[-1] ** 2
    expected = callable_of(case.left(other) - case.left(case.solution), case.columns)(x)[:, None] / case.scale
    torch.testing.assert_close(solved(callable_of(other, case.columns), x), expected)


def test_pythagorean_and_its_constants() -> None:
    x = torch.rand(6, 1, dtype=torch.float64)
    inputs = torch.rand(6, 1, dtype=torch.float64) + 0.5, torch.rand(6, 1, dtype=torch.float64) + 0.5
    identity = pde.Pythagorean(k=lambda x, a, f: 2 * math.pi * f, amplitude=lambda x, a, f: a)

    def wave(x: Tensor, a: Tensor, f: Tensor) -> Tensor:
        return a * torch.sin(2 * math.pi * f * x)

    assert identity(wave, x, *inputs).abs().max() < 1e-12
    assert identity(lambda x, a, f: a + 0 * x, x, *inputs).abs().max() < 1e-12
    torch.testing.assert_close(identity(lambda x, a, f: 0 * x, x, *inputs), -torch.ones_like(x))
    assert not identity.linear
    assert identity.order == 1


def test_steady_navier_stokes_knows_kovasznay() -> None:
    viscosity = 1 / 40
    decay = 1 / (2 * viscosity) - math.sqrt(1 / (4 * viscosity**2) + 4 * math.pi**2)

    def flow(x: Tensor) -> Tensor:
        place, height = x[:, 0], 2 * math.pi * x[:, 1]
        rise = torch.exp(decay * place)
        columns = (
            1 - rise * torch.cos(height),
            decay / (2 * math.pi) * rise * torch.sin(height),
            (1 - rise**2) / 2,
        )
        return torch.stack(columns, 1)

    x = torch.rand(20, 2, dtype=torch.float64)
    equation = pde.SteadyNavierStokes(viscosity)
    assert equation(flow, x).shape == (20, 3)
    assert equation(flow, x).abs().max() < 1e-12
    assert equation(lambda x: flow(x) * torch.tensor([1.0, 1.0, 0.9]), x)[:, 0].abs().max() > 1e-3
    with pytest.raises(ValueError, match="3 outputs, got 1"):
        equation(lambda x: x[:, :1], x)


def test_vector_valued_text() -> None:
    texts = "u_x + v_y", "u*v_x - u_yy + c"
    system = pde.equation(texts, unknowns=("u", "v"), c=2.0)
    x = torch.rand(5, 2, dtype=torch.float64)
    found = system(lambda x: torch.stack([x[:, 0] * x[:, 1] ** 2, x[:, 0] ** 2], 1), x)
    expected = torch.stack([x[:, 1] ** 2, 2 * x[:, 0] ** 2 * x[:, 1] ** 2 - 2 * x[:, 0] + 2], 1)
    torch.testing.assert_close(found, expected)
    assert (system.order, system.linear, system.outputs) == (2, False, 2)


def test_learned_coefficients_get_gradients_that_their_scale_does_not_see() -> None:
    x = torch.rand(8, 2, dtype=torch.float64)

    def u(x: Tensor) -> Tensor:
        return torch.exp(-3 * x[:, 1]) * torch.sin(x[:, 0])

    for make in (pde.Heat, lambda d: pde.equation("u_t - d*u_xx", d=d)):
        diffusivity = nn.Parameter(torch.tensor(5.0, dtype=torch.float64))
        (make(diffusivity)(u, x) ** 2).sum().backward()
        expected = 2 * (5 - 3) * (u(x) ** 2).sum() / 25
        torch.testing.assert_close(diffusivity.grad, expected)


def test_coefficients_for_each_sample_and_wrong_shapes() -> None:
    x, k = torch.rand(4, 1, dtype=torch.float64), torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)

    def waves(x: Tensor) -> Tensor:
        return torch.sin(k[:, None] * x)

    for form in (k, k[:, None]):
        assert pde.Helmholtz(form)(waves, x).abs().max() < 1e-14
        assert pde.equation("u_xx + k**2*u", k=form)(waves, x).abs().max() < 1e-14
    with pytest.raises(
        ValueError, match=r"k must be one number or one for each of the 4 samples, got the shape \(3,\)"
    ):
        pde.Helmholtz(k[:3])(waves, x)
    with pytest.raises(ValueError, match="k must be positive"):
        pde.Helmholtz(0.0)
    with pytest.raises(TypeError, match="got str"):
        pde.Heat("fast")
    with pytest.raises(ValueError, match="space and, last, time"):
        pde.Heat(1.0)(waves, x)
    with pytest.raises(ValueError, match="columns x, y, got 1"):
        pde.equation("u_xx + u_y")(waves, x)


REFUSED = {
    "u_xx + q*u": r"'q' in .* is not known",
    "u_xx + kk*u": "Closest: 'k'",
    "u_xq": "Closest: 'u_x",
    "v_xx": "not known",
    "u_": "not known",
    "u_xx +": "is no formula",
    "u_xx + 2u": "products and powers",
    "u_xx + k^2*u": r"\* / \*\*",
    "u_xx + p*u": r"handed in: equation\(…, p=2.0\)",
    "u.__class__": "is not part of a formula",
    "__import__('os')": "is not known",
    "(lambda: u)()": "is not part of a formula",
    "u[0]": "is not part of a formula",
    "u if k else u": "is not part of a formula",
    "u == k": "more than one",
    "'text' + u": "is not part of a formula",
    "sine(x) + u": "Closest: 'sin'",
    "sin(x, u)": "of one argument each",
    "u + 9**9**9": "beyond 16",
    "u**1e9": "beyond 16",
    "u + 1/0": "cannot be computed",
    "u + 1/(2 - 2)": "cannot be computed",
    "u + (-1)**0.5": "is not real",
    "u + 10.0**16*1e308**16": "cannot be computed",
    "k + x": "holds no unknown",
    "u_xxxxxxxxx": "not known",
    "u + True": "is not part of a formula",
    "(" * 900 + "u" + ")" * 900: "is no formula",
    "u" + "+u" * 2000: "at most 2000",
}


@pytest.mark.parametrize("text", REFUSED, ids=[text[:25] for text in REFUSED])
def test_what_a_text_may_not_say_is_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[text]) as caught:
        pde.equation(text, k=1.0)
    assert str(caught.value).startswith("equation: ")


def test_names_that_mean_two_things_or_nothing() -> None:
    with pytest.raises(ValueError, match="'x' is the name of a coefficient and of a column"):
        pde.equation("u + x", x=1.0)
    with pytest.raises(ValueError, match="'k' does not occur"):
        pde.equation("u_xx", k=1.0)
    with pytest.raises(ValueError, match="scale must be"):
        pde.equation("u_xx", scale=0.0)
    assert pde.equation("u_r + u/r", names=("r",)).wanted(1) == ((), (), (0,))


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.sampled_from(["u", "u_x", "u_xx", "x", "k", "2", "0.5", "pi"]),
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
            inner.map(lambda e: f"sin({e})"),
            inner.map(lambda e: f"-({e})**2"),
            inner.map(lambda e: f"({e})/(3 + x)"),
        ),
        max_leaves=8,
    )
)
def test_any_text_has_the_value_of_python(text: str) -> None:
    text += " + u + k"
    x = torch.rand(4, 1, dtype=torch.float64)
    parts = {"u": torch.sin(x), "u_x": torch.cos(x), "u_xx": -torch.sin(x), "x": x, "k": 1.5, "pi": math.pi}
    functions = {"sin": lambda value: torch.as_tensor(value, dtype=torch.float64).sin()}
    expected = eval(text, functions, parts)
    found = pde.equation(text, k=1.5, names=("x",), scale=1.0)(torch.sin, x)
    torch.testing.assert_close(found, expected.expand(4, 1), rtol=1e-9, atol=1e-9)
