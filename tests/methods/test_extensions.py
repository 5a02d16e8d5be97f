"""Other packages' sets and methods appear beside our own, and a broken package breaks nothing."""

import subprocess
import sys
import warnings

import pytest
import torch

import feasible as fs
from feasible.methods import extensions
from feasible.methods.extensions import foreign_methods, foreign_sets, own_methods, own_sets
from feasible.methods.matrix import works_with

MODULE = '''
from dataclasses import dataclass
from typing import final

import torch

import feasible as fs
from feasible.methods import Method
from feasible.methods.method import Pull
from feasible.sets.elementwise import Interval


@final
@dataclass(frozen=True, eq=False, repr=False)
class Share(Interval):
    """Entries from 0 to 1."""

    default_method = "Spring"

    @property
    def bounds(self):
        return 0.0, 1.0


@final
@dataclass(frozen=True, eq=False, repr=False)
class Upto(Interval):
    """Entries from 0 to a number."""

    upper: float

    @property
    def bounds(self):
        return 0.0, self.upper


@final
@dataclass(frozen=True)
class Spring(Method):
    """Pulls with a force that grows with the distance."""

    strength: float

    convex_only = True

    def pull(self, mean, set, state, step):
        residual = set.residual(mean)
        return Pull(self.strength / 2 * residual.square().sum(), self.strength * residual)


def wide_share():
    return fs.Box(0, 2)


def nothing():
    return 3


def broken():
    raise RuntimeError("no licence")
'''

SOUND = """
[feasible.sets]
Share = acme.sets:Share
Upto = acme.sets:Upto
wide = acme.sets:wide_share

[feasible.methods]
Spring = acme.sets:Spring
"""

BROKEN = {
    "missing = acme.gone:Share": "in the group feasible.sets is left out: ModuleNotFoundError",
    "lost = acme.sets:Lost": "AttributeError",
    "three = acme.sets:nothing": "TypeError: expected a Set, got 3",
    "licence = acme.sets:broken": "RuntimeError: no licence",
    "number = acme.sets:torch.pi": "'float' object is not callable",
    "spring = acme.sets:Spring": "TypeError: Spring.__init__() missing 1 required",
    "Box = acme.sets:Share": "ValueError: the name is taken by feasible",
}


def install(folder, entries, name="acme-sets"):
    """A distribution as pip leaves it: a package and its metadata."""
    package = folder / "acme"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").touch()
    (package / "sets.py").write_text(MODULE, encoding="utf-8")
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entries, encoding="utf-8")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that packages can be installed into; everything is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield tmp_path
    for module in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[module]
    forget()


def forget():
    foreign_sets.cache_clear()
    foreign_methods.cache_clear()


def test_they_are_found_by_instance_class_and_function(site):
    install(site, SOUND)
    assert [(listed.name, repr(listed.example), listed.package) for listed in foreign_sets()] == [
        ("Share", "Share()", "acme-sets"),
        ("Upto", "Upto(upper=1)", "acme-sets"),
        ("wide", "Box(lower=0, upper=2)", "acme-sets"),
    ]
    assert [repr(listed.example) for listed in foreign_methods()] == ["Spring(strength=1.0)"]


def test_they_show_in_the_matrix_with_their_origin_and_not_in_the_docs_one(site):
    install(site, SOUND)
    lines = fs.matrix().splitlines()
    assert lines[0].endswith("| Spring (acme-sets) |")
    assert any(line.startswith("| `Upto(upper=1)` (acme-sets) | ●") for line in lines)
    assert lines[2].endswith("● |"), "an own set and a foreign method"
    assert not any("acme" in repr(listed) for listed in (*own_sets(), *own_methods()))


def test_they_are_named_where_something_does_not_work(site):
    install(site, SOUND)
    assert works_with(fs.NonNegative())[-1] == "Spring"
    assert "Spring" not in works_with(fs.OneHot())
    with pytest.raises(fs.UnsupportedError, match=r"Works with it: .*, Spring \(acme-sets\)$"):
        fs.Problem([torch.zeros(2, requires_grad=True)]).constrain("0", fs.Simplex(), by=fs.Barrier())


def test_a_foreign_set_names_a_foreign_method(site):
    install(site, SOUND)
    from acme.sets import Share, Spring

    handle = fs.Problem([torch.zeros(2, requires_grad=True)]).constrain("0", Share())
    assert repr(handle) == f"<0: Share() by {Spring(1.0)!r}>"


def test_a_default_method_that_is_not_installed_is_said(site):
    (site / "acme").mkdir()
    (site / "acme" / "sets.py").write_text(MODULE, encoding="utf-8")
    from acme.sets import Share

    with pytest.raises(ValueError, match=r"names Spring as its method, which no(?s:.*)Works with it: Aug"):
        fs.Problem([torch.zeros(2, requires_grad=True)]).constrain("0", Share())


@pytest.mark.parametrize("entry", BROKEN)
def test_a_broken_entry_point_is_named_and_left_out(site, entry):
    install(site, f"[feasible.sets]\n{entry}\nShare = acme.sets:Share\n")
    with pytest.warns(RuntimeWarning, match=r"^acme-sets: its entry point") as caught:
        found = foreign_sets()
    assert [listed.name for listed in found] == ["Share"]
    assert BROKEN[entry] in str(caught[0].message)
    assert str(caught[0].message).endswith("Mend, update or uninstall acme-sets.")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert foreign_sets() is found, "said once"


def test_of_two_packages_with_one_name_the_first_is_taken(site):
    install(site, SOUND)
    install(site, "[feasible.methods]\nSpring = acme.sets:Spring\n", name="zenith")
    with pytest.warns(RuntimeWarning, match=r"^zenith: .*the name is taken by acme-sets"):
        assert [listed.package for listed in foreign_methods()] == ["acme-sets"]


IN_ANOTHER_PROCESS = """
import sys
import feasible as fs
from feasible.testing import check_method, check_set

assert not any(name.startswith("acme") for name in sys.modules), "imported before it was asked for"
fs.Problem([fs.Simplex().sample((2, 2)).requires_grad_()]).constrain("0", fs.Simplex())
assert "acme.sets" not in sys.modules, "imported for nothing"
assert "Spring (acme-sets)" in fs.matrix()
from acme.sets import Share, Spring

check_set(Share(), [(2, 3)], skip=["compiled_projection_agrees"])
check_method(Spring(2.0))
"""


def test_in_a_process_of_its_own(tmp_path):
    install(tmp_path, SOUND)
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", IN_ANOTHER_PROCESS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert extensions.SETS == "feasible.sets"
