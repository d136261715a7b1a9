"""The attention machine's two instructions in plain integers, from ``docs/attention-machine.md`` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from archsim._architecture import Architecture

COEFFICIENTS = (62, 297, 1824, 7872, 22713, 32768)
"""c5 .. c0 of 2^g, in units of 2^-15."""

Command = dict[str, int]
Words = Sequence[Sequence[int]] | Mapping[int, Sequence[int]]
"""Scratchpad words by address."""


def exponential(x: int, *, scale: int, shift: int) -> int:
    """The seven steps."""
    y = max(x * scale >> shift, -(1 << 18))
    n, g = -(y >> 14), y & 16383
    p = COEFFICIENTS[0]
    for coefficient in COEFFICIENTS[1:]:
        p = (p * g + (1 << 13) >> 14) + coefficient
    return p >> n


@dataclass
class NaiveAttention:
    """What array, lanes and their memories hold; ``attend`` and ``divide`` are whole instructions."""

    arch: Architecture
    values: list[list[int]] = field(init=False)
    records: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        rows, cols = self.arch.array.rows, self.arch.array.cols
        self.values = [[0] * cols for _ in range(self.arch.vector.buffer_words)]
        self.records = [[0] * cols for _ in range(self.arch.vector.rows)]
        self.scores = [[0] * cols for _ in range(rows)]
        self.powers = [[0] * cols for _ in range(rows)]
        self.maximum, self.older, self.rescale, self.denominator = ([0] * cols for _ in range(4))

    def attend(self, c: Command, store: Words) -> None:
        """One period; what it makes for the next one is put down last."""
        if c["values"]:
            self._values(c, store)
        if c["exponentials"]:
            self._exponentials(c)
        if c["scores"]:
            self._scores(c, store)

    def _values(self, c: Command, store: Words) -> None:
        for f in range(c["features"]):
            word, own = self.values[c["op3"] + f], store[c["op2"] + f]
            for j in range(self.arch.array.cols):
                total = sum(self.powers[i][j] * own[i] for i in range(self.arch.array.rows))
                word[j] = total + (word[j] * self.rescale[j] + (1 << 14) >> 15)

    def _exponentials(self, c: Command) -> None:
        parameters = {"scale": c["scale"], "shift": c["scale_shift"]}
        for j in range(self.arch.array.cols):
            for i in range(self.arch.array.rows):
                x = self.scores[i][j] - self.maximum[j]
                self.powers[i][j] = exponential(x, **parameters) if i < c["keys_exp"] else 0
            self.rescale[j] = 0
            if not c["first_exp"]:
                self.rescale[j] = exponential(self.older[j] - self.maximum[j], **parameters)
            total = sum(self.powers[i][j] for i in range(self.arch.array.rows))
            self.denominator[j] = total + (self.denominator[j] * self.rescale[j] + (1 << 14) >> 15)
            if c["last_exp"]:
                self.records[c["record"]][j] = self.denominator[j]

    def _scores(self, c: Command, store: Words) -> None:
        for j in range(self.arch.array.cols):
            for i in range(self.arch.array.rows):
                pairs = ((store[c["op0"] + e][i], store[c["op1"] + e][j]) for e in range(c["features"]))
                self.scores[i][j] = sum(key * query for key, query in pairs)
            tile = max(self.scores[i][j] for i in range(c["keys_scores"]))
            self.older[j] = self.maximum[j]
            self.maximum[j] = tile if c["first_scores"] else max(self.maximum[j], tile)

    def divide(self, c: Command, f: int) -> list[int]:
        """Word ``f`` of the result."""
        divisors = self.records[c["record"]]
        return [
            divided(self.values[c["op0"] + f][j], divisors[j], c) if j < c["lanes"] else 0
            for j in range(self.arch.array.cols)
        ]


def divided(value: int, divisor: int, c: Command) -> int:
    """One lane of DIVIDE."""
    z = min((abs(value) << 8) // divisor, (1 << 16) - 1) * (-1 if value < 0 else 1)
    half = 1 << c["shift"] - 1 if c["shift"] else 0
    return min(max(z * c["multiplier"] + half >> c["shift"], -128), 127)
