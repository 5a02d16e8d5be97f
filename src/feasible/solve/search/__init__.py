"""Exhaustive search over discrete weights: every choice is trained, all of them at once."""

from feasible.solve.search.estimate import SearchEstimate, estimate_search
from feasible.solve.search.result import Ranked, Ranking, SearchInterrupted, SearchResult
from feasible.solve.search.search import exhaustive_search

__all__ = [
    "Ranked",
    "Ranking",
    "SearchEstimate",
    "SearchInterrupted",
    "SearchResult",
    "estimate_search",
    "exhaustive_search",
]
