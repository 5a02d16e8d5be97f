"""Optimizers with curvature or geometry of their own for weights under sets."""

__all__: list[str] = []
