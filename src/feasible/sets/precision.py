"""How many digits arithmetic keeps: wider types for sums, what rounding explains; random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def wide(x: Tensor) -> Tensor:
    """Half-precision numbers in float32, where their sums are taken; all others as they are."""
    return x.float() if x.dtype in HALF else x


def widest(x: Tensor) -> Tensor:
    """In float64, or in float32 on devices that lack it."""
    return x.float() if x.device.type == "mps" else x.double()


def roundoff(dtype: torch.dtype) -> float:
    """Relative error that a projection may leave: eight units of its arithmetic, two of its storage."""
    if dtype in HALF:
        return 2 * torch.finfo(dtype).eps + 8 * torch.finfo(torch.float32).eps
    return 8 * torch.finfo(dtype).eps


def uniform(shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """Numbers in [0, 1), on the generator's device."""
    return torch.rand(tuple(shape), generator=generator, device=_device(generator))


def normal(shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers, on the generator's device."""
    return torch.randn(tuple(shape), generator=generator, device=_device(generator))


def _device(generator: torch.Generator | None) -> torch.device | None:
    return None if generator is None else generator.device
