"""Memory images, byte by byte, of a product small enough to write down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from archsim._errors import ArchsimError
from archsim._image import image, tensors_of
from archsim._lower import Lowered, lower
from tests.cosim.random_cascades import FAMILIES
from tests.cosim.random_workloads import machine, random_triple
from tests.unit.archsim.test_lower import ARCH, BEFORE, TILING
from workloads import Quantised, QuantisedKernel, exp2_table, kernels, parse
from workloads._integer import Affine

CASCADE = parse(BEFORE)
WEIGHTS = np.array([[1, 2], [3, 4], [5, -6]], np.int8)
INPUT = np.array([[11, 12, 13], [21, 22, 23], [31, 32, -33]], np.int8)
TABLE = (np.arange(256) * 100 - 12800).astype(np.int16)


def lowered(left: NDArray[np.int64] | None = None) -> Lowered:
    """The small product with numbers that are easy to see in memory."""
    (kernel,) = kernels(CASCADE)
    affine = Affine(np.array([0x0102, -2]), np.array([0x0A0B0C0D0E0F, -3]), 5)
    step = QuantisedKernel(kernel=kernel, affine=affine, table=TABLE, residual_left=left)
    return lower(CASCADE, ARCH, [TILING], quantised=Quantised(CASCADE, (step,), {"W": WEIGHTS}))


def numbers(made: Lowered) -> tuple[QuantisedKernel, ...]:
    assert made.quantised is not None
    return made.quantised.kernels


def region(made: Lowered, memory: bytes, name: str) -> bytes:
    (one,) = [each for each in made.program.regions if each.tensor == name]
    return memory[one.address : one.address + one.size_bytes]


def signed(*values: int) -> bytes:
    return np.array(values, np.int8).tobytes()


def test_regions_hold_what_the_layout_says() -> None:
    made = lowered()
    memory = image(made, ARCH, {"X": INPUT})
    assert len(memory) == made.program_address
    # Two panels of two columns, four rows of which the last fills a beat; then the odd column.
    assert region(made, memory, "X") == signed(11, 12, 21, 22, 31, 32, 0, 0, 13, 0, 23, 0, -33, 0, 0, 0)
    # Rows of a stationary operand are padded to whole tiles of reduction lanes.
    assert region(made, memory, "W") == signed(1, 2, 3, 4, 5, -6, 0, 0)
    assert region(made, memory, "Z") == bytes(8)
    lanes = bytes.fromhex("0201 0f0e0d0c0b0a") + bytes.fromhex("feff fdffffffff1f")
    assert region(made, memory, "parameters:Z") == lanes
    assert region(made, memory, "table:relu:Z") == TABLE.tobytes()
    regions = [each.tensor for each in made.program.regions]
    assert len(memory) - memory.count(0) == sum(
        each.size_bytes - region(made, memory, each.tensor).count(0) for each in made.program.regions
    )
    assert regions == ["X", "W", "Z", "table:relu:Z", "parameters:Z"]


def test_left_shifts_are_the_top_bits_of_their_lanes() -> None:
    plain, shifted = lowered(), lowered(left=np.array([5, 2]))
    before = region(plain, image(plain, ARCH, {"X": INPUT}), "parameters:Z")
    after = region(shifted, image(shifted, ARCH, {"X": INPUT}), "parameters:Z")
    assert int.from_bytes(after, "little") - int.from_bytes(before, "little") == (2 << 64 | 5) << 61


def test_the_second_parameters_of_a_normalisation_have_no_left_shift() -> None:
    normed = [family for family in FAMILIES if family.name == "normed"]
    drawn = (random_triple(seed, machine(8, 8, bus_bytes=16), families=normed) for seed in range(9))
    steps = ((one, step) for one in drawn for step in numbers(one.lowered) if step.norm is not None)
    one, step = next((one, step) for one, step in steps if step.residual_left is not None)
    words = np.frombuffer(region(one.lowered, one.image, f"parameters:{step.kernel.name}"), "<u8")
    first, second = (words >> 61).reshape(2, -1)
    assert step.residual_left is not None
    assert first[: step.residual_left.size].tolist() == step.residual_left.tolist()
    assert step.residual_left.any()
    assert not second.any()


def test_outputs_are_read_back() -> None:
    made = lowered()
    memory = bytearray(image(made, ARCH, {"X": INPUT}))
    address = {each.tensor: each.address for each in made.program.regions}["Z"]
    memory[address : address + 8] = signed(1, 2, 3, 4, -5, -6, 99, 99)
    (found,) = tensors_of(made, ARCH, bytes(memory)).items()
    assert found[0] == "Z"
    assert found[1].tolist() == [[1, 2], [3, 4], [-5, -6]]


def test_softmax_finds_the_table_of_powers() -> None:
    heads = [family for family in FAMILIES if family.name == "heads"]
    one = random_triple(3, machine(8, 8, bus_bytes=16), families=heads)
    table = region(one.lowered, one.image, "table:exp2")
    words = np.frombuffer(table, np.int8).reshape(256, 8)
    assert np.array_equal(words[:, :2].copy().view("<i2")[:, 0], exp2_table())
    assert not words[:, 2:].any()


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ArchsimError, match=r"^inputs must include 'X', not only V$"):
        image(lowered(), ARCH, {"V": INPUT})


def test_a_program_for_timing_has_no_image() -> None:
    timed = replace(lowered(), quantised=None)
    with pytest.raises(ArchsimError, match=r"^a memory image needs a program lowered with values, "):
        image(timed, ARCH, {"X": INPUT})
