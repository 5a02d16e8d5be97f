"""One of several tensors: ties, memory, extreme sizes."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from feasible import Candidates
from feasible.testing.subject import same_bits


class LargestResult(TorchDispatchMode):
    """Remembers how many numbers the largest result of an operation holds that has its own memory."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        tensors = [x for x in (result, *arguments) if isinstance(x, torch.Tensor)]
        places = [x.untyped_storage().data_ptr() for x in tensors]
        if isinstance(result, torch.Tensor) and places[0] not in places[1:]:
            self.numbers = max(self.numbers, result.numel())
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_nearest_by_trying_all(dtype) -> None:
    tensors = torch.randn(300, 5, 7).to(dtype)
    candidates = Candidates(tensors).bind(tensors[0])
    for x in torch.randn(20, 5, 7).to(dtype):
        distances = (tensors.double() - x.double()).flatten(1).square().sum(-1)
        assert torch.equal(candidates.project(x), tensors[distances.argmin()])
        products = (tensors.double() * x.double()).flatten(1).sum(-1)
        assert torch.equal(candidates.lmo(x), tensors[products.argmin()])
        assert torch.allclose(candidates.support(x), products.max().to(dtype))


def test_ten_thousand_candidates_take_little_memory() -> None:
    tensors = torch.randn(10_000, 20, 20)
    candidates = Candidates(tensors)
    with LargestResult() as largest:
        projected = candidates.project(tensors[7_777] + 0.01)
    assert torch.equal(projected, tensors[7_777])
    assert largest.numbers <= 2**16
    assert candidates.contains(tensors[-1])


def test_ties_go_to_the_first_whatever_the_order_of_the_sums() -> None:
    x = torch.zeros(60)
    first = torch.randn(60)
    for _ in range(20):
        candidates = Candidates([first, first[torch.randperm(60)], -first])
        assert torch.equal(candidates.project(x), first)


@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.float32, 3e38), (torch.float64, 1e300), (torch.float64, 1e-300)]
)
def test_nothing_overflows_or_underflows(dtype, size) -> None:
    tensors = torch.tensor([[-1.0, -1.0], [0.1, 0.3], [1.0, 0.9]], dtype=dtype) * size
    x = torch.tensor([0.9, 1.0], dtype=dtype) * size
    assert torch.equal(Candidates(tensors).project(x), tensors[2])


def test_duplicates_count_once_and_the_order_stays() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 2.0])
    candidates = Candidates([a, b, a.clone(), torch.tensor([1.0, -0.0])])
    assert candidates.count((2,)) == 2
    assert [m.tolist() for m in candidates.members((2,))] == [a.tolist(), b.tolist()]
    assert candidates == Candidates(torch.stack([a, b]))
    close = Candidates([a, a * 1.0001])
    assert close.count((2,)) == 2
    assert close.bind(a.bfloat16()).count((2,)) == 1


def test_the_given_tensors_are_copied_and_whole_numbers_become_floats() -> None:
    tensor = torch.zeros(1, 2)
    candidates = Candidates(tensor)
    tensor += 1
    assert candidates.stack.sum() == 0
    assert Candidates([torch.tensor([1, 2])]).stack.dtype == torch.get_default_dtype()


def test_nan_members_and_samples() -> None:
    tensors = torch.randn(3, 2, 2)
    candidates = Candidates(tensors)
    assert candidates.project(torch.full((2, 2), torch.nan)).isnan().all()
    member = torch.tensor([0.0, -0.0])
    assert same_bits(Candidates([-member, member + 1]).project(member), member)
    drawn = {tuple(candidates.sample((2, 2)).flatten().tolist()) for _ in range(60)}
    assert drawn == {tuple(tensor.flatten().tolist()) for tensor in tensors}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (None, "expected tensors, as in .*, got None"),
        ("ab", "expected tensors, as in .*, got 'ab'"),
        (5, "expected tensors, as in .*, got 5"),
        ([torch.ones(1), "b"], "expected tensors"),
        ([None], "expected tensors"),
        (torch.tensor(1.0), "got a single number"),
        (torch.ones(2, 2, dtype=torch.complex64), "real numbers .* got torch.complex64"),
        ([torch.ones(2), torch.ones(2, dtype=torch.complex64)], "real numbers .* got torch.complex64"),
    ],
    ids=str,
)
def test_what_is_no_list_of_real_tensors_is_refused(tensors, message) -> None:
    with pytest.raises(ValueError, match=f"^Candidates: .*{message}"):
        Candidates(tensors)
