"""Weights as members and small integers: a file that loads back to the same bits."""

__all__: list[str] = []
