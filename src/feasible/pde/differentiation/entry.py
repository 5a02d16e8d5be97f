"""A model's value and its derivatives by the coordinates, at a batch of points, in one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations_with_replacement
from typing import Any, final

import torch
from torch import Tensor

from feasible.errors import UnsupportedError
from feasible.methods.lookup import closest, listing
from feasible.pde.differentiation.elementwise import DECISIONS, KINKS
from feasible.pde.differentiation.forward_mode import is_transformed, nested, seen_along
from feasible.pde.differentiation.jets import VALUE, Index, Jet, closure, coordinates, laplacian, partial
from feasible.pde.differentiation.norms import WrittenOut
from feasible.pde.differentiation.rules import Jets, check_smooth, kinked

__all__ = ["Derivatives", "derivatives"]

Wanted = str | Sequence[int] | Index
HIGHEST = 8
"""Orders beyond this are taken for a slip."""


def derivatives(
    model: Callable[..., Tensor],
    x: Tensor,
    *inputs: Any,
    order: int = 0,
    wanted: Iterable[Wanted] = (),
    names: Sequence[str] | None = None,
) -> Derivatives:
    """The model's value ``u(x)`` and its derivatives by x, computed when they are asked for.

    What one pass needs is best told at once (``order`` or ``wanted``): each later question costs a pass of its own.
    Gradients flow to the parameters, to x and to the other inputs.

    **How.** Taylor coefficients go through the model together (a jet): for the Laplacian the value, the d slopes and
    the Laplacian itself, one matrix product a layer for all of them. Linear maps, products, concatenations and the
    usual smooth activations have exact rules; a model with anything else is differentiated by nested
    ``torch.func.jvp``. ``Derivatives.method`` says which it was, and why.

    Args:
        model: a function ``model(x, *inputs)`` whose result is (n, m) or (n,), each row from its own row of x.
        x: the coordinates, (n, d).
        inputs: handed to the model as they are; they are not differentiated by.
        order: all derivatives up to this order are computed at once.
        wanted: derivatives to compute at once: ``"gradient"``, ``"laplacian"``, ``"hessian"``, ``"xxy"``,
            ``(0, 0, 1)``.
        names: of the columns of x; ``None``: x, y, z, and x0, x1, … where there are more.

    Raises:
        TypeError: x is not a floating-point tensor, or the model returns no tensor.
        ValueError: x or the value has another shape, or a name is not known.
        TypeError: the model's parameters have another dtype than x, and it does not take that.
        UnsupportedError: the model has kinks (ReLU), and derivatives beyond the first are asked for. Piecewise linear
            functions of other names (``torch.where``, ``torch.maximum``) are seen where no second derivative is left.

    >>> x = torch.tensor([[1.0, 2.0]])
    >>> u = derivatives(lambda x: x[:, :1] ** 2 * x[:, 1:], x, order=2)
    >>> u.value, u.gradient, u.laplacian, u.partial("xxy")
    (tensor([[2.]]), tensor([[[4., 1.]]]), tensor([[4.]]), tensor([[2.]]))

    Source: Griewank & Walther, *Evaluating Derivatives* (2008), chapter 13; Li et al., *A computational framework
    for neural network-based variational Monte Carlo with Forward Laplacian* (2024).
    """
    result = Derivatives(model, x, inputs, names)
    if not 0 <= order <= HIGHEST:
        raise ValueError(f"derivatives: order must be from 0 to {HIGHEST}, got {order!r}.")
    width = x.shape[1]
    everything = [
        Index(pick) for k in range(order + 1) for pick in combinations_with_replacement(range(width), k)
    ]
    result.prepare(*(everything if order else ()), *wanted)
    return result


@final
class Derivatives:
    """A value with its derivatives; see ``derivatives``, which makes them."""

    def __init__(
        self,
        model: Callable[..., Tensor],
        x: Tensor,
        inputs: tuple[Any, ...] = (),
        names: Sequence[str] | None = None,
    ) -> None:
        check_points(x, "derivatives")
        self.names = tuple(names) if names is not None else usual_names(x.shape[1])
        if len(self.names) != x.shape[1] or len(set(self.names)) != len(self.names):
            raise ValueError(
                f"derivatives: expected {x.shape[1]} different names, one for each column of x, got {self.names}."
            )
        self.x = x
        """The points, (n, d)."""
        self.method = ""
        """How the last pass was made: ``"jet"``, or ``"nested"`` with the reason."""
        self._model, self._inputs = model, inputs
        self._found: dict[Index, Tensor] = {}
        self._objection: str | None = None

    def __repr__(self) -> str:
        known = listing(self.text(index) for index in self._found)
        return f"Derivatives({len(self.x)} points, by {', '.join(self.names)}; computed: {known or 'nothing yet'})"

    @property
    def value(self) -> Tensor:
        """u, (n, m)."""
        return self.take(VALUE)

    @property
    def gradient(self) -> Tensor:
        """``∂_i u``, (n, m, d)."""
        found = self.prepare(*((i,) for i in range(self.dim)))
        return torch.stack([found[Index((i,))] for i in range(self.dim)], 2)

    @property
    def hessian(self) -> Tensor:
        """``∂_i ∂_j u``, (n, m, d, d)."""
        found = self.prepare("hessian")
        rows = [torch.stack([found[partial((i, j))] for j in range(self.dim)], 2) for i in range(self.dim)]
        return torch.stack(rows, 2)

    @property
    def laplacian(self) -> Tensor:
        """``Σ_i ∂_i² u``, (n, m)."""
        return self.laplacian_over(range(self.dim))

    @property
    def dim(self) -> int:
        """The number of coordinates, d."""
        return self.x.shape[1]

    def laplacian_over(self, columns: Iterable[int]) -> Tensor:
        """``Σ ∂_i² u`` over some columns of x, such as those of space; (n, m)."""
        return self.take(laplacian(columns))

    def partial(self, which: str | Sequence[int]) -> Tensor:
        """A mixed partial derivative, (n, m).

        Args:
            which: ``"xxy"`` or ``"u_xxy"`` by the names of the columns, or their numbers, ``(0, 0, 1)``.
        """
        return self.take(self.index(which))

    def prepare(self, *wanted: Wanted) -> dict[Index, Tensor]:
        """Compute what of these is not known yet, in one pass.

        Returns:
            All that is known by now.
        """
        indices = [index for item in wanted for index in self._indices(item)]
        missing = [index for index in indices if not self._knows(index)]
        if missing:
            for index, part in self._pass(missing).items():
                self._found.setdefault(index, part)
        return self._found

    def take(self, index: Index) -> Tensor:
        """One derivative."""
        found = self.prepare(index)
        if index not in found:  # a Laplacian whose parts are known
            found[index] = sum_of(found[Index((i, i))] for i in index.coordinates)
        return found[index]

    def index(self, which: str | Sequence[int]) -> Index:
        """The index that a name stands for.

        Raises:
            ValueError: it names a column that x does not have.
        """
        if isinstance(which, str):
            return partial(self._columns(which))
        columns = tuple(which)
        if not all(isinstance(i, int) and 0 <= i < self.dim for i in columns):
            raise ValueError(
                f"derivatives: expected columns from 0 to {self.dim - 1}, got {columns!r}; x has the shape "
                f"{tuple(self.x.shape)}."
            )
        return partial(columns)

    def text(self, index: Index) -> str:
        """An index in words."""
        letters = "".join(self.names[i] for i in index.coordinates)
        return f"Δ_{letters}" if index.is_laplacian else f"u_{letters}" if letters else "u"

    # -- inside ------------------------------------------------------------------------------------------------------

    def _columns(self, which: str) -> list[int]:
        rest = which.removeprefix("u_") if which != "u" else ""
        found = []
        by_length = sorted(self.names, key=len, reverse=True)
        while rest:
            name = next((name for name in by_length if rest.startswith(name)), None)
            if name is None:
                raise ValueError(
                    f"derivatives: {which!r} does not consist of the names of columns: {', '.join(self.names)}."
                    f"{closest(which, ('value', 'gradient', 'laplacian', 'hessian'))}"
                )
            found.append(self.names.index(name))
            rest = rest[len(name) :]
        return found

    def _indices(self, wanted: Wanted) -> list[Index]:
        """What a name in ``wanted`` stands for."""
        if isinstance(wanted, Index):
            return [wanted]
        several = {
            "value": [VALUE],
            "gradient": [Index((i,)) for i in range(self.dim)],
            "laplacian": [laplacian(range(self.dim))],
            "hessian": [Index(pair) for pair in combinations_with_replacement(range(self.dim), 2)],
        }
        if isinstance(wanted, str) and wanted in several:
            return several[wanted]
        return [self.index(wanted)]

    def _knows(self, index: Index) -> bool:
        is_sum = index.is_laplacian and all(Index((i, i)) in self._found for i in index.coordinates)
        return index in self._found or is_sum

    def _pass(self, missing: Sequence[Index]) -> dict[Index, Tensor]:
        """Run the model once with jets, or by nested forward mode where it has no jet."""
        if self._objection is None:
            try:
                return self._by_jets(missing)
            except UnsupportedError:
                raise
            except (
                Exception
            ) as error:  # what is wrong with the model itself, the other way says in its own words
                self._objection = f"{error}".split("\n")[0] or type(error).__name__
        return self._by_forward_mode(missing)

    def _by_jets(self, missing: Sequence[Index]) -> dict[Index, Tensor]:
        indices = closure(missing)
        model = getattr(self._model, "_orig_mod", self._model)  # a compiled module's own
        with Jets():
            result = model(coordinates(self.x, indices), *self._inputs)
        jet = result if isinstance(result, Jet) else Jet(indices, {VALUE: result})
        check_smooth(jet)
        parts = {index: self._column(part) for index, part in jet.parts.items()}
        self.method = "jet"
        zeros = torch.zeros_like(parts[VALUE])
        found = {index: parts.get(index, zeros) for index in indices}
        if jet.is_guarded:
            self._check_kinks(found)
        return found

    def _by_forward_mode(self, missing: Sequence[Index]) -> dict[Index, Tensor]:
        self.method = f"nested: {self._objection}"
        try:
            return self._nested(missing)
        except RuntimeError as error:
            own = dtype_of(self._model)
            if "shapes cannot be multiplied" in str(error):
                raise ValueError(
                    f"derivatives: the model does not take x of shape {tuple(self.x.shape)}: {error}.\n"
                    "  It is given x as it is and, of a System with inputs=, each of those as a further argument."
                ) from error
            if own in (None, self.x.dtype):
                raise
            raise TypeError(
                f"derivatives: x is {self.x.dtype}, the model's parameters are {own}: {error}.\n"
                "  Use model.to(x.dtype), or points of the model's dtype (System(…, dtype=…))."
            ) from error

    def _nested(self, missing: Sequence[Index]) -> dict[Index, Tensor]:
        found: dict[Index, Tensor] = {}
        single = [Index((i, i)) for index in missing if index.is_laplacian for i in index.coordinates]
        wanted = {index for index in (*missing, *single) if not index.is_laplacian}
        for index in sorted(wanted, key=lambda index: -index.order):
            if index not in found:
                found |= nested(self._call, self.x, index.coordinates)
        for index in missing:
            if index.is_laplacian:
                found[index] = sum_of(found[Index((i, i))] for i in index.coordinates)
        self._check_kinks(found)
        return found

    def _call(self, x: Tensor) -> Tensor:
        with WrittenOut():
            return self._column(self._model(x, *self._inputs))

    def _check_kinks(self, found: dict[Index, Tensor]) -> None:
        """Raise where all higher derivatives are zero because the model is piecewise linear."""
        if is_transformed():  # values are not known under vmap
            return
        beyond = [part for index, part in found.items() if index.order >= 2]
        if not beyond or not len(self.x) or any(bool(part.detach().any()) for part in beyond):
            return
        seen = seen_along(self._call, self.x, {**KINKS, **DECISIONS})
        if seen:
            raise kinked(seen[0], max(index.order for index in found))

    def _column(self, result: object) -> Tensor:
        """The value as (n, m)."""
        if not isinstance(result, Tensor):
            raise TypeError(f"derivatives: the model must return a tensor, got {type(result).__name__}.")
        if result.dim() == 1:
            result = result.unsqueeze(1)
        if result.dim() != 2 or len(result) != len(self.x):
            raise ValueError(
                f"derivatives: the model must return (n, m), or (n,), for x of shape {tuple(self.x.shape)}; got "
                f"{tuple(result.shape)}."
            )
        return result


def dtype_of(model: object) -> torch.dtype | None:
    """The dtype of a module's parameters, if it has any."""
    if not isinstance(model, torch.nn.Module):
        return None
    return next((each.dtype for each in model.parameters() if each.is_floating_point()), None)


def sum_of(parts: Iterable[Tensor]) -> Tensor:
    """Their sum."""
    first, *rest = parts
    return sum(rest, start=first)


def usual_names(width: int) -> tuple[str, ...]:
    """x, y, z, or x0, x1, …"""
    return ("x", "y", "z")[:width] if width <= 3 else tuple(f"x{i}" for i in range(width))


def check_points(x: object, caller: str) -> None:
    """Raise where x is no batch of points."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{caller}: x must be a floating-point tensor of shape (n, d), got {kind}.")
    if x.dim() != 2 or x.shape[1] == 0:
        mend = " Use x[:, None]." if x.dim() == 1 else ""
        raise ValueError(f"{caller}: x must have the shape (n, d), got {tuple(x.shape)}.{mend}")
