"""Which inputs go together: a teacher with a one-hot-column selection in front, and a student that has to find it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import feasible as fs


class Selector(nn.Module):
    """3 of the rows of a 3×4 matrix feed a 3-16-1 network."""

    def __init__(self) -> None:
        super().__init__()
        self.select = nn.Linear(4, 3, bias=False)
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.select(x))


def partition(matrix: Tensor) -> set[tuple[int, ...]]:
    """The inputs that share a row, whichever row it is: the free next layer absorbs permutations."""
    nearest = fs.OneHot(dim=0).project(matrix.detach())
    return {tuple(row.nonzero().flatten().tolist()) for row in nearest} - {()}


def recovers(seed: int, declare: Callable[[fs.Problem], object], steps: int = 2000) -> bool:
    """Whether the student ends with the teacher's partition."""
    torch.manual_seed(seed)
    teacher, x = Selector(), torch.randn(256, 4)
    rows = torch.randint(3, (4,))
    with torch.no_grad():
        teacher.select.weight.copy_(nn.functional.one_hot(rows, 3).T)
        y = teacher(x)
    student = Selector()
    problem = fs.Problem(student)
    declare(problem)
    optimizer = problem.attach(torch.optim.Adam(student.parameters(), lr=0.01))
    for _ in range(steps):
        optimizer.zero_grad()
        problem.loss((student(x) - y).square().mean()).backward()
        optimizer.step()
    problem.finish()
    return partition(student.select.weight) == partition(teacher.select.weight)
