"""Polyhedra, beyond what the table checks."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from feasible import Polyhedron, Simplex
from feasible.sets.active_set import nearest_under_inequalities


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def worst_multiplier_gap(G, h, x, projected):
    """How far ``x − p`` is from the normals of the inequalities that are active at p."""
    worst = 0.0
    for row, point, right in zip(x, projected, h, strict=True):
        tight = (G @ point - right).abs() <= 1e-9 * (1 + row.norm())
        rest = (row - point).numpy()
        gap = nnls(G[tight].numpy().T, rest)[1] if tight.any() else np.linalg.norm(rest)
        worst = max(worst, gap / (1 + float(row.norm())))
    return worst


@pytest.mark.parametrize(("n", "m"), [(2, 3), (5, 12), (12, 40), (40, 20)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_projections_satisfy_the_optimality_conditions(n, m, scale):
    G, h = normal(m, n), normal(30, m, seed=1).abs()
    x = scale * normal(30, n, seed=2)
    projected = Polyhedron(G, h).project(x)
    assert (projected @ G.T - h).max() <= 1e-9 * (1 + 1e-3 * scale)
    assert worst_multiplier_gap(G, h, x, projected) <= 1e-10


def test_random_polyhedra_agree_with_clarabel():
    for seed in range(5):
        G, A = normal(9, 6, seed=seed), normal(2, 6, seed=seed + 10)
        h, b = normal(9, seed=seed + 20).abs(), A @ (0.01 * normal(6, seed=seed + 30))
        x = 2 * normal(6, seed=seed + 40)
        p = cp.Variable(6)
        conditions = [G.numpy() @ p <= h.numpy(), A.numpy() @ p == b.numpy()]
        problem = cp.Problem(cp.Minimize(cp.sum_squares(p - x.numpy())), conditions)
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
        projected = Polyhedron(G, h, A, b).project(x)
        torch.testing.assert_close(projected, torch.from_numpy(p.value), atol=1e-8, rtol=0)


def test_many_inequalities_through_one_point_are_no_trouble():
    G = normal(40, 6)
    G = torch.cat([G, G[:10], -G[:3], 1e6 * G[:5]])
    h = torch.zeros(50, len(G), dtype=torch.float64)
    x = 3 * normal(50, 6, seed=1)
    projected = Polyhedron(G, torch.zeros(len(G))).project(x)
    assert worst_multiplier_gap(G / G.norm(dim=1, keepdim=True), h, x, projected) <= 1e-10


def test_a_polyhedron_can_be_a_simplex():
    x = torch.randint(-3, 4, (40, 8)).double()
    simplex = Polyhedron(-torch.eye(8), torch.zeros(8), torch.ones(1, 8), torch.ones(1))
    torch.testing.assert_close(simplex.project(x), Simplex().project(x), atol=1e-14, rtol=0)


def test_a_wedge_of_no_width_is_found_and_one_of_rounding_width_is_not_called_empty():
    sides = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    for gap in (1.0, 1e-6, 1e-12):
        with pytest.raises(ValueError, match=r"rows \[0, 1\]"):
            Polyhedron(sides, torch.tensor([0.3, -0.3 - gap], dtype=torch.float64))
    flat = Polyhedron([[3.0, 0.0], [-1.0, 0.0]], [0.9, -0.3])  # in float32 they disagree by 1e-8
    assert flat.contains(flat.project(torch.tensor([2.0, 5.0])))
    assert not flat.offers("interior")


def test_rows_of_zeros_say_nothing_or_cannot_be_met():
    assert Polyhedron(torch.zeros(1, 2), torch.zeros(1)).contains(torch.ones(2))
    with pytest.raises(ValueError, match=r"is empty: no vector satisfies rows \[0\]"):
        Polyhedron(torch.zeros(1, 2), -torch.ones(1))


def test_the_inner_point_is_the_centre_where_the_margin_is_too_large():
    square = Polyhedron(torch.cat([torch.eye(2), -torch.eye(2)]), torch.tensor([1.0, 1.0, 0.0, 0.0]))
    centre = square.interior(torch.tensor([5.0, -5.0], dtype=torch.float64), 100.0)
    torch.testing.assert_close(centre, torch.tensor([0.5, 0.5], dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_active_rows_are_independent():
    normals = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0.5**0.5, 0.5**0.5]], dtype=torch.float64)
    offsets = torch.tensor([[1.0, 1, 1, 2**0.5]], dtype=torch.float64)
    points, active, feasible = nearest_under_inequalities(
        torch.tensor([[3.0, 3.0]], dtype=torch.float64), normals, offsets, 1e-15
    )
    torch.testing.assert_close(points, torch.ones(1, 2, dtype=torch.float64))
    assert feasible.all()
    assert active.sum() <= 2


def test_vmap_over_a_polyhedron_with_its_own_right_hand_sides():
    polyhedron = Polyhedron(normal(5, 3), normal(4, 5, seed=1).abs())
    x = 3 * normal(2, 4, 3, seed=2)
    batched = torch.func.vmap(polyhedron.project)(x)
    torch.testing.assert_close(batched, torch.stack([polyhedron.project(x[0]), polyhedron.project(x[1])]))
