"""``feasible check``: what a checkpoint's weights are measured against, and what is refused."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import feasible as fs
from feasible.workbook.check import Outlier, check, load_state
from feasible.workbook.errors import InputError

RULES = """\
[[constraints]]
name = "positive"
weights = "*.weight"
set = "NonNegative"
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return _write(tmp_path / "rules.toml", RULES)


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _state(**tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name.replace("__", "."): tensor for name, tensor in tensors.items()}


GOOD = _state(one__weight=torch.tensor([[0.0, 1.0], [2.0, 3.0]]), one__bias=torch.tensor([-1.0]))
BAD = _state(one__weight=torch.tensor([[0.0, -0.25], [2.0, -1.5]]), one__bias=torch.tensor([-1.0]))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize(("state", "is_feasible"), [(GOOD, True), (BAD, False)])
def test_the_same_verdict_from_every_format(
    tmp_path: Path, rules: Path, suffix: str, state, is_feasible: bool
):
    path = tmp_path / f"model{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert check(path, rules).is_feasible is is_feasible


def test_the_worst_entry_comes_first_with_its_place_and_distance(tmp_path: Path, rules: Path):
    save_file(BAD, tmp_path / "model.safetensors")
    (judgement,) = check(tmp_path / "model.safetensors", rules).judgements
    assert judgement.finding.tensor == "one.weight"
    assert judgement.finding.worst == 1.5
    assert judgement.outliers == (Outlier((1, 1), -1.5, 1.5), Outlier((0, 1), -0.25, 0.25))


def test_a_vector_outside_its_set_has_a_distance_and_no_value(tmp_path: Path):
    rules = _write(
        tmp_path / "rules.toml", RULES.replace('"NonNegative"', '{ name = "L2Ball", radius = 1.0 }')
    )
    save_file({"one.weight": torch.tensor([[0.6, 0.8], [3.0, 4.0]])}, tmp_path / "model.safetensors")
    (judgement,) = check(tmp_path / "model.safetensors", rules).judgements
    assert judgement.outliers == (Outlier((1,), None, 4.0),)


def test_the_guarantee_says_what_was_looked_at(tmp_path: Path, rules: Path):
    save_file(GOOD, tmp_path / "good.safetensors")
    guarantee = check(tmp_path / "good.safetensors", rules).guarantee
    assert guarantee.startswith(
        "good.safetensors obeys every rule about weights, exactly: 1 rule on 1 tensor, 4 entries"
    )
    save_file(BAD, tmp_path / "bad.safetensors")
    verdict = check(tmp_path / "bad.safetensors", rules)
    assert verdict.guarantee == "bad.safetensors breaks 1 rule (1 rule on 1 tensor, 4 entries checked)."


def test_a_set_that_allows_for_rounding_is_not_called_exact(tmp_path: Path):
    rules = _write(tmp_path / "rules.toml", RULES.replace("NonNegative", "Simplex"))
    save_file({"one.weight": torch.full((3,), 1 / 3)}, tmp_path / "model.safetensors")
    verdict = check(tmp_path / "model.safetensors", rules)
    assert verdict.is_feasible
    assert "within the rounding that the sets allow" in verdict.guarantee


def test_nan_obeys_nothing(tmp_path: Path, rules: Path):
    save_file({"one.weight": torch.tensor([1.0, math.nan])}, tmp_path / "model.safetensors")
    verdict = check(tmp_path / "model.safetensors", rules)
    assert not verdict.is_feasible
    assert verdict.judgements[0].outliers[0].index == (1,)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_wrapped_state_dicts_are_found(tmp_path: Path, key: str):
    torch.save({key: GOOD, "epoch": 3}, tmp_path / "model.pt")
    assert set(load_state(tmp_path / "model.pt")) == {"one.weight", "one.bias"}


def test_names_lose_what_wrappers_put_before_them(tmp_path: Path):
    state = {f"module._orig_mod.{name}": tensor for name, tensor in GOOD.items()}
    torch.save(state, tmp_path / "model.pt")
    assert set(load_state(tmp_path / "model.pt")) == {"one.weight", "one.bias"}


def test_a_submodule_called_module_keeps_its_name(tmp_path: Path):
    torch.save({"module.weight": torch.ones(1), "head.weight": torch.ones(1)}, tmp_path / "model.pt")
    assert set(load_state(tmp_path / "model.pt")) == {"module.weight", "head.weight"}


def test_rules_about_outputs_are_named_as_unchecked(tmp_path: Path):
    text = RULES + '[[constraints]]\nname = "outputs"\nvalue = "prediction"\nset = "NonNegative"\n'
    save_file(GOOD, tmp_path / "model.safetensors")
    verdict = check(tmp_path / "model.safetensors", _write(tmp_path / "rules.toml", text))
    assert verdict.unchecked == ("outputs",)
    assert verdict.to_dict()["unchecked"] == ["outputs"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RULES.replace("*.weight", "*.wieght"), r'rules\.toml, line 3: weights = "\*\.wieght" matches no'),
        (RULES.replace("NonNegative", "NonNegativ"), r'rules\.toml, line 4: .*Closest: "NonNegative"'),
        (RULES.replace('"NonNegative"', '"Frozen"'), "a checkpoint does not know"),
        (RULES.replace('weights = "*.weight"', 'value = "prediction"'), "no rule is about weights"),
        ("[[constraints", r"rules\.toml, line 1: this is not TOML"),
        ("", "no "),
    ],
)
def test_bad_rules_are_said_with_their_place(tmp_path: Path, text: str, message: str):
    save_file(GOOD, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=message):
        check(tmp_path / "model.safetensors", _write(tmp_path / "rules.toml", text))


class Anything:
    """Not a tensor."""


@pytest.mark.parametrize(
    ("name", "prepare", "message"),
    [
        ("model.pt", lambda path: None, "the file does not exist"),
        ("model.pt", lambda path: path.mkdir(), "this is a folder"),
        ("model.pt", lambda path: path.write_text("hello"), "is not loaded for safety"),
        ("model.pt", lambda path: path.write_bytes(b""), "cannot be read"),
        ("model.pt", lambda path: torch.save(Anything(), path), "is not loaded for safety"),
        ("model.pt", lambda path: torch.save({"epoch": 3}, path), "no state dict"),
        ("model.pt", lambda path: torch.save([torch.ones(2)], path), "no state dict"),
        ("model.safetensors", lambda path: path.write_bytes(b"12"), "cannot be read"),
    ],
)
def test_bad_checkpoints_are_said_in_a_sentence(
    tmp_path: Path, rules: Path, name: str, prepare, message: str
):
    prepare(tmp_path / name)
    with pytest.raises(InputError, match=message) as caught:
        check(tmp_path / name, rules)
    assert "\n" not in str(caught.value)


def test_latent_coordinates_are_no_weights(tmp_path: Path, rules: Path):
    torch.save({"one.parametrizations.weight.original": torch.ones(2), **GOOD}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r'latent coordinate, not the weight "one\.weight"'):
        check(tmp_path / "model.pt", rules)
    torch.save({"one.parametrizations.bias.original": torch.ones(2), **GOOD}, tmp_path / "model.pt")
    assert check(tmp_path / "model.pt", rules).is_feasible


def test_files_of_indices_are_read_as_weights(tmp_path: Path):
    rules = _write(
        tmp_path / "rules.toml", RULES.replace('"NonNegative"', '{ name = "FiniteSet", values = [-1, 0, 1] }')
    )
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    torch.nn.init.ones_(model[0].weight)
    path = tmp_path / "indices.safetensors"
    fs.export_indices(model, path, {"0.weight": fs.FiniteSet([-1, 0, 1])})
    verdict = check(path, rules)
    assert (verdict.is_feasible, verdict.tensors, verdict.entries) == (True, 1, 6)
    assert load_state(path).keys() == {"0.weight", "0.bias"}
    save_file(load_file(path), path, {"feasible.indices": "{}"})
    with pytest.raises(InputError, match="is damaged"):
        load_state(path)
