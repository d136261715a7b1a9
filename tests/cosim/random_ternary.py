"""Random programs of a ternary machine: products, passes and loads one after the other, all of it dumped."""

from __future__ import annotations

from random import Random

import numpy as np

from archsim._architecture import Architecture, Array, Bus, Memory, Scratchpad, Vector
from archsim._isa import (
    ENGINE_OF,
    INSTRUCTION_BYTES,
    TABLE_ENTRIES,
    Destination,
    Engine,
    Opcode,
    Pre,
    Residual,
    Source,
    Space,
)
from archsim._program import Instruction, Operand, Program
from archsim._trits import pack_words
from rtl._encode import encode
from rtl._jobs import Job, memory_image

BANK = 128
BANKS = 4
WEIGHTS = 37
SUMS = 64
PARAMETERS = 16
BUFFER = 32
ROWS = 8
MOST_SLOTS = 12
"""Slots of a random pass: fewer than its pipeline is long, so that it reads nothing that it wrote."""


def ternary_machine(
    rows: int, cols: int, *, group: int, bus_bytes: int, memory: Memory | None = None
) -> Architecture:
    """A small ternary machine with a gated vector unit; no depth of it is as another one's."""
    return Architecture(
        name=f"ternary-{rows}x{cols}-{group}-{bus_bytes}",
        clock_mhz=80,
        array=Array(kind="ternary", rows=rows, cols=cols, weight_words=WEIGHTS, group=group),
        bus=Bus(bytes=bus_bytes, max_burst_beats=16, outstanding=2),
        scratchpad=Scratchpad(banks=BANKS, words_per_bank=BANK),
        accumulator_words=SUMS,
        parameter_words=PARAMETERS,
        vector=Vector(buffer_words=BUFFER, rows=ROWS, gated=True),
        program_words=256,
        queue_depth=3,
        memory=memory or Memory(),
    )


def sequential(instructions: list[Instruction]) -> list[Instruction]:
    """``instructions`` with tokens: whenever the engine changes, the next one waits for the last one."""
    engines = [ENGINE_OF[each.opcode] for each in instructions]
    chained = []
    for place, (each, engine) in enumerate(zip(instructions, engines, strict=True)):
        before = engines[place - 1] if place else engine
        after = engines[place + 1] if place + 1 < len(engines) else engine
        waits = 1 << _token(before, engine) if before is not engine else 0
        signals = 1 << _token(engine, after) if after is not engine else 0
        chained.append(Instruction(each.opcode, each.operands, each.fields, waits, signals))
    return chained


def _token(giver: Engine, taker: Engine) -> int:
    return 4 * giver + taker


class Machine:
    """Writes one random program and its memory image for a machine."""

    def __init__(self, arch: Architecture, seed: int) -> None:
        self.arch = arch
        self.random = Random(seed)
        self.image = bytearray()
        self.listing: list[Instruction] = []

    def job(self, *, length: int = 24, stall_seed: int | None = None) -> Job:
        """A run of ``length`` random instructions between loads and dumps of everything."""
        self._load_all()
        for _ in range(length):
            self.listing.append(self.random.choice([self.matmul, self.vector, self.vector, self.reload])())
        self._dump()
        program = Program("random", (*sequential(self.listing), Instruction(Opcode.HALT)))
        address = -(-len(self.image) // 4096) * 4096
        encoded = encode(program)
        self.image += bytes(address + len(encoded) - len(self.image))
        return Job(
            program=program,
            image=bytes(self.image),
            program_address=address,
            encoded=encoded,
            memory=self.arch.memory,
            stall_seed=stall_seed,
        )

    def place(self, content: bytes) -> int:
        """Where ``content``, filled up to whole beats, lies in DRAM."""
        unit = max(self.arch.bus.bytes, INSTRUCTION_BYTES)
        address = len(self.image)
        self.image += content + bytes(-len(content) % unit)
        return address

    def noise(self, size: int) -> bytes:
        """Random bytes, small and large ones."""
        shift = self.random.randrange(6)
        values = np.frombuffer(self.random.randbytes(size), np.int8) >> shift
        return values.tobytes()

    def transfer(self, opcode: Opcode, dram: int, local: int, size: int, space: Space) -> Instruction:
        """A LOAD or STORE of ``size`` bytes in one segment."""
        fields = {"segments": 1, "beats": -(-size // self.arch.bus.bytes), "space": int(space)}
        return Instruction(opcode, (Operand(dram), Operand(local)), fields)

    def _load_all(self) -> None:
        words, lanes = BANK * BANKS, self.arch.word_bytes
        data = self.noise(words * lanes)
        self.listing.append(self.transfer(Opcode.LOAD, self.place(data), 0, len(data), Space.SCRATCHPAD))
        parameters = self.parameters()
        self.listing.append(
            self.transfer(Opcode.LOAD, self.place(parameters), 0, len(parameters), Space.PARAMETERS)
        )
        for slot in range(self.arch.vector.tables):
            start = self.random.randrange(words - TABLE_ENTRIES)
            self.listing.append(Instruction(Opcode.TABLE, (Operand(start),), {"slot": slot}))
        self.listing += [self.weights(0, WEIGHTS), self.reload()]

    def parameters(self) -> bytes:
        """Random parameter words: the multipliers and offsets of shifts up to 20."""
        rng = np.random.default_rng(self.random.randrange(1 << 32))
        shape = (PARAMETERS, self.arch.word_bytes)
        gain = rng.integers(-(1 << 15), 1 << 15, shape) >> rng.integers(0, 15, shape)
        bias = rng.integers(-(1 << 44), 1 << 44, shape) >> rng.integers(8, 44, shape)
        left = rng.integers(0, 8, shape)
        words = gain & 0xFFFF | (bias & (1 << 45) - 1) << 16 | left << 61
        return words.astype(np.int64).tobytes()

    def weights(self, first: int, count: int) -> Instruction:
        """A LOAD of ``count`` random weight words."""
        rng = np.random.default_rng(self.random.randrange(1 << 32))
        array = self.arch.array
        trits = rng.integers(-1, 2, (count, array.rows, array.cols)).astype(np.int8)
        packed = pack_words(self.arch, trits)
        return self.transfer(Opcode.LOAD, self.place(packed), first, len(packed), Space.WEIGHTS)

    def reload(self) -> Instruction:
        """A LOAD of some weight words in segments, in any order."""
        segments, count = self.random.randint(1, 3), self.random.randint(1, 3)
        stride = self.random.choice([count, count + 1, -count])
        first = self.random.randrange(WEIGHTS - 14) + (8 if stride < 0 else 0)
        whole = self.weights(first, segments * count)
        beats = whole.field("beats") // segments
        fields = {
            "segments": segments,
            "beats": beats,
            "dram_stride": beats * self.arch.bus.bytes,
            "local_stride": stride % 2**32,
            "space": int(Space.WEIGHTS),
        }
        return Instruction(Opcode.LOAD, whole.operands, fields)

    def matmul(self) -> Instruction:
        """A product of any shape; successive slots often add to one word."""
        draw = self.random.randint
        rows, k, n = self.random.choice([1, 1, 2, draw(3, 7)]), draw(1, 5), draw(1, 4)
        fields = {
            "rows": rows,
            "k_chunks": k,
            "n_chunks": n,
            "w_rows": 1,
            "x_k_stride": draw(0, 20),
            "w_n_stride": draw(0, 5),
            "w_k_stride": draw(0, 3),
            "acc_n_stride": self.random.choice([0, 1, rows, draw(0, 9)]),
            "accumulate": draw(0, 1),
        }
        operands = (Operand(draw(0, 400)), Operand(draw(0, 9)), Operand(draw(0, 20)))
        return Instruction(Opcode.MATMUL, operands, fields)

    def vector(self) -> Instruction:
        """A pass of any kind, each of its scratchpad operands in a bank of its own."""
        draw, arch = self.random.randint, self.arch
        chunks = draw(1, 4)
        rows = draw(1, min(ROWS, MOST_SLOTS // chunks))
        source, destination = draw(0, 2), draw(0, 2)
        from_buffer = draw(0, 1)
        group = self.random.choice([arch.array.cols, draw(1, arch.array.cols)])
        banks = [BANK * bank + draw(0, 40) for bank in self.random.sample(range(BANKS), 3)]
        pre = draw(0, 2) if source != Source.ACCUMULATOR else self.random.choice([Pre.NONE, Pre.SCALE])
        fields = {
            "rows": rows,
            "chunks": chunks,
            "length": max(1, chunks * group - draw(0, 2)),
            "group": group,
            "count": self.random.choice([1, chunks * group, draw(0, 65535)]),
            "src_stride": draw(rows, rows + 1) if source else draw(0, 9),
            "dst_stride": draw(rows, rows + 1),
            "res_stride": draw(0, 7),
            "shift": draw(0, 20),
            "res_multiplier": draw(-32768, 32767) >> draw(0, 12),
            "res_shift": self.random.choice([draw(0, 14), draw(0, 63)]),
            "source": source,
            "pre": int(pre),
            "affine": draw(0, 1),
            "residual": draw(0, 2),
            "lookup": self.random.choice([0, draw(0, 3), 3]),
            "slot": draw(0, arch.vector.tables - 1),
            "destination": destination,
            "reduce": self.random.choice([0, draw(0, 5), 5]),
            "reduce_first": draw(0, 1),
            "res_buffer": from_buffer,
            "uniform": draw(0, 1),
        }
        if source == Source.BUFFER == destination:
            # In place: a word that another slot writes must not be read.
            fields |= {"dst_stride": fields["src_stride"]}
        places = [
            draw(0, 8) if source != Source.SCRATCHPAD else banks[0],
            draw(0, 3) if destination == Destination.BUFFER else banks[1],
            draw(0, 3) if from_buffer else banks[2],
            draw(0, PARAMETERS - 4),
        ]
        if source == Source.BUFFER == destination:
            places[0] = places[1]
        elif source == Source.BUFFER:
            places[0] = draw(0, 3)
        return Instruction(Opcode.VECTOR, tuple(Operand(each) for each in places), fields)

    def _dump(self) -> None:
        """Store the scratchpad, then the buffer and the accumulators as high and low bytes."""
        size = BANK * BANKS * self.arch.word_bytes
        self._store(0, size)
        self._dump_buffer()
        for first in range(0, SUMS, BUFFER):
            fields: dict[str, int] = {"source": Source.ACCUMULATOR, "destination": Destination.BUFFER}
            self.listing.append(self._pass(fields, first, 0, 0))
            self._dump_buffer()

    def _dump_buffer(self) -> None:
        """High bytes to bank 0 by SCALE-free rounding up of halves, low ones beside them to bank 1."""
        high = {"source": Source.BUFFER, "destination": Destination.SCRATCHPAD, "affine": 1, "shift": 8}
        low = {"source": Source.BUFFER, "destination": Destination.SCRATCHPAD, "residual": Residual.ADD}
        one = (1 | 128 << 16).to_bytes(8, "little") * self.arch.word_bytes
        parameters = self.transfer(Opcode.LOAD, self.place(one), 0, len(one), Space.PARAMETERS)
        self.listing += [
            parameters,
            self._pass(high, 0, 0, 0),
            self._pass(low | {"res_multiplier": -256}, 0, BANK, 0),
        ]
        self._store(0, BUFFER * self.arch.word_bytes)
        self._store(BANK, BUFFER * self.arch.word_bytes)

    def _pass(self, fields: dict[str, int], source: int, destination: int, second: int) -> Instruction:
        shape = {"rows": BUFFER, "chunks": 1, "length": self.arch.array.cols, "group": self.arch.array.cols}
        operands = (Operand(source), Operand(destination), Operand(second), Operand(0))
        return Instruction(Opcode.VECTOR, operands, {**shape, **{k: int(v) for k, v in fields.items()}})

    def _store(self, word: int, size: int) -> None:
        self.listing.append(
            self.transfer(Opcode.STORE, self.place(bytes(size)), word, size, Space.SCRATCHPAD)
        )


def image_before(job: Job) -> bytes:
    """The memory that both the hardware and the interpreter begin with."""
    return memory_image(job)
