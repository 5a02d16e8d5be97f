"""Several choices trained at once: their weights stacked, their losses summed, one optimizer for all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from feasible.solve.handed import one_number
from feasible.solve.search.optimizers import Factory, make
from feasible.solve.search.template import State, Template, evaluating


class Ensemble:
    """A model for each of n choices.

    The losses of all members are added up, so that the gradient of each is its own, and an optimizer that treats
    every entry by itself takes the steps that n optimizers would take.
    """

    def __init__(
        self, template: Template, chosen: State, starts: Sequence[int], optimizer: Factory | None
    ) -> None:
        self.template = template
        self.chosen = {template.names[name]: stack for name, stack in chosen.items()}
        self.trained = _stacked(template.starts, starts)
        self.buffers = _stacked(template.buffers, starts)
        self.counters = {name: value.clone() for name, value in template.counters.items()}
        self.leaves = [stack.requires_grad_() for stack in self.trained.values()]
        self.optimizer = make(optimizer, self.leaves) if optimizer and self.leaves else None

    def step(self, batch: Any) -> None:
        """One step of all members."""
        if self.optimizer is None:
            return
        self.differentiate(batch)
        self.optimizer.step()

    def differentiate(self, batch: Any) -> None:
        """The gradients of the summed losses, by what is trained; ``None`` where no loss depends on it."""
        for leaf in self.leaves:
            leaf.grad = None
        total = self.forward(batch).sum()
        if total.requires_grad and self.leaves:
            # Unlike autograd.grad, this lays the gradients out as the leaves, on which fused kernels rely.
            torch.autograd.backward(total, inputs=self.leaves)

    def forward(self, batch: Any) -> Tensor:
        """The loss of each member; running statistics move as the model moves them."""
        template = self.template

        def one(chosen: State, trained: State, buffers: State) -> tuple[Tensor, State, State]:
            state = {**trained, **buffers, **self.counters}
            for name, value in chosen.items():
                state[name] = template.completed(name, value, state)

            def call(*inputs: Any, **options: Any) -> Any:
                return functional_call(template.module, state, inputs, options)

            loss = one_number(template.loss(call, batch), "loss")
            return (
                loss,
                {name: state[name] for name in buffers},
                {name: state[name] for name in self.counters},
            )

        # The stub of vmap knows no None: what is the same for all members comes back once.
        each = vmap(one, out_dims=(0, 0, None), randomness="different")  # type: ignore[arg-type]
        losses, buffers, counters = each(self.chosen, self.trained, self.buffers)
        self.buffers = {name: buffer.detach() for name, buffer in buffers.items()}
        self.counters = counters
        return losses

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Any]) -> Tensor:
        """The mean loss of each member over the batches, in eval mode and float64; changes nothing."""
        kept = self.buffers, self.counters
        self.buffers, self.counters = (
            {name: value.clone() for name, value in state.items()} for state in kept
        )
        try:
            with evaluating(self.template.module):
                losses = torch.stack([self.forward(batch).double() for batch in batches])
        finally:
            self.buffers, self.counters = kept
        return losses.mean(0)

    @torch.no_grad()
    def state(self, index: int) -> State:
        """All tensors of one member, copied."""
        state = {name: stack[index].clone() for name, stack in {**self.trained, **self.buffers}.items()}
        state.update({name: value.clone() for name, value in self.counters.items()})
        for name, stack in self.chosen.items():
            state[name] = self.template.completed(name, stack[index].clone(), state)
        return state


def _stacked(states: Sequence[State], starts: Sequence[int]) -> State:
    """For each member the values of its start."""
    index = torch.tensor(starts)
    return {
        name: torch.stack([state[name].detach() for state in states])[index.to(first.device)].clone()
        for name, first in states[0].items()
    }
