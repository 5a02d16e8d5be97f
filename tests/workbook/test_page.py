"""The report page, from the files of a hand-made run."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from plotly import graph_objects

from feasible.workbook import page, plots, sections
from feasible.workbook.errors import InputError
from feasible.workbook.run_directory import holds_run, read_run


class Outline(HTMLParser):
    """What a test wants to know of a page: ids, text by element, and whether all elements are closed."""

    VOID = ("meta", "link", "br", "img", "input", "circle", "path")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.starts: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.starts.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.starts.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.starts if name == tag]


@pytest.fixture
def text(example_run: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(page, "_plotly", lambda: "/* plotly */")
    return page.render([example_run])


def test_page_is_one_file_with_plotly_in_it_once(example_run: Path):
    path = page.write_page(example_run)
    assert path == example_run / "report.html"
    text = path.read_text(encoding="utf-8")
    assert text.count("plotly.js v") == 1
    tags = Outline(text)
    sources = [
        element.get("src") or element.get("href")
        for kind in ("script", "link", "img", "a")
        for element in tags.all(kind)
    ]
    assert all(source is None or source.startswith(("#", "data:")) for source in sources)
    assert list(example_run.glob(".report*")) == []


def test_elements_are_closed_and_ids_unique(text: str):
    ids = [attributes["id"] for _, attributes in Outline(text).starts if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_headings_descend_by_single_steps(text: str):
    levels = [int(level) for level in re.findall(r"<h([1-6])", text)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_what_users_wrote_is_escaped(text: str):
    assert "Positive weights &lt;b&gt;&amp;&lt;/b&gt; more" in text
    assert "barrier &lt;x&gt;" in text
    assert "holds &lt;exactly&gt;" in text
    assert "<b>&" not in text
    assert "<x>" not in text


def test_a_figure_cannot_end_its_script_element():
    figure = plots.Figure("f", "title", "caption", [{"name": "</script><script>alert(1)</script>\u2028"}])
    text = page.figure_json(figure)
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text)["data"][0]["name"].startswith("</script>")


def test_the_table_has_every_method_and_marks_the_best_that_obeys(text: str):
    table = text[text.index('<table class="comparison">') :]
    rows = re.findall(r"<tr.*?</tr>", table[: table.index("</table>")], flags=re.S)[1:]
    assert len(rows) == 4
    assert [("best" in row, "projection" in row) for row in rows] == [
        (False, False),
        (True, True),
        (False, False),
        (False, False),
    ]
    assert "94.0%" in rows[1]
    assert "93.0%–95.0%" in rows[1]
    assert "every weight ≥ 0, exactly" in rows[1]
    assert "failed: no interior point" in rows[3]


def test_findings_follow_from_the_numbers(example_run: Path):
    best, share, failed = sections.findings(read_run(example_run))
    assert best == (
        "Best among those that obey every rule: projection, with a test accuracy of 94.0% "
        "(without constraints: 97.0%)."
    )
    assert share.startswith("1 of 2 methods obeyed every rule on every seed")
    assert "Not so: penalty, weight 10." in share
    assert failed == "barrier <x> did not finish: failed: no interior point."


def test_rules_are_said_in_words(text: str):
    assert "<strong>every entry ≥ 0</strong> for the weights *.weight" in text
    assert "<strong>every entry between 0.0 and 10.0</strong> for the prediction, on every sample" in text


def test_reports_show_only_what_was_measured(example_run: Path):
    report = sections.make_section(read_run(example_run)).reports[1]
    assert report.label == "projection"
    assert report.headings == [
        "rule",
        "guarantee",
        "worst violation",
        "at the bound",
        "shadow price",
        "diagnosis",
    ]
    assert report.rows == [["weights", "every weight ≥ 0, exactly", "0", "41.0%", "0.002", "holds <exactly>"]]


def test_figures_are_valid_plotly(example_run: Path):
    drawn = plots.figures(read_run(example_run))
    assert [figure.name for figure in drawn] == [
        "tradeoff",
        "curve-test-metric",
        "curve-train-loss",
        "curve-worst-violation",
        "weights",
        "step-time",
    ]
    for figure in drawn:
        graph_objects.Figure(data=figure.data, layout=figure.layout)
        json.dumps([figure.data, figure.layout], allow_nan=False)


def test_a_page_over_several_runs(tmp_path: Path, write_run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page, "_plotly", lambda: "")
    folders = [write_run(tmp_path / name, name, finished=name == "a") for name in ("a", "b")]
    path = page.write_page_of(folders, tmp_path / "new" / "all.html", "Two <runs>")
    text = path.read_text(encoding="utf-8")
    assert "<h1>Two &lt;runs&gt;</h1>" in text
    assert text.count('<section class="experiment"') == 2
    assert text.count("This run was interrupted") == 1
    ids = [attributes["id"] for _, attributes in Outline(text).starts if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_run_in_which_nothing_finished_has_a_page(example_run: Path):
    result = json.loads((example_run / "result.json").read_text())
    result["rows"] = [row | {"status": "interrupted"} for row in result["rows"] if row["seeds"] == 0]
    result["runs"] = [run | {"status": "interrupted"} for run in result["runs"]]
    (example_run / "result.json").write_text(json.dumps(result))
    (example_run / "history.csv").unlink()
    text = page.render([example_run])
    assert "plotly.js v" not in text
    assert "did not finish" in text


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder, write_run: None, "the folder does not exist."),
        (
            lambda folder, write_run: folder.mkdir(),
            "this is not the folder of a run. A run holds result.json.",
        ),
        (
            lambda folder, write_run: write_run(folder / "inside"),
            "this is not the folder of a run. It holds runs:",
        ),
        (lambda folder, write_run: _damaged(folder, "{"), "the file cannot be read"),
        (lambda folder, write_run: _damaged(folder, "[]"), "does not hold a JSON object"),
        (lambda folder, write_run: _damaged(folder, "{}"), '"experiment" is missing'),
    ],
)
def test_what_is_no_run_is_said_in_a_sentence(tmp_path: Path, write_run, prepare, message: str):
    folder = tmp_path / "run"
    prepare(folder, write_run)
    with pytest.raises(InputError, match=re.escape(message)):
        page.write_page(folder)
    assert not (folder / "report.html").exists()


def _damaged(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "result.json").write_text(content)


def test_a_page_that_cannot_be_written_is_said_in_a_sentence(example_run: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the page cannot be written"):
        page.write_page_of([example_run], tmp_path / "file" / "page.html")


def test_holds_run(tmp_path: Path, example_run: Path):
    assert holds_run(example_run)
    assert not holds_run(tmp_path / "nowhere")
