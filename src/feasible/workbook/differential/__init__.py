"""Experiments on differential equations: a problem, networks, and the ways to solve it that are compared."""
