"""One row times a matrix of trits, with weights that are on chip or pass through in a ring: a closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim._architecture import Architecture
from archsim._isa import Destination, Opcode, Source, Space
from archsim._program import Instruction, Operand, Program
from archsim._trits import pack_words
from rtl._encode import encode
from rtl._jobs import Job
from tests.cosim.programs import HALT, PAGE, transfer, up

K_CHUNKS = 3
N_CHUNKS = 6
HALF = K_CHUNKS * N_CHUNKS
"""Weight words of a block of the matrix, and of a half of the ring."""
OUT_WORDS = 8
"""Scratchpad words of a block's results, whole beats of any bus here."""
SHIFT = 10
W_FULL, W_FREE, ACC_FULL, ACC_FREE, OUT_FULL, OUT_FREE, READY = (1 << bit for bit in range(7))
R_WEIGHTS, R_RING, R_HALF, R_SUMS, R_READ, R_OUT, R_STORE, R_RESULT = range(1, 9)


@dataclass(frozen=True, slots=True)
class TernaryProduct:
    """``y = sat8((x W) m + b >> SHIFT)`` with W of ``blocks`` blocks of K_CHUNKS R x N_CHUNKS C trits."""

    arch: Architecture
    blocks: int
    seed: int = 0
    resident: bool = False
    """One block, whose words are in the weight memory already."""

    @property
    def trits(self) -> NDArray[np.int8]:
        """(blocks, n, k, R, C)."""
        rng, array = np.random.default_rng(self.seed), self.arch.array
        shape = (self.blocks, N_CHUNKS, K_CHUNKS, array.rows, array.cols)
        return rng.integers(-1, 2, shape).astype(np.int8)

    @property
    def packed(self) -> bytes:
        """The weights' DRAM image, in the order in which they are used."""
        return pack_words(self.arch, self.trits.reshape(-1, self.arch.array.rows, self.arch.array.cols))

    def expected(self) -> NDArray[np.int64]:
        """(blocks, N_CHUNKS * C)."""
        x, m, b = self._operands()
        sums = np.einsum("kr,jnkrc->jnc", x, self.trits.astype(np.int64))
        return np.clip((sums * m + b) >> SHIFT, -128, 127).reshape(self.blocks, -1)

    def results(self, image: bytes) -> NDArray[np.int64]:
        """What a run left in memory, in the form of ``expected``."""
        arch, cols, fold = self.arch, self.arch.array.cols, self.arch.fold
        size = OUT_WORDS * arch.word_bytes
        first = self._addresses()["Y"]
        words = np.frombuffer(image, np.int8, self.blocks * size, first)
        lanes = words.reshape(self.blocks, OUT_WORDS, arch.word_bytes)[..., : fold * cols]
        return lanes.reshape(self.blocks, -1)[:, : N_CHUNKS * cols].astype(np.int64)

    def job(self, *, stall_seed: int | None = None) -> Job:
        """The run; the program stands behind the operands."""
        program = self.program()
        image = bytearray(self._addresses()["end"])
        for name, content in self._contents().items():
            image[self._addresses()[name] : self._addresses()[name] + len(content)] = content
        return Job(
            program=program,
            image=bytes(image),
            program_address=len(image),
            encoded=encode(program),
            memory=self.arch.memory,
            stall_seed=stall_seed,
        )

    def program(self) -> Program:
        """LOAD fills one half of the ring while ARRAY works on the other and VECTOR on the block before."""
        blocks = () if self.resident else self._ring_steps()
        loop = (Instruction(Opcode.LOOP, fields={"imm": self.blocks}),)
        listing = (*self._start(), *loop, *self._block(), *blocks, Instruction(Opcode.END), HALT)
        return Program("ternary product", listing)

    def _operands(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        rng, array = np.random.default_rng(self.seed + 1), self.arch.array
        x = rng.integers(-128, 128, (K_CHUNKS, array.rows))
        m = rng.integers(-300, 300, (N_CHUNKS, array.cols))
        return x, m, rng.integers(-(1 << 14), 1 << 14, (N_CHUNKS, array.cols))

    def _contents(self) -> dict[str, bytes]:
        x, m, b = self._operands()
        words = np.zeros((OUT_WORDS, self.arch.word_bytes), np.int8)
        words[:K_CHUNKS, : x.shape[1]] = x
        parameters = np.zeros((OUT_WORDS, self.arch.word_bytes), np.int64)
        parameters[:N_CHUNKS, : m.shape[1]] = m & 0xFFFF | b << 16
        return {"X": words.tobytes(), "P": parameters.tobytes(), "W": self.packed}

    def _addresses(self) -> dict[str, int]:
        sizes = {name: len(content) for name, content in self._contents().items()}
        sizes["Y"] = self.blocks * OUT_WORDS * self.arch.word_bytes
        places, address = {}, 0
        for name, size in sizes.items():
            places[name] = address
            address = up(address + size, PAGE)
        return places | {"end": address}

    def _start(self) -> tuple[Instruction, ...]:
        bus, contents, places = self.arch.bus.bytes, self._contents(), self._addresses()
        beats = {name: len(content) // bus for name, content in contents.items()}
        return (
            transfer(Opcode.LOAD, places["X"], 0, beats=beats["X"]),
            transfer(Opcode.LOAD, places["P"], 0, beats=beats["P"], space=Space.PARAMETERS, signals=READY),
            Instruction(Opcode.SYNC_ARRAY, waits=READY, releases=W_FREE),
            Instruction(Opcode.SYNC_ARRAY, releases=W_FREE),
            *(Instruction(Opcode.SYNC_VECTOR, signals=ACC_FREE) for _ in range(2)),
            *(Instruction(Opcode.SYNC_STORE, signals=OUT_FREE) for _ in range(2)),
        )

    def _block(self) -> tuple[Instruction, ...]:
        arch, places = self.arch, self._addresses()
        size = HALF * arch.weight_beats
        load = Instruction(
            Opcode.LOAD,
            (Operand(places["W"], R_WEIGHTS), Operand(0, R_RING)),
            {"segments": 1, "beats": size, "space": Space.WEIGHTS},
            waits=W_FREE,
            signals=W_FULL,
        )
        matmul = Instruction(
            Opcode.MATMUL,
            (Operand(0), Operand(0, R_HALF), Operand(0, R_SUMS)),
            {"rows": 1, "k_chunks": K_CHUNKS, "n_chunks": N_CHUNKS, "w_rows": 1, "x_k_stride": 1,
             "w_n_stride": K_CHUNKS, "w_k_stride": 1, "acc_n_stride": 1},
            waits=ACC_FREE | (0 if self.resident else W_FULL),
            releases=W_FREE,
            signals=ACC_FULL,
        )  # fmt: skip
        bank, cols = arch.scratchpad.words_per_bank, arch.array.cols
        vector = Instruction(
            Opcode.VECTOR,
            (Operand(0, R_READ), Operand(bank, R_OUT), Operand(0), Operand(0)),
            {"rows": 1, "chunks": N_CHUNKS, "length": N_CHUNKS * cols, "group": cols, "src_stride": 1,
             "dst_stride": 1, "shift": SHIFT, "affine": 1, "source": Source.ACCUMULATOR,
             "destination": Destination.SCRATCHPAD},
            waits=ACC_FULL | OUT_FREE,
            signals=ACC_FREE | OUT_FULL,
        )  # fmt: skip
        store = Instruction(
            Opcode.STORE,
            (Operand(places["Y"], R_RESULT), Operand(bank, R_STORE)),
            {"segments": 1, "beats": OUT_WORDS * arch.word_bytes // arch.bus.bytes},
            waits=OUT_FULL,
            signals=OUT_FREE,
        )
        return (matmul, vector, store) if self.resident else (load, matmul, vector, store)

    def _ring_steps(self) -> tuple[Instruction, ...]:
        arch = self.arch
        image = HALF * arch.weight_beats * arch.bus.bytes
        rings = {R_RING: HALF, R_HALF: HALF, R_SUMS: N_CHUNKS, R_READ: N_CHUNKS}
        rings |= {R_OUT: OUT_WORDS, R_STORE: OUT_WORDS}
        steps = {R_WEIGHTS: image, R_RESULT: OUT_WORDS * arch.word_bytes}
        return (
            *(_control(Opcode.ADD, reg, step) for reg, step in steps.items()),
            *(_control(Opcode.RING, reg, half, limit=2 * half) for reg, half in rings.items()),
        )


def _control(opcode: Opcode, reg: int, imm: int, **more: int) -> Instruction:
    return Instruction(opcode, fields={"reg": reg, "imm": imm, **more})
