"""What the processes of a distributed run tell each other: in the tick alone, since all of them come by there."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def total(x: Tensor) -> Tensor:
    """The sum over all ranks, with the same bits on each."""
    added = x.clone()
    dist.all_reduce(added)
    return added


def gathered(rows: Tensor) -> Tensor:
    """The rows of all ranks, one after the other; their numbers may differ."""
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    most = max(int(one) for one in counts)
    padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
    pieces = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(pieces, padded.contiguous())
    return torch.cat([piece[: int(one)] for piece, one in zip(pieces, counts, strict=True)])
