"""Ratios against hand-written peers, in one run: ``python -m benchmarks [NAME …]``."""
