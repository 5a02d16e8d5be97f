"""Exact multipliers on the residual of a batch: beside the plain step, and beside the 2019 study's form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import feasible as fs

from .timing import Line, medians, ratios

Step = Callable[[], object]
FREQUENCY = 2 * math.pi


def main() -> Iterator[Line]:
    """Ratios of whole training steps: 601 parameters, a Helmholtz residual a sample, all as one constraint vector."""
    for batch, plain_goal, study_goal in ((100, 6.0, 1 / 15), (1000, 40.0, 1 / 30)):
        runs = {"feasible": exact(batch), "the plain step": plain(batch), "the study's form": study(batch)}
        slow = runs.pop("the study's form")
        times = medians(runs, rounds=21, inner=max(1, 1000 // batch))
        times["the study's form"] = medians({"study": slow}, rounds=3)["study"]
        memory = peak(runs["feasible"]) - peak(runs["the plain step"])
        work = f"exact multipliers, {batch} residuals, 601 parameters"
        note = f"{memory:.1f} MiB above the plain step's peak"
        yield Line(work, "the plain step", ratios(times, "feasible", "the plain step"), plain_goal, note)
        own = {name: found[:3] for name, found in times.items()}
        yield Line(work, "the study's form", ratios(own, "feasible", "the study's form"), study_goal)


def setting(batch: int) -> tuple[nn.Module, Tensor, Tensor]:
    """The network, (x, A, f, φ), and the solution."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 100), nn.Tanh(), nn.Linear(100, 1))
    inputs = torch.rand(batch, 4) * torch.tensor([2.0, 4.8, 4.8, 1.0]) - torch.tensor([1.0, -0.2, -0.2, 0.5])
    x, a, f, phase = inputs.unbind(1)
    return model, inputs, (a * torch.sin(FREQUENCY * f * x + phase)).unsqueeze(1)


def residual(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The prediction and ``u″/k² + u``."""
    at = inputs.clone().requires_grad_()
    u = model(at)
    (first,) = torch.autograd.grad(u.sum(), at, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), at, create_graph=True)
    return u, second[:, 0] / (FREQUENCY * inputs[:, 2]).square() + u[:, 0]


def plain(batch: int) -> Step:
    """The unconstrained step."""
    model, inputs, y = setting(batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        (model(inputs) - y).square().mean().backward()
        optimizer.step()

    return step


def exact(batch: int) -> Step:
    """The same with the residuals required to be 0."""
    model, inputs, y = setting(batch)
    problem = fs.Problem(model)
    problem.require("residual", fs.Equal(0.0), by=fs.ExactMultipliers())
    optimizer = problem.attach(torch.optim.Adam(model.parameters(), lr=1e-3))

    def step() -> None:
        optimizer.zero_grad()
        u, r = residual(model, inputs)
        problem.loss((u - y).square().mean(), residual=r).backward()
        optimizer.step()

    return step


def study(batch: int) -> Step:
    """As the study did: a gradient for each scalar with its graph, λ from J Jᵀ, the gradient replaced."""
    model, inputs, y = setting(batch)

    def evaluate() -> tuple[Tensor, Tensor]:
        u, r = residual(model, inputs)
        return (u - y).square().mean(), r

    return in_the_form_of_the_study(model, torch.optim.Adam(model.parameters(), lr=1e-3), evaluate)


def in_the_form_of_the_study(
    model: nn.Module, optimizer: torch.optim.Optimizer, evaluate: Callable[[], tuple[Tensor, Tensor]]
) -> Step:
    """Its step, for a loss and residuals of any shape."""
    parameters = list(model.parameters())

    def flat(gradients: tuple[Tensor | None, ...]) -> Tensor:
        return torch.cat(
            [
                torch.zeros_like(p).reshape(-1) if g is None else g.reshape(-1)
                for p, g in zip(parameters, gradients, strict=True)
            ]
        )

    def step() -> None:
        optimizer.zero_grad()
        loss, residuals = evaluate()
        r = residuals.reshape(-1)
        f = flat(torch.autograd.grad(loss, parameters, create_graph=True))
        rows = [torch.autograd.grad(g, parameters, create_graph=True, allow_unused=True) for g in r]
        J = torch.stack([flat(row) for row in rows])
        right = (r - J @ f).unsqueeze(1)
        factor, failed = torch.linalg.cholesky_ex(J @ J.T)
        if failed:
            multiplier = torch.linalg.lstsq(J @ J.T, right).solution.detach()
        else:
            multiplier = torch.cholesky_solve(right, factor).detach()
        gradient = (f + J.T @ multiplier[:, 0]).detach()
        for p, own in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
            p.grad = own.reshape(p.shape)
        optimizer.step()

    return step


def peak(step: Step) -> float:
    """MiB of tensors that are alive at most within a step, by the profiler's allocations."""
    step()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as seen:
        step()
    alive = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            most = max(most, alive)
    return most / 2**20
