"""Other people's libraries: loaded where they are installed and work, else the reason why not."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

from torch import Tensor

from .timing import Run

# One thread for all; read when JAX is imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")


def load(name: str) -> ModuleType | str:
    """The module, or a sentence that says why it is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable()
            return importlib.import_module(name)
    except Exception as error:
        return f"does not load: {type(error).__name__}: {str(error).splitlines()[0]}"
    finally:
        logging.disable(logging.NOTSET)


def chop() -> ModuleType | str:
    """``chop.constraints``, without what chop imports for its examples (torchvision, pictures, progress bars)."""
    unused = ("torchvision", "torchvision.transforms", "easydict", "matplotlib", "matplotlib.pyplot", "tqdm")
    before = {name: sys.modules.get(name) for name in unused}
    sys.modules.update({name: MagicMock() for name in unused})
    try:
        return load("chop.constraints")
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def jitted(module: str, function: str, x: Tensor, size: float) -> Run | str:
    """A projection of JAX on each row, compiled before it is timed; the input is converted once."""
    library, jax = load(module), load("jax")
    if isinstance(library, str) or isinstance(jax, str):
        return str(library if isinstance(library, str) else jax)
    compiled = jax.jit(jax.vmap(lambda row: getattr(library, function)(row, size)))
    rows = jax.numpy.asarray(x.numpy())
    return lambda: compiled(rows).block_until_ready()


def using(module: ModuleType | str, run: Callable[[Any], Run]) -> Run | str:
    """What is run with the module, or why it is not there."""
    return module if isinstance(module, str) else run(module)
