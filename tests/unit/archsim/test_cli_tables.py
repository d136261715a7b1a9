from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from archsim._estimate_value import Estimate, Row
from archsim.cli._tables import MAX_KERNELS, kernel_rows, print_estimate, quantity, stall_rows

ESTIMATE = Estimate(
    name="gemm",
    level="simulate",
    cycles=1000,
    seconds=1e-6,
    actions={},
    energy_pj={"array": 1.0, "dram": 3.0},
    macs=24,
    utilization={"mac": 0.25, "array": 0.5},
    stalls={"a": 9, "load waits for a free stationary buffer": 400, "b": 0, "c": 10, "d": 1},
    bytes={"dram": 26},
)
ROWS = tuple(
    Row(name=f"k{i}", cycles=i, macs=2 * i, utilization=0.5, energy_pj=float(i))
    for i in range(MAX_KERNELS + 3)
)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0 s"),
        (0.0123, "s", "12.3 ms"),
        (1.0, "s", "1 s"),
        (999, "B", "999 B"),
        (1e3, "B", "1 kB"),
        (5.606e14, "B", "560.6 TB"),
        (2e15, "B", "2 PB"),
        (999.0, "s", "999 s"),
        (5112.4, "s", "5,112 s"),
        (2.5e-12, "J", "2.5 pJ"),
        (2.5e-13, "J", "0.25 pJ"),
    ],
)
def test_quantities_have_si_prefixes(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_stalls_are_sorted_and_small_ones_counted() -> None:
    assert stall_rows(ESTIMATE, every=False) == [
        ("load waits for a free stationary buffer", "400", "40.0%"),
        ("c", "10", "1.0%"),
        ("2 more under 1% each (--all)", "", ""),
    ]
    assert [row[0] for row in stall_rows(ESTIMATE, every=True)][1:] == ["c", "a", "d"]


def test_few_kernels_keep_the_programs_order() -> None:
    few = replace(ESTIMATE, rows=ROWS[:MAX_KERNELS])
    assert [row[0] for row in kernel_rows(few, every=False)] == [row.name for row in few.rows]


def test_many_kernels_show_the_costliest_and_the_sum_of_the_rest() -> None:
    many = replace(ESTIMATE, rows=ROWS)
    *shown, rest = kernel_rows(many, every=False)
    assert [row[0] for row in shown] == [row.name for row in reversed(ROWS[3:])]
    assert rest == ("3 more (--all)", "3", "0.3%", "6", "", "3 pJ")
    assert len(kernel_rows(many, every=True)) == len(ROWS)


def test_tables_fit_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    wide = replace(ROWS[0], name="block/" + "long_name_" * 9, cycles=10**12, macs=10**14)
    print_estimate(replace(ESTIMATE, name="[bold]x", rows=(wide,), cycles=10**12))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "[bold]x (simulate)" in out
    assert "1,000,000,000,000" in out
    assert "100,000,000,000,000" in out


IMPORTED = """
import json, sys, types
from importlib.machinery import ModuleSpec
parent = types.ModuleType("archsim")
parent.__spec__ = ModuleSpec("archsim", None, is_package=True)
parent.__path__ = [sys.argv.pop(1)]
sys.modules["archsim"] = parent
from archsim.cli import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""
HEAVY = {"numpy", "numba", "networkx", "onnx", "amaranth", "cocotb", "matplotlib", "pydantic", "rich"}


@pytest.mark.parametrize("arguments", [["--help"], ["simulate", "--help"], ["completion", "bash"]])
def test_help_imports_no_heavy_package(arguments: list[str]) -> None:
    """The command line by itself, its package's own surface left out."""
    import archsim

    command = [sys.executable, "-c", IMPORTED, *archsim.__path__, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    code, modules = json.loads(result.stderr)
    assert code == 0
    assert set(modules) & (HEAVY | {"workloads", "mapper", "rtl", "hls_gen"}) == set()
