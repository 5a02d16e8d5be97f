"""Schedules: values at steps, and what they refuse."""

import math

import pytest

from feasible.schedules import Constant, Exponential, Linear, check_weight, value_at

VALUES = [
    (Constant(0.5), 0, 0.5),
    (Constant(0.5), 10**9, 0.5),
    (Linear(1.0, 3.0, steps=4), 0, 1.0),
    (Linear(1.0, 3.0, steps=4), 1, 1.5),
    (Linear(1.0, 3.0, steps=4), 4, 3.0),
    (Linear(1.0, 3.0, steps=4), 400, 3.0),
    (Linear(3.0, 1.0, steps=4), 3, 1.5),
    (Linear(3.0, 1.0, steps=4), -1, 3.0),
    (Exponential(2.0, 0.5), 0, 2.0),
    (Exponential(2.0, 0.5), 3, 0.25),
    (Exponential(2.0, 0.5, minimum=0.3), 3, 0.3),
    (Exponential(2.0, 2.0, maximum=5.0), 3, 5.0),
    (Exponential(2.0, 10.0, maximum=5.0), 10**6, 5.0),
    (Exponential(2.0, 10.0), 10**6, math.inf),
    (Exponential(2.0, 0.5), 10**6, 0.0),
    (3.5, 7, 3.5),
    (lambda step: step / 2, 7, 3.5),
]


@pytest.mark.parametrize(("schedule", "step", "value"), VALUES)
def test_values(schedule, step, value):
    assert value_at(schedule, step) == value


WRONG = [
    (lambda: Constant(math.nan), "value must be finite"),
    (lambda: Linear(0.0, math.inf, steps=3), "end must be finite"),
    (lambda: Linear(0.0, 1.0, steps=0), "steps must be at least 1"),
    (lambda: Exponential(1.0, 0.0), "factor must be positive"),
    (lambda: Exponential(1.0, -2.0), "factor must be positive"),
    (lambda: Exponential(math.inf, 2.0), "start must be finite"),
    (lambda: Exponential(1.0, 2.0, minimum=3.0, maximum=2.0), "exceeds maximum"),
    (lambda: check_weight("Penalty", "weight", 0), "must be positive"),
    (lambda: check_weight("Penalty", "weight", math.inf), "finite"),
    (lambda: check_weight("Penalty", "weight", None), "number or a schedule"),
    (lambda: check_weight("Penalty", "weight", lambda step: -1.0, from_zero=True), "step 0"),
    (lambda: check_weight("Penalty", "weight", lambda step: 0.0), "step 0"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_schedules_may_start_at_zero_where_nothing_is_divided_by_them():
    check_weight("Penalty", "weight", Linear(0.0, 1.0, steps=3), from_zero=True)


def test_schedules_are_values():
    assert Linear(0.0, 1.0, 3) == Linear(0.0, 1.0, 3)
    assert len({Exponential(1.0, 2.0), Exponential(1.0, 2.0)}) == 1
