"""No set that could do without reads a value back from the device: tried on a device that has no values."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import feasible as fs

BETWEEN_NUMBERS = [fs.Box(-1.0, 1.0), fs.NonNegative(), fs.LInfBall(1.0)]
SETS = [
    *BETWEEN_NUMBERS,
    fs.Box(lower=torch.zeros(6), upper=torch.ones(6)),
    fs.Equal(0.5),
    fs.FiniteSet([-1.0, 0.0, 1.0]),
    fs.Integers(-3, 3),
    fs.L1Ball(1.0),
    fs.L2Ball(1.0),
    fs.Sphere(),
    fs.Sphere(2.0, dim=0),
    fs.SumTo(1.0),
    fs.Simplex(),
    fs.Simplex(2.0, dim=0),
]


class Reads(TorchDispatchMode):
    """What would make the host wait: values that are read back, and shapes that depend on values."""

    OPERATORS = (
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.is_nonzero.default,
        torch.ops.aten.equal.default,
        torch.ops.aten.masked_select.default,
    )

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in self.OPERATORS
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("set", SETS, ids=repr)
def test_nothing_is_read_back(set, dtype):
    weights = [torch.empty(4, 6, device="meta", dtype=dtype) for _ in range(3)]
    gradients = [torch.empty_like(weight) for weight in weights]
    on_device = set.bind(weights[0])
    on_device.project_all_(weights)  # what is made once is made now
    with Reads() as reads:
        on_device.project(weights[0])
        on_device.is_member(weights[0])
        on_device.project_all_(weights)
        if set not in BETWEEN_NUMBERS and (set.needs_tangent or set.separable):
            on_device.reduce_gradients_(weights, gradients, 1 / 128)
    assert reads.count == 0


@pytest.mark.parametrize("set", BETWEEN_NUMBERS, ids=repr)
def test_nothing_is_read_back_of_gradients_between_numbers(set):
    set.project_all_([torch.zeros(6)])
    # The numbers stay on the host, which CUDA takes and "meta" does not: fake CUDA tensors.
    with FakeTensorMode(), Reads() as reads:
        weights = [torch.empty(4, 6, device="cuda") for _ in range(3)]
        set.reduce_gradients_(weights, [torch.empty_like(weight) for weight in weights], 1 / 128)
    assert reads.count == 0


def test_a_read_is_noticed():
    with pytest.raises(RuntimeError, match="meta"):
        bool(torch.empty(2, device="meta").any())
    with Reads() as reads:
        bool(torch.empty(2).any())
    assert reads.count == 1
