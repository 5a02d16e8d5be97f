"""Several workers on one database: trials are shared, and that of a worker that is killed is run again."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState
from sweeps import start_worker, wait_until, write_sweep
from test_sweep import Fake, quick_databases, told  # noqa: F401

from feasible.workbook.sweep import worker
from feasible.workbook.sweep.configuration import load_sweep
from feasible.workbook.sweep.results import read_results
from feasible.workbook.sweep.runner import run_sweep
from feasible.workbook.sweep.study import ATTEMPTS, SURPLUS, open_study, run_again
from feasible.workbook.sweep.worker import Worker, is_something_left, lost_trials

INITDB = shutil.which("initdb") or next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
BY_HAND = pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used with")


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of a server that lives as long as the test; it speaks through a socket alone."""
    if INITDB is None:
        pytest.skip("PostgreSQL is not installed (on Debian: apt-get install postgresql)")
    programs = Path(INITDB).resolve().parent
    # Neither initdb nor postgres runs as root.
    user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="sweep-"))
    if user:
        shutil.chown(folder, "nobody", "nogroup")
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **user}
    data = str(folder / "data")
    words = ["-D", data, "-U", "sweeper", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run([programs / "initdb", *words], check=True, **quiet)
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    server = subprocess.Popen([programs / "postgres", "-D", data, *options], **quiet)
    try:
        ready = [programs / "pg_isready", "-h", str(folder), "-q"]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0)
        yield f"postgresql+psycopg://sweeper@/postgres?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """The URL of a file that is not there yet."""
    return f"sqlite:///{tmp_path}/shared.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a new database of each kind."""
    return str(request.getfixturevalue(request.param))


def test_workers_share_the_trials_and_that_of_one_that_is_killed_is_run_again(tmp_path: Path, url: str):
    """Three workers begin at the same moment with a database that is not there; one never ends its first trial."""
    file = write_sweep(tmp_path)
    pauses = {"a": 0.3, "b": 0.3, "stuck": 600.0}
    workers = {name: start_worker(file, tmp_path / name, url, pause) for name, pause in pauses.items()}
    try:
        wait_until(lambda: all((tmp_path / f"{name}.ready").exists() for name in workers))
        (tmp_path / "go").touch()
        wait_until((tmp_path / "stuck.busy").exists)
        workers["stuck"].kill()
        for name in ("a", "b"):
            workers[name].join(90)
    finally:
        for process in workers.values():
            process.kill()
            process.join()
    assert [(tmp_path / f"{name}.seen").read_text() for name in ("a", "b")] == ["9", "9"]  # the end of all

    sweep, stuck = load_sweep(file), f":{workers['stuck'].pid}"
    with open_study(sweep, url) as study:
        trials = study.get_trials()
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(finished) == 9
    pids = {trial.user_attrs["worker"].partition(":")[2] for trial in finished}
    assert pids == {str(workers[name].pid) for name in ("a", "b")}
    (killed,) = [trial for trial in trials if trial.user_attrs.get("worker", "").endswith(stuck)]
    (again,) = [trial for trial in trials if trial.user_attrs.get("again") == killed.number]
    assert killed.state == TrialState.FAIL
    assert again.state == TrialState.COMPLETE
    assert again.params == killed.params

    shared = read_results(sweep, trials)
    assert told(shared) == told(run_sweep(sweep, tmp_path / "alone"))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """No trial trains anything."""
    fake = Fake()
    monkeypatch.setattr(worker, "run_trial", lambda *arguments: fake(*arguments))
    return fake


@BY_HAND
def test_a_trial_whose_worker_died_before_its_first_entry_is_run_again(
    tmp_path: Path, sqlite: str, fake: Fake
):
    """No heartbeat tells of it: it is seen to be unclaimed for the time of two."""
    sweep = load_sweep(write_sweep(tmp_path))
    with open_study(sweep, sqlite) as study:
        study.ask()
        failed = study.ask()
        study.tell(failed, state=TrialState.FAIL)  # given up, but never put back
        assert [trial.number for trial in lost_trials(study.get_trials(), sweep.count)] == [0, 1]
    waited: list[int] = []
    with open_study(sweep, sqlite) as study:
        assert Worker(sweep, study, lambda trial: None, waited.append).work()
        results = read_results(sweep, study.get_trials())
    assert waited == [1]
    assert results.is_finished
    assert len(results.finished) == 9
    assert len(fake.settings) == len(set(fake.settings)) == 9


@BY_HAND
def test_a_setting_that_workers_die_of_is_given_up(tmp_path: Path, sqlite: str, fake: Fake):
    sweep = load_sweep(write_sweep(tmp_path))
    with open_study(sweep, sqlite) as study:
        for _ in range(ATTEMPTS):
            trial = study.ask()
            study.tell(trial, state=TrialState.FAIL)
            run_again(study, study.get_trials()[trial.number])
        assert Worker(sweep, study, lambda trial: None, lambda running: None).work()
        results = read_results(sweep, study.get_trials())
    assert [row.status for row in results.rows] == ["finished"] * 8 + ["killed"]
    assert results.rows[-1].place == 0
    assert results.is_finished


def test_a_trial_too_many_is_no_row_until_more_are_asked_for(tmp_path: Path, sqlite: str, fake: Fake):
    search = '\n[sweep]\nsearch = "random"\ntrials = {}\nheartbeat = 1\n[sweep.parameters]\n'
    search += "training.learning_rate = {{ low = 1e-4, high = 1.0, log = true }}\n"
    few, more = (load_sweep(write_sweep(tmp_path, search.format(count))) for count in (2, 4))
    run_sweep(few, tmp_path / "out", sqlite)
    with open_study(few, sqlite) as study:
        late = Worker(few, study, lambda trial: None, lambda running: None)
        late._take()  # it had looked before the others took the last ones
        trials = study.get_trials()
        assert trials[2].user_attrs == {SURPLUS: True}
        assert not is_something_left(trials, few.count)
        assert len(read_results(few, trials).rows) == 2
        assert len(fake.settings) == 2
    results = run_sweep(more, tmp_path / "out", sqlite)
    assert [row.status for row in results.rows] == ["finished"] * 4
    assert len(fake.settings) == len(set(fake.settings)) == 4
    assert told(results) == told(run_sweep(more, tmp_path / "alone"))


def test_a_worker_that_was_taken_for_dead_goes_on_with_other_trials(tmp_path: Path, sqlite: str, fake: Fake):
    sweep = load_sweep(write_sweep(tmp_path))
    with open_study(sweep, sqlite) as study:

        def lose(sweep, method, setting):
            if not fake.settings:
                running = next(trial for trial in study.get_trials() if trial.state == TrialState.RUNNING)
                study.tell(running.number, state=TrialState.FAIL)
                run_again(study, study.get_trials()[running.number])
            return Fake.__call__(fake, sweep, method, setting)

        worker.run_trial = lose  # the fixture puts it back
        assert Worker(sweep, study, lambda trial: None, lambda running: None).work()
        results = read_results(sweep, study.get_trials())
    assert [row.status for row in results.rows] == ["finished"] * 9
    assert len(fake.settings) == 10
