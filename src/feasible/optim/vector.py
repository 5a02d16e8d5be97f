"""All weights of an optimizer as one vector: written, evaluated and differentiated together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rates:
    """Learning rates: the largest, and each entry's share of it where they differ."""

    largest: float
    shares: Tensor | None = None

    def scaled(self, v: Tensor) -> Tensor:
        """``v`` with the square roots of the shares: on both sides of H they keep it positive definite."""
        return v if self.shares is None else v * self.shares.sqrt()


class Vector:
    """The weights of an optimizer that take gradients, one after the other.

    Raises:
        ValueError: the weights are on several devices.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.sizes = [parameter.numel() for parameter in self.parameters]
        devices = {parameter.device for parameter in self.parameters}
        if len(devices) > 1:
            raise ValueError(
                f"expected all parameters on one device, got {', '.join(sorted(map(str, devices)))}.\n"
                "  Curvature is measured across all of them: move the model to one device."
            )
        self.dtype = torch.float32
        for parameter in self.parameters:
            self.dtype = torch.promote_types(self.dtype, parameter.dtype)
        self.is_rounded = any(parameter.dtype != self.dtype for parameter in self.parameters)
        """Whether a weight holds fewer digits than the vector."""
        self.key = tuple((id(p), p.shape, p.dtype, p.device) for p in self.parameters)
        """What tells this vector from one over other weights, or over the same ones in another dtype."""

    def read(self) -> Tensor:
        """The weights."""
        return self._join([parameter.detach() for parameter in self.parameters])

    def read_gradients(self) -> Tensor:
        """The gradients; zeros where there is none."""
        gradients = []
        for parameter in self.parameters:
            gradient = parameter.grad
            if gradient is None:
                gradient = torch.zeros_like(parameter)
            gradients.append(gradient.to_dense() if gradient.is_sparse else gradient)
        return self._join(gradients)

    def check_gradients(self, owner: str) -> None:
        """Raise ``ValueError`` where a closure has left no gradient at all: it forgot its backward pass."""
        if self.parameters and all(parameter.grad is None for parameter in self.parameters):
            raise ValueError(
                f"{owner}: the closure left no gradient on any parameter. Call loss.backward() in it, and compute the "
                "loss from these parameters."
            )

    def clear_gradients(self) -> None:
        """Zeros in their place: a closure that adds to them may not add to those of an earlier point."""
        for parameter in self.parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.grad_fn is not None:
                gradient.detach_()
            gradient.zero_()

    def write(self, x: Tensor) -> Tensor:
        """Give the weights these values; returns what they hold then."""
        for parameter, entries in zip(self.parameters, torch.split(x, self.sizes), strict=True):
            parameter.copy_(entries.view_as(parameter))
        return self.read() if self.is_rounded else x

    def rates(self, by_id: Mapping[int, float]) -> Rates:
        """The learning rates of the weights, given by their ids."""
        each = [by_id[id(parameter)] for parameter in self.parameters]
        largest = max(each, default=0.0)
        if min(each, default=0.0) == largest:
            return Rates(largest)
        parts = [torch.full((n,), rate / largest) for rate, n in zip(each, self.sizes, strict=True)]
        return Rates(largest, torch.cat(parts).to(self.parameters[0].device, self.dtype))

    def locate(self, entries: Tensor) -> int:
        """The number of the weight that holds the first entry that is picked."""
        first = int(entries.nonzero()[0])
        for number, size in enumerate(self.sizes):
            if first < size:
                return number
            first -= size
        raise IndexError(first)

    def _join(self, tensors: list[Tensor]) -> Tensor:
        if not tensors:
            return torch.zeros(0, dtype=self.dtype)
        return torch.cat([tensor.reshape(-1).to(self.dtype) for tensor in tensors])
