"""The README and the docs do what they say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run(page):
    names = {}
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), names)


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


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), (page.name, target)


def test_the_matrix_is_up_to_date():
    names = {"__name__": "generate", "__file__": str(ROOT / "docs" / "generate.py")}
    exec((ROOT / "docs" / "generate.py").read_text(encoding="utf-8"), names)
    assert names["MATRIX"].read_text(encoding="utf-8") == names["matrix_page"](), (
        "run: python docs/generate.py"
    )
