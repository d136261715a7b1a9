"""Compiled kernels against the exact oracle, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archsim._architecture import Architecture
from hls_gen import (
    AttentionSpec,
    HlsError,
    KernelSpec,
    LinearSpec,
    NormSpec,
    NormStage,
    Operation,
    ResidualSpec,
    ap_include_dir,
    compile_and_run,
    compile_project,
    emit,
    run_testbench,
)
from tests.unit.hls_gen import oracle
from tests.unit.hls_gen.oracle import Tensors, machine

CASES: dict[str, tuple[KernelSpec, Architecture]] = {
    "one of everything": (LinearSpec(m=1, k=1, n=1, shift=0), machine(1, 1)),
    "ragged, residual, table": (
        LinearSpec(m=7, k=10, n=11, shift=14, residual=ResidualSpec(multiplier=-77, shift=5), table=True),
        machine(3, 5, accumulators=3),
    ),
    "wide array, gate": (
        LinearSpec(m=4, k=5, n=6, shift=13, residual=ResidualSpec(operation=Operation.MULTIPLY, shift=6)),
        machine(8, 8),
    ),
    "columns of the residual shifted left": (
        LinearSpec(
            m=7, k=10, n=11, shift=14, residual=ResidualSpec(multiplier=77, shift=9, left=True), table=True
        ),
        machine(3, 5, accumulators=3),
    ),
    "gate with columns shifted left": (
        LinearSpec(
            m=4,
            k=5,
            n=6,
            shift=13,
            residual=ResidualSpec(operation=Operation.MULTIPLY, shift=10, left=True),
        ),
        machine(4, 4),
    ),
    "largest shift": (
        LinearSpec(m=2, k=4, n=4, shift=63, residual=ResidualSpec(multiplier=-32768, shift=0)),
        machine(2, 2),
    ),
    "one query, one key": (
        AttentionSpec(queries=1, keys=1, e=1, f=1, score_shift=0, shift=0),
        machine(1, 1),
    ),
    "ragged head in blocks of two": (
        AttentionSpec(queries=5, keys=13, e=7, f=6, score_shift=12, shift=14),
        machine(3, 5, buffer=7),
    ),
    "head on a wide array": (
        AttentionSpec(queries=8, keys=24, e=16, f=8, score_shift=12, shift=14),
        machine(8, 8, records=4),
    ),
    "layer norm behind a product": (
        LinearSpec(
            m=7, k=6, n=13, shift=7, residual=ResidualSpec(multiplier=90, shift=3), norm=NormStage(shift=10)
        ),
        machine(3, 5, buffer=6),
    ),
    "norm of a residual with columns shifted left": (
        NormSpec(
            rows=5,
            length=8,
            shift=2,
            residual=ResidualSpec(multiplier=-32768, shift=13, left=True),
            norm=NormStage(shift=10),
        ),
        machine(2, 4, records=2),
    ),
    "RMS norm alone": (
        NormSpec(rows=5, length=8, shift=2, norm=NormStage(shift=10, centred=False)),
        machine(2, 4, records=2),
    ),
}


def datasets(spec: KernelSpec) -> list[Tensors]:
    """Inputs over their range, then at its ends; a head's scores all negative, a norm's rows near zero."""
    extremes = [oracle.extreme_inputs(spec, seed) for seed in (2, 3, 4)]
    ordinary = [oracle.random_inputs(spec, seed) for seed in (1, 5)]
    if isinstance(spec, AttentionSpec):
        low = oracle.random_inputs(spec, 6)
        ordinary.append(low | {"score_bias": low["score_bias"] - (20000 << spec.score_shift)})
    if not isinstance(spec, AttentionSpec) and spec.norm:
        small = {name: values % 4 for name, values in oracle.random_inputs(spec, 7).items()}
        scaling = {"multiplier": small["multiplier"] * 0 + (1 << spec.shift) // 4}
        gains = {"norm_multiplier": small["norm_multiplier"] + 90}
        ordinary.append(small | scaling | gains)
    return [*ordinary, *extremes]


@pytest.mark.cosim
@pytest.mark.parametrize("name", CASES)
def test_compiled_kernel_equals_oracle(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXXFLAGS", "-O1 -Werror -fsanitize=address")
    spec, architecture = CASES[name]
    folder = tmp_path / "project"
    for seed, inputs in enumerate(datasets(spec)):
        tensors = oracle.complete(spec, inputs)
        project = emit(spec, architecture, board="zcu102", tensors=tensors)
        if seed == 0:
            project.write(folder)
            compile_project(folder, include_dir=ap_include_dir())
            assert len(np.unique(tensors["y"])) > tensors["y"].size // 8
        for path, contents in project.files.items():
            if path.startswith("data/"):
                (folder / path).write_bytes(contents)
        run = run_testbench(project, folder)
        assert run.passed, run.message
        np.testing.assert_array_equal(run.result, tensors["y"])
        assert run.message == f"y: {tensors['y'].size} elements equal"


@pytest.mark.cosim
def test_softmax_of_equal_scores_is_uniform() -> None:
    """Four equal keys: each probability is 128 / 4 = 32, so that the result is 32 * sum(v)."""
    spec = AttentionSpec(queries=2, keys=4, e=2, f=3, score_shift=0, shift=7)
    inputs = {
        "q": np.ones((2, 2), np.int64),
        "k": np.ones((4, 2), np.int64),
        "v": np.array([[4, 8, -40], [4, 8, -40], [4, 8, -40], [4, 16, -40]], np.int64),
        "score_multiplier": np.ones(4, np.int64),
        "score_bias": np.zeros(4, np.int64),
        "table": np.full(256, 16384, np.int64),
        "multiplier": np.ones(3, np.int64),
        "bias": np.zeros(3, np.int64),
    }
    result = np.array([[4, 10, -40], [4, 10, -40]], np.int64)
    run = compile_and_run(emit(spec, machine(4, 4), board="u50", tensors=inputs | {"y": result}))
    assert run.passed, run.message


def test_one_flipped_bit_fails_the_testbench(tmp_path: Path) -> None:
    spec = LinearSpec(m=3, k=2, n=4, shift=6)
    tensors = oracle.complete(spec, oracle.random_inputs(spec, 3))
    project = emit(spec, machine(2, 2), board="kv260", tensors=tensors)
    project.write(tmp_path / "project")
    compile_project(tmp_path / "project", include_dir=ap_include_dir())
    expected = tmp_path / "project" / "data" / "expected_y.bin"
    flipped = bytearray(expected.read_bytes())
    flipped[6] ^= 1
    expected.write_bytes(flipped)

    run = run_testbench(project, tmp_path / "project")
    right = int(tensors["y"][1, 2])
    assert not run.passed
    assert run.message == f"y[1, 2]: expected {right ^ 1}, got {right}; 1 of 12 elements differ"
    np.testing.assert_array_equal(run.result, tensors["y"])

    expected.write_bytes(flipped[:-1])
    with pytest.raises(HlsError, match=r"data/expected_y\.bin is shorter than 12 elements"):
        run_testbench(project, tmp_path / "project")
    expected.write_bytes(flipped + b"\0")
    with pytest.raises(HlsError, match=r"data/expected_y\.bin is longer than 12 elements"):
        run_testbench(project, tmp_path / "project")
