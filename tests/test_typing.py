"""Typed users see what is exported: star lists must be written so that type checkers follow them."""

import pytest
from mypy import api

import feasible as fs

NAMES = ["OneHot", "Project", "SoftmaxAnneal", "exhaustive_search", "minimize", "export_indices"]


@pytest.mark.slow
def test_type_checkers_see_the_exports(tmp_path):
    lines = ["import feasible as fs", *(f"reveal_type(fs.{name})" for name in NAMES)]
    path = tmp_path / "user.py"
    path.write_text("\n".join(lines))
    found, _, code = api.run(["--strict", "--cache-dir", str(tmp_path / "cache"), str(path)])
    assert code == 0, found
    assert "Any" not in [line.rpartition("is ")[2].strip('"') for line in found.splitlines()]
    assert all(hasattr(fs, name) for name in NAMES)
