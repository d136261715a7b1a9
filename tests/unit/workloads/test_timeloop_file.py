"""Timeloop's problems as cascades: both spellings, the named shapes, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workloads import WorkloadError, load_model, parse
from workloads._timeloop_file import parse_timeloop_problem, read_timeloop_problem

VERSION_3 = """
problem:
  shape:
    name: 1D strided
    dimensions: [R, P, C]
    coefficients:
      - {name: Wstride, default: 1}
    data-spaces:
      - {name: Weights, projection: [[[C]], [[R]]]}
      - {name: Inputs, projection: [[[C]], [[R], [P, Wstride]]]}
      - {name: Outputs, projection: [[[P]]], read-write: True}
  R: 3
  P: 16
  C: 8
  Wstride: 2
"""
VERSION_4 = """
problem:
  version: 0.4
  shape:
    name: 1D strided
    dimensions: [R, P, C]
    coefficients:
      - {name: Wstride, default: 2}
    data_spaces:
      - {name: Weights, projection: [[[C]], [[R]]]}
      - {name: Inputs, projection: [[[C]], [[R], [P, Wstride]]]}
      - {name: Outputs, projection: [[[P]]], read_write: true}
  instance: {R: 3, P: 16, C: 8, H: 33, densities: {}}
architecture:
  version: 0.4
  nodes:
    - !Component {name: DRAM}
"""
STRIDED = """cascade 1D-strided
ranks R=3, P=16, C=8

Outputs[P] = Inputs[C, R + 2*P] * Weights[C, R]
"""


@pytest.mark.parametrize("text", [VERSION_3, VERSION_4])
def test_both_spellings_are_one_problem(text: str) -> None:
    assert str(parse_timeloop_problem(text)) == STRIDED


@pytest.mark.parametrize("name", ["cnn-layer", "cnn_layer"])
def test_the_convolution_by_name(name: str) -> None:
    sizes = "R: 3\n  S: 3\n  P: 28\n  Q: 28\n  C: 64\n  K: 128\n  N: 1\n  Wstride: 2\n  Hstride: 2"
    cascade = parse_timeloop_problem(f"problem:\n  shape: {name}\n  {sizes}\n  Hdilation: 3\n")
    expected = "Outputs[N, K, Q, P] = Inputs[N, C, R + 2*P, 3*S + 2*Q] * Weights[C, K, R, S]"
    assert str(cascade.einsums[0]) == expected
    assert cascade.ranks["K"] == 128


def test_the_product_by_name() -> None:
    cascade = parse_timeloop_problem("problem: {shape: gemm-ABZ, instance: {M: 4, N: 5, K: 6}}")
    written = parse("cascade GEMM\nranks M=4, N=5, K=6\n\nZ[M, N] = A[M, K] * B[N, K]\n")
    assert cascade == written


def test_a_model_may_be_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "layer.yaml"
    path.write_text(VERSION_4)
    model = load_model(str(path))
    assert str(model.parts[0].cascade) == STRIDED
    assert model.parts[0].inputs == {"Inputs"}
    assert read_timeloop_problem(path) == model.parts[0].cascade


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  P: 16\n", "", "f.yaml:2: problem.instance.P must be given, not left out"),
        ("P: 16", "P: none", "f.yaml:13: problem.instance.P must be an integer of at least 1, not 'none'"),
        ("P: 16", "P: 16\n  X: 2", "f.yaml:14: problem.instance.X must be one of R, P, C, Wstride"),
        (
            "[P, Wstride]",
            "[P, Wdilation]",
            "f.yaml:10: problem.shape.data_spaces[1].projection[1][1] must be [D] or [D, coefficient] of",
        ),
        (
            "read-write: True",
            "read-write: False",
            "f.yaml:3: problem.shape.data_spaces must have one with read_write: true and 1 to 8 without,",
        ),
        ("data-spaces", "data", "f.yaml:8: problem.shape.data must be one of"),
        (
            "dimensions: [R, P, C]",
            "dimensions: [R, P, R]",
            "f.yaml:5: problem.shape.dimensions must be different",
        ),
        ("  shape:\n", "  shape: lstm\n  other:\n", "f.yaml:3: problem.shape must be a mapping or one of"),
        ("problem:", "problems:", "f.yaml:1: problem must be given, not left out"),
        ("Wstride: 2", "densities: {A: 0.5}", "f.yaml:15: problem.instance.densities must be empty"),
        ("[[[P]]]", "[[[P], [R]]]", "f.yaml:11: problem.shape.data_spaces: an output index must be a rank"),
    ],
)
def test_what_is_refused(old: str, new: str, message: str) -> None:
    text = VERSION_3.replace(old, new)
    assert text != VERSION_3
    with pytest.raises(WorkloadError, match=f"^{re.escape(message)}"):
        parse_timeloop_problem(text, source="f.yaml")
