"""Tuples of choices, one after the other, with nothing listed in advance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

Choice = TypeVar("Choice")


def tuples(choices: Callable[[], Iterable[Choice]], length: int) -> Iterator[tuple[Choice, ...]]:
    """As ``itertools.product`` with ``repeat=length``, which would first list all the choices.

    Args:
        choices: gives the choices of one place, anew each time and in the same order.
        length: number of places; the last one moves fastest.

    >>> next(tuples(lambda: range(10**12), 2))
    (0, 0)
    """
    first = list(islice(choices(), 1))
    if length and not first:
        return
    shown = first * length
    yield tuple(shown)
    later: dict[int, Iterator[Choice]] = {}  # what is still to come, at the places that have moved
    place = length - 1
    while place >= 0:
        for following in later.setdefault(place, islice(choices(), 1, None)):
            shown[place] = following
            yield tuple(shown)
            place = length - 1
            break
        else:
            del later[place]
            shown[place] = first[0]
            place -= 1
