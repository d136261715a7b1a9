"""Random programs of the attention machine, with the bits that plain integers give them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from archsim._architecture import Architecture, Array, Bus, Memory, Scratchpad, Vector
from archsim._isa import Opcode
from archsim._program import Instruction, Operand, Program, Region
from archsim._timing import attend_period
from tests.cosim.programs import HALT, PAGE, Case, transfer, up
from tests.unit.rtl.naive_attend import NaiveAttention

WORDS = 128
"""Words of each of K, Q, V and the results, at the beginning of a bank of its own."""
LOADED, ATTENDED, DIVIDED, FREED, STORED = (1 << bit for bit in range(5))
PLACES = ("K", "Q", "V")


def attention_machine(rows: int, cols: int, *, memory: Memory | None = None) -> Architecture:
    """A small attention machine of ``rows`` keys x ``cols`` queries, whose beat is a word."""
    word = max(2, 1 << (max(rows, cols) - 1).bit_length())
    return Architecture(
        name=f"attention-{rows}x{cols}",
        clock_mhz=100,
        array=Array(kind="fusemax", rows=rows, cols=cols),
        bus=Bus(bytes=min(max(word, 4), 16), max_burst_beats=16, outstanding=2),
        scratchpad=Scratchpad(banks=4, words_per_bank=WORDS),
        accumulator_words=0,
        parameter_words=0,
        vector=Vector(buffer_words=64, rows=2, tables=1),
        program_words=256,
        queue_depth=2,
        memory=memory or Memory(),
    )


@dataclass(frozen=True, slots=True)
class RandomAttention:
    """A few blocks of a few tiles in one software pipeline, each divided and stored when it is whole.

    Words of K, Q and V are taken anywhere; periods are sometimes longer than they must be.
    """

    arch: Architecture
    seed: int

    @property
    def _bank(self) -> int:
        return self.arch.scratchpad.words_per_bank

    def case(self) -> Case:
        """The program, the random bytes that it loads, and the naive model's results."""
        rng = np.random.default_rng((self.seed, self.arch.array.rows, self.arch.array.cols))
        words = rng.integers(-128, 128, (len(PLACES) * WORDS, self.arch.word_bytes)).astype(np.int8)
        # Results keep seven bits of a quotient's sixteen: which ones, the values' size decides.
        places = int(rng.choice([0, 2, 7]))
        words[2 * WORDS :] >>= 7 - places
        beat_words = max(1, self.arch.bus.bytes // self.arch.word_bytes)
        features = int(rng.integers(1, 20)) * beat_words
        tiles = [int(n) for n in rng.integers(1, 5, size=rng.integers(1, 6))]
        periods = list(self._periods(rng, features, tiles))
        divides = list(self._divides(rng, features, blocks=len(tiles), shift=16 + places))
        size = features * self.arch.word_bytes
        target = up(PAGE + words.size, PAGE)
        regions = (
            Region("source", PAGE, len(words), 1, self.arch.array.cols, words.size, "input"),
            Region("target", target, features, len(tiles), self.arch.array.cols, size * len(tiles), "output"),
        )
        program = Program("attention", tuple(self._listing(periods, divides, features, target)), regions)
        expected = self._results(words, periods, divides)
        return Case(program, {"source": words.tobytes()}, {"target": expected})

    def _periods(
        self, rng: np.random.Generator, features: int, tiles: list[int]
    ) -> Iterator[tuple[int | None, Instruction]]:
        """Each ATTEND, with the block that it is the last one of."""
        rows = self.arch.array.rows
        places = [(block, tile, count) for block, count in enumerate(tiles) for tile in range(count)]
        keys = [int(rng.integers(1, rows + 1)) if t == n - 1 else rows for _, t, n in places]
        least = attend_period(rows, features)
        scale = {"scale": int(rng.integers(1, 1 << 16)), "scale_shift": int(rng.integers(10, 20))}
        for first in range(len(places) + 2):
            period = least + int(rng.integers(0, 2) * rng.integers(0, 9))
            fields = {"features": features, "period": period, **scale}
            operands = [int(rng.integers(0, WORDS - features + 1)) + self._bank * i for i in range(3)]
            waits, ended, word = LOADED if first == 0 else 0, None, 0
            if first < len(places):
                fields |= {
                    "scores": 1,
                    "keys_scores": keys[first],
                    "first_scores": int(places[first][1] == 0),
                }
            if 1 <= first <= len(places):
                block, tile, count = places[first - 1]
                fields |= {"exponentials": 1, "keys_exp": keys[first - 1], "first_exp": int(tile == 0)}
                fields |= {"last_exp": int(tile == count - 1), "record": block % 2}
                # A record and its half of the value memory are free once their last block is divided.
                waits |= FREED if tile == 0 and block >= 2 else 0
            if first >= 2:
                block, tile, count = places[first - 2]
                fields["values"] = 1
                word, ended = features * (block % 2), block if tile == count - 1 else None
            signals = 0 if ended is None else ATTENDED
            yield (
                ended,
                Instruction(
                    Opcode.ATTEND,
                    tuple(Operand(place) for place in (*operands, word)),
                    fields,
                    waits=waits,
                    signals=signals,
                ),
            )

    def _divides(
        self, rng: np.random.Generator, features: int, *, blocks: int, shift: int
    ) -> Iterator[Instruction]:
        for block in range(blocks):
            fields = {"rows": features, "lanes": int(rng.integers(1, self.arch.array.cols + 1))}
            fields |= {"record": block % 2, "multiplier": int(rng.integers(-(1 << 15), 1 << 15))}
            fields |= {"shift": shift}
            place = 3 * self._bank + block * features
            yield Instruction(
                Opcode.DIVIDE,
                (Operand(features * (block % 2)), Operand(place)),
                fields,
                waits=ATTENDED,
                signals=DIVIDED | FREED,
            )

    def _listing(
        self,
        periods: list[tuple[int | None, Instruction]],
        divides: list[Instruction],
        features: int,
        target: int,
    ) -> Iterator[Instruction]:
        """Everything in order; a block is divided and stored behind the ATTEND that completes it."""
        size = self.arch.word_bytes
        beats = WORDS * size // self.arch.bus.bytes
        yield Instruction(
            Opcode.LOAD,
            (Operand(PAGE), Operand(0)),
            {"segments": 3, "beats": beats, "dram_stride": WORDS * size, "local_stride": self._bank},
            signals=LOADED,
        )
        for ended, attend in periods:
            yield attend
            if ended is not None:
                divide = divides[ended]
                yield divide
                address = target + ended * features * size
                beats = features * size // self.arch.bus.bytes
                masks = {"waits": DIVIDED, "signals": STORED if divide is divides[-1] else 0}
                yield transfer(Opcode.STORE, address, divide.operands[1].base, beats=beats, **masks)
        yield from self._last(features)
        yield HALT

    def _last(self, features: int) -> Iterator[Instruction]:
        """What retires last: a STORE, or behind it an ATTEND or a DIVIDE of which nothing is stored."""
        if self.seed % 3 == 1:
            places = tuple(Operand(self._bank * i) for i in range(3))
            fields = {"features": features, "period": attend_period(self.arch.array.rows, features)}
            fields |= {"scores": 1, "keys_scores": 1, "first_scores": 1}
            yield Instruction(Opcode.ATTEND, (*places, Operand(0)), fields, waits=STORED)
        elif self.seed % 3 == 2:
            fields = {"rows": 1, "lanes": 1, "record": 0, "multiplier": 1, "shift": 0}
            place = 4 * self._bank - 1
            yield Instruction(Opcode.DIVIDE, (Operand(0), Operand(place)), fields, waits=STORED)

    def _results(
        self,
        words: np.ndarray[tuple[int, int], np.dtype[np.int8]],
        periods: list[tuple[int | None, Instruction]],
        divides: list[Instruction],
    ) -> bytes:
        model = NaiveAttention(self.arch)
        store = {i // WORDS * self._bank + i % WORDS: word for i, word in enumerate(words.tolist())}
        stored = bytearray()
        for ended, attend in periods:
            model.attend(command(attend), store)
            if ended is not None:
                divide = command(divides[ended])
                for f in range(divide["rows"]):
                    word = np.array(model.divide(divide, f), np.int8).tobytes()
                    stored += word.ljust(self.arch.word_bytes, b"\0")
        return bytes(stored)


def command(instruction: Instruction) -> dict[str, int]:
    """All of an instruction's fields and operands."""
    names = ("scores", "exponentials", "values", "first_scores", "first_exp", "last_exp")
    operands = {f"op{i}": operand.base for i, operand in enumerate(instruction.operands)}
    fields = {name: instruction.field(name) for name in (*names, *instruction.fields)}
    return {"opcode": int(instruction.opcode), **fields, **operands}
