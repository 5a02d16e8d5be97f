"""Every row of the tables (``cases*.py``) goes through the whole conformance suite."""

import re
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
import torch

from feasible import Intersection
from feasible.testing import SET_CHECKS

from .cases import SetCase


def rows() -> Iterator[SetCase]:
    """The rows of all tables beside this file."""
    for path in sorted(Path(__file__).parent.glob("cases*.py")):
        for value in vars(import_module(f".{path.stem}", __package__)).values():
            if isinstance(value, list) and value and isinstance(value[0], SetCase):
                yield from value


CASES = list({id(case): case for case in rows()}.values())
WRONG_ARGUMENTS = [pytest.param(*wrong, id=wrong[1]) for case in CASES for wrong in case.rejects]
WRONG_SHAPES = [
    pytest.param(case, *misfit, id=f"{case.set!r}, {misfit[0]}") for case in CASES for misfit in case.misfits
]


EXPENSIVE = ("compiled_projection_agrees", "projection_is_differentiable", "all_ways_to_differentiate_agree")
"""The first row of every class runs these at once, the others among the slow tests."""
SEARCHED = ("interior_has_room", "interior_points_stay")
"""Intersections search for these points: the last row of entries, of vectors and of tensors does so at once."""


def trials() -> Iterator[object]:
    """Every check with every row."""
    first = {type(case.set): case for case in reversed(CASES)}
    searching = [c for c in CASES if isinstance(c.set, Intersection) and c.set.offers("interior")]
    last = {case.set.unit: case for case in searching}
    later = {id(case) for case in searching if case is not last[case.set.unit] or case.set.unit == "matrix"}
    for check, case in product(SET_CHECKS, CASES):
        is_further = check in EXPENSIVE and case is not first[type(case.set)]
        is_slow = is_further or (check in SEARCHED and id(case) in later)
        marks = [pytest.mark.slow] if is_slow else []
        yield pytest.param(check, case, id=f"{check}-{case.set!r}", marks=marks)


@pytest.mark.parametrize(("check", "case"), list(trials()))
def test_set(check: str, case: SetCase) -> None:
    if check in case.skip:
        pytest.skip("the row says that it does not apply")
    SET_CHECKS[check](case)


@pytest.mark.parametrize(("make", "message"), WRONG_ARGUMENTS)
def test_wrong_arguments_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(("case", "shape", "message"), WRONG_SHAPES)
def test_shapes_that_do_not_fit_are_refused(case, shape, message) -> None:
    for refuse in (case.set.check_shape, case.set.sample):
        with pytest.raises(ValueError, match=re.escape(message)):
            refuse(torch.Size(shape))
    with pytest.raises(ValueError, match=re.escape(message)):
        case.set.bind(torch.zeros(shape))
