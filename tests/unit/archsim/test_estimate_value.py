"""The Estimate: to JSON and back, and subtraction."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import cast

import pytest

from archsim._errors import ArchsimError
from archsim._estimate_value import Estimate, Level, Row, from_json, subtract

VALUE = Estimate(
    name="gemm",
    level="simulate",
    cycles=1000,
    seconds=1e-5,
    actions={("dram", "read", "X"): 4096, ("array", "mac", ""): 512},
    energy_pj={"dram": 12.5, "array": 2.0},
    macs=512,
    utilization={"array": 0.5},
    stalls={"sums ready": 17},
    bytes={"dram": 512},
    rows=(Row(name="product", cycles=900, macs=512, utilization=0.5, energy_pj=14.5),),
    counters={"CYCLES": 1000},
)


def test_json_and_back() -> None:
    assert from_json(VALUE.to_json()) == VALUE


def test_json_has_the_published_keys() -> None:
    tree = json.loads(VALUE.to_json())
    assert tree["latency_s"] == 1e-5
    assert tree["energy_pj"] == 14.5
    assert {"cycles", "macs", "utilization", "bytes", "rows"} <= tree.keys()


def test_subtract_lists_the_counts_that_differ() -> None:
    other = replace(
        VALUE,
        cycles=990,
        seconds=9e-6,
        actions={("dram", "read", "X"): 4096, ("dram", "write", "Z"): 8},
        stalls={},
        counters={"CYCLES": 990},
    )
    assert subtract(VALUE, VALUE) == {}
    assert subtract(VALUE, other) == {
        "cycles": 10,
        "actions/array/mac/": 512,
        "actions/dram/write/Z": -8,
        "counters/CYCLES": 10,
    }


def test_a_level_must_be_known() -> None:
    with pytest.raises(ArchsimError, match=r"^level must be one of bound, .*, not 'guess'$"):
        replace(VALUE, level=cast("Level", "guess"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x", "rows": 3}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ArchsimError, match=r"^an estimate's JSON must be what to_json writes"):
        from_json(text)
