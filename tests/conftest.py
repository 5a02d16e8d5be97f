"""Every test starts from the same random numbers, on one thread."""

import warnings

import pytest
import torch
from torch.autograd import forward_ad

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def forward_mode() -> None:
    """Forward-mode derivatives, loaded: on their first use torch warns about code of its own."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)
        forward_ad.make_dual(torch.ones(1), torch.ones(1))
