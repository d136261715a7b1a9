"""Small programs written by hand, with their memory images and what they must leave there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim._architecture import Architecture, Array, Bus, Memory, Scratchpad, Vector
from archsim._isa import Destination, Opcode, Source, Space
from archsim._program import Instruction, Operand, Program, Region
from rtl._encode import encode
from rtl._jobs import Job

Bytes = NDArray[np.int8]
PAGE = 4096


def machine(rows: int, cols: int, *, bus_bytes: int, memory: Memory | None = None) -> Architecture:
    """A small machine of ``rows`` x ``cols``."""
    return Architecture(
        name=f"test-{rows}x{cols}-{bus_bytes}",
        clock_mhz=100,
        array=Array(rows=rows, cols=cols),
        bus=Bus(bytes=bus_bytes, max_burst_beats=16, outstanding=2),
        scratchpad=Scratchpad(banks=4, words_per_bank=128),
        accumulator_words=64,
        parameter_words=16,
        vector=Vector(buffer_words=32, rows=32),
        program_words=64,
        queue_depth=2,
        memory=memory or Memory(),
    )


def up(value: int, multiple: int) -> int:
    """``value`` rounded up to a multiple."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True, slots=True)
class Case:
    """A program, the bytes of its tensors before it runs, and those of its outputs afterwards."""

    program: Program
    tensors: Mapping[str, bytes]
    expected: Mapping[str, bytes]

    def job(self, arch: Architecture, *, stall_seed: int | None = None, cycles: int | None = None) -> Job:
        """The run of this case on ``arch``; the program stands behind the tensors."""
        image = bytearray(self.program.dram_bytes)
        for region in self.program.regions:
            content = self.tensors.get(region.tensor, b"")
            image[region.address : region.address + len(content)] = content
        return Job(
            program=self.program,
            image=bytes(image),
            program_address=up(len(image), PAGE),
            encoded=encode(self.program),
            memory=arch.memory,
            stall_seed=stall_seed,
            expected=self.expected,
            expected_cycles=cycles,
        )


def transfer(opcode: Opcode, dram: int, local: int, **fields: int) -> Instruction:
    """A LOAD or STORE of one segment, unless the fields say more."""
    masks = {name: fields.pop(name, 0) for name in ("waits", "signals")}
    return Instruction(opcode, (Operand(dram), Operand(local)), {"segments": 1, **fields}, **masks)


HALT = Instruction(Opcode.HALT)


def copy_case(arch: Architecture, *, beats: int, offset: int = 0) -> Case:
    """``beats`` beats from one place to another through the scratchpad, ``offset`` bytes into a page."""
    size = beats * arch.bus.bytes
    source, target = PAGE + offset, up(2 * PAGE + offset + size, PAGE) + offset
    words = size // arch.word_bytes
    regions = (
        Region("source", source, words, 1, arch.array.cols, size, "input"),
        Region("target", target, words, 1, arch.array.cols, size, "output"),
    )
    instructions = (
        transfer(Opcode.LOAD, source, 0, beats=beats, signals=1),
        transfer(Opcode.STORE, target, 0, beats=beats, waits=1),
        HALT,
    )
    content = np.random.default_rng(beats).integers(0, 256, size, dtype=np.uint8).tobytes()
    return Case(Program("copy", instructions, regions), {"source": content}, {"target": content})


@dataclass(frozen=True, slots=True)
class Product:
    """``Y = requantise(X W + b)`` with ``rows`` rows and whole chunks of the array's sides."""

    arch: Architecture
    rows: int
    k_chunks: int
    n_chunks: int
    seed: int = 0

    def case(self) -> Case:
        """The program that loads X, W and parameters, multiplies, requantises and stores."""
        x, w, m, b = self._operands()
        shift = 12
        sums = x.reshape(self.rows, -1).astype(np.int64) @ w.astype(np.int64)
        y = np.clip((sums * m + b) >> shift, -128, 127).astype(np.int8)
        tensors = {"X": self._streamed(x), "W": self._stationary(w), "P": self._parameters(m, b)}
        expected = {"Y": self._panels(y, self.arch.array.cols)}
        sizes = {name: len(content) for name, content in (tensors | expected).items()}
        return Case(self._program(sizes, shift), tensors, expected)

    def _operands(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        rng = np.random.default_rng(self.seed)
        depth, width = self.k_chunks * self.arch.array.rows, self.n_chunks * self.arch.array.cols
        x = rng.integers(-128, 128, (self.rows, depth))
        w = rng.integers(-128, 128, (depth, width))
        return x, w, rng.integers(-90, 90, width), rng.integers(-(1 << 20), 1 << 20, width)

    def _panel_rows(self, rows: int) -> int:
        return up(rows, max(1, self.arch.bus.bytes // self.arch.word_bytes))

    def _panels(self, matrix: NDArray[np.int8], group: int) -> bytes:
        """Panels of ``group`` columns; the rows that round a panel to whole beats are zero."""
        rows, length = matrix.shape[0], self.arch.word_bytes
        panels = matrix.shape[1] // group
        words = np.zeros((panels, self._panel_rows(rows), length), np.int8)
        words[:, :rows, :group] = matrix.reshape(rows, panels, group).transpose(1, 0, 2)
        return words.tobytes()

    def _streamed(self, x: NDArray[np.int64]) -> bytes:
        return self._panels(x.astype(np.int8), self.arch.array.rows)

    def _stationary(self, w: NDArray[np.int64]) -> bytes:
        return self._panels(w.astype(np.int8), self.arch.array.cols)

    def _parameters(self, m: NDArray[np.int64], b: NDArray[np.int64]) -> bytes:
        words = np.zeros((self.n_chunks, self.arch.word_bytes), np.int64)
        cols = self.arch.array.cols
        words[:, :cols] = (m & 0xFFFF | b << 16).reshape(self.n_chunks, cols)
        content = words.tobytes()
        return content + bytes(-len(content) % self.arch.bus.bytes)

    def _program(self, sizes: Mapping[str, int], shift: int) -> Program:
        arch, places = self.arch, self._places()
        beats = {name: size // arch.bus.bytes for name, size in sizes.items()}
        addresses = dict(zip(sizes, range(0, len(sizes) * 4 * PAGE, 4 * PAGE), strict=True))
        rows, x_rows = self.rows, self._panel_rows(self.rows)
        depth = self._panel_rows(self.k_chunks * arch.array.rows)
        matmul = Instruction(
            Opcode.MATMUL,
            (Operand(places["X"]), Operand(places["W"]), Operand(0)),
            {"rows": rows, "k_chunks": self.k_chunks, "n_chunks": self.n_chunks, "w_rows": arch.array.rows,
             "x_k_stride": x_rows, "w_n_stride": depth, "w_k_stride": arch.array.rows, "acc_n_stride": rows},
            waits=0b011,
            signals=0b1000,
        )  # fmt: skip
        vector = Instruction(
            Opcode.VECTOR,
            (Operand(0), Operand(places["Y"]), Operand(0), Operand(0)),
            {"rows": rows, "chunks": self.n_chunks, "length": self.n_chunks * arch.array.cols,
             "group": arch.array.cols, "src_stride": rows, "dst_stride": x_rows, "shift": shift, "affine": 1,
             "source": Source.ACCUMULATOR, "destination": Destination.SCRATCHPAD},
            waits=0b1100,
            signals=0b10000,
        )  # fmt: skip
        instructions = (
            transfer(Opcode.LOAD, addresses["W"], places["W"], beats=beats["W"], signals=0b010),
            transfer(Opcode.LOAD, addresses["X"], places["X"], beats=beats["X"], signals=0b001),
            transfer(Opcode.LOAD, addresses["P"], 0, beats=beats["P"], space=Space.PARAMETERS, signals=0b100),
            matmul,
            vector,
            transfer(Opcode.STORE, addresses["Y"], places["Y"], beats=beats["Y"], waits=0b10000),
            HALT,
        )
        panels = {"X": (x_rows, self.k_chunks), "W": (depth, self.n_chunks), "P": (8, self.n_chunks)}
        panels["Y"] = (x_rows, self.n_chunks)
        kinds = {"X": "input", "W": "weight", "P": "parameter", "Y": "output"}
        regions = tuple(
            Region(name, addresses[name], *panels[name], arch.array.cols, size, kinds[name])
            for name, size in sizes.items()
        )
        return Program("product", instructions, regions)

    def _places(self) -> dict[str, int]:
        """A scratchpad bank for each tensor."""
        bank = self.arch.scratchpad.words_per_bank
        return {"X": 0, "W": bank, "Y": 2 * bank}
