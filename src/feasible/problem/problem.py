"""The problem: a model, what must hold for it, and how it is enforced in the user's own loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from feasible.methods import AugmentedLagrangian, Project
from feasible.methods.lookup import find_weights
from feasible.methods.matrix import check_pair, default_method
from feasible.methods.method import Method
from feasible.methods.moments import Moments
from feasible.methods.slot import find_slots
from feasible.problem import checkpoint, plain_state
from feasible.problem.best import Best, judge
from feasible.problem.clock import Attachment, Clock, correct, group_weights
from feasible.problem.compatibility import check_methods, check_parameters
from feasible.problem.constraint import Constraint, Handle, Per, Settled, ValueSpec
from feasible.problem.declaration import (
    bind,
    check_form,
    check_kinds,
    check_spec,
    check_weight,
    free_names,
    match,
)
from feasible.problem.handed import check_names, check_recorded
from feasible.problem.history import metrics
from feasible.problem.measures import Reading
from feasible.problem.polish import Polish, polish
from feasible.problem.probe import LossSize, is_measured, norms_of_gradients
from feasible.problem.ranks import is_distributed, total
from feasible.problem.silence import measure_reach, warn
from feasible.problem.text import overview
from feasible.report import Report, make_report
from feasible.sets import Frozen, Set

Model = nn.Module | Mapping[str, Tensor] | Sequence[Tensor]
AnyOptimizer = TypeVar("AnyOptimizer", bound=Optimizer)


class Problem:
    """Minimise a loss subject to ``c_j(θ) ∈ K_j``: which set, on what, by which method.

    Args:
        model: a module, or a dict or list of leaf tensors.

    Raises:
        ValueError: a tensor of the dict or list is not a leaf.

    >>> import torch, feasible as fs
    >>> model = torch.nn.Linear(3, 1)
    >>> problem = fs.Problem(model)
    >>> _ = problem.constrain("weight", fs.NonNegative())
    >>> optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=0.1))
    >>> for _ in range(10):
    ...     optimizer.zero_grad()
    ...     problem.loss(model(torch.ones(1, 3)).sum()).backward()
    ...     _ = optimizer.step()
    >>> problem.finish()
    >>> bool((model.weight >= 0).all())
    True
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.slots = find_slots(model)
        self.constraints: list[Constraint] = []
        self.was_attached = False
        self.finished = False
        self.recording = True
        """Whether ``loss`` may note what it sees; not while ``polish`` tries weights out."""
        self._clock = Clock(self._tick, self._declared_so_far)
        self._pending: dict[str, dict[str, Tensor]] = {}
        self._terms: list[Constraint] = []
        self._followers: list[Constraint] = []
        self._declared: dict[str, Constraint] = {}
        self._ever_ticked = False
        self._reached_at = -1
        self._keep_every = self._keep_at = 0
        self.best = Best(self)
        """The best weights that ``validate`` has seen."""

    # -- declaring ---------------------------------------------------------------------------------

    def constrain(
        self,
        pattern: str,
        set: Set,
        by: Method | None = None,
        *,
        name: str | None = None,
        exclude: str | Sequence[str] = (),
    ) -> Handle:
        """Constrain the weights whose names match.

        A weight that is in the set keeps its bits; others move to the nearest member if the method is
        one that holds them there, and the report says how far.

        Args:
            pattern: a glob over names such as ``"*.weight"``.
            set: where the weight must be.
            by: the method; the set's own default where it is left out.
            name: what the report and the checkpoint call it; the weight's name where it is left out.
            exclude: patterns of names to leave out.

        Raises:
            ValueError: nothing matches, the set cannot hold the weight, or two methods would move it.
            UnsupportedError: the method does not work with the set.
        """
        check_kinds(set, by)
        slots = match(self.slots, pattern, (exclude,) if isinstance(exclude, str) else tuple(exclude))
        method = by if by is not None else default_method(set)
        check_pair(method, set)
        for slot in slots:
            check_weight(slot, set, method, self.constraints, self._clock.optimizers)
        bound = [bind(set, slot) for slot in slots]
        names = free_names(name, slots, self._declared)
        constraints = [
            Constraint(full_name, set, method, self._clock.moment, slot=slot)
            for slot, full_name in zip(slots, names, strict=True)
        ]
        self.check_optimizers(constraints)
        for constraint, one in zip(constraints, bound, strict=True):
            constraint.enter(one)
        return self._add(name or pattern, constraints)

    def freeze(self, pattern: str, mask: Tensor | None = None) -> Handle:
        """Keep weights (or the entries that a bool mask picks) exactly as they are now.

        Short for ``constrain(pattern, Frozen())`` and ``constrain(pattern, Frozen().where(mask))``.
        Load pretrained weights first: the values are taken here, and ``finish`` restores them.

        Raises:
            ValueError: nothing matches, or the mask has another shape or picks nothing.
        """
        find_weights(self.slots, pattern, "freeze")
        if mask is None:
            return self.constrain(pattern, Frozen())
        picked = Frozen().where(mask)
        if not bool(mask.any()):
            raise ValueError("freeze: the mask picks no entry: True stands for those that stay as they are.")
        return self.constrain(pattern, picked, by=Project(moments="reset"))

    def require(
        self,
        name: str,
        set: Set,
        by: Method | None = None,
        *,
        per: Per = "value",
        size: int | None = None,
        reduction: str | float = "mean",
        tolerance: float | None = None,
        average: str | float | None = None,
        fn: Callable[[Any], Tensor] | None = None,
    ) -> Handle:
        """Require that a value which the training step computes is in a set; hand it to ``loss`` by name.

        Args:
            name: the keyword under which ``loss`` gets the value.
            set: where the value must be.
            by: the method (``AugmentedLagrangian()`` where it is left out).
            per: ``"value"``: a fixed shape, a multiplier an element. ``"sample"``: dimension 0 is a batch,
                and every sample must be in the set; a multiplier method compares their reduced distance with
                ``tolerance``. ``"index"``: a pair (value, index) is handed in, and each of ``size`` samples
                has its own multiplier; its terms are added up over all samples (size/batch times the sum over
                the batch), so that penalties are small numbers there.
            size: the number of samples for ``per="index"``.
            reduction: of the samples' distances: ``"mean"``, the p ≥ 1 of a p-mean, or ``"huber"`` (their mean
                Huber loss with δ = half the first value's RMS).
            tolerance: what the reduced distance may be; ``None``: a thousandth of the first value's RMS.
            average: ``None``: multipliers see the mean of the present step, and gradients what this process has
                seen of it so far; ``"window"``: gradients of all micro-batches and ranks use the last step's
                mean, and add up to the full batch's (on two halves of 24 samples they do to 2e-16; with ``None``
                they are off by 0.6 %); a number in (0, 1): a running mean with that decay, for noisy values.
            fn: a function of the model, evaluated where no value is handed in (``per="value"`` only).

        Raises:
            ValueError: the name is taken, or an argument is out of range.
            UnsupportedError: the method moves weights, or does not work with the set.
        """
        check_kinds(set, by)
        if not isinstance(name, str):
            raise ValueError(f"require: expected the value's name as a string, got {name!r}.")
        method = by if by is not None else AugmentedLagrangian()
        check_pair(method, set, for_values=True)
        spec = ValueSpec(per, size, reduction, tolerance, average, fn)
        check_spec(name, spec)
        check_form(name, method, spec)
        if name in self._declared or not name.isidentifier():
            problem = "is declared already" if name in self._declared else "cannot be a keyword of loss()"
            raise ValueError(f"require({name!r}, …): the name {problem}. Choose another one.")
        constraint = Constraint(name, set, method, self._clock.moment, spec=spec)
        self.check_optimizers([constraint])
        return self._add(name, [constraint])

    def _add(self, name: str, constraints: list[Constraint]) -> Handle:
        self.constraints.extend(constraints)
        self.refresh()
        return Handle(name, constraints, self)

    def remove(self, constraints: list[Constraint]) -> None:
        """Take constraints back; ``handle.remove()`` calls it."""
        for constraint in constraints:
            if constraint not in self.constraints:
                continue
            self.constraints.remove(constraint)
            self._pending.pop(constraint.name, None)
            if constraint.slot is not None and constraint.enabled:
                self._uninstall(constraint)
        self.refresh()

    def check_optimizers(self, constraints: list[Constraint]) -> None:
        """Raise ``UnsupportedError`` where an attached optimizer cannot work with constraints that are to act."""
        for optimizer in self._clock.optimizers:
            check_methods(optimizer, constraints)

    def refresh(self) -> None:
        """Constraints have come, gone or been switched."""
        self._terms = [constraint for constraint in self.constraints if constraint.has_term]
        self._followers = [constraint for constraint in self.constraints if constraint.follows]
        self._declared = {constraint.name: constraint for constraint in self.constraints}
        self._clock.replan()

    # -- training ----------------------------------------------------------------------------------

    def attach(self, optimizer: AnyOptimizer, clock: bool | None = None) -> AnyOptimizer:
        """Let the optimizer's steps project, move multipliers and advance schedules.

        Args:
            optimizer: any ``torch.optim`` optimizer that holds the model's present parameters.
            clock: whether its steps are the ones that count; the first attached is the clock otherwise.

        Raises:
            ValueError: it holds parameters that the model no longer uses, or none of the model's.
            UnsupportedError: a method cannot work with it (a projection under L-BFGS, a penalty that is maximised).
        """
        if not isinstance(optimizer, Optimizer):
            raise ValueError(
                f"attach: expected a torch.optim optimizer that holds the model's parameters, got "
                f"{type(optimizer).__name__}."
            )
        if optimizer in self._clock.attachments:
            raise ValueError(
                f"this {type(optimizer).__name__} is attached already. Call detach(optimizer) first."
            )
        check_parameters(optimizer, self.slots)
        check_methods(optimizer, [constraint for constraint in self.constraints if constraint.enabled])
        self._hook(self._clock.attach(optimizer, leads=bool(clock)))
        self.was_attached = True
        return optimizer

    def _hook(self, attachment: Attachment) -> None:
        self._clock.hook(attachment)
        attachment.hooks += [
            attachment.optimizer.register_state_dict_post_hook(self._save_with_optimizer),
            attachment.optimizer.register_load_state_dict_pre_hook(self._load_with_optimizer),
        ]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy: optimizers come without their hooks."""
        self.__dict__.update(state)
        for attachment in self._clock.attachments.values():
            self._hook(attachment)
        self._clock.replan()

    def _declared_so_far(self) -> list[Constraint]:
        return self.constraints

    def detach(self, optimizer: Optimizer) -> None:
        """Take the hooks off again.

        Raises:
            ValueError: the optimizer is not attached.
        """
        if optimizer not in self._clock.attachments:
            raise ValueError(f"this {type(optimizer).__name__} is not attached.")
        self._clock.detach(optimizer)

    def loss(self, task_loss: Tensor, values: Mapping[str, Any] | None = None, /, **named: Any) -> Tensor:
        """The task's loss plus the terms of all constraints; backward through it as usual.

        Args:
            task_loss: a scalar.
            values: required values by name, and more of them as keywords; pairs (value, index) for
                ``per="index"``.

        Raises:
            ValueError: a name is unknown or missing, or a value has another shape than in its first step.
        """
        if not isinstance(task_loss, Tensor) or task_loss.numel() != 1:
            got = (
                f"shape {tuple(task_loss.shape)}"
                if isinstance(task_loss, Tensor)
                else type(task_loss).__name__
            )
            raise ValueError(
                f"loss: expected a scalar tensor, got {got}. Reduce it first, as in task_loss.mean()."
            )
        loss = task_loss
        for term in self._evaluate(values, named, task_loss).values():
            loss = loss + term
        if self._terms and self._records:
            self._clock.watch(loss)
        if self._keep_every and self._clock.moment.ticks >= self._keep_at and self._records:
            self._keep(task_loss)
        return loss

    def terms(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, Tensor]:
        """What each constraint adds to the loss at these values, by name; nothing is recorded."""
        return self._evaluate(values, named)

    @property
    def _records(self) -> bool:
        """Whether ``loss`` is part of a training step."""
        return self.recording and torch.is_grad_enabled()

    def _evaluate(
        self, values: Mapping[str, Any] | None, named: Mapping[str, Any], task_loss: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The terms by name; with the task's loss, values are recorded and gradients may be compared."""
        handed = {**values, **named} if values else named
        check_names(self._terms, handed)
        # Every value is checked before the first is recorded: an error leaves no half-recorded step behind.
        read = [(c, self._read(c, handed)) for c in self._terms if c.enabled]
        record = False
        if task_loss is not None and self._records:
            record = True
            self._clock.open_window()
            self._measure_reach(read)
            self._probe(task_loss, read)
            self._clock.linearise(read)
        return {constraint.name: constraint.term(reading, record) for constraint, reading in read}

    def _probe(self, task_loss: Tensor, read: Sequence[tuple[Constraint, Reading]]) -> None:
        """In a few early steps, measure how hard the constraints have to pull that leave it to the problem."""
        moving = [
            (c, reading) for c, reading in read if reading.value.requires_grad and reading.value.numel()
        ]
        due = [(constraint, reading) for constraint, reading in moving if constraint.is_probed()]
        leaves = [slot.leaf for slot in self.slots.values() if slot.leaf.requires_grad]
        if not (due and leaves):
            return
        reason = ""
        try:
            loss = LossSize(task_loss.detach(), norms_of_gradients(task_loss, None, leaves))
        except RuntimeError as error:
            reason = f"the loss cannot be differentiated twice ({error})"
        for constraint, reading in due:
            constraint.unscaled = reason
            try:
                if not reason:
                    constraint.probe(reading, loss, leaves, self._clock.plain_rate)
            except RuntimeError as error:
                constraint.unscaled = f"its value cannot be differentiated twice ({error})"

    def _measure_reach(self, read: Sequence[tuple[Constraint, Reading]]) -> None:
        """In steps that become ever rarer, see whether the pull of a value arrives at the weights."""
        ticks = self._clock.moment.ticks
        if ticks == 0 or not is_measured(ticks) or ticks == self._reached_at:
            return
        self._reached_at = ticks
        leaves = [slot.leaf for slot in self.slots.values() if slot.leaf.requires_grad]
        for constraint, reading in read:
            if constraint.slot is None:
                measure_reach(constraint, reading, leaves)

    def _read(self, constraint: Constraint, handed: Mapping[str, Any]) -> Reading:
        given = handed.get(constraint.name)
        if given is None and constraint.spec.function is not None:
            given = constraint.spec.function(self.model)
        reading = constraint.read(given)
        if constraint.name in self._pending:
            checkpoint.restore(constraint, self._pending[constraint.name])
            del self._pending[constraint.name]
        return reading

    def step(self) -> None:
        """The tick of the clock, for loops without an attached optimizer: project, move multipliers, advance.

        It comes after the optimizer's step, too late to replace gradients: on a set that couples its
        entries use plain gradient steps (SGD), or attach the optimizer.
        """
        for constraint in self.constraints:
            if constraint.slot is not None:
                constraint.slot.refresh()
                constraint.follow_weight()
        correct(group_weights(self.constraints), Moments(None))
        self._tick(False, None)

    def _tick(self, full: bool, skipped: Tensor | None) -> None:
        if not self._ever_ticked:
            check_recorded(self._terms)
            warn(self.constraints, self._clock.optimizers)
            self._ever_ticked = True
        moment = self._clock.moment
        if skipped is not None:
            moment.ticks -= self._clock.skips.known()
        with torch.no_grad():
            if is_distributed():
                self._agree()
            for constraint in self._terms:
                if constraint.enabled:
                    constraint.tick(full, skipped)
            moment.ticks += 1
            self._follow()
        self._clock.close_window()

    def _follow(self) -> None:
        """Schedules of weights whose storage changes with them."""
        for constraint in self._followers:
            if constraint.enabled and not self.finished:
                constraint.follow()

    def _agree(self) -> None:
        """In the few steps in which every rank has measured something by itself, they average it."""
        due = [c for c in self._terms if c.enabled and is_measured(c.ticks)]
        if due:
            device = next(iter(self.slots.values())).leaf.device
            sums = total(torch.stack([constraint.proposal(device) for constraint in due]))
            for constraint, row in zip(due, sums, strict=True):
                constraint.agree(row)

    def validate(
        self, loss: Tensor | float, values: Mapping[str, Any] | None = None, /, **named: Any
    ) -> bool:
        """Note how good the present weights are; ``best`` keeps the best of them.

        Call it after a pass over validation data, with the mean loss and the values of all of it. Ranks of a
        distributed run decide alike when they hand in the same numbers: average the loss and gather the values.

        Args:
            loss: the loss on the validation data.
            values: required values by name, as for ``loss``, and more of them as keywords.

        Returns:
            Whether these are the best weights so far; a copy was kept then.

        Raises:
            ValueError: a value is unknown or missing.
        """
        violation, feasible = judge(self, {**(values or {}), **named})
        number = float(torch.as_tensor(loss).detach())
        return self.best.consider(self._clock.moment.ticks, number, violation, feasible)

    def keep_best(self, every: int = 100) -> None:
        """Without validation data: every so many steps, ``loss`` judges the weights by what it was handed itself.

        One batch is a noisy judge; ``validate`` is the better one. Nothing is copied or read back in between.
        """
        if every < 1:
            raise ValueError(f"keep_best: every must be at least 1, got {every}.")
        self._keep_every, self._keep_at = every, self._clock.moment.ticks

    def _keep(self, task_loss: Tensor) -> None:
        self._keep_at = self._clock.moment.ticks + self._keep_every
        seen = {c.name: c.last for c in self._terms if c.slot is None and c.enabled}
        self.validate(task_loss.detach(), seen)

    @property
    def optimizers(self) -> list[Optimizer]:
        """The attached optimizers."""
        return self._clock.optimizers

    def metrics(self) -> dict[str, float]:
        """The latest numbers for a logger: ``{"<constraint>/violation": …, "<constraint>/multiplier": …, …}``.

        Reads back from the device once; call it as often as you log.
        """
        return metrics(self.constraints)

    # -- afterwards --------------------------------------------------------------------------------

    def report(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> Report:
        """What holds, checked now: weights as they are, values as handed in (or as last seen in training)."""
        handed = {**(values or {}), **named}
        unknown = handed.keys() - {c.name for c in self.constraints if c.slot is None}
        if unknown:
            raise ValueError(f"report: nothing is required under {', '.join(sorted(unknown))}.")
        return make_report(self, handed)

    def finish(self) -> None:
        """Weights into their sets, reparametrizations into plain parameters, hooks off the optimizers."""
        with torch.no_grad():
            for constraint in self.constraints:
                if constraint.slot is not None and constraint.enabled:
                    constraint.slot.refresh()
                    settled = self._settle(constraint)
                    constraint.settled = constraint.settled or settled
        for optimizer in self._clock.optimizers:
            self._clock.detach(optimizer)
        self.finished = True

    def polish(
        self,
        data: Iterable[Any],
        loss: Callable[[Callable[..., Any], Any], Tensor],
        optimizer: Optimizer | Callable[[list[Tensor]], Optimizer] | None = None,
        steps: int = 1000,
        *,
        lr: float = 1e-3,
        metric: Callable[[Callable[..., Any], Any], Any] | None = None,
        evaluations: int | None = None,
        seconds: float | None = None,
    ) -> Polish:
        """``finish`` for discrete weights: round them, improve them on the true loss, retrain the rest around them.

        1. Every weight in a discrete set moves to the nearest member, whatever its method.
        2. Single moves (an entry takes another value, a 1 moves, two rows swap, …), then pairs of moves, are
           accepted while they lower ``mean over batches of loss(call, batch)``. The loss never rises.
        3. The discrete entries are held, bit for bit, and the other weights are trained on; all other
           constraints stay enforced.

        Moves are tried in eval mode, on the batches as they are read once (hand in fewer where they do not fit
        into memory), with the same random numbers for all; training and data order use the model's own mode
        and ``data`` itself. The same call gives the same weights, unless ``seconds`` cuts it short.

        Args:
            data: batches of any kind: a list, a ``DataLoader``; an iterator is read once and kept.
            loss: ``fn(call, batch)``, a scalar, where ``call(*inputs)`` runs the model (of a dict or list of
                tensors it gives them back). Where values are required without ``fn=``, let it return
                ``problem.loss(task_loss, name=value)``.
            optimizer: what retrains the rest: an optimizer that holds it, or a function that makes one from a
                list of tensors; ``Adam(lr=lr)`` where it is left out.
            steps: the number of its steps; 0 leaves retraining out.
            lr: the learning rate of the default.
            metric: ``fn(call, batch)``, a number that is shown beside the loss, such as an accuracy; held-out
                data may stand in its place, since only the batch is handed in.
            evaluations: how often the search may compute the loss on all data; by default as often as small
                layers need (20,000), and on large layers or much data as often as takes minutes (at least 256).
            seconds: of the search, at most.

        Returns:
            The loss, the metric and the number of changed entries after every stage; prints as a table.

        Raises:
            ValueError: no weight is in a discrete set, there is no data, the loss is no finite scalar, or the
                optimizer holds nothing that is left to train.

        >>> import torch, feasible as fs
        >>> w = torch.tensor([0.6, 0.6], requires_grad=True)
        >>> problem = fs.Problem({"w": w})
        >>> _ = problem.constrain("w", fs.FiniteSet([0, 1]), by=fs.Penalty(1.0))
        >>> polished = problem.polish([torch.tensor([1.0, 1.1])], lambda call, x: (call()["w"] @ x - 1) ** 2)
        >>> w.tolist()
        [1.0, 0.0]
        >>> [(stage.name, round(stage.loss, 2)) for stage in polished.stages]
        [('as trained', 0.07), ('rounded', 1.21), ('single moves', 0.0), ('pairs of moves', 0.0)]

        Source: Nagel et al., *Up or down? Adaptive rounding for post-training quantization* (2020) on what
        rounding loses; the search is k-opt (Lin & Kernighan, 1973) with k ≤ 2.
        """
        return polish(
            self,
            data,
            loss,
            optimizer,
            steps,
            lr=lr,
            metric=metric,
            evaluations=evaluations,
            seconds=seconds,
        )

    def _settle(self, constraint: Constraint) -> Settled | None:
        """Leave the weight as a plain tensor where its method wants it; what that moved."""
        slot, method = constraint.slot, constraint.method
        assert slot is not None
        # Under another method's chart (a soft one, which comes along) nothing has to be settled.
        if slot.chart is not None and not method.latent:
            return None
        settled = method.settle(slot, constraint.bound)
        moved = Settled.between(slot.value().detach(), settled, constraint.bound) if method.hard else None
        if slot.chart is not None:
            constraint.saturation = float(slot.chart.saturated(slot.leaf).float().mean())
            self._uninstall(constraint)
        if not torch.equal(settled, slot.leaf):
            slot.write(settled)
        return moved

    def _uninstall(self, constraint: Constraint) -> None:
        slot = constraint.slot
        assert slot is not None
        latent = slot.refresh()
        constraint.method.uninstall(slot, constraint.bound)
        if slot.leaf is not latent:
            for attachment in self._clock.attachments.values():
                attachment.moments.replace(latent, slot.leaf)

    def feasible_state_dict(self) -> dict[str, Tensor]:
        """A plain model's state dict as it would be after ``finish``; nothing is changed."""
        settled = {}
        with torch.no_grad():
            for constraint in self.constraints:
                slot = constraint.slot
                if slot is not None and constraint.enabled and constraint.method.hard:
                    settled[slot.name] = constraint.method.settle(slot, constraint.bound)
        return plain_state.plain_state_dict(self.model, self.slots, settled)

    # -- checkpoints -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Multipliers, schedules and frozen values as flat tensors ``<constraint>.<entry>``."""
        saved = checkpoint.save([c for c in self.constraints if c.name not in self._pending])
        for name, entries in self._pending.items():
            saved.update({f"{name}.{key}": value.clone() for key, value in entries.items()})
        return saved

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a saved state; values that ``loss`` has not seen yet get theirs when it does.

        Histories are not saved: they begin anew, at the step of the checkpoint.

        Raises:
            ValueError: the state belongs to other constraints.
        """
        found = checkpoint.split(self.constraints, state)
        with torch.no_grad():
            for constraint in self.constraints:
                saved = found[constraint.name]
                constraint.ticks = int(saved["step"])
                constraint.history.clear()
                self._pending.pop(constraint.name, None)
                if saved.keys() == {"fingerprint", "step"} and constraint.slot is None:
                    constraint.unbind()  # saved before its first value
                elif constraint.measure is None:
                    self._pending[constraint.name] = saved
                else:
                    checkpoint.restore(constraint, saved)
        self.refresh()
        with torch.no_grad():
            self._follow()
        self._ever_ticked = False

    def _save_with_optimizer(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        if self._clock.leader is not None and optimizer is self._clock.leader.optimizer:
            state["feasible"] = self.state_dict()

    def _load_with_optimizer(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        if "feasible" in state:
            self.load_state_dict(state["feasible"])

    def __repr__(self) -> str:
        return overview(self.slots, self.constraints)
