"""Under ``torch.compile`` and ``torch.func.vmap`` a projection is what it is in eager mode."""

from __future__ import annotations

import warnings

import torch

from feasible.testing.subject import SetSubject, Situation


def compiled_projection_agrees(subject: SetSubject) -> None:
    """``torch.compile(fullgraph=True)``: the plain projection, and its gradient through AOTAutograd."""
    if not subject.compilable:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, where it traces autograd functions
        _compare_compiled(subject)


def _compare_compiled(subject: SetSubject) -> None:
    shape = subject.shapes[0]
    at = Situation(subject.bound(shape, torch.float32), "scale 1", subject.normal(shape).float())
    torch.compiler.reset()
    plain = torch.compile(at.set.project, fullgraph=True, backend="eager")
    close = torch.allclose(plain(at.x), at.set.project(at.x), rtol=1e-5, atol=1e-6 * subject.size)
    at.expect(close, 'torch.compile(backend="eager") changes the projection')
    x, y = (at.x.clone().requires_grad_() for _ in range(2))
    traced = torch.compile(at.set.project, fullgraph=True, backend="aot_eager")
    weights = subject.normal(shape, seed=2).float()
    (through_graph,) = torch.autograd.grad(traced(x), x, weights)
    (expected,) = torch.autograd.grad(at.set.project(y), y, weights)
    close = torch.allclose(through_graph, expected, rtol=1e-4, atol=1e-5 * subject.size)
    at.expect(close, 'torch.compile(backend="aot_eager") changes the gradient')


def vmapped_projection_agrees(subject: SetSubject) -> None:
    """``vmap`` over a new batch dimension does what a loop does, members and gradients included."""
    if not subject.mappable:
        return
    for shape in subject.shapes:
        bound = subject.bound(shape)
        batch = torch.stack([subject.normal(shape), 3 * subject.normal(shape, 1), subject.members(shape)])
        at = Situation(bound, "a stack of three", batch)
        looped = torch.stack([bound.project(x) for x in batch])
        mapped = torch.func.vmap(bound.project)(batch)
        close = torch.allclose(mapped, looped, rtol=1e-12, atol=1e-12 * subject.size)
        at.expect(close, "vmap and a loop disagree")
        at.expect(torch.equal(mapped[2], batch[2]), "under vmap a member moves")
        weights = subject.normal(shape, seed=4)
        slope = torch.func.grad(lambda x, set=bound, w=weights: (set.project(x) * w).sum())
        mapped, looped = torch.func.vmap(slope)(batch), torch.stack([slope(x) for x in batch])
        at.expect(torch.allclose(mapped, looped, atol=1e-9), "vmap(grad) and a loop disagree")
