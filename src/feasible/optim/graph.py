"""Where a computation that has run already uses its weights, read off its graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from feasible.optim.layerwise import UnseenError, Use, samples_of
from feasible.optim.per_sample import (
    RECHECK,
    NotPerSampleError,
    PerSample,
    Recording,
    check,
    shares,
    signature,
)

SAME = {"AliasBackward0"}
TRANSPOSES = {"TBackward0", "TransposeBackward0"}


class GraphRows(PerSample):
    """``PerSample`` for residuals that have been computed already."""

    is_identity = False
    """Whether every use has as many samples as there are rows, in their order."""
    pattern: list[str | None] | None = None
    """The operations for which the map was found, where nothing but their order decides on it."""

    @torch.no_grad()
    def rows(self, residual: Tensor) -> Tensor:
        """The Jacobian (rows, weights) of a residual, whose graph stays as it is.

        Raises:
            NotPerSampleError: the rows cannot be told apart, or a weight is used in a way that is not known.
        """
        with torch.enable_grad():
            flat = residual.reshape(-1)
        try:
            graph = Graph(flat, self.parameters)
            passes = self._again(graph, flat, residual.shape)
            if passes is not None:
                return self._assemble(graph, len(flat), passes)
            self.pattern = None
            passes = self._mapped(graph, flat, residual)
            self.is_identity = self._is_identity(len(flat))
            self.pattern = graph.pattern() if self.is_identity else None
            jacobian = self._assemble(graph, len(flat), passes)
        except UnseenError as error:
            raise NotPerSampleError(str(error)) from error
        check(flat.detach(), jacobian, lambda c: (flat.detach(), self._product(flat, c)), self.parameters)
        return jacobian

    def _again(self, graph: Graph, flat: Tensor, shape: torch.Size) -> list[list[Use]] | None:
        """The uses, if the map that was found before still fits: without a look where the graph leaves no doubt."""
        pattern = graph.pattern() if self.age + 1 < RECHECK else None
        if pattern is None or pattern != self.pattern or self.shape != shape or self.groups is None:
            return self._recorded(graph, flat, shape)
        passes = [self._pass(graph, flat, group.rows) for group in self.groups]
        if self.signature != signature(passes):
            return self._recorded(graph, flat, shape)
        self.age += 1
        return passes

    def _is_identity(self, count: int) -> bool:
        order = torch.arange(count, device=self.parameters[0].device)
        owners = {id(owner): owner for group in self.groups or [] for owner in group.owners}
        return len(self.groups or []) == 1 and all(torch.equal(owner, order) for owner in owners.values())

    def _assemble(self, tape: Recording, count: int, passes: list[list[Use]]) -> Tensor:
        """The rows for all weights; where sample i is row i they are written as they come."""
        if not self.is_identity:
            return super()._assemble(tape, count, passes)
        together: dict[int, list[Use]] = {}
        for use in passes[0]:
            together.setdefault(use.weight, []).append(use)
        columns = [
            shares(together[number]) if number in together else parameter.new_zeros(count, parameter.numel())
            for number, parameter in enumerate(self.parameters)
        ]
        return torch.cat(columns, 1)

    def _product(self, flat: Tensor, slopes: Tensor) -> Tensor:
        parts = torch.autograd.grad(
            flat, self.parameters, slopes, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.reshape(-1) for part in parts])


class Weight(NamedTuple):
    """A parameter, or its transpose, as it enters an operation."""

    number: int
    transposed: bool
    shape: torch.Size
    """Of the parameter."""


class Site(NamedTuple):
    """One place where a weight is used: the operation, and what its slope means."""

    edge: GradientEdge
    use: Callable[[Tensor], Use]


class Graph:
    """The uses of weights in a computation, for ``PerSample``: nothing has to be computed a second time.

    Products with weights and weights that are added or multiplied to a batch are known, in values and in their
    derivatives of any order and mode; a weight that enters another operation raises ``UnseenError``.

    Args:
        residual: what was computed, with its graph.
        parameters: the weights.

    Raises:
        UnseenError: a weight is used in another way.
    """

    def __init__(self, residual: Tensor, parameters: Sequence[Tensor]) -> None:
        self.weights = list(parameters)
        self._numbers = {id(parameter): number for number, parameter in enumerate(parameters)}
        self._known: dict[Any, Weight | None] = {}
        self.sites: list[Site] = []
        self.names: list[str | None] = []
        self._walk(residual.grad_fn)

    def uses(self, outputs: Tensor, slopes: Tensor, inputs: Sequence[Tensor]) -> list[Use]:
        """All uses, with their slopes, where ``⟨slopes, outputs⟩`` is differentiated."""
        found = torch.autograd.grad(
            outputs, [site.edge for site in self.sites], slopes, retain_graph=True, allow_unused=True
        )
        uses = []
        for site, slope in zip(self.sites, found, strict=True):
            if slope is None:
                raise UnseenError("an operation has no slope")
            uses.append(site.use(slope))
        return uses

    def carried(self, number: int, slopes: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """There are no functions of weights here."""
        raise UnseenError("a function of weights is not among the parameters")

    def pieces(self, residual: Tensor) -> list[Tensor]:
        """The residual itself."""
        return [residual]

    def pattern(self) -> list[str | None] | None:
        """The operations, if which sample depends on which is the same wherever their order and shapes are."""
        return None if None in self.names else self.names

    # -- the walk -----------------------------------------------------------------------------------

    def _walk(self, root: Any) -> None:
        seen, waiting = set(), [root]
        if self._weight(root) is not None:
            raise UnseenError("the residual is a weight")
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            children = [child for child, _ in node.next_functions]
            weights = [self._weight(child) for child in children]
            if any(weight is not None for weight in weights):
                self._enter(node, weights)
            else:
                self.names.append(name_of(node))
            waiting += [child for child, weight in zip(children, weights, strict=True) if weight is None]

    def _weight(self, node: Any) -> Weight | None:
        """The weight that a node hands on, if it does nothing else."""
        if node is None:
            return None
        if node in self._known:
            return self._known[node]
        found = None
        if hasattr(node, "variable"):
            number = self._numbers.get(id(node.variable))
            found = None if number is None else Weight(number, False, node.variable.shape)
        elif node.name() in SAME or node.name() in TRANSPOSES:
            found = self._weight(node.next_functions[0][0])
            if found is not None and node.name() in TRANSPOSES:
                if len(found.shape) != 2:
                    raise UnseenError("a weight with more than two dimensions is transposed")
                found = found._replace(transposed=not found.transposed)
        self._known[node] = found
        return found

    def _enter(self, node: Any, weights: Sequence[Weight | None]) -> None:
        """Write down what the operation does with its weights."""
        name = node.name()
        rule = RULES.get(name)
        if rule is None:
            raise UnseenError(f"{name} uses a weight in a way of its own")
        for place, weight in enumerate(weights):
            if weight is not None:
                self.sites.append(Site(GradientEdge(node, 0), rule(node, place, weight, weights)))


Rule = Callable[[Any, int, Weight, Sequence[Weight | None]], Callable[[Tensor], Use]]


def _product(
    node: Any, place: int, weight: Weight, weights: Sequence[Weight | None], added: bool = False
) -> Callable[[Tensor], Use]:
    """Of ``A B``, the factor at ``place``."""
    if weights[-1] is not None and weights[-2] is not None:
        raise UnseenError("a weight is multiplied with a weight")
    number, transposed, _ = weight
    scale = node._saved_alpha if added else 1
    is_second = place == len(weights) - 1
    first = "_saved_mat1" if added else "_saved_self"
    other = getattr(node, first) if is_second else node._saved_mat2.mT

    def use(slope: Tensor) -> Use:
        slope = slope if scale == 1 else slope * scale
        if is_second == transposed:  # x Wᵀ, or W x: the slope has the weight's first dimension
            return Use(number, slope if is_second else slope.mT, other)
        return Use(number, other, slope if is_second else slope.mT, slope_is_left=False)

    return use


def _product_and_sum(
    node: Any, place: int, weight: Weight, weights: Sequence[Weight | None]
) -> Callable[[Tensor], Use]:
    """``β C + α A B``."""
    if place == 0:
        return _spread(weight, node._saved_beta)
    return _product(node, place, weight, weights, added=True)


def _sum(node: Any, place: int, weight: Weight, weights: Sequence[Weight | None]) -> Callable[[Tensor], Use]:
    """``a + α b``."""
    return _spread(weight, 1 if place == 0 else node._saved_alpha)


def _difference(
    node: Any, place: int, weight: Weight, weights: Sequence[Weight | None]
) -> Callable[[Tensor], Use]:
    """``a − α b``."""
    return _spread(weight, 1 if place == 0 else -node._saved_alpha)


def _times(
    node: Any, place: int, weight: Weight, weights: Sequence[Weight | None]
) -> Callable[[Tensor], Use]:
    """``a b``, entry by entry."""
    if len(weights) != 2 or all(weights):
        raise UnseenError("a weight is multiplied with a weight")
    return _spread(weight, node._saved_other if place == 0 else node._saved_self)


def _spread(weight: Weight, factor: Any) -> Callable[[Tensor], Use]:
    """A weight that was spread over a batch, times a factor."""
    if weight.transposed:
        raise UnseenError("a transposed weight is spread over a batch")
    number, _, shape = weight

    def use(slope: Tensor) -> Use:
        is_one = not isinstance(factor, Tensor) and factor == 1
        return Use(number, samples_of(slope if is_one else slope * factor, shape))

    return use


PLAIN = {
    f"{name}Backward{number}"
    for number in range(7)
    for name in (
        *(
            "Add",
            "Sub",
            "Rsub",
            "Mul",
            "Div",
            "Neg",
            "Pow",
            "Square",
            "Sqrt",
            "Rsqrt",
            "Reciprocal",
            "Exp",
            "Log",
        ),
        *("Sin", "Cos", "Tanh", "TanhBackward", "Sigmoid", "SigmoidBackward", "Softplus", "SoftplusBackward"),
        *(
            "Silu",
            "SiluBackward",
            "Gelu",
            "GeluBackward",
            "Abs",
            "Sgn",
            "Clone",
            "Alias",
            "T",
            "View",
            "UnsafeView",
        ),
        *("TanhBackwardBackward", "SigmoidBackwardBackward", "Unsqueeze", "Squeeze"),
    )
} | {"torch::autograd::AccumulateGrad"}
"""Operations on entries of their own, or on shapes: nothing is added up over entries, and no data picks them."""
PICKS = {
    "SelectBackward0": ("_saved_dim", "_saved_index"),
    "SliceBackward0": ("_saved_dim", "_saved_start", "_saved_end", "_saved_step"),
}
"""Operations that take some entries, and the numbers that tell which."""


def name_of(node: Any) -> str | None:
    """The operation, if its name tells which entries it takes."""
    name: str = node.name()
    if name in PICKS:
        return f"{name}{[getattr(node, key) for key in PICKS[name]]}"
    return name if name in PLAIN else None


RULES: dict[str, Rule] = {
    "MmBackward0": _product,
    "AddmmBackward0": _product_and_sum,
    "AddBackward0": _sum,
    "SubBackward0": _difference,
    "MulBackward0": _times,
}
"""What is known of operations, by the names of their nodes."""
