"""Repetition found in a sequence: what a program runs once for each element becomes nested loops."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Generic, TypeVar

Item = TypeVar("Item")
LONGEST = 64
"""Elements of a repeated run, after shorter runs in it have been folded."""


@dataclass(frozen=True, slots=True)
class Repeat(Generic[Item]):
    """``body``, ``count`` times."""

    count: int
    body: tuple[Item | Repeat[Item], ...]


Folded = tuple[Item | Repeat[Item], ...]


def folded(items: tuple[Item, ...]) -> Folded[Item]:
    """``items`` with runs that repeat at once folded into loops, the shortest runs first.

    >>> folded(tuple("abbbabbbc"))
    (Repeat(count=2, body=('a', Repeat(count=3, body=('b',)))), 'c')
    """
    found: list[Item | Repeat[Item]] = []
    for item, run in groupby(items):
        count = sum(1 for _ in run)
        found.append(item if count == 1 else Repeat(count, (item,)))
    length = 2
    while 2 * length <= len(found) and length <= LONGEST:
        again = _folded(found, length)
        # What has become equal neighbours may repeat in shorter runs.
        length = 2 if len(again) < len(found) else length + 1
        found = again
    return tuple(found)


def _folded(items: list[Item | Repeat[Item]], length: int) -> list[Item | Repeat[Item]]:
    found: list[Item | Repeat[Item]] = []
    place = 0
    while place < len(items):
        run = items[place : place + length]
        count = 1
        while len(run) == length and items[place + count * length : place + (count + 1) * length] == run:
            count += 1
        if count == 1:
            found.append(items[place])
            place += 1
        else:
            found.append(Repeat(count, tuple(run)))
            place += count * length
    return found
