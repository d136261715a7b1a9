"""Constraints files: what they lay over a hierarchy, and what is refused, with its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archsim._constraints_file import constraints_schema, load_constraints, parse_constraints
from archsim._errors import ArchsimError
from archsim._hierarchy import Hierarchy
from archsim._hierarchy_file import load_hierarchy

STD3 = load_hierarchy("std3-16")
TPU = load_hierarchy("tpu2-128")


def parsed(text: str, hierarchy: Hierarchy = STD3) -> Hierarchy:
    return parse_constraints(text, hierarchy, tensors=("A", "B", "Z"), ranks=("m", "n", "k"), source="c.yaml")


def test_what_is_given_replaces_the_hierarchys_and_the_rest_stays() -> None:
    found = parsed(
        """\
dataflow: weight-stationary
levels:
  - name: GLB
    hold: [A]
    double_buffer: [weight]
  - name: RF
    bypass: []
    spatial:
      - {name: X, ranks: [m, n]}
""",
        TPU,
    )
    dram, glb, rf = TPU.levels
    side = replace(rf.spatial[1], ranks=("m", "n"))
    assert found == replace(
        TPU,
        dataflow="weight-stationary",
        levels=(
            dram,
            replace(glb, hold=("A",), double_buffer=("weight",)),
            replace(rf, bypass=(), spatial=(rf.spatial[0], side)),
        ),
    )


def test_nothing_changes_nothing() -> None:
    assert parsed("levels: []") == STD3


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("dataflow: input-stationary\n")
    found = load_constraints(path, STD3, tensors=(), ranks=())
    assert found == replace(STD3, dataflow="input-stationary")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("levels:\n  - name: L2\n", "c.yaml:2: levels[0].name must be one of DRAM, GLB, RF, not 'L2'"),
        (
            "levels:\n  - name: GLB\n  - name: GLB\n",
            "c.yaml:3: levels[1].name must be a level that is not given before, not 'GLB'",
        ),
        (
            "levels:\n  - name: DRAM\n    hold: [A]\n",
            "c.yaml:3: levels[0].hold must be absent (the outermost level holds all, once), not given",
        ),
        (
            "levels:\n  - name: GLB\n    hold:\n      - A\n      - V\n",
            "c.yaml:5: levels[0].hold[1] must be one of input, weight, output, A, B, Z, not 'V'",
        ),
        (
            "levels:\n  - name: GLB\n    hold: [A]\n    bypass: [A]\n",
            "c.yaml:3: levels[0].hold must be free of what GLB must both hold and bypass: 'A'",
        ),
        (
            "levels:\n  - name: RF\n    spatial:\n      - {name: Z, ranks: [m]}\n",
            "c.yaml:4: levels[0].spatial[0].name must be one of Y, X, not 'Z'",
        ),
        (
            "levels:\n  - name: GLB\n    spatial:\n      - {name: X, ranks: [m]}\n",
            "c.yaml:4: levels[0].spatial[0].name must be absent (there are none), not 'X'",
        ),
        (
            "levels:\n  - name: RF\n    spatial:\n      - {name: X, ranks: [q]}\n",
            "c.yaml:4: levels[0].spatial[0].ranks[0] must be one of m, n, k, not 'q'",
        ),
        (
            "dataflow: weight\n",
            (
                "c.yaml:1: dataflow must be 'any', 'input-stationary', 'weight-stationary', "
                "'output-stationary' or 'row-stationary', not 'weight'"
            ),
        ),
        ("dataflows: any\n", "c.yaml:1: dataflows must be one of dataflow, levels; did you mean 'dataflow'?"),
    ],
)
def test_mistakes_are_refused_with_their_line(text: str, message: str) -> None:
    with pytest.raises(ArchsimError) as error:
        parsed(text)
    assert str(error.value) == message


def test_a_hierarchys_own_bypass_can_conflict() -> None:
    with pytest.raises(
        ArchsimError, match=r"^c\.yaml:3: levels\[0\]\.hold must be free of what RF must both hold"
    ):
        parsed("levels:\n  - name: RF\n    hold: [input]\n", TPU)


def test_the_schema_is_closed() -> None:
    assert constraints_schema()["additionalProperties"] is False
