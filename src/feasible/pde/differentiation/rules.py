"""What functions of torch make of a jet: linear, bilinear and elementwise ones have exact rules; others have none."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from feasible.errors import UnsupportedError
from feasible.pde.differentiation.elementwise import (
    DECISIONS,
    DELIBERATE,
    KINKS,
    RATIOS,
    TOWERS,
    smoothness_of,
    tower,
)
from feasible.pde.differentiation.jets import VALUE, Jet, NoJetError, composition, product
from feasible.pde.differentiation.norms import NORMS

Rule = Callable[..., Any]
APART = 2**13
"""Numbers from which a part is multiplied by itself: copies then cost more than calls."""


class Jets(TorchFunctionMode):
    """While it listens, functions of torch take jets.

    What it calls in turn is seen by the modes around it: the products with weights that ``LevenbergMarquardt`` asks
    about are products of the jet's parts, and each of them is a sample of its own.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Apply the rule of a function that is given jets."""
        options = dict(kwargs or {})
        if not holds_jet((args, options)):
            return function(*args, **options)
        return apply(function, args, options)


def apply(function: Callable[..., Any], args: Sequence[Any], options: dict[str, Any]) -> Any:
    """The rule that belongs to a function's name.

    Raises:
        NoJetError: there is none.
    """
    full = getattr(function, "__name__", "")
    name = full.strip("_")
    if full.endswith("_") and not full.endswith("__"):
        raise NoJetError(f"{full} changes a jet in place")
    rule = RULES.get(name)
    if rule is not None:
        return rule(function, *args, **options)
    if name in TOWERS or name in ELEMENTWISE:
        return elementwise(function, *args, **options)
    raise NoJetError(f"{name or function} has no rule for jets")


def holds_jet(value: Any) -> bool:
    """Whether there is a jet in a nest of tuples, lists and dicts."""
    if isinstance(value, Jet):
        return True
    if isinstance(value, (tuple, list)):
        return any(holds_jet(item) for item in value)
    return isinstance(value, dict) and any(holds_jet(item) for item in value.values())


def lone(jet: Any, others: Any) -> Jet:
    """The only jet among the arguments."""
    if not isinstance(jet, Jet) or holds_jet(others):
        raise NoJetError("a jet is where no rule expects one")
    return jet


# -- linear ----------------------------------------------------------------------------------------------------------


def mapped(function: Rule, jet: Any, *args: Any, **options: Any) -> Any:
    """A function that is linear in its first argument, applied to each part."""
    jet = lone(jet, (args, options))
    results = {index: function(part, *args, **options) for index, part in jet.parts.items()}
    if isinstance(results[VALUE], Tensor):
        return jet.like(results)
    return tuple(
        jet.like({index: several[place] for index, several in results.items()})
        for place in range(len(results[VALUE]))
    )


def stacked(jet: Jet, function: Callable[[Tensor], Tensor]) -> dict[Any, Tensor]:
    """A linear function of all parts at once."""
    results = function(torch.stack(list(jet.parts.values()))).unbind(0)
    return dict(zip(jet.parts, results))


def linear(function: Rule, input: Any, weight: Any, bias: Any = None) -> Jet:
    """``x Wᵀ + b``: one product for all parts, where they are small."""
    jet = lone(input, (weight, bias))
    product = torch.nn.functional.linear
    if jet.value.numel() >= APART:
        return jet.like(
            {
                index: product(part, weight, bias if index == VALUE else None)
                for index, part in jet.parts.items()
            }
        )
    parts = stacked(jet, lambda parts: product(parts, weight))
    if bias is not None:
        parts[VALUE] = parts[VALUE] + bias
    return jet.like(parts)


def matmul(function: Rule, a: Any, b: Any) -> Jet:
    """Matrix products."""
    if isinstance(a, Jet) and isinstance(b, Tensor) and b.dim() == 2:
        return a.like(stacked(a, lambda parts: parts @ b))
    return bilinear(lambda left, right: left @ right, a, b)


def bilinear(function: Callable[[Any, Any], Tensor], a: Any, b: Any) -> Jet:
    """A function that is linear in each of two arguments."""
    if isinstance(a, Jet) and isinstance(b, Jet):
        return product(a, b, function)
    if isinstance(a, Jet):
        return a.like({index: function(part, b) for index, part in a.parts.items()})
    jet = lone(b, a)
    return jet.like({index: function(a, part) for index, part in jet.parts.items()})


def multiply(function: Rule, a: Any, b: Any) -> Jet:
    """Elementwise products; that of a rectified jet with itself has no kink."""
    if a is b:
        return power(function, a, 2)
    return bilinear(operator.mul, a, b)


def divide(function: Rule, a: Any, b: Any, *, rounding_mode: None = None) -> Jet:
    """Quotients."""
    if rounding_mode is not None:
        raise NoJetError("a rounded quotient has no rule for jets")
    if not isinstance(b, Jet):
        return bilinear(operator.truediv, a, b) if isinstance(b, Tensor) else mapped(operator.truediv, a, b)
    return bilinear(operator.mul, a, elementwise(torch.reciprocal, b))


def rdivide(function: Rule, b: Any, a: Any) -> Jet:
    """Quotients with their operands exchanged."""
    return divide(function, a, b)


def sum_of(function: Rule, a: Any, b: Any, *, alpha: float = 1) -> Jet:
    """``a + alpha b``."""
    return plus(a, b if alpha == 1 else bilinear(operator.mul, b, alpha) if isinstance(b, Jet) else alpha * b)


def difference(function: Rule, a: Any, b: Any, *, alpha: float = 1) -> Jet:
    """``a − alpha b``."""
    return plus(a, bilinear(operator.mul, b, -alpha) if isinstance(b, Jet) else -alpha * b)


def rdifference(function: Rule, b: Any, a: Any, *, alpha: float = 1) -> Jet:
    """``a − alpha b``, called on b."""
    return difference(function, a, b, alpha=alpha)


def plus(a: Any, b: Any) -> Jet:
    """Sums with broadcasting."""
    if not isinstance(a, Jet):
        a, b = b, a
    others = b.parts if isinstance(b, Jet) else {VALUE: b}
    parts = {
        index: a.parts[index] + others[index]
        if index in a.parts and index in others
        else a.parts.get(index, others.get(index))
        for index in a.indices
        if index in a.parts or index in others
    }
    result: Jet = a.like(parts, *([b] if isinstance(b, Jet) else []))
    return result


def joined(function: Rule, tensors: Sequence[Any], *args: Any, **options: Any) -> Jet:
    """``cat`` and ``stack``: what is no jet has zero derivatives."""
    jets = [item for item in tensors if isinstance(item, Jet)]
    if not jets or holds_jet((args, options)):
        raise NoJetError("a jet is where no rule expects one")
    present = {index for jet in jets for index in jet.parts}
    parts = {
        index: function([part_of(item, index) for item in tensors], *args, **options)
        for index in jets[0].indices
        if index in present
    }
    return jets[0].like(parts, *jets[1:])


def part_of(item: Any, index: Any) -> Tensor:
    """A part of a jet, zeros where it has none; of a tensor, the value."""
    if isinstance(item, Jet):
        found = item.parts.get(index)
        return torch.zeros_like(item.value) if found is None else found
    return item if index == VALUE else torch.zeros_like(item)


def einsum(function: Rule, equation: str, *operands: Any) -> Jet:
    """Sums of products, of one or two operands."""
    items = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (tuple, list)) else operands
    jets = [place for place, item in enumerate(items) if isinstance(item, Jet)]
    if len(items) == 2 and len(jets) == 2:
        return product(items[0], items[1], lambda a, b: torch.einsum(equation, a, b))
    if len(jets) != 1:
        raise NoJetError("einsum of several jets has no rule")
    jet, (place,) = items[jets[0]], jets
    fill = [*items[:place], None, *items[place + 1 :]]
    parts = {
        index: torch.einsum(equation, *(part if each is None else each for each in fill))
        for index, part in jet.parts.items()
    }
    result: Jet = jet.like(parts)
    return result


# -- elementwise -----------------------------------------------------------------------------------------------------


def elementwise(function: Rule, jet: Any, *args: Any, **options: Any) -> Jet:
    """A function of each entry, by its derivatives.

    Raises:
        UnsupportedError: it has a kink, and a derivative across it is asked for.
    """
    jet = lone(jet, (args, options))
    order = max(index.order for index in jet.indices)
    name = getattr(function, "__name__", "").strip("_")
    if name != "relu" and smoothness_of(name, args, options) < order - 1:  # a power of relu has fewer kinks
        raise kinked(name, order)
    ratio = RATIOS.get(name) if order == 2 else None
    if ratio is not None:
        found = tower(function, jet.value, 1, *args, **options)
        return composition(jet, found, ratio(found[0]))
    result = composition(jet, tower(function, jet.value, order, *args, **options))
    return smooth(result, function, order, args, options)


def smooth(jet: Jet, function: Rule, order: int, args: Sequence[Any], options: Mapping[str, Any]) -> Jet:
    """Note that the function has a kink, where it has one."""
    name = getattr(function, "__name__", "")
    jet.is_guarded |= name.strip("_") in DELIBERATE
    own = smoothness_of(name, args, options)
    if own < jet.smoothness:
        jet.smoothness, jet.kink = own, name
        jet.is_rectified = name.strip("_") == "relu"
    return jet


def power(function: Rule, base: Any, exponent: Any, **options: Any) -> Jet:
    """Powers; those of a rectified jet are smoother than itself."""
    if not isinstance(base, Jet):
        jet = lone(exponent, base)
        order = max(index.order for index in jet.indices)
        return composition(jet, tower(lambda z: torch.pow(base, z), jet.value, order))
    if isinstance(exponent, Jet):
        raise NoJetError("a power of a jet by a jet has no rule")
    order = max(index.order for index in base.indices)
    if isinstance(exponent, (int, float)) and exponent == int(exponent) and exponent >= 0:
        result = composition(base, monomial(base.value, int(exponent), order))
        if base.is_rectified and exponent >= 1:
            result.smoothness = base.smoothness + exponent - 1
        return result
    return composition(base, tower(lambda z: torch.pow(z, exponent), base.value, order))


def monomial(z: Tensor, exponent: int, order: int) -> list[Tensor]:
    """``zᵖ`` and its derivatives."""
    powers = [torch.ones_like(z), z]
    while len(powers) <= exponent:
        powers.append(powers[-1] * z)
    return [
        math.perm(exponent, k) * powers[exponent - k] if k <= exponent else torch.zeros_like(z)
        for k in range(order + 1)
    ]


def rpower(function: Rule, exponent: Any, base: Any) -> Jet:
    """Powers with their operands exchanged."""
    return power(function, base, exponent)


def dropout(function: Rule, jet: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Jet:
    """One mask for all parts."""
    jet = lone(jet, (p, training))
    return bilinear(operator.mul, jet, function(torch.ones_like(jet.value), p, training)) if training else jet


def gated(function: Rule, jet: Any, dim: int = -1) -> Jet:
    """``a · σ(b)`` for the halves a and b."""
    first, second = mapped(torch.chunk, jet, 2, dim)
    return multiply(function, first, elementwise(torch.sigmoid, second))


def square(function: Rule, jet: Any) -> Jet:
    """``z²``."""
    return power(function, jet, 2)


def written_out(name: str) -> Rule:
    """A normalisation, as a formula of functions that have rules."""

    def rule(function: Rule, jet: Any, *args: Any, **options: Any) -> Any:
        return NORMS[name](lone(jet, (args, options)), *args, **options)

    return rule


def negative(function: Rule, jet: Any) -> Jet:
    """``−z``."""
    return bilinear(operator.mul, jet, -1)


def constant(function: Rule, jet: Any, *args: Any, **options: Any) -> Any:
    """Functions of the shape alone."""
    return function(jet.value.detach(), *args, **options)


def check_smooth(jet: Jet) -> None:
    """Raise where derivatives are asked for that the function does not have.

    Raises:
        UnsupportedError: it has kinks; derivatives beyond them are not what is computed at points.
    """
    order = max((index.order for index in jet.indices), default=0)
    if jet.smoothness < order - 1:
        raise kinked(jet.kink, order)


def kinked(name: str, order: int) -> UnsupportedError:
    """The error about a kink."""
    name = name.strip("_")
    what = {**KINKS, **DECISIONS}.get(name, "is not smooth enough")
    return UnsupportedError(
        f"derivatives: the model uses {name}, which {what}; derivatives of order {order} lie in its kinks and are lost "
        "at every point in between, so that an equation with them means nothing.\n"
        "  Use a smooth activation: torch.tanh, torch.sin, SiLU, GELU or Softplus."
    )


def linear_names() -> dict[str, Rule]:
    """Functions that act on each part alike."""
    names = (
        *(
            "reshape",
            "view",
            "flatten",
            "unflatten",
            "squeeze",
            "unsqueeze",
            "expand",
            "expand_as",
            "transpose",
        ),
        *(
            "permute",
            "movedim",
            "swapaxes",
            "t",
            "getitem",
            "select",
            "narrow",
            "index_select",
            "unbind",
            "split",
        ),
        *(
            "chunk",
            "sum",
            "mean",
            "cumsum",
            "flip",
            "roll",
            "contiguous",
            "clone",
            "to",
            "double",
            "float",
            "type_as",
        ),
        *("repeat", "repeat_interleave", "tile", "tensor_split", "diff"),
    )
    return dict.fromkeys(names, mapped)


ELEMENTWISE = {
    *(
        "gelu",
        "mish",
        "erf",
        "erfc",
        "log",
        "log1p",
        "expm1",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "sinh",
        "cosh",
        "tan",
    ),
    *("asinh", "atan", "arctan", "sinc", "logsigmoid", "tanhshrink"),
    *KINKS,
}

RULES: dict[str, Rule] = {
    **{name: written_out(name) for name in NORMS},
    **linear_names(),
    "linear": linear,
    **dict.fromkeys(("matmul", "mm"), matmul),
    "bmm": lambda function, a, b: bilinear(torch.bmm, a, b),
    "rmatmul": lambda function, b, a: bilinear(operator.matmul, a, b),
    **dict.fromkeys(("mul", "multiply", "rmul"), multiply),
    **dict.fromkeys(("div", "divide", "true_divide", "truediv"), divide),
    **dict.fromkeys(("rdiv", "rtruediv"), rdivide),
    **dict.fromkeys(("add", "radd"), sum_of),
    **dict.fromkeys(("sub", "subtract"), difference),
    **dict.fromkeys(("rsub",), rdifference),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack", "hstack", "vstack"), joined),
    "einsum": einsum,
    "dropout": dropout,
    "glu": gated,
    "square": square,
    "pow": power,
    "rpow": rpower,
    "neg": negative,
    "negative": negative,
    **dict.fromkeys(("ones_like", "zeros_like", "full_like", "new_zeros", "new_ones", "new_full"), constant),
}


def method(name: str) -> Rule:
    """A method of tensors, for jets."""

    def call(jet: Jet, *args: Any, **options: Any) -> Any:
        return apply(getattr(Tensor, name), (jet, *args), options)

    call.__name__ = name
    return call


OPERATORS = (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "rpow", "matmul", "rmatmul"),
    *("neg", "getitem"),
)
for each in OPERATORS:
    setattr(Jet, f"__{each}__", method(f"__{each}__"))
for each in (*RULES, *TOWERS, *ELEMENTWISE):
    if hasattr(Tensor, each) and each not in OPERATORS and not hasattr(Jet, each):
        setattr(Jet, each, method(each))
for each in ("add", "sub", "mul", "pow", "neg", "matmul"):
    setattr(Jet, each, method(each))
