"""The conformance suite finds what is wrong: one sound set, and the same set broken in one place at a time."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from feasible import L2Ball, Set, Simplex
from feasible.sets.charts import IntervalChart
from feasible.sets.elementwise import Interval
from feasible.testing import SET_CHECKS, SetSubject, check_set


@dataclass(frozen=True, eq=False, repr=False)
class Share(Interval):
    """Entries from 0 to 1: somebody else's set."""

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 1.0


@dataclass(frozen=True, eq=False, repr=False)
class Ball(L2Ball):
    """A ball that can be broken."""


def clamped(x: Tensor) -> Tensor:
    return torch.clamp(x, 0.0, 1.0)


def in_place(self: Set, x: Tensor) -> Tensor:
    return x.clamp_(0, 1)


def hopping(self: Set, x: Tensor) -> Tensor:
    return torch.where((x > 0) & (x < 1), x / 2, clamped(x))


class Leaky(IntervalChart):
    def forward(self, latent: Tensor) -> Tensor:
        return 1.01 * torch.sigmoid(latent)


class Forgetful(IntervalChart):
    def right_inverse(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Cornered(IntervalChart):
    def forward(self, latent: Tensor) -> Tensor:
        return torch.sigmoid(latent.abs().sqrt())


class Stiff(IntervalChart):
    def floor_(self, latent: Tensor, wanted: Tensor, slope: float) -> None:
        pass


class Remembering(IntervalChart):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("seen", torch.zeros(()))


def chart_of(kind: type[IntervalChart]) -> Callable[..., nn.Module]:
    def chart(self: Set, kind_of_curve: str | None = None) -> nn.Module:
        return kind("sigmoid", torch.tensor(0.0).double(), torch.tensor(1.0).double())

    return chart


def same_memory(self: Set, x: Tensor) -> Tensor:
    return x.view_as(x) if torch.equal(x, clamped(x)) else clamped(x)


def mixing_rows(self: Set, x: Tensor) -> Tensor:
    return clamped(x.as_strided(x.shape, torch.empty(x.shape).stride()))


def by_the_sum(self: Set, x: Tensor) -> Tensor:
    return clamped(x) if x.sum() > 0 else x.clamp(0, 1)


def halved_by_transforms(self: Set, x: Tensor) -> Tensor:
    return x / 2 if torch._C._functorch.is_functorch_wrapped_tensor(x) else clamped(x)


def infinite_slope(self: Set, x: Tensor) -> Tensor:
    return clamped(x) + 0 * x.abs().sqrt()


def same_shares(self: Set, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    return torch.rand(shape)


def too_wide(self: Set, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    return 2 * torch.rand(shape, generator=generator)


def one_answer(self: Set, x: Tensor, tol: float | None = None) -> Tensor:
    return self.is_member(x).all()


def only_the_first(self: Set, tensors: list[Tensor]) -> None:
    for tensor in tensors[:1]:
        tensor.clamp_(0, 1)


def zeroed(self: Set, points: list[Tensor], gradients: list[Tensor], t: float) -> None:
    for gradient in gradients:
        gradient.zero_()


# What is broken, and how, by the check that has to find it.
BROKEN: dict[str, list[tuple[str, Any]]] = {
    "result_has_the_form_of_the_input": [
        ("project", in_place),
        ("project", lambda self, x: clamped(x).double()),
        ("project", same_memory),
    ],
    "projection_is_a_member": [("project", hopping)],
    "members_keep_their_bits": [("project", lambda self, x: torch.sigmoid(x))],
    "nothing_is_nearer": [("project", lambda self, x: 1 - clamped(x))],
    "projection_is_optimal": [("project", lambda self, x: clamped(x - 1e-6 * x.abs()))],
    "projection_is_non_expansive": [("project", lambda self, x: clamped(2 * x))],
    "agrees_with_the_reference": [("project", lambda self, x: torch.clamp(x, 0.0, 0.999))],
    "nan_stays_nan": [("project", lambda self, x: clamped(x.nan_to_num()))],
    "sign_of_zero_does_not_matter": [("project", lambda self, x: (1 / x > 0).to(x.dtype))],
    "memory_layout_does_not_matter": [("project", mixing_rows)],
    "empty_and_single_tensors_work": [("project", lambda self, x: clamped(x).reshape(-1))],
    "projecting_in_place_agrees": [("project_all_", only_the_first)],
    "units_agree": [
        ("norm", lambda self, displacement: displacement.square()),
        ("spread", lambda self, values, x: values.sum()),
        ("sum_units", lambda self, entries: entries.sum(-1)),
    ],
    "distance_is_the_norm_of_the_residual": [
        ("norm", lambda self, displacement: displacement),
        ("residual", lambda self, x: self.project(x) - x),
        ("is_member", lambda self, x: x <= 1),
    ],
    "contains_obeys_its_tolerance": [("contains", one_answer)],
    "tolerance_says_what_is_exact": [("tolerance", lambda self, dtype: 1e-3)],
    "samples_are_members": [("sample", too_wide), ("sample", same_shares)],
    "repr_shows_how_to_make_it": [("__repr__", lambda self: "Share(0, 1)")],
    "binding_takes_device_and_dtype": [("bind", lambda self, like: Simplex())],
    "other_numbers_are_refused": [("check_dtype", lambda self, dtype: None)],
    "what_it_lacks_is_said": [("offers", lambda self, capability: False)],
    "projection_is_differentiable": [("project", lambda self, x: clamped(x.detach()) + 0 * x)],
    "jacobian_is_a_projection_s": [("project", lambda self, x: clamped(2 * x - x.detach()))],
    "all_ways_to_differentiate_agree": [("project", halved_by_transforms)],
    "derivatives_stay_finite": [("project", infinite_slope)],
    "compiled_projection_agrees": [("project", lambda self, x: clamped(x) * (1 + 0 * float(x.sum())))],
    "vmapped_projection_agrees": [("project", by_the_sum)],
    "support_is_the_largest_product": [("support", lambda self, y: 2 * y.clamp_min(0))],
    "support_handles_nan_and_gradients": [("support", lambda self, y: y.clamp_min(0).nan_to_num())],
    "lmo_is_optimal": [("lmo", lambda self, gradient: (gradient > 0).to(gradient.dtype))],
    "tangent_is_the_limit_of_projections": [("tangent", lambda self, x, direction: direction)],
    "tangent_is_a_projection": [("tangent", lambda self, x, direction: direction / 2)],
    "gradient_mapping_follows_its_formula": [("reduce_gradients_", zeroed)],
    "gradient_mapping_vanishes_at_stationary_points": [("reduce_gradients_", lambda self, *arguments: None)],
    "slack_is_positive_inside": [("slack", lambda self, x: (x - 1, -x))],
    "slack_is_concave": [("slack", lambda self, x: (x.sign() * x.square(), 1 - x))],
    "slack_is_differentiable": [("slack", lambda self, x: (x, 1 - x.sign() * x.abs().sqrt()))],
    "interior_has_room": [("interior", lambda self, x, margin: clamped(x))],
    "interior_points_stay": [("interior", lambda self, x, margin: torch.full_like(x, 0.5))],
    "barrier_grows_towards_the_boundary": [("barrier", lambda self, x: -x.log().nan_to_num(neginf=1e9))],
    "barrier_is_the_sum_of_logarithms": [("barrier", lambda self, x: 2 * Interval.barrier(self, x))],
    "chart_stays_in_the_set": [("chart", chart_of(Leaky))],
    "chart_and_inverse_undo_each_other": [("chart", chart_of(Forgetful))],
    "chart_has_finite_gradients": [("chart", chart_of(Cornered))],
    "saturation_is_seen_and_lifted": [("chart", chart_of(Stiff))],
    "chart_parametrizes_a_module": [("chart", chart_of(Remembering))],
    "unknown_charts_are_refused": [("chart", chart_of(IntervalChart))],
}


class Alike(Share):
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = Share.__hash__


def test_a_sound_set_passes() -> None:
    check_set(Share(), [(3, 4), (2,)], reference=clamped, charts=(None, "tanh", "sine"))


@pytest.mark.parametrize(
    ("check", "attribute", "wrong"), [(check, *fault) for check, faults in BROKEN.items() for fault in faults]
)
def test_a_broken_set_is_found(check: str, attribute: str, wrong: object) -> None:
    broken = type("Share", (Share,), {attribute: wrong, "__module__": __name__})()
    # What cannot be traced raises torch's own errors.
    expected = (
        Exception if check in ("compiled_projection_agrees", "vmapped_projection_agrees") else AssertionError
    )
    with pytest.raises(expected):
        SET_CHECKS[check](SetSubject(broken, [(3, 4)], reference=clamped))


def test_a_set_that_equals_everything_is_found() -> None:
    with pytest.raises(AssertionError, match="equal to something of another kind"):
        SET_CHECKS["equal_by_content"](SetSubject(Alike(), [(2,)]))


def test_no_check_is_without_a_set_that_breaks_it() -> None:
    rare = {"bound_and_unbound_agree", "what_was_taken_comes_back", "members_can_be_counted"}
    rare |= {"distance_points_away_from_the_set", "equal_by_content"}
    assert set(SET_CHECKS) - set(BROKEN) == rare


def test_the_message_names_set_input_and_fault() -> None:
    class Shrinking(Ball):
        def project(self, x: Tensor) -> Tensor:
            norm = x.norm(dim=-1, keepdim=True)
            return x * (self.radius / (norm + 1e-6)).clamp_max(1)

    with pytest.raises(AssertionError) as caught:
        check_set(Shrinking(1.0), [(2, 3)])
    message = str(caught.value)
    assert message.startswith("Shrinking(radius=1): ")
    assert "(input: " in message
    assert "shape (2, 3), float64)" in message


def test_checks_can_be_left_out_by_name() -> None:
    class Unprintable(Ball):
        def __repr__(self) -> str:
            return "<a ball object at 0x0>"

    everything_else = [name for name in SET_CHECKS if name != "repr_shows_how_to_make_it"]
    check_set(Unprintable(1.0), [(2, 3)], skip=[*everything_else, "repr_shows_how_to_make_it"])
    with pytest.raises(AssertionError, match="prints as"):
        check_set(Unprintable(1.0), [(2, 3)], skip=everything_else)
    with pytest.raises(ValueError, match=r"skip names no check: \['no_such_check'\]"):
        check_set(Ball(1.0), [(2, 3)], skip=["no_such_check"])


def test_subjects_can_be_varied() -> None:
    subject = SetSubject(Share(), [(2,)])
    assert replace(subject, shapes=[(3,)]).members((3,)).shape == (3,)
