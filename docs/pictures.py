"""Pictures of projections in the plane: the set, points, and an arrow from each to its nearest member."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from feasible import Set

FRAME = 2.4
FINE = 181
"""Grid points along each axis; projected, they draw the set."""


@dataclass(frozen=True)
class Plane:
    """A plane through the space in which a set lives: pairs (a, b) as the units of the set."""

    name: str
    rows: tuple[str, ...]
    embed: Callable[[Tensor], Tensor]

    def nearest(self, set: Set, pairs: Tensor) -> Tensor | None:
        """The nearest members as pairs; ``None`` where the set takes other shapes, or leaves the plane."""
        points = self.embed(pairs)
        try:
            try:
                found = set.bind(points).project(points)
            except ValueError:  # not a batch: the set speaks of the whole tensor
                one = set.bind(points[0])
                found = torch.stack([one.project(point) for point in points])
        except ValueError:
            return None
        return self.coordinates(found)

    def coordinates(self, points: Tensor) -> Tensor | None:
        """The pairs of these points; ``None`` where one of them is not in the plane."""
        basis = self.embed(torch.eye(2, dtype=points.dtype)).reshape(2, -1)
        flat = points.reshape(len(points), -1)
        pairs = flat @ basis.T / basis.square().sum(1)
        return pairs if torch.allclose(pairs @ basis, flat, atol=1e-6) else None


def matrices(name: str, a: list[list[float]], b: list[list[float]]) -> Plane:
    """The matrices ``pair[0] · a + pair[1] · b``."""
    basis = torch.tensor([a, b], dtype=torch.float64)
    return Plane(name, ("a", "b"), lambda pairs: torch.einsum("np,pij->nij", pairs, basis))


VECTORS = Plane("", ("entry 0", "entry 1"), lambda pairs: pairs)
MATRICES = [
    matrices("[[a, 0], [0, b]]", [[1, 0], [0, 0]], [[0, 0], [0, 1]]),
    matrices("[[a, b], [b, a]]", [[1, 0], [0, 1]], [[0, 1], [1, 0]]),
    matrices("[[0, a], [b, 0]]", [[0, 1], [0, 0]], [[0, 0], [1, 0]]),
    matrices("[[a, −b], [b, a]]", [[1, 0], [0, 1]], [[0, -1], [1, 0]]),
]


def plane_of(set: Set) -> Plane | None:
    """The plane to draw the set in: the first that the projection does not leave and that shows more than a few points.

    The identity shows nothing, and four points or fewer only where no plane has more.
    """
    probe = 4 * torch.rand(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 2
    shown: dict[Plane, int] = {}
    for plane in MATRICES if set.unit == "matrix" else [VECTORS]:
        pairs = plane.nearest(set, probe)
        if pairs is not None and (set.unit != "matrix" or not torch.allclose(pairs, probe)):
            shown[plane] = min(5, len(pairs.round(decimals=6).unique(dim=0)))
    return max(shown, key=lambda plane: shown[plane], default=None)


def picture(set: Set) -> None:
    """Draw the set, and how points move to it."""
    import matplotlib.pyplot as plt

    plane = plane_of(set)
    if plane is None:
        raise ValueError(f"{set!r} has no picture: it holds no pairs and no 2×2 matrices of a known plane.")
    axis = torch.linspace(-FRAME, FRAME, FINE, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    cell = FRAME / 3.5
    shaken = torch.rand(49, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5
    points = cell * (torch.cartesian_prod(*2 * [torch.arange(-3.0, 4.0)]) + 0.4 * shaken)
    nearest, arrived = plane.nearest(set, grid), plane.nearest(set, points)
    assert nearest is not None
    assert arrived is not None
    moved, has_moved = ((a - b).norm(dim=1) > 1e-6 for a, b in ((nearest, grid), (arrived, points)))

    _, axes = plt.subplots(figsize=(3.2, 3.2), layout="constrained")
    axes.plot(*nearest[~moved].T, "s", color="#cfe3f5", markersize=1.6, markeredgewidth=0, rasterized=True)
    size = 7 if len(nearest.round(decimals=6).unique(dim=0)) < 40 else 2
    axes.plot(
        *nearest[moved].unique(dim=0).T,
        "o",
        color="#2f7ec2",
        markersize=size,
        markeredgewidth=0,
        rasterized=True,
    )
    axes.plot(*points[~has_moved].T, "o", color="#333333", markersize=2.5)
    axes.plot(*points[has_moved].T, "o", color="#d9541e", markersize=2.5)
    way = arrived - points
    axes.quiver(
        *points[has_moved].T, *way[has_moved].T,
        angles="xy", scale_units="xy", scale=1, width=0.004, headwidth=5, color="#d9541e",
    )  # fmt: skip
    axes.set(xlim=(-FRAME, FRAME), ylim=(-FRAME, FRAME), aspect="equal", title=plane.name)
    axes.set(xlabel=plane.rows[0], ylabel=plane.rows[1], xticks=range(-2, 3), yticks=range(-2, 3))
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()
