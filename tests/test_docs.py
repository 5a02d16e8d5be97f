"""The README and the docs do what they say."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch

import feasible as fs

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"```(?:python|\{code-cell\}[^\n]*)\n(.*?)```", flags=re.DOTALL)
LINK = re.compile(r"\]\(([^)#]*)#?[^)]*\)")


def blocks(page):
    return CODE.findall(page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def generator():
    """``docs/pages.py``, which writes ``docs/reference`` when the docs are built."""
    sys.path.insert(0, str(ROOT / "docs"))
    import pages

    yield pages
    sys.path.remove(str(ROOT / "docs"))


@pytest.fixture(scope="module")
def reference(generator):
    """The text of each reference page."""
    return {ROOT / "docs" / "reference" / f"{name}.md": text for name, text in generator.pages().items()}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module = ModuleType(f"page_{page.stem}")  # classes that a page makes can be pickled
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), vars(module))


def test_the_first_example_of_the_readme_keeps_its_promises():
    names = {}
    exec(blocks(ROOT / "README.md")[0], names)
    model, report = names["model"], names["problem"].report()
    assert all(
        (weight.abs() <= 1).all() for name, weight in model.named_parameters() if name.endswith("weight")
    )
    assert [report[name].guarantee for name in ("0.weight", "2.weight", "0.bias")] == ["exact"] * 3
    assert report["positive"].scope == "256 points of the last training step"
    assert report["positive"].worst_violation < 0.2


def test_links_lead_somewhere(reference):
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES} | reference
    for page, text in texts.items():
        for target in filter(None, LINK.findall(text)):
            found = (page.parent / target).resolve()
            assert target.startswith("http") or found in reference or found.exists(), (page.name, target)


def test_the_matrix_is_up_to_date():
    names = {"__name__": "generate", "__file__": str(ROOT / "docs" / "generate.py")}
    exec((ROOT / "docs" / "generate.py").read_text(encoding="utf-8"), names)
    assert names["MATRIX"].read_text(encoding="utf-8") == names["matrix_page"](), (
        "run: python docs/generate.py"
    )


def test_every_set_and_method_is_described_once(reference):
    described = re.findall(r"autoclass:: feasible\.(\w+)", "".join(reference.values()))
    exported = {*fs.sets.__all__, *fs.methods.__all__} - {"Set"}
    assert sorted(described) == sorted(exported)


def test_choices_exist():
    chosen = re.findall(r"`([A-Z]\w+)\(", (ROOT / "docs" / "choose.md").read_text(encoding="utf-8"))
    assert len(chosen) > 30
    assert not [name for name in chosen if not hasattr(fs, name)]


def test_pictures_show_their_sets(generator, reference):
    codes = re.findall(r"^picture\((.*)\)$", "".join(reference.values()), flags=re.MULTILINE)
    drawn = {type(one).__name__ for one in (eval(code, {"torch": torch, **vars(fs)}) for code in codes)}
    assert drawn >= generator.DRAWN.keys() | {"Box", "Simplex", "Sphere", "Stiefel", "Permutation", "Union"}
    for code in generator.DRAWN.values():
        assert generator.plane_of(eval(code, {"torch": torch, **vars(fs)})) is not None, code


@pytest.mark.slow
@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("sphinx", "myst_nb", "furo", "matplotlib")),
    reason="needs the extra: pip install 'feasible[docs]'",
)
def test_the_docs_build_without_warnings(tmp_path):
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    built = subprocess.run([*command, ROOT / "docs", tmp_path], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for page in ("index", "choose", "recipes", "matrix", "reference/vector-sets"):
        assert (tmp_path / f"{page}.html").exists()
    page = (tmp_path / "reference" / "vector-sets.html").read_text(encoding="utf-8")
    assert re.search(r'<img alt="[^"]* projections onto Simplex"', page)
