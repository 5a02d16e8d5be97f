"""Does a checkpoint obey a file of rules: what ``feasible check`` does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from feasible.export import holds_indices, load_indices
from feasible.sets import Frozen
from feasible.workbook.configuration import load_rules
from feasible.workbook.errors import InputError
from feasible.workbook.measurement import Finding, Watched, measure, watch_weights
from feasible.workbook.origin import Origin
from feasible.workbook.rules import Rule

_LATENT = re.compile(r"parametrizations\.([^.]+)\.original\d*$")

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
"""Keys under which training scripts keep the model's state dict."""


@dataclass(frozen=True)
class Outlier:
    """An entry, or a whole vector or matrix, outside its set."""

    index: tuple[int, ...]
    value: float | None
    """``None`` where the set speaks of more than one entry."""
    distance: float
    """By how much it is outside."""


@dataclass(frozen=True)
class Judgement:
    """What one rule says of one tensor, with the worst outliers."""

    finding: Finding
    outliers: tuple[Outlier, ...]


@dataclass(frozen=True)
class Verdict:
    """What the rules say of a checkpoint, with the scope of what was looked at."""

    checkpoint: Path
    judgements: tuple[Judgement, ...]
    unchecked: tuple[str, ...]
    """Rules about outputs, which a checkpoint alone cannot answer."""
    entries: int
    tensors: int
    is_exact: bool
    """Whether no set allows for rounding."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was measured, without the outliers."""
        return tuple(judgement.finding for judgement in self.judgements)

    @property
    def is_feasible(self) -> bool:
        """Whether every rule holds on every tensor that it speaks of."""
        return all(finding.feasible for finding in self.findings)

    @property
    def guarantee(self) -> str:
        """The result in words, never more than was checked."""
        rules = len({finding.rule for finding in self.findings})
        scope = f"{_count(rules, 'rule')} on {_count(self.tensors, 'tensor')}, {self.entries:,} entries"
        broken = {finding.rule for finding in self.findings if not finding.feasible}
        if broken:
            return f"{self.checkpoint.name} breaks {_count(len(broken), 'rule')} ({scope} checked)."
        how = "exactly" if self.is_exact else "within the rounding that the sets allow"
        return (
            f"{self.checkpoint.name} obeys every rule about weights, {how}: {scope}, each of them checked. "
            "This holds for these weights; it says nothing of the outputs."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain Python data for JSON."""
        return {
            "checkpoint": str(self.checkpoint),
            "feasible": self.is_feasible,
            "guarantee": self.guarantee,
            "unchecked": list(self.unchecked),
            "findings": [_plain(judgement) for judgement in self.judgements],
        }


def check(checkpoint: str | Path, rules: str | Path) -> Verdict:
    """Measure every rule on the tensors of a checkpoint.

    Args:
        checkpoint: ``.safetensors``, of ``export_indices`` too, or what ``torch.save`` wrote of a state dict.
        rules: a TOML file of ``[[constraints]]`` tables, or an experiment.

    Raises:
        InputError: a file cannot be read, a rule is wrong, or a pattern matches nothing.
    """
    wanted = load_rules(rules)
    on_weights = _on_weights(wanted, rules)
    state = load_state(checkpoint)
    _refuse_latent(on_weights, state, str(checkpoint))
    with Origin(str(rules), Path(rules).read_text(encoding="utf-8")).placing():
        watched = watch_weights(wanted, state)
    judgements = tuple(_judge(weight, state[weight.tensor]) for weight in watched)
    names = {weight.tensor for weight in watched}
    return Verdict(
        Path(checkpoint),
        judgements,
        unchecked=tuple(rule.name for rule in wanted if rule.weights is None),
        entries=sum(state[name].numel() for name in names),
        tensors=len(names),
        is_exact=all(weight.set.exact for weight in watched),
    )


def _judge(weight: Watched, value: Tensor) -> Judgement:
    finding = measure(weight.rule.name, weight.tensor, weight.set, value)
    distance = weight.set.distance(value)
    values = value if distance.shape == value.shape else None
    outliers = (
        Outlier(index, None if values is None else float(values[index]), float(distance[index]))
        for index, *_ in finding.entries
    )
    return Judgement(finding, tuple(outliers))


def load_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint under their plain names; nothing in the file is executed.

    Raises:
        InputError: the file is missing, damaged, or no state dict.
    """
    file = Path(path)
    if not file.is_file():
        reason = "this is a folder, not a checkpoint." if file.is_dir() else "the file does not exist."
        raise InputError(reason, str(path))
    try:
        content = _load_safetensors(file) if file.suffix == ".safetensors" else _load_torch(file)
    except UnpicklingError:
        message = (
            "the file holds more than tensors, or is no checkpoint, and is not loaded for safety. "
            "Save model.state_dict() with torch.save, or with safetensors."
        )
        raise InputError(message, str(path)) from None
    except (OSError, SafetensorError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the checkpoint cannot be read: {reason}.", str(path)) from None
    return _plain_names(_state_dict(content, str(path)))


def _load_safetensors(file: Path) -> Mapping[str, Tensor]:
    """Tensors as they are, or as the members that ``export_indices`` has stored as numbers."""
    if not holds_indices(file):
        return load_file(file)
    try:
        return load_indices(file)
    except ValueError as error:
        raise InputError(str(error).removeprefix(f"{file} ").removeprefix(f"{file}: "), str(file)) from None


def _load_torch(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (LookupError, TypeError, ValueError) as error:  # the unpickler stumbles over what is no pickle
        raise UnpicklingError from error


def _state_dict(content: Any, path: str) -> Mapping[str, Tensor]:
    """The state dict itself, or the one that a training script wrapped."""
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
        for key in WRAPPERS:
            if isinstance(content.get(key), Mapping):
                return _state_dict(content[key], path)
    raise InputError("the file holds no state dict: no tensors by name.", path)


def _plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without what compilation and data parallelism put before them."""
    names = {name: name.replace("_orig_mod.", "") for name in state}
    if all(name.startswith("module.") for name in names.values()):
        names = {name: plain.removeprefix("module.") for name, plain in names.items()}
    return {names[name]: tensor for name, tensor in state.items()}


def _refuse_latent(rules: Iterable[Rule], state: Mapping[str, Tensor], path: str) -> None:
    """A reparametrized weight is saved as its latent coordinate, which tells nothing about the weight."""
    for name in state:
        plain = _LATENT.sub(r"\1", name)
        if plain != name and any(fnmatchcase(plain, rule.weights or "") for rule in rules):
            message = (
                f'"{name}" is a latent coordinate, not the weight "{plain}". '
                "Save problem.feasible_state_dict(), or call problem.finish() before saving."
            )
            raise InputError(message, path)


def _on_weights(rules: list[Rule], path: str | Path) -> list[Rule]:
    """The rules that a checkpoint can answer."""
    chosen = [rule for rule in rules if rule.weights is not None]
    if not chosen:
        raise InputError("no rule is about weights; outputs cannot be checked from a checkpoint.", str(path))
    for rule in chosen:
        if isinstance(rule.set, Frozen):
            message = "Frozen compares with the start of a training, which a checkpoint does not know."
            raise InputError(f"{rule.name}: {message}", str(path))
    return chosen


def _plain(judgement: Judgement) -> dict[str, Any]:
    finding = judgement.finding
    return {
        "rule": finding.rule,
        "tensor": finding.tensor,
        "feasible": finding.feasible,
        "worst": finding.worst,
        "share": finding.share,
        "entries": [asdict(outlier) for outlier in judgement.outliers],
    }


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
