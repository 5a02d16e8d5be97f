"""Conformance suites: what every set and every method must satisfy, the library's own and everybody else's."""

from feasible.testing.check_method import METHOD_CHECKS, check_method
from feasible.testing.check_set import SET_CHECKS, check_set
from feasible.testing.subject import SetSubject, Situation, same_bits
from feasible.testing.trial import EXAMPLE_SETS, MethodSubject

__all__ = [
    "EXAMPLE_SETS",
    "METHOD_CHECKS",
    "SET_CHECKS",
    "MethodSubject",
    "SetSubject",
    "Situation",
    "check_method",
    "check_set",
    "same_bits",
]
