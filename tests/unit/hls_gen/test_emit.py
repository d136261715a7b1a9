"""A project's files, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hls_gen import BOARDS, AttentionSpec, HlsError, LinearSpec, NormSpec, NormStage, ResidualSpec, emit
from tests.unit.hls_gen import oracle
from tests.unit.hls_gen.oracle import Tensors, machine

SPEC = LinearSpec(name="dense", m=3, k=4, n=5, shift=6)


def tensors() -> Tensors:
    return oracle.complete(SPEC, oracle.random_inputs(SPEC, 0))


def test_files_of_a_project() -> None:
    project = emit(SPEC, machine(2, 2), board="zcu102", tensors=tensors())
    headers = [
        f"include/archsim/{each}.hpp" for each in ("arithmetic", "matmul", "memory", "norm", "softmax")
    ]
    data = [f"data/{each}.bin" for each in ("bias", "expected_y", "multiplier", "w", "x")]
    sources = ["src/dense.cpp", "src/dense.hpp", "src/testbench.cpp"]
    library = [*headers, "include/archsim/testbench.hpp", "include/archsim/types.hpp"]
    build = ["Makefile", "hls_config.cfg", "run_hls.tcl"]
    assert sorted(project.files) == sorted([*build, *data, *library, *sources])
    assert (project.name, project.result.name, project.result.shape) == ("dense", "y", (3, 5))


def test_data_files_are_little_endian_and_row_major() -> None:
    given = tensors()
    files = emit(SPEC, machine(2, 2), board="u50", tensors=given).files
    assert files["data/w.bin"] == b"".join(int(v).to_bytes(1, "little", signed=True) for v in given["w"].flat)
    assert files["data/multiplier.bin"] == b"".join(int(v).to_bytes(2, "little") for v in given["multiplier"])
    assert files["data/bias.bin"] == b"".join(
        int(v).to_bytes(8, "little", signed=True) for v in given["bias"]
    )
    fortran = given | {"w": np.asfortranarray(given["w"])}
    assert emit(SPEC, machine(2, 2), board="u50", tensors=fortran).files == files


def test_emission_is_deterministic() -> None:
    first, second = (emit(SPEC, machine(3, 5), board="u280", tensors=tensors()) for _ in range(2))
    assert list(first.files.items()) == list(second.files.items())


def test_files_cannot_be_changed() -> None:
    project = emit(SPEC, machine(3, 5), board="u280", tensors=tensors())
    with pytest.raises(TypeError, match="item assignment"):
        project.files["Makefile"] = b""  # type: ignore[index]


@pytest.mark.parametrize("board", BOARDS)
def test_part_and_clock_reach_both_scripts(board: object) -> None:
    assert isinstance(board, type(BOARDS[0]))
    for clock_mhz, period in ((125.0, "8.000"), (4 * board.clock_mhz, f"{1000 / board.clock_mhz:.3f}")):
        architecture = replace(machine(2, 2), clock_mhz=clock_mhz)
        project = emit(SPEC, architecture, board=board.name, tensors=tensors())
        tcl = project.text("run_hls.tcl").splitlines()
        assert {f"set_part {board.part}", f"create_clock -period {period} -name default"} <= set(tcl)
        assert "set_top dense_kernel" in tcl
        config = project.text("hls_config.cfg").splitlines()
        assert config[:3] == [f"part={board.part}", "", "[hls]"]
        assert {f"clock={period}ns", "syn.top=dense_kernel", "syn.file=src/dense.cpp"} <= set(config)
        files = [line.removeprefix("tb.file=") for line in config if line.startswith("tb.file=")]
        assert set(files) <= set(project.files)
    assert emit(SPEC, architecture, board=board.part, tensors=tensors()).files == project.files


def test_array_and_memories_tile_the_kernel() -> None:
    project = emit(SPEC, machine(8, 4, accumulators=2), board="u50", tensors=tensors())
    assert "using Output = archsim::Product<3, 4, 5, 2, 8, 4>;" in project.text("src/dense.cpp")


def test_attention_takes_as_many_rows_as_every_memory_holds() -> None:
    """Three words a row of 13 keys on 5 lanes: 7 buffer words hold two rows."""
    spec = AttentionSpec(queries=9, keys=13, e=4, f=6, score_shift=6, shift=7)
    given = oracle.complete(spec, oracle.random_inputs(spec, 0))
    for limits, block in (({"buffer": 7}, 2), ({"records": 4}, 4), ({"accumulators": 3}, 3), ({}, 9)):
        text = emit(spec, machine(3, 5, **limits), board="u50", tensors=given).text("src/attention.cpp")
        assert f"using Scores = archsim::Product<9, 4, 13, {block}, 3, 5>;" in text
        assert f"using Output = archsim::Product<9, 13, 6, {block}, 3, 5>;" in text


def edited(name: str, edit: Callable[[oracle.Values], object]) -> dict[str, object]:
    given: dict[str, object] = dict(tensors())
    given[name] = edit(tensors()[name])
    return given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {k: v for k, v in tensors().items() if k != "w"},
            "tensors must have 'w', not ['bias', 'multiplier', 'x', 'y']",
        ),
        (tensors() | {"z": np.zeros(1)}, "tensors must be of x, w, multiplier, bias, y, not 'z'"),
        (edited("w", lambda w: w.T), "shape of w must be (4, 5), not (5, 4)"),
        (edited("x", lambda x: x / 2), "type of x must be an integer type, not 'float64'"),
        (edited("x", lambda x: x * 0 + 128), "values of x must be in -128..127, not '128'"),
        (edited("x", lambda x: x * 0 - 129), "values of x must be in -128..127, not '-129'"),
        (
            edited("multiplier", lambda m: m * 0 + 32768),
            "values of multiplier must be in -32768..32767, not '32768'",
        ),
        (
            edited("bias", lambda b: b * 0 + 2**44),
            f"values of bias must be in {-(2**44)}..{2**44 - 1}, not '{2**44}'",
        ),
    ],
)
def test_wrong_tensors_are_refused(given: dict[str, oracle.Values], message: str) -> None:
    with pytest.raises(HlsError, match=f"^{re.escape(message)}$"):
        emit(SPEC, machine(2, 2), board="u50", tensors=given)


@pytest.mark.parametrize("left", [-1, 8])
def test_a_left_shift_out_of_range_is_refused(left: int) -> None:
    spec = replace(SPEC, residual=ResidualSpec(left=True))
    given = oracle.random_inputs(spec, 0) | {"residual_left": np.full(5, left), "y": np.zeros((3, 5), int)}
    with pytest.raises(HlsError, match=f"^values of residual_left must be in 0..7, not '{left}'$"):
        emit(spec, machine(2, 2), board="u50", tensors=given)


def test_only_a_residual_that_is_shifted_left_has_a_port_and_text_for_it() -> None:
    texts = {}
    for left in (False, True):
        spec = replace(SPEC, residual=ResidualSpec(multiplier=3, shift=2, left=left))
        given = oracle.complete(spec, oracle.random_inputs(spec, 0))
        texts[left] = emit(spec, machine(2, 2), board="u50", tensors=given).text("src/dense.cpp")
    plain = "value = archsim::add_residual<3, 2>(value, residual[lane]);"
    shifted = (
        "value = archsim::add_residual<3, 2>(value, archsim::shift_left(residual[lane], lefts[column]));"
    )
    assert plain in texts[False]
    assert "left" not in texts[False]
    assert shifted in texts[True]
    assert "archsim::load_parameters<5>(residual_left, lefts);" in texts[True]


def test_tensors_past_the_index_type_are_refused() -> None:
    spec = LinearSpec(m=65535, k=65535, n=1, shift=0)
    message = f"elements of x must be at most {1 << 30}, not {65535**2}"
    with pytest.raises(HlsError, match=f"^{re.escape(message)}$"):
        emit(spec, machine(1, 1), board="u50", tensors={})


def test_unknown_board_is_refused() -> None:
    message = "board must be kv260, u280, u50, vcu1525, zcu102 or one of their parts, not 'arty'"
    with pytest.raises(HlsError, match=f"^{re.escape(message)}$"):
        emit(SPEC, machine(2, 2), board="arty", tensors=tensors())


def test_rows_that_the_buffer_does_not_hold_are_refused() -> None:
    attention = AttentionSpec(queries=1, keys=11, e=1, f=1, score_shift=0, shift=0)
    norm = NormSpec(rows=1, length=11, shift=0, norm=NormStage(shift=0))
    linear = LinearSpec(m=1, k=1, n=11, shift=0, norm=NormStage(shift=0))
    for spec, name in ((attention, "keys"), (norm, "length"), (linear, "n")):
        given = oracle.complete(spec, oracle.random_inputs(spec, 0))
        message = f"{name} must be at most 10, what the vector buffer holds, not 11"
        with pytest.raises(HlsError, match=f"^{re.escape(message)}$"):
            emit(spec, machine(3, 5, buffer=2), board="u50", tensors=given)
        assert emit(spec, machine(3, 5, buffer=3), board="u50", tensors=given).files


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(SPEC, m=0), "m must be in 1..65535, not 0"),
        (lambda: replace(SPEC, n=65536), "n must be in 1..65535, not 65536"),
        (lambda: replace(SPEC, shift=64), "shift must be in 0..63, not 64"),
        (lambda: replace(SPEC, shift=-1), "shift must be in 0..63, not -1"),
        (
            lambda: replace(SPEC, name="a b"),
            "kernel name must be lower-case letters, digits and underscores, not 'a b'",
        ),
        (
            lambda: ResidualSpec(multiplier=32768),
            "residual multiplier must be in -32768..32767, not 32768",
        ),
        (lambda: ResidualSpec(shift=64), "residual shift must be in 0..63, not 64"),
        (lambda: NormStage(shift=64), "norm shift must be in 0..63, not 64"),
        (
            lambda: replace(SPEC, table=True, norm=NormStage(shift=1)),
            "end of a linear kernel must be a table or a normalisation, not both",
        ),
    ],
)
def test_wrong_kernels_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(HlsError, match=f"^{re.escape(message)}$"):
        make()
