"""What rules and their values are called, in files and as keywords."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def rule_title(rule: Mapping[str, Any]) -> str:
    """The name of a ``[[constraints]]`` table, or what it speaks of."""
    spoken = (rule.get("name"), rule.get("weights"), rule.get("value"), (rule.get("rate") or {}).get("name"))
    return str(next(filter(None, spoken), ""))


def value_key(prefix: str, rule: str) -> str:
    """The name under which a rule's expectation or rate is kept in ``result.json`` and ``history.csv``.

    >>> value_key("test_value", "recall ≥ 0.9")
    'test_value.recall_0_9'
    """
    return f"{prefix}.{identifier(rule)}"


def identifier(name: str) -> str:
    """A rule's name as a keyword of ``problem.loss``.

    >>> identifier("outputs ≥ 0")
    'outputs_0'
    """
    word = re.sub(r"\W+", "_", name).strip("_")
    return word if word.isidentifier() else f"rule_{word}".strip("_")
