"""Lowering: one small program as text, and what is refused. Bits are in tests/properties/test_lower.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim._architecture import Architecture, Array, Bus, Scratchpad, Vector
from archsim._errors import ArchsimError
from archsim._lower import lower
from archsim._tiling import Tiling
from tests.cosim.random_workloads import machine, random_triple
from workloads import parse

ARCH = Architecture(
    name="tiny",
    clock_mhz=100.0,
    array=Array(rows=2, cols=2),
    bus=Bus(bytes=4),
    scratchpad=Scratchpad(banks=4, words_per_bank=256),
    accumulator_words=16,
    parameter_words=8,
    vector=Vector(buffer_words=8, rows=8, tables=1),
)
BEFORE = """\
cascade tiny
ranks m=3, n=2, k=3

Y[m, n] = X[m, k] * W[k, n]
B[m, n] = Y[m, n] + V[n]
Z[m, n] = relu(B[m, n])
"""
TILING = Tiling(rows=2, col_chunks=1, inner_chunks=2)
# Words of 2 bytes, beats of 2 words: 3 rows of X take 2 beats a panel, its 3 columns 2 panels.
AFTER = """\
; start
   0 sync_array releases=1,3
   1 sync_vector signals=5,7 releases=9
   2 sync_store signals=11
   3 sync_array releases=1,3
   4 sync_vector signals=5,7 releases=9
   5 sync_store signals=11
; Z
   6 load 12288 0 space=0 segments=1 beats=128 dram_stride=0 local_stride=0 signals=13
   7 table 0 slot=0 waits=13 signals=14
   8 sync_load waits=14
   9 set reg=1 imm=0
  10 set reg=2 imm=4096
  11 set reg=3 imm=16384
  12 set reg=5 imm=8192
  13 load 0+r3 0+r12 space=1 segments=1 beats=4 dram_stride=0 local_stride=0 waits=5 signals=4
  14 load 0+r2 256+r7 space=0 segments=1 beats=2 dram_stride=0 local_stride=0 waits=3 signals=2
  15 sync_vector waits=4
  16 sync_array waits=2
  17 load 0+r1 0+r6 space=0 segments=2 beats=1 dram_stride=8 local_stride=2 waits=1 signals=0
  18 matmul 0+r6 256+r7 0+r11 rows=2 k_chunks=2 n_chunks=1 w_rows=2 x_k_stride=2 w_n_stride=4 \
w_k_stride=2 acc_n_stride=2 transpose=0 accumulate=0 waits=0,9 signals=8 releases=1
  19 vector 0+r11 512+r10 0 0+r8 rows=2 chunks=1 length=2 group=2 src_stride=2 dst_stride=2 shift=0 \
source=0 affine=1 lookup=1 slot=0 destination=1 waits=8,11 signals=10 releases=9
  20 ring reg=11 imm=8 limit=16
  21 store 0+r5 512+r10 space=0 segments=1 beats=1 dram_stride=0 local_stride=0 waits=10 signals=11
  22 ring reg=10 imm=128 limit=256
  23 ring reg=6 imm=128 limit=256
  24 add reg=1 imm=4
  25 add reg=5 imm=4
  26 load 0+r1 0+r6 space=0 segments=2 beats=1 dram_stride=8 local_stride=2 waits=1 signals=0
  27 matmul 0+r6 256+r7 0+r11 rows=1 k_chunks=2 n_chunks=1 w_rows=2 x_k_stride=2 w_n_stride=4 \
w_k_stride=2 acc_n_stride=1 transpose=0 accumulate=0 waits=0,9 signals=8 releases=1
  28 vector 0+r11 512+r10 0 0+r8 rows=1 chunks=1 length=2 group=2 src_stride=1 dst_stride=2 shift=0 \
source=0 affine=1 lookup=1 slot=0 destination=1 waits=8,11 signals=10 releases=9
  29 ring reg=11 imm=8 limit=16
  30 store 0+r5 512+r10 space=0 segments=1 beats=1 dram_stride=0 local_stride=0 waits=10 signals=11
  31 ring reg=10 imm=128 limit=256
  32 ring reg=6 imm=128 limit=256
  33 add reg=1 imm=4294967292
  34 add reg=5 imm=4294967292
  35 sync_vector signals=5
  36 sync_array releases=3
  37 ring reg=8 imm=4 limit=8
  38 ring reg=12 imm=32 limit=64
  39 ring reg=7 imm=128 limit=256
  40 halt"""
REGIONS = {
    "X": (0, 16, "input"),
    "W": (4096, 8, "input"),
    "Z": (8192, 8, "output"),
    "table:relu:Z": (12288, 512, "table"),
    "parameters:Z": (16384, 16, "parameter"),
}


def test_a_small_product() -> None:
    lowered = lower(parse(BEFORE), ARCH, [TILING])
    assert str(lowered.program) == AFTER
    found = {r.tensor: (r.address, r.size_bytes, r.kind) for r in lowered.program.regions}
    assert found == REGIONS
    assert lowered.program.sections == ((0, "start"), (6, "Z"))
    moved = {6: "table:relu:Z", 13: "parameters:Z", 14: "W", 17: "X", 21: "Z", 26: "X", 30: "Z"}
    assert lowered.program.tensors == moved
    assert lowered.program_address == 20480
    assert lowered.memory_bytes == 20480 + 64 * 41


def test_trips_do_not_lengthen_the_program() -> None:
    lengths = {
        len(lower(parse(BEFORE.replace("m=3", f"m={rows}")), ARCH, [TILING]).program.instructions)
        for rows in (6, 60, 6000)
    }
    assert len(lengths) == 1


@pytest.mark.parametrize("seed", range(8))
def test_lowering_twice_gives_the_same_program(seed: int) -> None:
    one = random_triple(seed, machine(3, 5, bus_bytes=8))
    tilings, numbers = one.lowered.tilings, one.lowered.quantised
    assert lower(one.cascade, one.arch, tilings, quantised=numbers) == one.lowered
    timing = lower(one.cascade, one.arch, tilings).program
    program = one.lowered.program
    assert [i.opcode for i in timing.instructions] == [i.opcode for i in program.instructions]
    assert (timing.regions, timing.tensors) == (program.regions, program.tensors)


def test_one_tiling_a_kernel() -> None:
    with pytest.raises(ArchsimError, match=r"^tilings must be one a kernel \(1\), not 2$"):
        lower(parse(BEFORE), ARCH, [TILING, TILING])


def test_a_tiling_that_does_not_fit() -> None:
    with pytest.raises(ArchsimError, match=r"^kernel Z on tiny: row tile must be a multiple of 2 "):
        lower(parse(BEFORE), ARCH, [Tiling(rows=1)])


def test_a_program_that_does_not_fit() -> None:
    wanted = r"^program of tiny must fit program_words = 40, not 41 instructions$"
    fitting = lower(parse(BEFORE), replace(ARCH, program_words=41), [TILING])
    assert len(fitting.program.instructions) == 41
    with pytest.raises(ArchsimError, match=wanted):
        lower(parse(BEFORE), replace(ARCH, program_words=40), [TILING])


def test_a_function_table_passes_through_the_scratchpad() -> None:
    small = replace(ARCH, scratchpad=Scratchpad(banks=4, words_per_bank=32))
    wanted = r"^kernel Z on tiny: scratchpad must have 256 words to load the table of relu:Z, not 128$"
    with pytest.raises(ArchsimError, match=wanted):
        lower(parse(BEFORE), small, [TILING])
    without = "".join(line for line in BEFORE.splitlines(keepends=True) if "relu" not in line)
    assert lower(parse(without), small, [TILING]).tilings == (TILING,)
