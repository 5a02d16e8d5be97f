"""Experiments from TOML files: compare ways to enforce constraints on real data, side by side."""
