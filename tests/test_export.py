"""Discrete weights as members and small numbers: the same bits come back."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from feasible import (
    Candidates,
    FiniteSet,
    Integers,
    KSparse,
    NonNegative,
    OneHot,
    Permutation,
    Problem,
    Project,
    export_indices,
    load_indices,
)

TERNARY = FiniteSet([-1, 0, 1])
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def same_bits(first, second):
    def pattern(x):
        return x.detach().contiguous().reshape(-1).view(torch.uint8)

    return (
        first.dtype == second.dtype
        and first.shape == second.shape
        and torch.equal(pattern(first), pattern(second))
    )


def roundtrip(tmp_path, tensors, sets):
    path = tmp_path / "weights.safetensors"
    export_indices(tensors, path, sets)
    return load_indices(path)


ROWS = torch.tensor([True, False, True])
CASES = [
    (TERNARY, (5, 7)),
    (TERNARY, ()),
    (TERNARY, (0, 3)),
    (FiniteSet([0.3]), (4,)),
    (FiniteSet([0.1, -0.1, 0.1, 5]), (3, 2)),
    (FiniteSet(torch.linspace(-1, 1, 301)), (40, 40)),
    (Integers(-8, 7), (3, 5)),
    (Integers(), (6, 6)),
    (Integers(-(2**20), 2**20), (6,)),
    (OneHot(dim=0), (3, 4)),
    (OneHot(dim=1), (3, 4)),
    (OneHot(dim=-1), (2, 3, 300)),
    (OneHot(dim=None), (3, 4)),
    (OneHot().flatten(1), (2, 3, 4)),
    (Permutation(), (5, 5)),
    (Permutation(), (3, 4, 4)),
    (Candidates(torch.tensor([[[0.0, -1], [2, 0]], [[1, 0], [-0.0, 1]]])), (2, 2)),
    (Candidates(torch.tensor([0.5, -2.0])), ()),
    (FiniteSet([1]) | Integers(0, 4), (3, 3)),
    (TERNARY.where(torch.tensor([[True, False, True], [False, True, True]])), (2, 3)),
    (TERNARY.where(ROWS), (4, 3)),
    (TERNARY.where(ROWS).where(torch.tensor([True, True, False])), (2, 3)),
    (TERNARY.flatten(), (2, 3)),
    (TERNARY.where(ROWS).flatten(0), (3,)),
    (OneHot().where(ROWS), (4, 3)),
    (OneHot(dim=0).where(ROWS[:, None]), (3, 2)),
    (OneHot(dim=None).where(torch.tensor([[True, True], [False, True]])), (2, 2)),
    (Permutation().where(ROWS[:, None] & ROWS), (3, 3)),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("set_", "shape"), CASES, ids=lambda value: str(value).replace(" ", ""))
@pytest.mark.parametrize("sign", [1, -1], ids=["plus", "minus"])
def test_the_same_bits_come_back(tmp_path, set_, shape, dtype, sign) -> None:
    member = set_.bind(torch.zeros(shape, dtype=dtype)).project(
        torch.randn(shape, dtype=torch.float64).to(dtype) * 3
    )
    member = torch.where(member == 0, sign * torch.zeros_like(member), member)
    other = torch.randn(3).to(dtype)
    loaded = roundtrip(tmp_path, {"w": member, "b": other}, {"w": set_})
    assert same_bits(loaded["w"], member)
    assert same_bits(loaded["b"], other)
    assert list(loaded) == ["w", "b"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-0.0, 0.0, 1.0, -3.5, 7.0]), max_size=30), st.integers(0, 2**20))
def test_any_mixture_of_zeros(tmp_path_factory, numbers, seed) -> None:
    x = torch.tensor(numbers)
    mask = torch.rand(len(numbers), generator=torch.Generator().manual_seed(seed)) < 0.5
    set_ = FiniteSet([0, 1, -3.5, 7])
    folder = tmp_path_factory.mktemp("export")
    assert same_bits(roundtrip(folder, [x], {"0": set_})["0"], x)
    free = torch.where(mask, x, torch.randn(len(numbers)))
    assert same_bits(roundtrip(folder, [free], {"0": set_.where(mask)})["0"], free)


def test_a_million_ternary_weights_take_a_megabyte(tmp_path) -> None:
    w = TERNARY.sample((1000, 1000))
    path = tmp_path / "big.safetensors"
    export_indices({"w": w}, path, {"w": TERNARY})
    assert path.stat().st_size < 1_001_000
    assert same_bits(load_indices(path)["w"], w)
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("index/w").dtype == torch.uint8
        assert file.get_tensor("members/w").tolist() == [-1, 0, 1]
        assert json.loads(file.metadata()["feasible.indices"])["format_version"] == 1


@pytest.mark.parametrize(
    ("set_", "shape", "dtype", "count"),
    [
        (TERNARY, (4, 5), torch.uint8, 20),
        (Integers(0, 400), (50, 50), torch.int16, 2500),
        (Integers(0, 60000), (50, 50), torch.int32, 2500),
        (OneHot(dim=0), (300, 40), torch.int16, 40),
        (Permutation(), (9, 9), torch.uint8, 9),
        (Candidates(torch.randn(9, 2, 2)), (2, 2), torch.uint8, 1),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_how_much_is_stored(tmp_path, set_, shape, dtype, count) -> None:
    path = tmp_path / "w.safetensors"
    weight = set_.sample(shape)
    export_indices({"w": weight}, path, {"w": set_})
    index = load_file(path)["index/w"]
    assert index.numel() == count
    assert index.dtype == dtype or weight.max() < 2**8


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.last.weight = self.first.weight
        self.register_buffer("passing", torch.ones(2), persistent=False)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


def test_a_whole_model_with_tied_weights_and_buffers(tmp_path) -> None:
    model = Tied()
    model(torch.randn(8, 4))
    problem = Problem(model)
    problem.constrain("first.weight", TERNARY, by=Project())
    problem.freeze("first.bias")
    problem.finish()
    path = tmp_path / "model.safetensors"
    export_indices(problem, path)
    other = Tied()
    loaded = load_indices(path, other)
    for name, tensor in model.state_dict().items():
        assert same_bits(loaded[name], tensor), name
        assert same_bits(other.state_dict()[name], tensor), name
    assert loaded["first.weight"] is loaded["last.weight"]
    assert other.first.weight is other.last.weight
    assert "passing" not in loaded
    assert sum("weight" in key for key in load_file(path)) == 3  # index and members once, the norm's own
    by_name = tmp_path / "named.safetensors"
    export_indices(model, by_name, {"last.weight": TERNARY})
    assert by_name.read_bytes() == path.read_bytes()
    Tied().load_state_dict(loaded)


def test_wrapped_models_have_the_same_names(tmp_path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        model[0].weight.copy_(TERNARY.project(model[0].weight * 3))
    path = tmp_path / "w.safetensors"
    export_indices(model, path, {"0.*eight": TERNARY})
    loaded = load_indices(path, nn.DataParallel(model))
    assert loaded.keys() == model.state_dict().keys()


def test_a_weight_outside_of_its_set_names_the_worst_entry(tmp_path) -> None:
    w = torch.tensor([[1.0, 0.0], [0.1, 0.37]])
    with pytest.raises(
        ValueError, match=r"(?s)w: .*FiniteSet\(\[-1, 0, 1\]\).*\[1, 1\] is 0.37.*has 0\b.*finish"
    ):
        export_indices({"w": w}, tmp_path / "w", {"w": TERNARY})
    with pytest.raises(ValueError, match=r"entry \[0, 1\] is nan"):
        export_indices({"w": torch.tensor([[1.0, torch.nan]])}, tmp_path / "w", {"w": TERNARY})
    with pytest.raises(ValueError, match="is inf"):
        export_indices({"w": torch.tensor([[1.0, torch.inf]])}, tmp_path / "w", {"w": Integers()})
    with pytest.raises(ValueError, match=r"entry \[\] is 0.5"):
        export_indices({"w": torch.tensor(0.5)}, tmp_path / "w", {"w": TERNARY})
    model = nn.Linear(2, 2)
    problem = Problem(model)
    problem.constrain("weight", OneHot(dim=0), by=Project())
    with torch.no_grad():
        model.weight.fill_(0.5)
    with pytest.raises(ValueError, match=r"weight: .*not in OneHot"):
        export_indices(problem, tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_bad_arguments(tmp_path) -> None:
    path, model = tmp_path / "w", nn.Linear(2, 2)
    with pytest.raises(ValueError, match="Closest: 'weight'"):
        export_indices(model, path, {"wieght": TERNARY})
    for set_ in (NonNegative(), KSparse(1), FiniteSet):
        with pytest.raises(ValueError, match="discrete set"):
            export_indices(model, path, {"weight": set_})
    with pytest.raises(ValueError, match="two sets"):
        export_indices(model, path, {"weight": TERNARY, "w*": Integers()})
    with pytest.raises(ValueError, match="Give the problem in its place, or sets="):
        export_indices(model, path)
    for problem in (Problem(model), Problem([torch.zeros(2)])):
        with pytest.raises(ValueError, match=r"(?s)no weight in a discrete set.*state_dict\(\)"):
            export_indices(problem, path)
    assert not path.exists()
    with pytest.raises(ValueError, match="leave sets out"):
        export_indices(Problem(model), path, {"weight": TERNARY})
    with pytest.raises(ValueError, match=r"weight: .*shape"):
        export_indices(model, path, {"weight": Candidates(torch.zeros(1, 3))})


def test_bad_files(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"not a file of tensors")
    with pytest.raises(ValueError, match="not a file that export_indices has written"):
        load_indices(path)
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"format 1 of export_indices, got another format"):
        load_indices(path)
    export_indices({"w": torch.ones(2), "v": torch.ones(3)}, path, {"w": TERNARY})
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, path, {key: text.replace(": 1", ": 2") for key, text in metadata.items()})
    with pytest.raises(ValueError, match=r"got 2"):
        load_indices(path)
    save_file(tensors | {"index/w": torch.tensor([0, 7], dtype=torch.uint8)}, path, metadata)
    with pytest.raises(ValueError, match=r"damaged.*Export it again"):
        load_indices(path)
    save_file({"free/v": tensors["free/v"]}, path, metadata)
    with pytest.raises(ValueError, match="damaged"):
        load_indices(path)
    save_file(tensors, path, {"feasible.indices": json.dumps([])})
    with pytest.raises(ValueError, match="damaged"):
        load_indices(path)
    with pytest.raises(FileNotFoundError):
        load_indices(tmp_path / "none")


def test_another_model_is_refused_and_left_alone(tmp_path) -> None:
    path = tmp_path / "w"
    export_indices(nn.Linear(3, 2).requires_grad_(False), path, {})
    for model, message in [
        (nn.Linear(3, 2, bias=False), "bias besides"),
        (nn.Sequential(nn.Linear(3, 2)), "it lacks 0.bias, 0.weight"),
        (nn.Linear(2, 3), "weight has shape"),
        (nn.Linear(3, 2).double(), "float64"),
    ]:
        before = [p.clone() for p in model.parameters()]
        with pytest.raises(ValueError, match=message):
            load_indices(path, model)
        assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before))
