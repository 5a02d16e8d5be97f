"""One experiment on the page: rules, table, findings and small print, ready for the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feasible.workbook.cells import Cell, is_numeric, read_cell, show
from feasible.workbook.naming import rule_title
from feasible.workbook.plots import Figure, Mark, figures, marks
from feasible.workbook.run_directory import FIRST_LOOK, Kind, RunDirectory

REPORT_COLUMNS = {
    "name": "rule",
    "guarantee": "guarantee",
    "scope": "checked on",
    "worst_violation": "worst violation",
    "share_violated": "share violated",
    "active_share": "at the bound",
    "stationarity": "stationarity",
    "multiplier": "multiplier",
    "shadow_price": "shadow price",
    "saturation": "saturated",
    "diagnosis": "diagnosis",
}
REMARKS: dict[Kind, str] = {
    "training": "Every method trained the same network on the same data with the same seeds; only the way in which the "
    "rules are enforced differs. The unconstrained row shows what happens without them.",
    "solving": "Every solver got the same problem, one a seed, and the same number of evaluations.",
    "differential": "Every method solved the same equation with the same seeds, within its budget. What is said of the "
    "residual was measured at points that no method was trained on.",
}
_SHARES = ("share_violated", "active_share", "saturation")
_ELEMENTWISE_WORDS = {"NonNegative": "every entry ≥ 0", "Frozen": "stays at its first value"}


@dataclass(frozen=True)
class Column:
    """A heading of the comparison table."""

    label: str
    help: str
    is_numeric: bool


@dataclass(frozen=True)
class Line:
    """A row of the comparison table."""

    label: str
    cells: list[Cell]
    mark: Mark | None
    is_best: bool
    problem: str
    """Why there are no, or not all, numbers; empty where all is well."""


@dataclass(frozen=True)
class MethodReport:
    """The report of one method's best run."""

    label: str
    seed: int
    is_best: bool
    headings: list[str]
    rows: list[list[str]]
    notes: list[str]


@dataclass(frozen=True)
class Section:
    """Everything that the page shows of one run."""

    anchor: str
    title: str
    description: str
    is_finished: bool
    notice: str
    """What to know before reading; empty where the budget was the full one."""
    remark: str
    """What the rows of the comparison have in common."""
    rules: list[tuple[str, str, str]]
    """Name, what it speaks of, what is allowed."""
    facts_title: str
    facts: list[tuple[str, str]]
    findings: list[str]
    columns: list[Column]
    lines: list[Line]
    best: str | None
    """The method that the plots show where they show only one."""
    marks: list[Mark]
    figures: list[Figure]
    reports: list[MethodReport]
    configuration: str
    environment: list[tuple[str, str]]


def make_section(run: RunDirectory, index: int = 0) -> Section:
    """The section of one run; ``index`` keeps anchors apart on a page of several."""
    shown = marks(run)
    return Section(
        anchor=f"experiment-{index + 1}",
        title=run.title,
        description=str(run.result.get("description") or ""),
        is_finished=run.is_finished,
        notice=FIRST_LOOK if run.is_quick else "",
        remark=REMARKS[run.kind],
        rules=_rules(run),
        facts_title="On which data" if run.kind == "training" else "On which problem",
        facts=_facts(run.result.get("data") or {}),
        findings=findings(run),
        columns=[_column(column) for column in run.result["columns"]],
        lines=_lines(run, {mark.variant: mark for mark in shown}),
        best=run.best_feasible(),
        marks=shown,
        figures=figures(run),
        reports=[report for report in (_report(run, mark) for mark in shown) if report],
        configuration=run.configuration,
        environment=[(_words(key), _value(value)) for key, value in run.environment.items()],
    )


def findings(run: RunDirectory) -> list[str]:
    """What a reader takes away, in sentences that follow from the numbers alone."""
    labels = {row["variant"]: str(row.get("label") or row["variant"]) for row in run.rows}
    trained = [variant for variant in labels if run.finished_runs(variant)]
    said = _best_sentence(run, labels)
    methods = [variant for variant in trained if variant != "unconstrained"]
    obeying = [variant for variant in methods if run.obeys(variant)]
    if methods:
        others = [labels[variant] for variant in methods if variant not in obeying]
        rest = f" Not so: {'; '.join(others)}." if others and obeying else ""
        said.append(
            f"{len(obeying)} of {len(methods)} methods obeyed every rule on every seed{_scope(run)}, "
            f"with {_tolerance(run)}.{rest}"
        )
    failed = [row for row in run.rows if row["variant"] not in trained]
    said += [f"{labels[row['variant']]} did not finish: {row.get('status', 'no result')}." for row in failed]
    return said


def _scope(run: RunDirectory) -> str:
    """Where outputs were checked, in words; nothing where the rules are about weights only."""
    if run.kind == "differential":
        return f" {run.where}"
    is_tested = any(training.get("test_feasible") is not None for training in run.finished_runs())
    return ", on training and on held-out data" if is_tested else ""


def _tolerance(run: RunDirectory) -> str:
    if run.kind == "training":
        return "no tolerance beyond rounding"
    what = "a residual (root mean square)" if run.kind == "differential" else "a distance"
    return f"{what} of at most {show(run.tables.get('tolerance'), 'g')}"


def _best_sentence(run: RunDirectory, labels: Mapping[str, str]) -> list[str]:
    best = run.best_feasible()
    metric, _ = run.metric
    column = next((column for column in run.result["columns"] if column["key"] == "test_metric"), None)
    if best is None:
        return ["No method obeyed every rule on every seed."] if run.finished_runs() else []
    if column is None:
        return [f"Best among those that obey every rule: {labels[best]}."]
    cells = {row["variant"]: read_cell(column, row).text for row in run.rows}
    sentence = f"Best among those that obey every rule: {labels[best]}, with {_an(metric)} of {cells[best]}"
    if best != "unconstrained" and run.finished_runs("unconstrained"):
        sentence += f" (without constraints: {cells['unconstrained']})"
    return [sentence + "." + _tied_sentence(run, best, labels)]


def _an(name: str) -> str:
    """The name with its article."""
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


def _tied_sentence(run: RunDirectory, best: str, labels: Mapping[str, str]) -> str:
    """Which other methods these seeds cannot tell from the best one."""
    ranges = {row["variant"]: row.get("test_metric") for row in run.rows}
    obeying = [variant for variant in labels if variant != best and run.obeys(variant)]
    tied = [labels[variant] for variant in obeying if _overlap(ranges[best], ranges[variant])]
    if not tied:
        return ""
    others = "; ".join(tied) if len(tied) <= 3 else f"{len(tied)} other methods that obey"
    return f" Its range over the seeds overlaps with that of {others}."


def _overlap(first: Any, second: Any) -> bool:
    if not (isinstance(first, Mapping) and isinstance(second, Mapping)):
        return False
    return bool(first["min"] <= second["max"] and second["min"] <= first["max"])


def _rules(run: RunDirectory) -> list[tuple[str, str, str]]:
    if run.kind == "differential":
        bound = show(run.tables.get("tolerance"), "g")
        residual = f"the nondimensional residual of the equation, {run.where}"
        return [
            ("residual", residual, f"a root mean square ≤ {bound}"),
            (
                "output",
                "the solution, so that u = 0 cannot win",
                "at least half the root mean square of the reference",
            ),
        ]
    rules = []
    for rule in run.tables.get("constraints", ()):
        target = _target_words(rule)
        if rule.get("exclude"):
            target += f", without {', '.join(rule['exclude'])}"
        rules.append((rule_title(rule), target, set_words(rule.get("set"))))
    return rules


def _target_words(rule: Mapping[str, Any]) -> str:
    if rule.get("weights"):
        return _weights_words(rule["weights"])
    return rate_words(rule["rate"]) if rule.get("rate") else _value_words(rule)


def rate_words(rate: Mapping[str, Any]) -> str:
    """A rate of a TOML file in words.

    >>> rate_words({"name": "selection_rate", "positive": "no", "by": "afam"})
    'the selection rate of “no”, that of each group of afam minus that of the first'
    """
    by = f", that of each group of {rate['by']} minus that of the first" if rate.get("by") else ""
    return f"the {_words(rate['name'])} of “{rate['positive']}”{by}"


def _weights_words(pattern: str) -> str:
    return "all weights and biases" if pattern == "*" else f"the weights {pattern}"


def _value_words(rule: Mapping[str, Any]) -> str:
    is_one_value = rule.get("per", "sample") == "value" or rule.get("value") == "expectation"
    on = "" if is_one_value else ", on every sample"
    return f"the {rule.get('value', 'value')}{on}"


def set_words(table: Any) -> str:
    """A set of a TOML file in words.

    >>> set_words({"name": "Box", "lower": -0.5, "upper": 0.5})
    'every entry between -0.5 and 0.5'
    """
    name, arguments = (table, {}) if isinstance(table, str) else (table.get("name"), dict(table))
    arguments.pop("name", None)
    if name == "Box":
        bounds = [arguments.get("lower"), arguments.get("upper")]
        if None not in bounds:
            return f"every entry between {bounds[0]} and {bounds[1]}"
        return f"every entry ≥ {bounds[0]}" if bounds[1] is None else f"every entry ≤ {bounds[1]}"
    if name in _ELEMENTWISE_WORDS and not arguments:
        return _ELEMENTWISE_WORDS[name]
    return f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items())})"


def _facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the data, the notes last and one by one."""
    silent = {"notes": data.get("notes"), "target": "target", "target_unit": 1}
    known = [(key, value) for key, value in data.items() if value not in (None, [], "", silent.get(key))]
    notes = [("note", str(note)) for note in data.get("notes") or ()]
    return [*((_words(key), _value(value)) for key, value in known), *notes]


def _column(column: Mapping[str, Any]) -> Column:
    return Column(str(column["label"]), str(column.get("help") or ""), is_numeric(column))


def _lines(run: RunDirectory, by_variant: Mapping[str, Mark]) -> list[Line]:
    best = run.best_feasible()
    lines = []
    for row in run.rows:
        variant, status = row["variant"], str(row.get("status", "finished"))
        cells = [read_cell(column, row) for column in run.result["columns"]]
        problem = "" if status == "finished" else status
        label = str(row.get("label") or variant)
        lines.append(Line(label, cells, by_variant.get(variant), variant == best, problem))
    return lines


def _report(run: RunDirectory, mark: Mark) -> MethodReport | None:
    best = run.best_run(mark.variant)
    report = best.get("report") if best else None
    if not best or not report or not report.get("rows"):
        return None
    keys = [key for key in REPORT_COLUMNS if any(_is_told(row.get(key)) for row in report["rows"])]
    rows = [[_report_cell(key, row.get(key)) for key in keys] for row in report["rows"]]
    headings = [REPORT_COLUMNS[key] for key in keys]
    is_best = mark.variant == run.best_feasible()
    notes = [str(note) for note in report.get("notes") or ()]
    return MethodReport(mark.label, int(best["seed"]), is_best, headings, rows, notes)


def _is_told(value: Any) -> bool:
    return value is not None and value != ""


def _report_cell(key: str, value: Any) -> str:
    return show(value, ".1%" if key in _SHARES else ".3g")


def _words(key: str) -> str:
    return key.replace("_", " ")


def _value(value: Any) -> str:
    """A value of a JSON file on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(str(key))} {_value(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_value(item) for item in value)
    return show(value, ".6g") if isinstance(value, float) else show(value, "d")
