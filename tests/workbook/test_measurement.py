import math

import pytest
import torch

from feasible.sets import Box, NonNegative, Simplex
from feasible.workbook.errors import InputError
from feasible.workbook.measurement import at_bound, check_weights, share, worst
from feasible.workbook.rules import Rule

STATE = {
    "a.weight": torch.tensor([[0.0, -0.5], [2.0, -3.0]]),
    "a.bias": torch.tensor([1.0, 0.5]),
    "steps": torch.tensor(3),
}


def test_each_tensor_that_matches_is_measured():
    weight, bias = check_weights([Rule("positive", NonNegative(), weights="*")], STATE)
    assert (weight.rule, weight.tensor, weight.feasible, bias.feasible) == (
        "positive",
        "a.weight",
        False,
        True,
    )
    assert (weight.worst, weight.share, weight.units) == (3.0, 0.5, 4)
    assert weight.entries == (((1, 1), -3.0), ((0, 1), -0.5))
    assert (bias.worst, bias.share, bias.entries) == (0.0, 0.0, ())
    assert weight.at_bound == 0.25


def test_several_findings_are_summed_up():
    findings = check_weights([Rule("positive", NonNegative(), weights="*")], STATE)
    assert worst(findings) == 3.0
    assert share(findings) == pytest.approx(2 / 6)
    assert at_bound(findings) == pytest.approx(1 / 6)
    assert (worst([]), share([]), at_bound([])) == (0.0, 0.0, None)


def test_vectors_are_measured_by_their_distance():
    (finding,) = check_weights([Rule("rows", Simplex(), weights="*.weight")], STATE)
    assert (finding.units, finding.at_bound) == (2, None)
    assert finding.entries[0][0] == (1,)
    assert finding.entries[0][1] == pytest.approx(finding.worst) == pytest.approx(math.sqrt(1 + 9))


def test_excluded_weights_are_left_out():
    (finding,) = check_weights([Rule("x", NonNegative(), weights="*", exclude=("*.weight",))], STATE)
    assert finding.tensor == "a.bias"


def test_nan_is_never_feasible():
    (finding,) = check_weights(
        [Rule("x", Box(-1, 1), weights="w")], {"w": torch.tensor([0.0, math.nan, 5.0])}
    )
    assert not finding.feasible
    assert math.isnan(finding.worst)
    assert finding.entries[0][0] == (1,)


@pytest.mark.parametrize(
    ("rule", "key", "message"),
    [
        (Rule("x", NonNegative(), weights="a.weigth"), "weights", 'Closest: "a.weight"'),
        (Rule("x", NonNegative(), weights="*", exclude=("*",)), "weights", "matches no parameter"),
        (Rule("x", Box(torch.zeros(3)), weights="a.bias"), "set", "a.bias: "),
    ],
)
def test_a_rule_that_does_not_fit_is_named(rule, key, message):
    with pytest.raises(InputError) as caught:
        check_weights([rule], STATE)
    assert message in str(caught.value)
    assert caught.value.key == ("constraints", 0, key)
