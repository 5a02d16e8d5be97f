"""Jacobians whose rows depend on one sample each, from one backward pass, where that can be shown to hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from feasible.optim.layerwise import Tape, Use

RECHECK = 20
"""The map from samples to rows is found afresh after so many Jacobians, and wherever it does not hold any more."""
GOLDEN = 0.6180339887498949
"""Its multiples, modulo 1, are far from each other where their numbers are near."""
ROUNDINGS = 100.0
"""Differences by no more than so many roundings are none."""


class NotPerSampleError(Exception):
    """Why rows cannot be told apart; the message is half a sentence."""


class Group(NamedTuple):
    """Rows that share no sample: one backward pass gives them all."""

    rows: Tensor
    """Their numbers."""
    owners: list[Tensor]
    """For each use, the row that each of its samples belongs to; −1 where no row has felt the sample yet."""


class Recording(Protocol):
    """What knows where a computation uses its weights: the ``Tape`` that saw it, or a walk through its graph."""

    @property
    def weights(self) -> Sequence[Tensor]:
        """The parameters, then functions of them."""

    def uses(self, outputs: Tensor, slopes: Tensor, inputs: Sequence[Tensor]) -> list[Use]:
        """All uses, with their slopes, where ``⟨slopes, outputs⟩`` is differentiated."""

    def carried(self, number: int, slopes: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """What slopes for a function of weights mean for the weights."""

    def pieces(self, residual: Tensor) -> list[Tensor]:
        """What a residual was joined from, as far as that is known."""


class PerSample:
    """Jacobians by the layers' inputs and slopes: ``J[i] = Σ slope ⊗ input`` over the samples of row i.

    Which sample belongs to which row is found by differentiating ``Σ c_i r_i`` for several vectors c: the slopes of
    a sample that only row i depends on are c_i times those for c = 1. Where they are not, rows are separated by
    columns, then by the pieces that the residual was joined from; where they still are not, or where the sum
    disagrees with a plain vector–Jacobian product, ``NotPerSampleError`` says why.

    Args:
        parameters: the weights that the columns stand for.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self.sizes = [parameter.numel() for parameter in parameters]
        self.groups: list[Group] | None = None
        self.shape: torch.Size | None = None
        self.signature: object = None
        self.age = 0

    @torch.no_grad()
    def jacobian(
        self, closure: Callable[[], Tensor], plain: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """The residual, flat, and its Jacobian.

        Args:
            closure: the residual.
            plain: the residual and the product ``cᵀ J`` without a tape, which the result is checked against.

        Raises:
            NotPerSampleError: the rows cannot be told apart.
        """
        tape = Tape(self.parameters)
        try:
            with torch.enable_grad(), tape:
                residual = closure()
                rows = residual.reshape(-1)
            if tape.refusal is not None:
                raise NotPerSampleError(tape.refusal)
            if not residual.requires_grad:
                raise NotPerSampleError("no use of a parameter was seen")
            passes = self._recorded(tape, rows, residual.shape)
            if passes is None:
                passes = self._mapped(tape, rows, residual)
                jacobian = self._assemble(tape, len(rows), passes)
                check(rows.detach(), jacobian, plain, self.parameters)
            else:
                jacobian = self._assemble(tape, len(rows), passes)
            return rows.detach(), jacobian
        except NotPerSampleError:
            raise
        except Exception as error:  # whatever a closure does with twins; without them it may be right
            raise NotPerSampleError(str(error).split("\n")[0]) from error
        finally:
            tape.close()

    def _recorded(self, tape: Recording, rows: Tensor, shape: torch.Size) -> list[list[Use]] | None:
        """The uses, if the map that was found before still fits."""
        self.age += 1
        if self.groups is None or self.age >= RECHECK or self.shape != shape:
            return None
        passes = [self._pass(tape, rows, group.rows) for group in self.groups]
        fits = self.signature == signature(passes) and not awakened(passes, self.groups)
        return passes if fits and self._holds(tape, rows, passes, self.groups) else None

    def _holds(self, tape: Recording, rows: Tensor, passes: list[list[Use]], groups: list[Group]) -> bool:
        """Whether the slopes of each sample still are those of its row alone: rows may have changed places."""
        places = torch.arange(len(rows), device=rows.device, dtype=torch.float64)
        factors = (0.5 + places * GOLDEN % 1).to(rows)
        slack = math.sqrt(torch.finfo(rows.dtype).eps)
        for uses, group in zip(passes, groups, strict=True):
            chosen = torch.zeros_like(rows).index_copy_(0, group.rows, factors[group.rows])
            for use, again, owner in zip(
                uses, tape.uses(rows, chosen, self.parameters), group.owners, strict=True
            ):
                miss = again.slope - factors[owner.clamp_min(0), None] * use.slope
                if not bool(torch.linalg.vector_norm(miss) <= slack * torch.linalg.vector_norm(use.slope)):
                    return False
        return True

    def _mapped(self, tape: Recording, rows: Tensor, residual: Tensor) -> list[list[Use]]:
        """The uses, and a new map."""
        self.groups = None
        for partition in partitions(tape.pieces(residual), residual):
            passes = [self._pass(tape, rows, numbers) for numbers in partition]
            groups = [self._map(tape, rows, *pair) for pair in zip(partition, passes, strict=True)]
            known = [group for group in groups if group is not None]
            if len(known) == len(groups):
                self.groups, self.shape, self.signature, self.age = (
                    known,
                    residual.shape,
                    signature(passes),
                    0,
                )
                return passes
        raise NotPerSampleError("several rows depend on one sample, or a row on all of them")

    def _pass(self, tape: Recording, rows: Tensor, numbers: Tensor) -> list[Use]:
        return tape.uses(rows, torch.zeros_like(rows).index_fill_(0, numbers, 1.0), self.parameters)

    def _map(self, tape: Recording, rows: Tensor, numbers: Tensor, uses: list[Use]) -> Group | None:
        """Which of these rows each sample belongs to; ``None`` where it belongs to several."""
        count = len(numbers)
        base = max(1, min(count, 2**8 if rows.dtype.itemsize < 8 else 2**16))
        owners = [torch.zeros(len(use.slope), dtype=torch.long, device=rows.device) for use in uses]
        order = torch.arange(count, device=rows.device)
        largest = max((float(use.slope.abs().max()) for use in uses if use.slope.numel()), default=0.0)
        place = 1
        while place < count:
            codes = torch.zeros_like(rows)
            codes[numbers] = code(order // place % base, base).to(rows)
            for use, again, owner in zip(uses, tape.uses(rows, codes, self.parameters), owners, strict=True):
                digit = decode(use.slope, again.slope, base, largest)
                if digit is None:
                    return None
                owner += digit * place
            place *= base
        if any(bool((owner >= count).any()) for owner in owners):
            return None
        kept: list[Tensor] = []
        for use, owner in zip(uses, owners, strict=True):
            named = torch.where((use.slope == 0).all(1), -1, numbers[owner])
            kept.append(next((other for other in kept if torch.equal(other, named)), named))
        return Group(numbers, kept)

    def _assemble(self, tape: Recording, count: int, passes: list[list[Use]]) -> Tensor:
        """The rows for all weights, and of functions of weights carried on to the weights."""
        together: dict[tuple[int, int], tuple[Tensor, list[Use]]] = {}
        for uses, group in zip(passes, self.groups or [], strict=True):
            for use, owner in zip(uses, group.owners, strict=True):
                together.setdefault((use.weight, id(owner)), (owner, []))[1].append(use)
        blocks: dict[int, Tensor] = {}
        for (number, _), (owner, uses) in together.items():
            weight = tape.weights[number]
            if number not in blocks:
                blocks[number] = weight.new_zeros(count, weight.numel())
            blocks[number].index_add_(0, owner.clamp_min(0), shares(uses))
        columns = [
            blocks.get(number, parameter.new_zeros(count, parameter.numel()))
            for number, parameter in enumerate(self.parameters)
        ]
        for number in blocks.keys() - range(len(self.parameters)):
            carry_on(tape, number, blocks[number], self.parameters, columns)
        return torch.cat(columns, 1)


def code(digit: Tensor, base: int) -> Tensor:
    """The factor that stands for a digit."""
    return 0.5 + (digit + 0.5) / base


def decode(ones: Tensor, coded: Tensor, base: int, largest: float) -> Tensor | None:
    """The digit by whose code each sample's slopes were scaled; ``None`` where they were not scaled alike."""
    squares = ones.square().sum(1)
    ratio = torch.where(squares > 0, (ones * coded).sum(1) / squares, 0.5)
    digit = ((ratio - 0.5) * base - 0.5).round().clamp(0, base - 1)
    miss = torch.linalg.vector_norm(coded - code(digit, base)[:, None] * ones, dim=1)
    rounding = 100 * torch.finfo(ones.dtype).eps * largest
    if bool((miss > 0.1 / base * squares.sqrt() + rounding).any()):
        return None
    return digit.long()


def partitions(pieces: list[Tensor], residual: Tensor) -> list[list[Tensor]]:
    """Ways to separate rows that may share a sample, the cheapest first."""
    everything = torch.arange(residual.numel(), device=residual.device)
    ways = [[everything]]
    if not residual.numel():
        return ways
    if residual.dim() > 1:
        ways.append(list(everything.view(len(residual), -1).T))
    if len(pieces) > 1 or pieces[0].dim() > 1:
        blocks = torch.split(everything, [piece.numel() for piece in pieces])
        ways.append(list(blocks))
        shapes = [(len(piece), -1) if piece.dim() > 1 and piece.numel() else (-1, 1) for piece in pieces]
        ways.append(
            [column for block, shape in zip(blocks, shapes, strict=True) for column in block.view(shape).T]
        )
    return ways


def signature(passes: list[list[Use]]) -> object:
    """What must not change while a map is used: the order of the uses, and their shapes."""
    return [[(use.weight, use.left.shape, use.slope_is_left) for use in uses] for uses in passes]


def awakened(passes: list[list[Use]], groups: list[Group]) -> bool:
    """Whether a sample that no row had felt before is felt now."""
    return any(
        bool((use.slope[owner < 0] != 0).any())
        for uses, group in zip(passes, groups, strict=True)
        for use, owner in zip(uses, group.owners, strict=True)
    )


def shares(uses: list[Use]) -> Tensor:
    """Each sample's gradient by one weight, summed over the uses; (samples, entries of the weight)."""
    spread = [use.left for use in uses if use.right is None]
    if spread:
        return torch.stack(spread).sum(0)
    left = torch.stack([use.left for use in uses], 2)
    right = torch.stack([use.right for use in uses if use.right is not None], 1)
    return torch.bmm(left, right).flatten(1)


def carry_on(
    tape: Recording, number: int, rows: Tensor, parameters: Sequence[Tensor], columns: list[Tensor]
) -> None:
    """Add what the rows for a function of parameters mean for the parameters."""
    parts = tape.carried(number, rows.view(len(rows), *tape.weights[number].shape), parameters)
    for place, part in enumerate(parts):
        if part is not None:
            columns[place] = columns[place] + part.reshape(len(rows), -1)


def check(
    rows: Tensor,
    jacobian: Tensor,
    plain: Callable[[Tensor], tuple[Tensor, Tensor]],
    parameters: Sequence[Tensor],
) -> None:
    """Compare the residual, and ``cᵀ J`` weight by weight, with what they are without a tape.

    Raises:
        NotPerSampleError: they differ.
    """
    c = torch.cos(torch.arange(1, len(jacobian) + 1, device=jacobian.device, dtype=jacobian.dtype).square())
    with torch.enable_grad():
        values, product = plain(c)
    eps = torch.finfo(jacobian.dtype).eps
    slack = math.sqrt(eps)
    sizes = jacobian.abs()
    terms = sizes @ torch.cat([parameter.detach().abs().reshape(-1) for parameter in parameters]).to(sizes)
    if not _length(rows - values) <= slack * _length(values) + ROUNDINGS * eps * _length(terms):
        raise NotPerSampleError("the residual is another one where the layers are watched")
    scale, miss = sizes.T @ c.abs(), jacobian.T @ c - product
    # Slopes that cancel (of attention's key biases, say) are no more than the rounding of all others.
    rounding = ROUNDINGS * eps * _length(scale)
    parts = (torch.split(each, [p.numel() for p in parameters]) for each in (miss, product, scale))
    for number, (off, true, expected) in enumerate(zip(*parts, strict=True)):
        if not _length(off) <= slack * max(_length(true), _length(expected)) + rounding:
            raise NotPerSampleError(f"parameter {number} is used where the layers do not see it")


def _length(v: Tensor) -> float:
    return float(torch.linalg.vector_norm(v.detach()))
