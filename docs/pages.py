"""Writes the reference pages into ``docs/reference``: what the code exports, with nothing listed by hand.

Sphinx calls ``write_pages`` before it reads the sources (see ``conf.py``); the folder is not in git.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pictures import plane_of

import feasible as fs
from feasible.errors import UnsupportedError
from feasible.methods.extensions import own_methods, own_sets

REFERENCE = Path(__file__).parent / "reference"

# Where the set's own example says little in the plane: what is drawn instead.
DRAWN = {
    "Equal": "Equal(0.5)",
    "Frozen": "Frozen(torch.tensor([1.0, -0.5]))",
    "HalfSpace": "HalfSpace(torch.tensor([1.0, 2.0]), 1.0)",
    "Affine": "Affine(torch.tensor([[1.0, 2.0]]), torch.tensor([1.0]))",
    "Polyhedron": "Polyhedron(G=[[-1, 0], [1, -2], [1, 2]], h=[1, 1, 2])",
    "KSparse": "KSparse(1)",
    "NofM": "NofM(1, 2)",
    "LowRank": "LowRank(1)",
    "Candidates": "Candidates(torch.tensor([[-1.5, 1.0], [0.0, -1.0], [1.5, 0.5]]))",
    "Where": "NonNegative().where(torch.tensor([True, False]))",
}


@dataclass(frozen=True)
class Family:
    """Sets that speak of the same thing; a set belongs to the first family that holds it."""

    title: str
    text: str
    holds: Callable[[fs.Set], bool]

    @property
    def page(self) -> str:
        return self.title.lower().replace(" ", "-")


FAMILIES = (
    Family(
        "Combined sets",
        "Sets made from others: points in both (`a & b`), in either (`a | b`), a constraint on some entries only "
        "(`a.where(mask)`), and on a tensor seen in another shape (`a.flatten(start_dim)`). They offer what their "
        "parts allow; the table and the pictures show one example of each.",
        lambda set: is_made_of_sets(set),
    ),
    Family(
        "Discrete sets",
        "Separate points: numbers from a list, one-hot vectors, permutations, one of several tensors. No small step "
        "leads from one member to another, and plain projection after each step would never leave the member that it "
        "stands on: their default is `StraightThrough`, and bare tensors take `ProximalAnneal(steps=…)`.",
        lambda set: set.discrete,
    ),
    Family(
        "Elementwise sets",
        "Each entry is constrained by itself, whatever the shape of the tensor. Projections are exact, and plain "
        "projection after the step is right under every optimizer.",
        lambda set: set.unit == "entry",
    ),
    Family(
        "Matrix sets",
        "They speak of the last two dimensions; all others are batches. A convolution kernel becomes a matrix by "
        "`.flatten(1)`: one row for each filter. The pictures show planes of 2×2 matrices which the projection does "
        "not leave; the title says which.",
        lambda set: set.unit == "matrix",
    ),
    Family(
        "Vector sets",
        "They speak of vectors along one dimension, `dim` (the last one by default); all others are batches. "
        "`dim=None` takes the whole tensor as one vector. Where a convex set couples entries, `Project` first puts "
        "the gradient onto the set, so that Adam too ends at the right point.",
        lambda set: True,
    ),
)
READING_ORDER = ("elementwise-sets", "vector-sets", "matrix-sets", "discrete-sets", "combined-sets")

LEGEND = """\
In the pictures the set is blue (its inside light); an orange arrow leads from a point to the nearest member,
`project(x)`; black points are members and stay.
"""
MEANINGS = {
    "convex": "nearest points are unique",
    "exact": "projected values are in the set to the bit",
    "chart": "smooth coordinates for `Reparametrize`, by name, the default first",
    "barrier": "serves `Barrier`",
    "lmo": "linear minimisation over the set",
    "tangent": "a direction onto the tangent cone",
    "members": "they can be listed and counted",
    "default": "the method taken where none is given",
}


def is_made_of_sets(set: fs.Set) -> bool:
    """Whether an argument of the set is a set, or several of them."""
    values = [getattr(set, field.name) for field in dataclasses.fields(set)]
    return any(
        isinstance(part, fs.Set)
        for value in values
        for part in (value if isinstance(value, tuple) else [value])
    )


def family_of(set: fs.Set) -> Family:
    """Where the set is described."""
    return next(family for family in FAMILIES if family.holds(set))


def chart_kinds(set: fs.Set) -> list[str]:
    """The names of its charts, as the set gives them to someone who asks for an unknown one."""
    if not set.offers("chart"):
        return []
    try:
        set.chart("?")
    except UnsupportedError:
        return []
    except ValueError as error:
        found = re.search(r"Choose one of: (.*)\.", str(error))
        return found[1].split(", ") if found else []
    return []


def offers(members: dict[str, fs.Set]) -> str:
    """What each set can do, as a table without empty columns, and what the columns mean."""
    columns = {title: [shown(title, set) for set in members.values()] for title in MEANINGS}
    filled = {title: column for title, column in columns.items() if any(column)}
    names = [f"[`{name}`](#{name.lower()})" for name in members]
    table = lines([("set", *filled), ("---",) * (1 + len(filled)), *zip(names, *filled.values())])
    return f"{table}\n{'; '.join(f'*{title}*: {MEANINGS[title]}' for title in filled)}.\n"


def shown(title: str, set: fs.Set) -> str:
    """One cell of that table."""
    if title == "chart":
        return ", ".join(f"`{kind}`" for kind in chart_kinds(set))
    if title == "default":
        return f"`{set.default_method}`" if set.default_method else ""
    return mark(getattr(set, title) if title in ("convex", "exact") else set.offers(title))


def mark(holds: bool) -> str:
    return "●" if holds else ""


def lines(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def autodoc(directive: str, name: str, *options: str) -> str:
    """An autodoc directive inside Markdown."""
    return "\n".join(["```{eval-rst}", f".. {directive}:: {name}", *(f"   :{o}" for o in options), "```", ""])


def cell(code: str, *options: str) -> str:
    """A cell that runs when the page is built."""
    return "\n".join(["```{code-cell} python", *options, code, "```", ""])


def drawn(name: str, set: fs.Set) -> str | None:
    """The set of the picture as code; ``None`` where the plane does not show it."""
    if name in DRAWN or plane_of(set) is None:
        return DRAWN.get(name)
    return f"{name}.example()" if "tensor(" in repr(set) else repr(set)


def section(name: str, set: fs.Set) -> str:
    """One set: its docstring, and its picture where it has one."""
    charts = ("members: chart",) if set.offers("chart") else ()
    parts = [f"## {name}\n", autodoc("autoclass", f"feasible.{name}", *charts)]
    code = drawn(name, set)
    if code is not None:
        alt = f"Points in the plane and their projections onto {name}"
        parts.append(cell(f"picture({code})", "---", f"mystnb: {{image: {{alt: {alt}}}}}", "---"))
    return "\n".join(parts)


def family_page(family: Family, members: dict[str, fs.Set]) -> str:
    """All sets of one family."""
    head = "---\nfile_format: mystnb\nkernelspec: {name: quiet}\n---\n"
    imports = cell(
        "import torch\nfrom feasible import *\nfrom pictures import picture", ":tags: [remove-cell]"
    )
    sections = [section(name, set) for name, set in members.items()]
    return "\n".join(
        [head, f"# {family.title}\n", family.text + "\n", offers(members), LEGEND, imports, *sections]
    )


def sets_page() -> str:
    """The way to the families."""
    return "# Sets\n\nWhat is allowed.\n\n```{toctree}\n" + "\n".join(READING_ORDER) + "\n```\n"


def methods_page() -> str:
    """All methods, and what one of your own has to do."""
    rows = [("method", "promises of a weight", "serves values", "multiplier", "needs of the set")]
    rows += [("---",) * len(rows[0])]
    for listed in own_methods():
        method = listed.example
        flags = (mark(method.for_values), mark(method.has_multiplier))
        needs = ", ".join(f"`{need}`" for need in method.needs)
        rows.append((f"[`{listed.name}`](#{listed.name.lower()})", method.guarantee, *flags, needs))
    text = (
        "How a constraint is enforced: a frozen specification, given as `by=…`. Every method works with every set that "
        "offers what it needs; [the matrix](../matrix.md) has all pairs.\n"
    )
    names = [listed.name for listed in own_methods()]
    sections = [f"## {name}\n\n" + autodoc("autoclass", f"feasible.{name}") for name in names]
    own = "## Method\n\n" + autodoc("autoclass", "feasible.Method", "members:")
    return "\n".join(["# Methods\n", text, lines(rows), *sections, own])


def pages() -> dict[str, str]:
    """The text of every reference page by its name."""
    found: dict[str, dict[str, fs.Set]] = {family.page: {} for family in FAMILIES}
    examples = {listed.name: listed.example for listed in own_sets()}
    for name in fs.sets.__all__:
        if name in examples:
            found[family_of(examples[name]).page][name] = examples[name]
    written = {family.page: family_page(family, found[family.page]) for family in FAMILIES}
    return {**written, "sets": sets_page(), "methods": methods_page()}


def write_pages() -> None:
    """Write the pages that have changed, so that Sphinx reads only these again, and drop what is gone."""
    REFERENCE.mkdir(exist_ok=True)
    texts = pages()
    for path in REFERENCE.glob("*.md"):
        if path.stem not in texts:
            path.unlink()
    for name, text in texts.items():
        path = REFERENCE / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
