"""Solvers: deterministic, high accuracy, with a certificate of what they found."""

__all__: list[str] = []
