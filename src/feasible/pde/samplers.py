"""Points of a domain, or of a part of its boundary; the same generator or seed gives the same points."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from feasible.pde.domains import Domain

__all__ = ["adaptive", "grid", "sobol", "uniform"]


def grid(domain: Domain, count: int, part: str | None = None, *, dtype: torch.dtype | None = None) -> Tensor:
    """A regular grid with ``count`` points along each coordinate; on a part of the boundary, along it.

    A part that is one point, such as the end of an interval, gives one point. On a curved domain only the points
    inside are kept.

    >>> from feasible.pde import Interval, Rectangle
    >>> grid(Interval(0, 1), 3), grid(Rectangle(), 2, "right")
    (tensor([[0.0000], [0.5000], [1.0000]]), tensor([[1., 0.], [1., 1.]]))
    """
    like = torch.empty(0, dtype=dtype)
    if part is None:
        return domain.grid(count, like)
    domain.check_part(part)
    check_count("grid", count)
    line = torch.linspace(0, 1, count, dtype=like.dtype)
    if domain.face(part) is None:  # a circle: its first point is its last
        line = torch.arange(count, dtype=like.dtype) / count
    lines = [line] * (domain.dim - 1)
    unit = torch.cartesian_prod(*lines).reshape(-1, domain.dim - 1) if lines else line.new_zeros(1, 0)
    points = domain.part_from_unit(part, unit)
    return torch.unique(points, dim=0) if domain.face(part) is not None else points


def uniform(
    domain: Domain,
    count: int,
    part: str | None = None,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Random points of even density.

    >>> from feasible.pde import Disc
    >>> uniform(Disc(), 5, "circle", generator=torch.Generator().manual_seed(0)).norm(dim=1)
    tensor([1., 1., 1., 1., 1.])
    """
    check_count("uniform", count)
    dim = domain.dim if part is None else domain.dim - 1
    unit = torch.rand(count if dim else 1, dim, generator=generator, dtype=dtype)
    return domain.from_unit(unit) if part is None else domain.part_from_unit(part, unit)


def sobol(
    domain: Domain, count: int, part: str | None = None, *, seed: int = 0, dtype: torch.dtype | None = None
) -> Tensor:
    """The first points of a scrambled Sobol sequence: even density without the gaps of chance.

    >>> from feasible.pde import Rectangle
    >>> sobol(Rectangle(), 64).mean(0).round(decimals=1)
    tensor([0.5000, 0.5000])

    Source: Sobol (1967); Owen (1998), scrambling; ``torch.quasirandom``.
    """
    check_count("sobol", count)
    dim = domain.dim if part is None else domain.dim - 1
    dtype = dtype or torch.get_default_dtype()
    if dim == 0:
        return domain.part_from_unit(str(part), torch.empty(1, 0, dtype=dtype))
    engine = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    unit = engine.draw(count, dtype=dtype)
    return domain.from_unit(unit) if part is None else domain.part_from_unit(part, unit)


def adaptive(
    domain: Domain,
    residual: Callable[[Tensor], Tensor],
    count: int,
    part: str | None = None,
    *,
    power: float = 1.0,
    offset: float = 1.0,
    candidates: int | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Random points, more of them where the residual is large: density ∝ ``|r|ᵖ / mean |r|ᵖ + offset``.

    Args:
        domain: where.
        residual: of points (n, dim); (n,) or (n, equations), of which the norm is taken.
        count: how many, without repetition.
        part: of the boundary, by name; ``None``: inside. A part that is one point gives one point.
        power: p; 0: even density.
        offset: what keeps points where the residual is small.
        candidates: even points to choose from; ``None``: ten times as many.
        generator: of random numbers.
        dtype: of the points.

    Raises:
        ValueError: an argument is out of range, or a residual is not finite.

    >>> from feasible.pde import Interval
    >>> step = lambda x: torch.exp(-(10 * x) ** 2)
    >>> points = adaptive(Interval(-1, 1), step, 1000, offset=0.1, generator=torch.Generator().manual_seed(0))
    >>> bool((points.abs() < 0.2).float().mean() > 0.8)
    True

    Source: Wu, Zhu, Tan, Kartha & Lu, *A comprehensive study of non-adaptive and residual-based adaptive sampling
    for physics-informed neural networks* (2023).
    """
    check_count("adaptive", count)
    many = 10 * count if candidates is None else candidates
    if many < count:
        raise ValueError(f"adaptive: expected candidates ≥ {count}, got {many}.")
    points = uniform(domain, many, part, generator=generator, dtype=dtype)
    if len(points) == 1:
        return points
    keep = chosen(residual(points), count, power=power, offset=offset, generator=generator)
    return points[keep.to(points.device)]


def chosen(
    residual: Tensor, count: int, *, power: float, offset: float, generator: torch.Generator | None
) -> Tensor:
    """The numbers of so many rows, (count,), in order: each with a probability ∝ ``|r|ᵖ / mean |r|ᵖ + offset``.

    Args:
        residual: (n,) or (n, equations).
        count: how many, without repetition.
        power: p.
        offset: what keeps rows that are small.
        generator: of random numbers.

    Raises:
        ValueError: an argument is out of range, or a residual is not finite.
    """
    if not 0 <= power < math.inf or not 0 <= offset < math.inf:
        raise ValueError(f"adaptive: expected power ≥ 0 and offset ≥ 0; got {power} and {offset}.")
    size = residual.detach().reshape(len(residual), -1).double().cpu()
    weights = torch.linalg.vector_norm(size, dim=1) ** power
    if not bool(weights.isfinite().all()):
        raise ValueError(
            f"adaptive: the residual is not finite at {int((~weights.isfinite()).sum())} points."
        )
    mean = weights.mean()
    density = (weights / mean if mean > 0 else torch.ones_like(weights)) + offset
    if int((density > 0).sum()) < count:
        raise ValueError("adaptive: with offset=0 the residual must not be 0 at so many points.")
    # torch.multinomial is limited to 2²⁴ categories; exponential clocks are not.
    clocks = torch.empty_like(density).exponential_(generator=generator) / density
    return clocks.topk(count, largest=False).indices.sort().values.to(residual.device)


def check_count(name: str, count: int) -> None:
    """Raise where a count is not positive.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"{name}: expected a positive number of points, got {count!r}.")
