"""The functional interpreter against plain integers and numpy."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from archsim._architecture import Architecture, Array, Bus, Scratchpad, Vector
from archsim._errors import ArchsimError
from archsim._execute import execute, power_on
from archsim._execute_vector import Records, recip, rsqrt, run_pass
from archsim._isa import Opcode, Space
from archsim._program import Instruction, Operand, Program
from archsim._trits import pack_words, weight_memory
from tests import naive_vector

HALT = Instruction(Opcode.HALT)
ARCH = Architecture(
    name="small",
    clock_mhz=100.0,
    array=Array(rows=3, cols=5),
    bus=Bus(bytes=8),
    scratchpad=Scratchpad(banks=4, words_per_bank=1024),
    accumulator_words=64,
    parameter_words=8,
    vector=Vector(buffer_words=64, rows=16),
)
L = 8
CASES = 400


def signed(random: Random, bits: int) -> int:
    """A number of ``bits`` bits, of any magnitude, sometimes extreme."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    return random.choice([low, high, 0, random.randint(low, high), random.randint(low, high) >> bits // 2])


def random_fields(random: Random) -> dict[str, int]:
    """A legal pass over 1 to 4 rows and 1 to 3 chunks."""
    rows, chunks = random.randint(1, 4), random.randint(1, 3)
    group = random.randint(1, 5)
    source = random.randint(0, 2)
    return {
        "op0": random.randint(0, 4),
        "op1": random.randint(0, 8) + (32 if random.random() < 0.8 else 0),
        "op2": random.randint(0, 8),
        "op3": random.randint(0, 3),
        "rows": rows,
        "chunks": chunks,
        "length": random.randint(1, group * chunks),
        "group": group,
        "count": random.choice([1, group * chunks, 65535]),
        "src_stride": random.randint(rows, 8),
        "dst_stride": random.randint(rows, 8),
        "res_stride": random.randint(rows, 8),
        "shift": random.choice([0, 1, 15, 40, 63]),
        "res_multiplier": signed(random, 16),
        "res_shift": random.choice([0, 1, 7, 20, 30, 31, 63]),
        "source": source,
        "pre": 0 if source == 0 else random.randint(0, 2),
        "affine": random.randint(0, 1),
        "residual": random.randint(0, 2),
        "lookup": random.randint(0, 2),
        "slot": random.randint(0, 1),
        "destination": random.randint(0, 2),
        "reduce": random.randint(0, 4),
        "reduce_first": random.randint(0, 1),
    }


def gated_fields(random: Random) -> dict[str, int]:
    """A legal pass of a gated unit."""
    fields = random_fields(random)
    return fields | {
        "pre": random.choice([0, 2]) if fields["source"] == 0 else fields["pre"],
        "res_buffer": random.randint(0, 1),
        "uniform": random.randint(0, 1),
        "lookup": random.randint(0, 3),
        "reduce": random.randint(0, 5),
    }


class Twins:
    """The same random memories twice: as arrays, and as the plain model's dictionaries."""

    def __init__(self, random: Random, *, cols: int = ARCH.array.cols, fold: int = 1) -> None:
        self.cols, self.fold = cols, fold
        self.sums = np.array([[signed(random, 32) for _ in range(cols)] for _ in range(64)], np.int32)
        self.words = np.array([[signed(random, 8) for _ in range(L)] for _ in range(64)], np.int8)
        self.buffer = np.array([[signed(random, 16) for _ in range(cols)] for _ in range(64)], np.int16)
        self.tables = np.array([[signed(random, 16) for _ in range(256)] for _ in range(2)], np.int16)
        lanes = [
            [(signed(random, 16), signed(random, 45), random.randrange(8)) for _ in range(L)]
            for _ in range(8)
        ]
        text = b"".join(
            (m % 2**16 + b % 2**45 * 2**16 + left * 2**61).to_bytes(8, "little")
            for word in lanes
            for m, b, left in word
        )
        self.parameters = np.frombuffer(text, np.int8).reshape(8, L, 8)
        self.records = Records.zeros(16)
        self.state = naive_vector.State(
            lanes=cols,
            word_bytes=L,
            scratchpad=dict(enumerate(self.words.tolist())),
            accumulators=dict(enumerate(self.sums.tolist())),
            buffer=dict(enumerate(self.buffer.tolist())),
            parameters=dict(enumerate(lanes)),
            tables=dict(enumerate(self.tables.tolist())),
            fold=fold,
        )

    def run(self, fields: dict[str, int]) -> None:
        """One pass on both."""
        naive_vector.run_pass(self.state, fields)
        run_pass(
            fields,
            sources=(self.sums, self.words, self.buffer),
            parameters=self.parameters,
            tables=self.tables,
            records=self.records,
            lanes=self.cols,
            fold=self.fold,
        )

    def differences(self) -> list[str]:
        """What is not the same on both sides."""
        rows = [self.state.row(index) for index in range(16)]
        pairs = {
            "words": (self.words.tolist(), list(self.state.scratchpad.values())),
            "buffer": (self.buffer.tolist(), list(self.state.buffer.values())),
            **{
                name: (getattr(self.records, name).tolist(), [getattr(row, name) for row in rows])
                for name in ("offset", "mantissa", "exponent", "a1", "a2")
            },
        }
        return [name for name, (ours, theirs) in pairs.items() if ours != theirs]


@pytest.mark.parametrize("seed", range(CASES // 20))
def test_passes_equal_plain_integers(seed: int) -> None:
    random = Random(seed)
    twins = Twins(random)
    for _ in range(20):
        fields = random_fields(random)
        if fields["destination"] and fields["op1"] < 32:
            # In place: each word is read by the slot that writes it.
            fields |= {"op1": fields["op0"], "dst_stride": fields["src_stride"], "residual": 0}
        twins.run(fields)
        assert twins.differences() == [], fields


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("cols", "fold"), [(5, 1), (4, 2), (2, 3)])
def test_gated_passes_equal_plain_integers(cols: int, fold: int, seed: int) -> None:
    random = Random(seed)
    twins = Twins(random, cols=cols, fold=fold)
    for _ in range(20):
        fields = gated_fields(random)
        group = random.randint(1, cols)
        fields |= {"group": group, "length": random.randint(1, group * fields["chunks"])}
        if fields["destination"] and fields["op1"] < 32:
            fields |= {"op1": fields["op0"], "dst_stride": fields["src_stride"], "residual": 0}
        twins.run(fields)
        assert twins.differences() == [], fields


def test_absmax_scales_to_127() -> None:
    for peak in range(1, 32769):
        mantissa, exponent = recip(peak + (peak >> 7) + 1)
        scaled = (peak * mantissa + (1 << exponent - 1)) >> exponent
        assert abs(scaled - 127 * peak / (peak + peak // 128 + 1) * 128 / 127) <= 1
        assert scaled <= 127


def test_interpolation_meets_the_table_and_its_last_entry() -> None:
    twins = Twins(Random(3))
    lanes = [v << 8 for v in (-128, -1, 0, 126, 127)]
    twins.buffer[0] = lanes
    twins.buffer[1] = [32767, -32768, 128, -128, 0]
    fields = {"op0": 0, "op1": 40, "rows": 2, "chunks": 1, "length": 5, "group": 5, "src_stride": 2}
    fields |= {"source": 2, "destination": 2, "lookup": 3, "slot": 0}
    run_pass(
        fields,
        sources=(twins.sums, twins.words, twins.buffer),
        parameters=twins.parameters,
        tables=twins.tables,
        records=twins.records,
        lanes=5,
    )
    table = twins.tables[0].astype(int).tolist()
    assert twins.buffer[40].tolist() == [table[128], table[255], table[0], table[126], table[127]]
    middle = [(table[0] + table[1] + 1) // 2, (table[255] + table[0] + 1) // 2]
    assert twins.buffer[41].tolist() == [table[127], table[128], *middle, table[0]]


TERNARY = replace(
    ARCH,
    array=Array(kind="ternary", rows=3, cols=5, weight_words=8),
    vector=replace(ARCH.vector, gated=True),
)


def test_ternary_products_equal_sums_of_chosen_activations() -> None:
    random = Random(11)
    x = [[random.randint(-128, 127) for _ in range(3)] for _ in range(4)]
    trits = np.array([random.randint(-1, 1) for _ in range(6 * 15)], np.int8).reshape(6, 3, 5)
    fields = {"rows": 2, "k_chunks": 2, "n_chunks": 3, "w_rows": 1, "x_k_stride": 2, "w_n_stride": 2}
    fields |= {"w_k_stride": 1, "acc_n_stride": 2}
    packed = pack_words(TERNARY, trits)
    image = words(x) + packed
    load = Instruction(
        Opcode.LOAD,
        (Operand(32), Operand(1)),
        {"segments": 1, "beats": len(packed) // 8, "space": Space.WEIGHTS},
        signals=1,
    )
    once = Instruction(Opcode.MATMUL, (Operand(0), Operand(1), Operand(0)), fields, waits=1)
    again = Instruction(Opcode.MATMUL, once.operands, fields | {"accumulate": 1}, signals=2)
    copied = {"rows": 6, "chunks": 1, "length": 5, "group": 5, "destination": 2}
    program = Program(
        "ternary",
        (
            transfer(Opcode.LOAD, 0, 0, 4),
            load,
            once,
            again,
            Instruction(Opcode.VECTOR, (Operand(0), Operand(9)), copied, waits=2),
            HALT,
        ),
    )
    memories = power_on(TERNARY)
    execute(TERNARY, program, image, memories=memories)
    for n in range(3):
        for m in range(2):
            for c in range(5):
                total = sum(int(trits[2 * n + k, r, c]) * x[2 * k + m][r] for k in range(2) for r in range(3))
                assert memories.accumulators[2 * n + m, c] == memories.buffer[9 + 2 * n + m, c] == 2 * total
    assert (memories.weights[1:7] == weight_memory(TERNARY, packed)[:6]).all()
    assert not memories.weights[7].any()


def test_the_comparison_sees_one_bit() -> None:
    twins = Twins(Random(1))
    twins.words[5, 3] ^= 1
    twins.records.mantissa[2] ^= 1
    assert twins.differences() == ["words", "mantissa"]


def test_reciprocals_equal_fractions() -> None:
    random = Random(7)
    for value in [*range(-2, 5000), *(random.getrandbits(random.randint(1, 64)) for _ in range(2000))]:
        assert recip(value) == naive_vector.recip(value)
        assert rsqrt(value) == naive_vector.rsqrt(value)


def words(values: list[list[int]]) -> bytes:
    """Rows of up to L lanes as words."""
    padded = [row + [0] * (L - len(row)) for row in values]
    return np.array(padded, np.int8).tobytes()


def transfer(opcode: Opcode, dram: int, local: int, count: int, **masks: int) -> Instruction:
    """A LOAD or STORE of ``count`` words."""
    fields = {"segments": 1, "beats": count, "space": masks.pop("space", 0)}
    return Instruction(opcode, (Operand(dram), Operand(local)), fields, **masks)


@pytest.mark.parametrize("transpose", [0, 1])
def test_a_product_of_matrices(transpose: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(-128, 128, (4, 3))
    w = rng.integers(-128, 128, (3, 5))
    residual = rng.integers(-128, 128, (4, 5))
    stationary = words((w.T if transpose else w).tolist())
    image = words(x.tolist()).ljust(64, b"\0") + stationary.ljust(64, b"\0") + words(residual.tolist())
    one = (1).to_bytes(2, "little") + (1 << 4).to_bytes(6, "little")
    image = image.ljust(256, b"\0") + one * L + bytes(256)
    w_rows = 5 if transpose else 3
    tile = {"rows": 4, "w_rows": w_rows, "k_chunks": 1, "n_chunks": 1, "transpose": transpose}
    scale = {"rows": 4, "chunks": 1, "length": 5, "group": 5, "affine": 1, "shift": 5, "destination": 1}
    scale |= {"residual": 1, "res_multiplier": 3}
    listing = (
        Instruction(Opcode.VECTOR, (Operand(0), Operand(3072), Operand(128), Operand(0)), scale, 2, 4),
        Instruction(Opcode.MATMUL, (Operand(0), Operand(64), Operand(0)), tile, 1, 2),
        transfer(Opcode.LOAD, 128, 128, 4),
        transfer(Opcode.LOAD, 256, 0, 8, space=1),
        transfer(Opcode.LOAD, 0, 0, 4),
        transfer(Opcode.LOAD, 64, 64, w_rows, signals=1),
        transfer(Opcode.STORE, 320, 3072, 4, waits=4),
        HALT,
    )
    result = execute(ARCH, Program("product", listing), image)
    scaled = np.clip((x @ w + 16) >> 5, -32768, 32767) + 3 * residual
    expected = words(np.clip(scaled, -128, 127).tolist())
    assert result[320:352] == expected
    assert result[:320] == image[:320]


def test_a_program_that_deadlocks_or_leaves_the_image_is_refused() -> None:
    stuck = Program("stuck", (transfer(Opcode.STORE, 0, 0, 1, waits=1, signals=1), HALT))
    with pytest.raises(ArchsimError, match=r"^program 'stuck' must not deadlock: STORE waits at store 0 0"):
        execute(ARCH, stuck, bytes(64))
    beyond = Program("beyond", (transfer(Opcode.LOAD, 64, 0, 1), HALT))
    with pytest.raises(ArchsimError, match=r"every address must exist, not words 64 to 71 of 64$"):
        execute(ARCH, beyond, bytes(64))
    assert execute(ARCH, replace(beyond, instructions=(HALT,)), bytes(64)) == bytes(64)
