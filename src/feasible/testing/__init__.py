"""Conformance suites: what every set must satisfy, for the library's own sets and for everybody else's."""

from feasible.testing.check_set import SET_CHECKS, check_set
from feasible.testing.subject import SetSubject, Situation, same_bits

__all__ = ["SET_CHECKS", "SetSubject", "Situation", "check_set", "same_bits"]
