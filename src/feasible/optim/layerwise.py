"""Which weights a computation uses, and how: what per-sample Jacobians are put together from."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]

PRODUCTS = {torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__, operator.matmul}
ELEMENTWISE = {
    *(torch.add, torch.sub, torch.mul, torch.div, torch.true_divide, torch.pow),
    *(Tensor.add, Tensor.sub, Tensor.mul, Tensor.div, Tensor.pow, Tensor.__pow__, Tensor.__rpow__),
    *(Tensor.__add__, Tensor.__radd__, Tensor.__sub__, Tensor.__rsub__, Tensor.__mul__, Tensor.__rmul__),
    *(Tensor.__truediv__, Tensor.__rtruediv__, Tensor.__rdiv__, Tensor.__div__),
}
JOINS = {torch.cat, torch.concat, torch.concatenate, torch.hstack, torch.vstack}
DIFFERENTIATES = {torch.autograd.grad, torch.autograd.backward, Tensor.backward}
RESHAPES = {
    *(torch.reshape, torch.flatten, torch.ravel, torch.squeeze),
    *(Tensor.reshape, Tensor.flatten, Tensor.ravel, Tensor.squeeze, Tensor.view),
}


class UnseenError(Exception):
    """Why the uses that were written down are not all; the message is half a sentence."""


class Use(NamedTuple):
    """One place where the loss depends on a weight: what was multiplied, and the slope at the other end.

    Of a product ``x Wᵀ``: ``left`` (samples, out) and ``right`` (samples, in), so that a sample's gradient is their
    outer product; of a weight that was spread over a batch: ``left`` (samples, entries), ``right`` ``None``.
    """

    weight: int
    left: Tensor
    right: Tensor | None = None
    slope_is_left: bool = True

    @property
    def slope(self) -> Tensor:
        """The factor that depends on what was differentiated."""
        return self.left if self.slope_is_left or self.right is None else self.right


class Notes:
    """The uses that are written down while the tape listens: derivatives that the closure takes are not."""

    def __init__(self) -> None:
        self.uses: list[Use] | None = None

    def add(self, use: Use) -> None:
        """Write a use down."""
        if self.uses is not None:
            self.uses.append(use)


class Tape(TorchFunctionMode):
    """Replaces products with weights, and weights that are spread over a batch, by twins that write down their uses.

    The twins may be differentiated any number of times, in forward and reverse mode and under ``vmap``; a use
    in a derivative is written down like any other. Tensors that are functions of weights alone (a transpose, a
    softplus, a row) count as weights. Whatever else happens to a weight is a ``refusal``.

    Args:
        parameters: the weights.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self.weights: list[Tensor] = list(parameters)
        """The parameters, then functions of them."""
        self.numbers = {id(weight): number for number, weight in enumerate(self.weights)}
        self.refusal: str | None = None
        self.joined: dict[int, tuple[Tensor, list[Tensor]]] = {}
        self.notes = Notes()

    # -- what is written down -----------------------------------------------------------------------

    def uses(self, outputs: Tensor, slopes: Tensor, inputs: Sequence[Tensor]) -> list[Use]:
        """All uses of weights, with their slopes, where ``⟨slopes, outputs⟩`` is differentiated.

        Raises:
            UnseenError: a weight is used where no twin stands.
        """
        uses: list[Use] = []
        self.notes.uses = uses
        try:
            past = torch.autograd.grad(outputs, inputs, slopes, retain_graph=True, allow_unused=True)
        finally:
            self.notes.uses = None
        # The twins keep all gradients to themselves: what arrives has come another way.
        for number, gradient in enumerate(past):
            if gradient is not None and bool(gradient.any()):
                raise UnseenError(f"parameter {number} is used where the layers do not see it")
        return uses

    def carried(self, number: int, slopes: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """What slopes for a function of weights, (rows, *its shape), mean for the weights.

        Raises:
            UnseenError: it is not a function of weights alone (any more).
        """
        uses: list[Use] = []
        self.notes.uses = uses
        try:
            parts = torch.autograd.grad(
                *(self.weights[number], inputs, slopes),
                is_grads_batched=True,
                retain_graph=True,
                allow_unused=True,
            )
        finally:
            self.notes.uses = None
        if uses:
            raise UnseenError("a function of weights was written to with something else")
        return parts

    def close(self) -> None:
        """Let go of the computation."""
        self.joined.clear()
        self.weights.clear()

    def pieces(self, residual: Tensor) -> list[Tensor]:
        """What a residual was joined from, as far as that was seen."""
        _, parts = self.joined.get(id(residual), (residual, None))
        if parts is None:
            return [residual]
        return [piece for part in parts for piece in self.pieces(part)]

    # -- what is replaced ---------------------------------------------------------------------------

    def __torch_function__(
        self, function: Function, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if function is linear:
            return self._linear(*args, **options)
        operands = list(tensors((args, options)))
        if function in DIFFERENTIATES:
            self._differentiated(function, args, options)
        weights = [operand for operand in operands if id(operand) in self.numbers]
        if not weights:
            return self._joined(function, args, options)
        if len(weights) == len(operands):
            return self._derived(function(*args, **options))
        if len(operands) == 2 and not options and len(args) == 2:
            if function in PRODUCTS and operands[1] is weights[0]:
                return self._matmul(operands[0], operands[1], function)
            if function in ELEMENTWISE:
                return self._elementwise(function, args, weights[0])
        return self._other(function, function(*args, **options))

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        known = id(weight) in self.numbers
        if id(input) in self.numbers:
            return cast(Tensor, self._other(linear, linear(input, weight, bias)))
        output = self._product(input, weight, transposed=False) if known else linear(input, weight)
        if bias is None:
            return output
        added: Tensor = self._spread(bias, output) if id(bias) in self.numbers else bias
        return output + added

    def _product(self, x: Tensor, weight: Tensor, transposed: bool) -> Tensor:
        return multiplied(x, weight, self.notes, self.numbers[id(weight)], transposed)

    def _matmul(self, x: Tensor, weight: Tensor, function: Function) -> Any:
        if weight.dim() > 2:
            return self._other(function, function(x, weight))
        if weight.dim() == 2:
            return self._product(x, weight, transposed=True)
        column = self._derived(weight.unsqueeze(1))
        return self._product(x, column, transposed=True).squeeze(-1)

    def _elementwise(self, function: Function, args: Sequence[Tensor], weight: Tensor) -> Any:
        other = args[1] if args[0] is weight else args[0]
        shape = torch.broadcast_shapes(weight.shape, other.shape)  # type: ignore[no-untyped-call]
        if shape == weight.shape and weight.dim() and not other.requires_grad:
            return self._derived(function(*args))  # a mask, or a scale
        spread = self._spread(weight, other.detach().expand(shape))
        return function(*(spread if arg is weight else arg for arg in args))

    def _spread(self, weight: Tensor, like: Tensor) -> Tensor:
        # Detached, so that the shape alone is taken: under vmap it has more dimensions than it shows.
        return spread_out(weight, like.detach(), self.notes, self.numbers[id(weight)])

    def _derived(self, result: Any) -> Any:
        for tensor in tensors(result):
            if tensor.requires_grad and id(tensor) not in self.numbers:
                self.numbers[id(tensor)] = len(self.weights)
                self.weights.append(tensor)
        return result

    def _differentiated(self, function: Function, args: Any, options: Mapping[str, Any]) -> None:
        """Twins have no gradients by weights to give: a closure that asks for them would see others."""
        asked = options.get("inputs", args[1] if function is torch.autograd.grad and len(args) > 1 else None)
        if asked is None or any(id(tensor) in self.numbers for tensor in tensors(asked)):
            self.refusal = "the closure differentiates by its weights"

    def _other(self, function: Function, result: Any) -> Any:
        if function is Tensor.__setitem__ or any(tensor.requires_grad for tensor in tensors(result)):
            self.refusal = f"{getattr(function, '__name__', function)} uses a parameter in a way of its own"
        return result

    def _joined(self, function: Function, args: Any, options: Mapping[str, Any]) -> Any:
        result = function(*args, **options)
        if function in JOINS and args and not options.get("dim") and (len(args) == 1 or args[1] == 0):
            self.joined[id(result)] = (result, list(args[0]))
        elif function in RESHAPES:
            self.joined[id(result)] = (result, [args[0]])
        return result


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a nest of tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, Mapping):
        yield from tensors(tuple(value.values()))


def rows_of(x: Tensor) -> Tensor:
    """All dimensions but the last as one."""
    return x.reshape(-1, x.shape[-1])


def samples_of(slope: Tensor, shape: torch.Size) -> Tensor:
    """(samples, entries of the weight): what a weight of this shape was spread over comes first."""
    padded = (1,) * (slope.dim() - len(shape)) + tuple(shape)
    batch = [place for place, size in enumerate(padded) if size == 1]
    own = [place for place, size in enumerate(padded) if size != 1]
    return slope.permute(batch + own).reshape(-1, shape.numel())


class Product(torch.autograd.Function):
    """``x Wᵀ``, or ``x W`` where transposed; its gradient by W is left to the notes."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, notes: Notes, number: int, transposed: bool) -> Tensor:
        """The value."""
        return x @ weight if transposed else x @ weight.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """What the derivatives need."""
        x, weight, *ctx.rest = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        """Reverse mode; writes the use down."""
        if slope is None:
            return None, None, None, None, None
        x, weight = ctx.saved_tensors
        notes, number, transposed = ctx.rest
        sides = rows_of(slope), rows_of(x)
        notes.add(Use(number, sides[1], sides[0], False) if transposed else Use(number, *sides))
        back = None
        if ctx.needs_input_grad[0]:
            back = multiplied(slope, weight, notes, number, not transposed)
        return back, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, x: Tensor | None, weight: Tensor | None, *rest: Any) -> Any:
        """Forward mode."""
        if weight is not None or x is None:
            raise NotImplementedError("the closure differentiates by its weights")
        return multiplied(x, ctx.saved_tensors[1], *ctx.rest)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, weight: Tensor, *rest: Any) -> Any:
        """With the mapped dimension first: products and shapes allow for any number of them."""
        if in_dims[1] is not None:
            raise NotImplementedError("the closure maps over its weights")
        return multiplied(x.movedim(in_dims[0], 0), weight, *rest), 0


class Spread(torch.autograd.Function):
    """A weight broadcast to the shape of a batch; its gradient is left to the notes."""

    @staticmethod
    def forward(weight: Tensor, like: Tensor, notes: Notes, number: int) -> Tensor:
        """The value."""
        return weight.expand(like.shape).clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """What the derivatives need."""
        weight, _, ctx.notes, ctx.number = inputs
        ctx.shape = weight.shape
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        """Reverse mode; writes the use down."""
        if slope is not None:
            ctx.notes.add(Use(ctx.number, samples_of(slope, ctx.shape)))
        return None, None, None, None

    @staticmethod
    def jvp(ctx: Any, weight: Tensor | None, like: Tensor | None, *rest: Any) -> None:
        """Forward mode."""
        if weight is not None:
            raise NotImplementedError("the closure differentiates by its weights")

    @staticmethod
    def vmap(info: Any, in_dims: Any, weight: Tensor, like: Tensor, *rest: Any) -> Any:
        """With the mapped dimension first: products and shapes allow for any number of them."""
        if in_dims[0] is not None:
            raise NotImplementedError("the closure maps over its weights")
        return spread_out(weight, like.movedim(in_dims[1], 0), *rest), 0


def multiplied(x: Tensor, weight: Tensor, notes: Notes, number: int, transposed: bool) -> Tensor:
    """``Product``, with types."""
    return cast(Tensor, Product.apply(x, weight, notes, number, transposed))  # type: ignore[no-untyped-call]


def spread_out(weight: Tensor, like: Tensor, notes: Notes, number: int) -> Tensor:
    """``Spread``, with types."""
    return cast(Tensor, Spread.apply(weight, like, notes, number))  # type: ignore[no-untyped-call]
