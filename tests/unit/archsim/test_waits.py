"""Rows of waiting: kernels, layers, and what counters say where a run is too long to be traced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from archsim import (
    Counter,
    Instruction,
    Operand,
    Program,
    load_architecture,
    load_energy_table,
    lower,
    simulate,
)
from archsim._breakdown import Breakdown, Share, Spent, breakdown
from archsim._causes import ARRAY_DRAIN, HAND_OVER, READ_BANDWIDTH, READ_LATENCY, STREAMING
from archsim._isa import Opcode
from archsim.cli import _waits
from archsim.cli._app import main
from archsim.cli._tables import MAX_KERNELS
from archsim.cli._waits import (
    PartWaits,
    WaitRow,
    counted_rows,
    document,
    kernel_rows,
    layer_rows,
    part_waits,
    streamed_weights,
    wait_cells,
    wait_rows,
)
from mapper import search
from workloads import load_model


def spent(name: str, work: int, *waits: tuple[str, int], tensor: str = "") -> Spent:
    """A section of ``work`` streamed rows and other causes."""
    shares = [Share(cause=STREAMING, cycles=work), *(Share(cause=c, cycles=n) for c, n in waits)]
    ordered = tuple(sorted((s for s in shares if s.cycles), key=lambda s: -s.cycles))
    transfers = tuple(replace(s, tensor=tensor) for s in ordered if s.group == "memory" and tensor)
    return Spent(name=name, cycles=sum(s.cycles for s in shares), shares=ordered, transfers=transfers)


def whole(*sections: Spent) -> Breakdown:
    """Sections as a run."""
    shares = tuple(share for section in sections for share in section.shares)
    return Breakdown(name="net", cycles=sum(s.cycles for s in sections), shares=shares, sections=sections)


def test_a_row_has_four_shares_and_the_longest_wait() -> None:
    found = whole(
        spent("(start)", 0),
        spent("Z", 60, (READ_BANDWIDTH, 25), (READ_LATENCY, 5), (ARRAY_DRAIN, 8), (HAND_OVER, 2), tensor="W"),
    )
    (row,) = wait_rows(found)
    assert (row.name, row.cycles, row.idle) == ("Z", 100, 40)
    assert (row.work, row.memory, row.dependence, row.control) == (0.6, 0.3, 0.08, 0.02)
    assert (row.reason, row.reason_share) == (f"{READ_BANDWIDTH} (W)", 0.25)
    assert row.causes[READ_LATENCY] == 5
    assert wait_rows(found) == kernel_rows(found)


def test_layers_name_the_kernel_that_waits_longest() -> None:
    found = whole(
        spent("(start)", 0, (HAND_OVER, 5)),
        spent("start", 0, (HAND_OVER, 2)),
        spent("Q.0", 90, (ARRAY_DRAIN, 10)),
        spent("K.0", 10, (ARRAY_DRAIN, 20)),
        spent("Q.1", 50, (READ_LATENCY, 50)),
    )
    rows = wait_rows(found)
    assert [(row.name, row.cycles, row.worst) for row in rows] == [
        ("(start)", 7, "(start)"),
        ("layer 0", 130, "K.0"),
        ("layer 1", 100, "Q.1"),
    ]
    assert rows[1].dependence == 30 / 130
    assert layer_rows(whole(spent("Q", 1))) == ()


def test_a_model_s_rows_add_up_and_its_streamed_weights_are_whole() -> None:
    arch = load_architecture("edge-8x8")
    cascade = load_model("gemm:64x512x256").parts[0].cascade
    tilings = [one.tiling for one in search(cascade, arch, table=load_energy_table(arch.technology))]
    made = (lower(cascade, arch, tilings),)
    runs = tuple(simulate(arch, one.program, program_address=one.program_address) for one in made)
    found = part_waits(arch, ("gemm", 2), made, runs)
    assert found.traced
    assert sum(row.cycles for row in found.kernels) == found.whole.cycles == runs[0].cycles
    assert sum(share.cycles for share in found.causes) == runs[0].cycles
    (streamed,) = streamed_weights(arch, made, runs)
    assert streamed.size_bytes == 512 * 256
    assert streamed.region_bytes * 4 == arch.scratchpad.words * arch.word_bytes < streamed.size_bytes * 4
    # Each byte once for every turn in which the product goes through its weights.
    assert streamed.read_bytes % streamed.size_bytes == 0
    roomy = replace(arch, scratchpad=replace(arch.scratchpad, words_per_bank=1 << 20))
    assert streamed_weights(roomy, made, runs) == ()


def test_what_is_too_long_to_be_traced_is_told_by_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    arch = load_architecture("edge-8x8")
    cascade = load_model("gemm:64x512x256").parts[0].cascade
    tilings = [one.tiling for one in search(cascade, arch, table=load_energy_table(arch.technology))]
    lowered = lower(cascade, arch, tilings)
    run = simulate(arch, lowered.program, program_address=lowered.program_address)
    monkeypatch.setattr(_waits, "traceable", lambda _program, _run: False)
    found = part_waits(arch, ("gemm", 1), (lowered,), (run,))
    assert not found.traced
    assert found.causes == ()
    assert found.kernels == counted_rows(lowered.program, run)
    assert found.whole.work == pytest.approx(run.counter(Counter.ARRAY_BUSY) / run.cycles)
    exact = {row.name: row for row in kernel_rows(breakdown(arch, lowered.program))}
    for row in found.kernels:
        assert row.work == exact[row.name].work
        assert row.memory is row.dependence is row.control is None
        assert all(name.startswith("array waits") for name in row.causes)


def test_unnamed_semaphores_have_their_number() -> None:
    arch = load_architecture("edge-8x8")
    load = Instruction(
        Opcode.LOAD, (Operand(0), Operand(0)), {"segments": 1, "beats": 1}, signals=8, releases=0
    )
    fields = {"rows": 8, "w_rows": 8, "k_chunks": 1, "n_chunks": 1}
    operands = (Operand(0), Operand(arch.scratchpad.words_per_bank), Operand(0))
    product = Instruction(Opcode.MATMUL, operands, fields, waits=8)
    program = Program("one", (load, product, Instruction(Opcode.HALT)))
    (row,) = counted_rows(program, simulate(arch, program))
    assert row.reason == "semaphore 3"


ROW = WaitRow(
    name="Z",
    cycles=1000,
    work=0.75,
    memory=0.2,
    dependence=0.05,
    control=0.0,
    reason="vector unit",
    reason_share=0.2,
)


def a_part(*kernels: WaitRow, layers: tuple[WaitRow, ...] = ()) -> PartWaits:
    """Rows as a part."""
    return PartWaits(part="p", repeat=1, traced=True, whole=ROW, kernels=kernels, layers=layers)


def test_cells_are_text_and_end_with_the_whole() -> None:
    shares = ("1,000", "75.0%", "20.0%", "5.0%", "0.0%", "20.0% vector unit")
    assert wait_cells(a_part(ROW), every=False) == [("Z", *shares), ("all", *shares)]
    unknown = replace(ROW, memory=None, dependence=None, control=None, reason="")
    assert wait_cells(a_part(unknown), every=False)[0] == ("Z", "1,000", "75.0%", "–", "–", "–", "")
    layer = replace(ROW, name="layer 0", worst="Z.0")
    assert wait_cells(a_part(ROW, layers=(layer,)), every=False)[0] == ("layer 0", *shares, "Z.0")


def test_of_many_kernels_those_that_wait_longest_are_shown() -> None:
    many = [replace(ROW, name=f"k{i}", cycles=100 + i, work=0.5) for i in range(MAX_KERNELS + 2)]
    shown = wait_cells(a_part(*many), every=False)
    assert [cells[0] for cells in shown[:-2]] == [row.name for row in many[2:]]
    assert shown[-2][:2] == ("2 more (--all)", f"{100 + 101}")
    assert len({len(cells) for cells in shown}) == 1
    assert len(wait_cells(a_part(*many), every=True)) == len(many) + 1


def test_simulate_prints_the_waits_and_adds_them_to_its_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "result.json"
    assert main(["simulate", "gemm:64x64x64", "--arch", "edge-8x8", "--waits", "--json", str(path)]) == 0
    assert "Why the array waits" in capsys.readouterr().out
    found = json.loads(path.read_text())
    (part,) = found["waits"]
    assert part["traced"] is True
    assert sum(row["cycles"] for row in part["kernels"]) == found["cycles"] == sum(part["causes"].values())
    for row in part["kernels"]:
        assert sum(row["causes"].values()) == row["cycles"]
        assert row["work"] + row["memory"] + row["dependence"] + row["control"] == pytest.approx(1)
    assert main(["simulate", "gemm:64x64x64", "--arch", "edge-8x8", "--json", str(path)]) == 0
    assert "waits" not in json.loads(path.read_text())


def test_the_document_is_plain() -> None:
    part = replace(a_part(ROW), causes=(Share(cause=STREAMING, cycles=3),))
    (made,) = document([part])
    assert json.loads(json.dumps(made)) == made | {"kernels": [*made["kernels"]], "layers": []}
    assert made["causes"] == {STREAMING: 3}
