"""Projections onto sets against the libraries and the hand-written code that do the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

import feasible as fs

from . import peers
from .timing import Line, Run, against

N = 1000


def main() -> Iterator[Line]:
    """Lines of ratios, on matrices of 1000×1000 normal numbers where nothing else is said."""
    torch.manual_seed(0)
    x = torch.randn(N, N)
    yield from simplex(x)
    yield from l1_ball(x)
    yield from k_sparse(x)
    yield from n_of_m(x)
    yield from monotone(x)
    yield from stiefel()


def simplex(x: Tensor) -> Iterator[Line]:
    """Rows of four kinds, each with its largest error."""
    kinds = {
        "normal": x,
        "tiny scale": 1e-6 * x,
        "near the simplex": fs.Simplex().project(x) + 1e-4 * torch.randn(N, N),
        "heavy tails": 1e-3 * x / torch.rand(N, N),
    }
    chop = peers.chop()
    for kind, rows in kinds.items():
        error = (fs.Simplex().project(rows) - by_sorting(rows.double(), 1.0)).abs().max()
        others: dict[str, Run | str] = {"torch.sort alone": lambda rows=rows: rows.sort(-1)}
        if kind == "normal":
            others |= {
                "a sort by hand": lambda: by_sorting(x, 1.0),
                "optax": peers.jitted("optax.projections", "projection_simplex", x, 1.0),
                "jaxopt": peers.jitted("jaxopt.projection", "projection_simplex", x, 1.0),
                "chop, row by row": peers.using(
                    chop, lambda chop: lambda: torch.stack([chop.euclidean_proj_simplex(row) for row in x])
                ),
            }
        yield from against(
            f"Simplex rows, {kind}",
            lambda rows=rows: fs.Simplex().project(rows),
            others,
            {"torch.sort alone": 0.35},
            rounds=15,
            note=f"largest error {error:.1e}",
        )


def by_sorting(x: Tensor, total: float) -> Tensor:
    """The textbook's projection onto the simplex."""
    ordered = x.sort(-1, descending=True).values
    candidates = (ordered.cumsum(-1) - total) / torch.arange(1, x.shape[-1] + 1)
    size = (ordered > candidates).sum(-1, keepdim=True)
    return (x - candidates.gather(-1, size - 1)).clamp_min(0)


def l1_ball(x: Tensor) -> Iterator[Line]:
    """Rows outside the ball."""
    chop = peers.chop()
    others = {
        "a sort by hand": lambda: by_sorting(x.abs(), 1.0).copysign(x),
        "optax": peers.jitted("optax.projections", "projection_l1_ball", x, 1.0),
        "jaxopt": peers.jitted("jaxopt.projection", "projection_l1_ball", x, 1.0),
        "chop, row by row": peers.using(
            chop, lambda chop: lambda: torch.stack([chop.euclidean_proj_l1ball(row) for row in x])
        ),
    }
    yield from against(
        "L1Ball rows", lambda: fs.L1Ball(1.0).project(x), others, dict.fromkeys(others, 1.0), rounds=15
    )


def k_sparse(x: Tensor) -> Iterator[Line]:
    """From 1 % of each row to 90 %, and half of the whole tensor."""
    for k in (10, 50, 100, 250, 500, 900):
        yield from against(
            f"KSparse rows, {k} of {N}",
            lambda k=k: fs.KSparse(k).project(x),
            {"topk and scatter": lambda k=k: by_topk(x, k)},
            {"topk and scatter": 1.0},
            rounds=15,
        )
    half, prune = x.numel() // 2, peers.load("torch.nn.utils.prune")
    everything = torch.ones_like(x)
    yield from against(
        "KSparse, half of the tensor",
        lambda: fs.KSparse(half, dim=None).project(x),
        {
            "torch.nn.utils.prune": peers.using(
                prune, lambda prune: lambda: prune.L1Unstructured(amount=half).compute_mask(x, everything) * x
            )
        },
        {"torch.nn.utils.prune": 1.0},
        rounds=9,
    )


def by_topk(x: Tensor, k: int) -> Tensor:
    """What people write."""
    places = x.abs().topk(k, dim=-1).indices
    return torch.zeros_like(x).scatter_(-1, places, x.gather(-1, places))


def n_of_m(x: Tensor) -> Iterator[Line]:
    """Two of four."""
    others = {
        "topk and scatter": lambda: by_topk(x.view(N, -1, 4), 2).view(N, N),
        "torchao (Wanda's mask)": peers.using(peers.load("torchao.sparsity"), lambda ao: wanda(ao, x)),
    }
    yield from against(
        "NofM rows, 2 of 4", lambda: fs.NofM(2, 4).project(x), others, dict.fromkeys(others, 1.0), rounds=15
    )


def wanda(torchao, x: Tensor) -> Run:
    """The mask that torchao's sparsifier takes for inputs of one size, applied."""
    import warnings

    layer = nn.Linear(N, N, bias=False)
    layer.weight.data.copy_(x)
    model = nn.Sequential(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sparsifier = torchao.WandaSparsifier(semi_structured_block_size=4)
        sparsifier.prepare(model, [{"tensor_fqn": "0.weight"}])
        model(torch.ones(1, N))
    held = model[0].parametrizations.weight

    def run() -> Tensor:
        with torch.no_grad():
            sparsifier.update_mask(model[0], "weight", 0.5, semi_structured_block_size=4)
            return held.original * held[0].mask

    return run


def monotone(x: Tensor) -> Iterator[Line]:
    """Rows in several degrees of disorder."""
    trend = torch.arange(float(N))
    kinds = {
        "normal": x,
        "random walks": x.cumsum(-1),
        "nearly sorted": trend + 3 * x,
        "reversed": -trend + x,
        "sorted": x.sort(-1).values,
    }
    optimize = peers.load("scipy.optimize")
    for kind, rows in kinds.items():
        yield from against(
            f"Monotone rows, {kind}",
            lambda rows=rows: fs.Monotone().project(rows),
            {"scipy, row by row": peers.using(optimize, lambda scipy, rows=rows: by_scipy(scipy, rows))},
            {"scipy, row by row": 1.5},
            rounds=15,
        )


def by_scipy(optimize, rows: Tensor) -> Run:
    """Its compiled routine on each row."""
    values = rows.numpy()
    return lambda: np.stack([optimize.isotonic_regression(row).x for row in values])


def stiefel() -> Iterator[Line]:
    """512×512, as it is after a step, and far away."""
    size = 512
    basis = torch.linalg.qr(torch.randn(size, size))[0]
    noise = torch.randn(size, size) / size**0.5
    starts = {
        "near": basis + 1e-3 * noise,
        "1 % off": basis + 1e-2 * noise,
        "random": torch.randn(size, size),
    }
    for kind, x in starts.items():
        error = (fs.Stiefel().project(x) - by_svd(x.double())).abs().max()
        yield from against(
            f"Stiefel {size}×{size}, {kind}",
            lambda x=x: fs.Stiefel().project(x),
            {"SVD polar factor": lambda x=x: by_svd(x)},
            {} if kind == "random" else {"SVD polar factor": 0.5},
            rounds=9,
            note=f"largest error {error:.1e}",
        )


def by_svd(x: Tensor) -> Tensor:
    """The textbook's polar factor."""
    left, _, right = torch.linalg.svd(x, full_matrices=False)
    return left @ right
