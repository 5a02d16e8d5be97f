"""The command line: what is printed where, which exit code, and no traceback for a user's mistake."""

import builtins
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from feasible import __version__
from feasible.workbook.cli import main
from feasible.workbook.cli.folders import choose_folder
from feasible.workbook.errors import InputError

TINY = """\
title = "Tiny"
description = "As small as it gets."

[data]
source = "wine"

[model]
hidden = [3]

[[constraints]]
name = "positive"
weights = "*.weight"
set = "NonNegative"

[methods.project]
label = "projection"
by = "Project"

[methods.penalty]
by = { name = "Penalty", weight = 1.0 }

[budget]
seeds = 2
epochs = 2

[quick]
seeds = 1
epochs = 1
"""


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def feasible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Runs a command in an empty folder that holds only ``tiny.toml``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "tiny.toml").write_text(TINY, encoding="utf-8")

    def run(*words: object) -> Answer:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


def test_version_and_help(feasible):
    assert feasible("--version").out.strip() == __version__
    assert feasible("--help").code == feasible().code == 0
    assert "Exit codes: 0 fine, 1 a rule is broken" in feasible("--help").out
    assert "--resume" in feasible("run", "--help").out


def test_list(feasible):
    answer = feasible("list")
    assert answer.code == 0
    names = [line.split()[0] for line in answer.out.splitlines()]
    assert {"positive-weights", "range", "positive-outputs", "own-table"} <= set(names)
    assert all(line == line.rstrip() and len(line.split()) > 1 for line in answer.out.splitlines())
    listed = json.loads(feasible("list", "--json").out)
    assert [entry["name"] for entry in listed] == names
    assert "NonNegative" in feasible("list", "sets").out
    assert "Project" in feasible("list", "methods").out
    for what, name in (("equations", "HelmholtzLine"), ("networks", "Perceptron"), ("ways", "LastLayer")):
        assert name in feasible("list", what).out


def test_show_prints_a_file_that_can_be_run(feasible, tmp_path: Path):
    answer = feasible("show", "range")
    assert answer.code == 0
    (tmp_path / "mine.toml").write_text(answer.out, encoding="utf-8")
    fast = ["--seeds", 1, "--set", "budget.epochs=1"]
    assert feasible("run", "mine.toml", "-q", *fast).code == 0
    assert 'Closest: "range"' in feasible("show", "rang").err


def test_run_prints_the_table_and_writes_the_page(feasible, tmp_path: Path):
    answer = feasible("run", "tiny.toml", "--out", "here")
    assert answer.code == 0, answer.err
    assert "projection" in answer.out
    assert answer.out.rstrip().endswith("Report: here/report.html")
    assert "[6/6]" in answer.err
    assert (tmp_path / "here" / "report.html").stat().st_size > 1_000_000
    assert all(len(line) <= 80 for line in answer.out.splitlines())


def test_run_as_json_keeps_stdout_for_one_document(feasible):
    answer = feasible("run", "tiny.toml", "--quick", "--json", "--set", "budget.epochs=1")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert document["run"] == "runs/tiny-1"
    assert document["report"] == "runs/tiny-1/report.html"
    assert [row["variant"] for row in document["rows"]] == ["unconstrained", "project", "penalty"]
    assert len(document["runs"]) == 3
    assert "[3/3]" in answer.err


def test_quiet_says_nothing_but_the_result(feasible):
    answer = feasible(
        "run", "tiny.toml", "--quick", "--quiet", "--seeds", 1, "--set", "methods.penalty.by=Project"
    )
    assert answer.code == 0
    assert answer.err == ""
    assert "Tiny" in answer.out


def test_runs_are_numbered_and_can_be_compared_and_reported(feasible, tmp_path: Path):
    for _ in range(2):
        assert feasible("run", "tiny.toml", "--quick", "-q").code == 0
    answer = feasible("compare", "runs/tiny-1", "runs/tiny-2")
    assert answer.code == 0
    assert answer.out.count("projection") == 2
    assert len(json.loads(feasible("compare", "runs/tiny-1", "--json").out)["rows"]) == 3
    (tmp_path / "runs" / "tiny-1" / "report.html").unlink()
    assert feasible("report", "runs/tiny-1").out == "runs/tiny-1/report.html\n"
    assert (tmp_path / "runs" / "tiny-1" / "report.html").is_file()
    assert feasible("report", "runs/tiny-1", "runs/tiny-2", "-o", "both.html").out == "both.html\n"
    assert json.loads(feasible("report", "runs/tiny-2", "--json").out) == {
        "report": "runs/tiny-2/report.html"
    }


def test_a_folder_that_holds_a_run_is_refused_and_resumed(feasible, tmp_path: Path):
    assert feasible("run", "tiny.toml", "--quick", "-q", "--out", "here").code == 0
    before = (tmp_path / "here" / "result.json").read_bytes()
    answer = feasible("run", "tiny.toml", "--quick", "--out", "here")
    assert answer.code == 2
    assert (
        answer.err
        == "feasible: here: this folder already holds a run; go on with --resume or choose another.\n"
    )
    assert (tmp_path / "here" / "result.json").read_bytes() == before
    answer = feasible("run", "tiny.toml", "--quick", "--out", "here", "--resume")
    assert answer.code == 0
    assert answer.err == "3 of 3 trainings are there already.\n"


MISTAKES = [
    (["runn"], 'Unknown command "runn"'),
    (["run"], "requires an argument"),
    (["run", "rnge"], 'Closest: "range"'),
    (["run", "own.toml"], "own.toml: the file does not exist"),
    (["run", "tiny.toml", "--seeds", "x"], 'unable to convert "x" into int'),
    (["run", "tiny.toml", "--seeds", "0"], "--seeds must be at least 1, got 0."),
    (["run", "tiny.toml", "--sedes", "1"], "Did you mean --seeds?"),
    (["run", "tiny.toml", "--set", "budget.epoch=3"], "--set budget.epoch=3: "),
    (["run", "tiny.toml", "--set", "nonsense"], "is not of the form key=value"),
    (["run", "tiny.toml", "--set", "data.source=nowhere.csv"], "nowhere.csv"),
    (["run", "tiny.toml", "--resume"], "there is no run of tiny to resume"),
    (["run", "tiny.toml", "--resume", "--out", "new"], "new: there is no run to resume."),
    (["run", "tiny.toml", "--out", "tiny.toml"], "this is a file; --out needs a folder."),
    (["run", "tiny.toml", "--out", "tiny.toml/x"], "tiny.toml is a file"),
    (["run", "tiny.toml", "--out", "."], "this folder holds other files"),
    (["compare", "nowhere"], "nowhere: the folder does not exist."),
    (["compare", "."], "this is not the folder of a run."),
    (["compare"], "requires an argument"),
    (["report", "."], "this is not the folder of a run."),
    (["report", "a", "b"], "--out page.html"),
    (["check", "model.pt", "nowhere.toml"], "nowhere.toml: the file does not exist"),
    (["list", "everything"], "experiments"),
]


@pytest.mark.parametrize(("words", "sentence"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_sentence_and_exit_code_2(feasible, tmp_path: Path, words: list[str], sentence: str):
    answer = feasible(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("feasible: ")
    assert answer.err.count("\n") == 1
    assert sentence in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


OWN = """\
title = "Own"

[data]
source = "sales.csv"
# the column to predict:

target = "prise"
"""


def test_a_mistake_in_a_file_is_said_with_its_line(feasible, tmp_path: Path):
    (tmp_path / "own.toml").write_text(OWN)
    (tmp_path / "sales.csv").write_text("price,rooms\n1.0,2\n2.0,3\n3.0,4\n4.0,5\n5.0,6\n")
    answer = feasible("run", "own.toml")
    assert answer.code == 2
    assert answer.err == 'feasible: own.toml, line 7: column "prise" is not in sales.csv. Closest: "price".\n'
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_before_training(feasible, tmp_path: Path):
    (tmp_path / "locked").mkdir(mode=0o500)
    answer = feasible("run", "tiny.toml", "--out", "locked/run")
    assert answer.code == 2
    assert "no permission" in answer.err


RULES = '[[constraints]]\nweights = "*"\nset = { name = "Box", lower = -1.0, upper = 1.0 }\n'


def test_check(feasible, tmp_path: Path):
    (tmp_path / "rules.toml").write_text(RULES)
    save_file({"a.weight": torch.tensor([0.5, -1.0])}, tmp_path / "good.safetensors")
    save_file({"a.weight": torch.tensor([[0.5, -1.25]])}, tmp_path / "bad.safetensors")
    good = feasible("check", "good.safetensors", "rules.toml")
    assert (good.code, good.err) == (0, "")
    assert "exactly: 1 rule on 1 tensor, 2 entries" in good.out
    bad = feasible("check", "bad.safetensors", "rules.toml")
    assert (bad.code, bad.err) == (1, "")
    assert " ".join(["a.weight[0, 1]", "-1.25", "0.25"]) in " ".join(bad.out.split())
    document = json.loads(feasible("check", "bad.safetensors", "rules.toml", "--json").out)
    assert document["feasible"] is False
    assert document["findings"][0]["entries"] == [{"index": [0, 1], "value": -1.25, "distance": 0.25}]


def test_the_best_weights_of_a_run_can_be_checked_with_its_own_configuration(feasible):
    assert feasible("run", "tiny.toml", "--quick", "-q", "--out", "here").code == 0
    assert feasible("check", "here/model.safetensors", "here/config.toml").code == 0
    projected = "here/runs/unconstrained/0/model.safetensors"
    assert feasible("check", projected, "tiny.toml").code == 1


def test_demo_writes_one_page_over_its_experiments(feasible, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from feasible.workbook.cli import demo

    (tmp_path / "other.toml").write_text(TINY.replace("Tiny", "Other"), encoding="utf-8")
    monkeypatch.setattr(demo, "EXPERIMENTS", ("tiny.toml", "other.toml"))
    answer = feasible("demo")
    assert answer.code == 0, answer.err
    assert answer.out.index("Tiny") < answer.out.index("Other")
    page = tmp_path / "runs" / "demo-1" / "report.html"
    assert answer.out.rstrip().endswith(f"Report: {page}")
    assert page.read_text(encoding="utf-8").count('<section class="experiment"') == 2
    assert len(json.loads(feasible("demo", "--json", "-q").out)["runs"]) == 2


@pytest.mark.slow
def test_the_demo_as_it_ships(feasible):
    started = time.monotonic()
    answer = feasible("demo", "--json")
    assert answer.code == 0, answer.err
    runs = json.loads(answer.out)["runs"]
    assert [run["experiment"] for run in runs] == ["positive-weights", "range", "positive-outputs"]
    assert all(row["status"] == "finished" for run in runs for row in run["rows"])
    assert time.monotonic() - started < 180


def test_a_missing_extra_is_named(feasible, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without_rich(name: str, *rest: object, **more: object) -> object:
        if name.partition(".")[0] == "rich":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)

    for name in [name for name in sys.modules if name.startswith(("feasible.workbook.", "rich"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_rich)
    answer = feasible("list")
    assert answer.code == 2
    assert answer.err == (
        'feasible: rich is not installed; the command line needs: pip install "feasible[workbook]"\n'
    )


def test_a_bug_is_not_blamed_on_the_user(feasible, monkeypatch: pytest.MonkeyPatch):
    from feasible.workbook.cli import catalogue

    def broken(what: str) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(catalogue, "catalogue", broken)
    answer = feasible("list")
    assert answer.code == 70
    assert "Traceback" in answer.err
    assert "this is a bug in feasible" in answer.err


def test_folders_are_numbered_past_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tiny-2", "tiny-10", "tiny-x", "other-50"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert choose_folder("tiny", None, resume=False) == Path("runs/tiny-11")
    with pytest.raises(InputError, match="no run of tiny"):
        choose_folder("tiny", None, resume=True)
    (tmp_path / "runs" / "tiny-2" / "config.toml").write_text("")
    assert choose_folder("tiny", None, resume=True) == Path("runs/tiny-2")


# -- as a process: signals, pipes, and no terminal ---------------------------------------------------


def _process(folder: Path, *words: str, **options: object) -> subprocess.Popen[str]:
    (folder / "tiny.toml").write_text(TINY, encoding="utf-8")
    command = [sys.executable, "-m", "feasible", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, cwd=folder, text=True, preexec_fn=_listen_to_interrupts, **pipes)


def _listen_to_interrupts() -> None:
    """A shell starts background jobs deaf to Ctrl-C, and their children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_broken_pipe_is_silent(tmp_path: Path):
    reading, writing = os.pipe()
    os.close(reading)
    process = _process(tmp_path, "list", stdout=writing)
    os.close(writing)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def test_no_colour_codes_where_nobody_can_see_them(tmp_path: Path):
    process = _process(tmp_path, "run", "tiny.toml", "--quick")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "\x1b" not in out + err


def test_interrupting_keeps_what_finished_and_says_how_to_go_on(tmp_path: Path):
    settings = ["--set", "budget.epochs=400", "--set", "methods.project.training.batch_size=1000"]
    process = _process(tmp_path, "run", "tiny.toml", "--out", "here", *settings)
    first = tmp_path / "here" / "runs" / "unconstrained" / "0"
    deadline = time.monotonic() + 60
    while not first.is_dir() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "feasible run tiny.toml --out here --resume --set budget.epochs=400" in err
    assert "unconstrained" in out
    result = json.loads((tmp_path / "here" / "result.json").read_text())
    assert result["finished"] is False
    assert result["runs"][0]["status"] == "finished"
    assert (tmp_path / "here" / "report.html").is_file()
