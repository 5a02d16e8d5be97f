"""The same random numbers twice: dropout and noise that two evaluations of one batch share."""

from __future__ import annotations

import torch
from torch import Tensor


class Replay:
    """Remembers the state of torch's generators when made; inside ``with`` they start from there again.

    After the block they are where the first pass had left them, if both passes drew the same numbers.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._state = self._read()

    def _read(self) -> tuple[Tensor, Tensor | None]:
        on_device = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
        return torch.get_rng_state(), on_device

    def __enter__(self) -> None:
        host, on_device = self._state
        torch.set_rng_state(host)
        if on_device is not None:
            torch.cuda.set_rng_state(on_device, self._device)

    def __exit__(self, *exception: object) -> None:
        """Nothing: the second pass has drawn what the first one drew."""
