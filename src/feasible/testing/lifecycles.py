"""What surrounds a training: interruptions, checkpoints, switching off, taking back, finishing."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.optim import Adam

from feasible.testing.subject import same_bits
from feasible.testing.trial import MethodSubject, Trial, trials


def checkpoints_bring_everything_back(subject: MethodSubject) -> None:
    """A training that is resumed goes on bit for bit, from the problem's state or from the optimizer's alone."""
    for set in subject.served:
        for kind in subject.kinds(set):
            for through in ("problem", "optimizer"):
                whole = _moving(subject, set, kind).run(3)
                saved = _saved(whole)
                resumed = _moving(subject, set, kind)
                _load(resumed, saved, through)
                for step in range(2):
                    whole.step()
                    resumed.step()
                    same = same_bits(resumed.weight, whole.weight)
                    whole.expect(same, f"resumed from the {through}'s state it goes elsewhere at step {step}")
                after = zip(resumed.state.items(), whole.state.items(), strict=True)
                differs = [key for (key, a), (_, b) in after if not same_bits(a, b)]
                whole.expect(not differs, f"resumed from the {through}'s state, {', '.join(differs)} differs")


def _moving(subject: MethodSubject, set: Any, kind: Any) -> Trial:
    """A training whose targets it has not reached, under an optimizer with a state of its own."""
    make = lambda parameters, rate: Adam(parameters, lr=rate / 10)  # noqa: E731
    return Trial(subject, set, kind, [subject.point()], [subject.point(1)], make=make).attach()


def _saved(trial: Trial) -> dict[str, Any]:
    parts = (("model", trial.model), ("optimizer", trial.optimizer), ("problem", trial.problem))
    return {name: copy.deepcopy(part.state_dict()) for name, part in parts}


def _load(trial: Trial, saved: dict[str, Any], through: str) -> None:
    trial.model.load_state_dict(saved["model"])
    if through == "problem":
        trial.optimizer.load_state_dict({k: v for k, v in saved["optimizer"].items() if k != "feasible"})
        trial.problem.load_state_dict(saved["problem"])
    else:
        trial.optimizer.load_state_dict(saved["optimizer"])


def steps_that_never_come_change_nothing(subject: MethodSubject) -> None:
    """A loss whose step is skipped, and one that is only evaluated, leave no trace in the training."""
    for set in subject.served:
        for kind in subject.kinds(set):
            plain, disturbed = (_moving(subject, set, kind) for _ in range(2))
            for _ in range(3):
                plain.step()
                before = disturbed.state
                _skip(disturbed)
                changed = [key for key, old in before.items() if not same_bits(old, disturbed.state[key])]
                disturbed.expect(not changed, f"without a step, {', '.join(changed)} changes")
                disturbed.step()
            same = same_bits(plain.weight, disturbed.weight)
            plain.expect(same, "steps that were skipped or only evaluated change the training")


def _skip(trial: Trial) -> None:
    """An evaluation, and a backward pass whose step is left out, as a gradient scaler does it."""
    with torch.no_grad():
        trial.loss()
    trial.optimizer.zero_grad()
    trial.loss().backward()  # type: ignore[no-untyped-call]
    trial.optimizer.zero_grad()


def switched_off_it_does_nothing(subject: MethodSubject) -> None:
    """``handle.enabled = False``: the training goes as without the method; latent methods refuse."""
    for trial in trials(subject, targets=[subject.point(1)]):
        assert trial.handle is not None
        if subject.method.latent:
            try:
                trial.handle.enabled = False
            except ValueError:
                continue
            trial.expect(False, "it is latent, and can be switched off all the same")
        trial.run(2)
        trial.handle.enabled = False
        _expect_free(trial, "it acts although it is switched off")
        trial.handle.enabled = True
        trial.step()
        trial.expect(trial.weight.isfinite().all(), "switched on again it leads to what is not finite")


def taken_back_it_leaves_a_free_weight(subject: MethodSubject) -> None:
    """``handle.remove()``: a plain parameter with the same value, which then goes its own way."""
    for trial in trials(subject, targets=[subject.point(1)]):
        assert trial.handle is not None
        trial.run(2)
        before = trial.weight.clone()
        trial.handle.remove()
        trial.expect(same_bits(trial.weight, before), "remove() moves the weight")
        trial.kind, trial.handle = "weight", None
        _expect_plain(trial, "remove()")
        _expect_free(trial, "it acts although it is removed")


def finish_leaves_plain_tensors(subject: MethodSubject) -> None:
    """After ``finish()`` the model is what it was made as, and its optimizer steps without the problem."""
    for trial in trials(subject, targets=[subject.point(1)]):
        trial.run(2)
        trial.problem.finish()
        _expect_plain(trial, "finish()")
        trial.kind, trial.handle = "weight", None
        before = trial.weight.clone()
        trial.optimizer.zero_grad()
        trial.task().backward()  # type: ignore[no-untyped-call]
        trial.optimizer.step()
        expected = before - subject.rate * (before - trial.targets[0])
        close = torch.allclose(trial.weight, expected, rtol=1e-12, atol=1e-12)
        trial.expect(close, "after finish() the optimizer's steps are not plain ones")


def _expect_plain(trial: Trial, when: str) -> None:
    plain = [*trial.model.state_dict()] == ["w0"] and not parametrize.is_parametrized(trial.model)
    trial.expect(plain, f"after {when} the model holds {[*trial.model.state_dict()]}")
    parameter = trial.model.w0
    is_leaf = type(parameter) is nn.Parameter and parameter.is_leaf and parameter.requires_grad
    trial.expect(is_leaf, f"after {when} the weight is no parameter that learns")


def _expect_free(trial: Trial, sentence: str) -> None:
    """Two plain gradient steps."""
    state = trial.state
    expected = trial.weight.clone()
    for _ in range(2):
        expected = expected - trial.subject.rate * (expected - trial.targets[0])
        trial.step()
    trial.expect(torch.allclose(trial.weight, expected, rtol=1e-12, atol=1e-12), sentence)
    changed = [key for key, value in trial.state.items() if not same_bits(value, state[key])]
    trial.expect(not changed, f"{sentence}: {', '.join(changed)} changes")
