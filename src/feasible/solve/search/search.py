"""Train a network for every member of a set of weights, all at once, and keep the best."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from feasible.errors import UnsupportedError
from feasible.sets import Set
from feasible.solve.counting import Count
from feasible.solve.search.choices import Table, duration, listed, spelled
from feasible.solve.search.ensemble import Ensemble
from feasible.solve.search.optimizers import Factory
from feasible.solve.search.plan import LIMIT, MAX_SECONDS, Plan, make_plan, surroundings
from feasible.solve.search.result import SearchInterrupted, SearchResult, make_result
from feasible.solve.search.template import Loss, State

__all__ = ["exhaustive_search"]

TRIAL = 3
"""Steps after which the time of the whole search is known well enough."""


def exhaustive_search(
    model: nn.Module,
    choices: Mapping[str, Set],
    loss: Loss,
    batches: Iterable[Any],
    steps: int,
    optimizer: Factory | None = None,
    *,
    starts: int = 1,
    chunk: int | str = "auto",
    merge: str | Mapping[str, str] | None = None,
    ties: float = 1e-4,
    seed: int = 0,
    limit: int = LIMIT,
    max_seconds: float = MAX_SECONDS,
) -> SearchResult:
    """Find ``argmin_W min_θ f(W, θ)`` over all members W of finite sets, training θ for each of them.

    Every choice of the named weights gets its own copy of the remaining parameters θ. The copies are stacked and
    their losses summed, ∂(Σ_j f_j)/∂θ_i = ∂f_i/∂θ_i, so that one optimizer on the stacks takes the very steps that
    one optimizer for each would take, and one call of the model serves all.

    The best choice is loaded into the model, in its set to the last bit, with the parameters and running statistics
    that were trained beside it. The final loss of a choice is the mean over one pass through the batches after the
    last step, in eval mode (no dropout, running statistics); training takes place in the mode that the model is in.

    Args:
        model: the network; it is copied, and changed only when the best choice is loaded.
        choices: for each weight, by name or pattern, a finite set: ``{"head.weight": OneHot(dim=0)}``. Several
            weights are combined in all ways. Of ``set.where(mask)`` the picked entries are chosen and the others
            are trained. Parameters that take no gradients stay as they are, chosen ones do not count as such.
        loss: ``loss(call, batch)`` gives one number; ``call(*inputs)`` runs the model with one choice. It runs under
            ``torch.func.vmap``: no ``.item()``, and derivatives by ``torch.func.grad``.
        batches: a list of batches, or what iterates over them. They are gone through once and kept, so that every
            choice sees the same ones in the same order, and repeated where there are more steps. From an iterator
            without a length at most ``steps`` batches are taken.
        steps: steps of the optimizer, ≥ 1.
        optimizer: a function that makes an optimizer for a list of parameters; Adam at a rate of 0.01 by default.
            It must treat every entry by itself, as SGD, Adam, AdamW or RMSprop do; that is tried out first.
        starts: initial values of θ for each choice: the model's own, then others by ``reset_parameters()``, the same
            for all choices. The loss of a choice is its best over the starts.
        chunk: how many models are trained at a time; ``"auto"``: 256 MiB full, a quarter of a GPU's free memory.
        merge: ``"rows"`` trains one choice for each class of those whose rows are permutations of each other: right
            where the weight's bias and the next layer are free, so that they absorb the order of the rows, and
            nothing else depends on it; ``"columns"`` likewise where the layer before is free. Or a dict of names
            and these. Classes have the same attainable losses, though not the same start.
        ties: losses that differ by less than this share count as tied.
        seed: of the further starts and of dropout (which depends on ``chunk``, too). Random numbers elsewhere are
            not disturbed.
        limit: the largest number of choices, before any are merged.
        max_seconds: the longest time that the search may take, as estimated after its first steps.

    Returns:
        The result, with the ranking of all choices. Those that were merged are one row, whose ``size`` tells how
        many it stands for. Losses that are not finite rank last and are counted.

    Raises:
        ValueError: an argument is out of its range, a name matches nothing, a set does not fit its weight, or the
            loss is not one number that depends on what is trained.
        UnsupportedError: the members of a set cannot be listed, there are more than ``limit``, the search would take
            longer than ``max_seconds``, the model cannot run under ``vmap``, or the optimizer couples its entries.
        RuntimeError: no choice ended with a finite loss; the model is as it was.
        SearchInterrupted: Ctrl-C after the first chunk, a ``KeyboardInterrupt``; the best choice so far is loaded.

    >>> import torch, feasible as fs
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 1))
    >>> x = torch.randn(32, 2)
    >>> result = fs.exhaustive_search(
    ...     model,
    ...     {"0.weight": fs.OneHot(dim=0)},
    ...     loss=lambda call, batch: (call(batch) - 2 * batch[:, :1] + batch[:, 1:]).square().mean(),
    ...     batches=[x],
    ...     steps=500,
    ...     merge="rows",
    ... )
    >>> result.best["0.weight"], result.count, result.members
    (tensor([[1., 0.],
             [0., 1.]]), 2, 4)

    Source: Horace He and Richard Zou, *Model ensembling with torch.func*, PyTorch tutorials.
    """
    started = time.perf_counter()
    with surroundings(seed, model):
        plan = make_plan(model, choices, loss, batches, steps, optimizer, starts, chunk, merge, seed)
        check_count(plan, limit)
        table = listed(plan.choices)
        progress = Progress(plan, table, max_seconds)
        try:
            progress.run()
        except KeyboardInterrupt:
            if progress.best is None:
                raise
            raise SearchInterrupted(_loaded(model, progress, started, ties)) from None
        return _loaded(model, progress, started, ties)


def check_count(plan: Plan, limit: int) -> None:
    """Raise ``UnsupportedError`` where there are too many choices to list."""
    count = Count.of_all([choice.count for choice in plan.choices])
    number = count.up_to(300)
    if number is not None and number <= limit:
        return
    sets = ", ".join(f"{choice.set!r} on {choice.name}" for choice in plan.choices)
    raise UnsupportedError(
        f"{sets}: {spelled(count)} choices are more than limit={limit:,}.\n"
        "  Train with SoftmaxAnneal or ProximalAnneal and finish with problem.polish, or raise the limit."
    )


class Progress:
    """The chunks of a search one after the other: all final losses, and the tensors of the best model so far."""

    def __init__(self, plan: Plan, table: Table, max_seconds: float) -> None:
        self.plan = plan
        self.table = table
        self.max_seconds = max_seconds
        self.members = len(table) * plan.starts
        self.chunk = plan.chunk(self.members)
        self.losses = torch.full((self.members,), -math.inf, dtype=torch.float64)
        """By member; −inf: not trained yet."""
        self.best: State | None = None
        self.least = math.inf

    def run(self) -> None:
        """Train and rank everything."""
        for number, members in enumerate(torch.split(torch.arange(self.members), self.chunk)):
            started = time.perf_counter()
            torch.manual_seed(self.plan.seed)
            ensemble = self.plan.ensemble(self.table, members)
            for step in range(self.plan.steps if self.plan.is_trained else 0):
                if number == 0 and step == TRIAL:
                    self.plan.wait()
                    self._check_time((time.perf_counter() - started) / TRIAL * self.plan.steps)
                ensemble.step(self.plan.batch(step))
            self._keep(members, ensemble)
            if number == 0 and self.chunk < self.members:
                self._check_time(time.perf_counter() - started)

    def _check_time(self, seconds_per_chunk: float) -> None:
        """Raise where all chunks would take too long, as far as the first one tells."""
        seconds = seconds_per_chunk * self.members / self.chunk
        if seconds > self.max_seconds:
            raise UnsupportedError(
                f"training {self.members:,} models for {self.plan.steps:,} steps would take about "
                f"{duration(seconds)}, longer than max_seconds={self.max_seconds:g}.\n"
                "  Train with SoftmaxAnneal or ProximalAnneal and finish with problem.polish, or raise max_seconds."
            )

    def _keep(self, members: Tensor, ensemble: Ensemble) -> None:
        losses = ensemble.evaluate(self.plan.batches).cpu()
        finite = torch.where(losses.isfinite(), losses, math.inf)
        first = int(finite.argmin())
        # Minus infinity is no loss that was reached, and marks what was not trained.
        self.losses[members] = torch.where(losses.isfinite(), losses, math.nan)
        if float(finite[first]) < self.least:
            self.best, self.least = ensemble.state(first), float(finite[first])


def _loaded(model: nn.Module, progress: Progress, started: float, ties: float) -> SearchResult:
    """The result, once the best choice is in the model.

    Raises:
        RuntimeError: there is none.
    """
    plan, losses = progress.plan, progress.losses
    if progress.best is None:
        raise RuntimeError(
            f"none of {int((losses != -math.inf).sum()):,} trained models ended with a finite loss; the model is as it "
            "was.\n  Lower the optimizer's rate."
        )
    plan.template.load(model, progress.best)
    table = losses.reshape(len(progress.table), plan.starts)
    seconds = time.perf_counter() - started
    best = {name: progress.best[real] for name, real in plan.template.names.items()}
    return make_result(best, progress.table, table, plan.steps, progress.chunk, seconds, ties)
