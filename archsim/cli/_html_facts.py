"""The report's tables of facts: verification, accuracy, resources, architecture, energy table."""

from __future__ import annotations

import math

from archsim import Architecture, Estimate
from archsim._energy import PER_BIT
from archsim.cli._markup import (
    Column,
    Markup,
    exact,
    integers,
    joined,
    percents,
    quantities,
    table,
    tag,
    text_column,
)
from archsim.cli._report_data import Report, Verification


def verification(report: Report) -> Markup:
    """Bits and counters of the RTL beside the oracle's and the simulator's; empty without a run."""
    check = report.verification
    if check is None:
        return Markup("")
    return joined(
        [
            tag("h2", "Verification on the RTL"),
            tag("p", _verdict(check)),
            [tag("p", text) for text in check.differences],
            _tensors(check),
            _counters(check),
        ]
    )


def _verdict(check: Verification) -> str:
    bits = f"{check.part}: {check.compared:,} elements compared, {check.mismatches:,} differ."
    speed = f"The RTL ran at {check.rtl_cycles_per_s:,.0f} cycles a second."
    if check.stalled:
        return f"{bits} The memory stalled at random, so that no cycles are compared. {speed}"
    return f"{bits} {len(check.counters):,} counters compared, {check.counter_mismatches:,} differ. {speed}"


def _tensors(check: Verification) -> Markup:
    return table(
        [
            text_column("tensor", (one.tensor for one in check.tensors)),
            integers("elements", (one.elements for one in check.tensors)),
            integers("that differ", (one.mismatches for one in check.tensors)),
        ],
        caption="Bits",
        note="Every tensor that the hardware stored, from the memory after the run in Verilator, beside the "
        "quantised oracle's, element by element.",
    )


def _counters(check: Verification) -> Markup:
    return table(
        [
            text_column("counter", (one.name for one in check.counters)),
            integers("simulated", (one.simulated for one in check.counters)),
            integers("RTL", (one.measured for one in check.counters)),
            integers("difference", (one.measured - one.simulated for one in check.counters)),
        ],
        caption="Cycles and counters",
        note="Simulated: the cycle-exact simulation of the same program. RTL: read from the core's register "
        "map after the run. The counters behind table_reads are cycles of waiting, by cause.",
    )


def accuracy(report: Report) -> Markup:
    """How far the integers are from the float oracle; empty where it was not measured."""
    if not report.accuracy:
        return Markup("")
    measures = table(
        [
            text_column("kernel", (one.kernel for one in report.accuracy)),
            Column(head="SQNR (dB)", cells=[_decibels(one.sqnr_db) for one in report.accuracy]),
            percents("largest error", (one.largest_error for one in report.accuracy)),
        ],
        note="SQNR: 10 log10 of the float oracle's power over that of the difference, on the input that was "
        "run; each kernel reads what the int8 kernels before it made, so errors add up. Largest error: of "
        "the difference, over the largest magnitude of the float tensor.",
    )
    return joined([tag("h2", "Accuracy of the integers"), measures])


def _decibels(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "exact" if value > 0 else "–"


def resources(report: Report) -> Markup:
    """Hardware that the design takes; empty where unknown."""
    if not report.resources:
        return Markup("")
    shown = report.resources
    listed = table(
        [
            text_column("resource", (f"{one.name} ({one.unit})" if one.unit else one.name for one in shown)),
            exact("used", [one.used for one in shown]),
            exact("available", [one.available for one in shown]),
            percents("used", (one.used / one.available if one.available else None for one in shown)),
            text_column("from", (one.source for one in shown), prose=True),
        ],
        note="Used over available is the share of the part.",
    )
    return joined([tag("h2", "Resources"), listed])


def architecture(arch: Architecture) -> Markup:
    """Every width, depth and count, with what follows from them."""
    rows = [*_chosen(arch), *_derived(arch)]
    listed = table(
        [
            text_column("parameter", (name for name, _, _ in rows)),
            exact("value", [value for _, value, _ in rows]),
            text_column("unit", (unit for _, _, unit in rows)),
        ],
        note=f"From the architecture {arch.name}; the lower rows follow: words times lanes times bytes "
        "of a lane, peak rates from the array, the bus and the clock.",
    )
    return joined([tag("h2", "The architecture"), tag("p", _summary(arch)), listed])


def _summary(arch: Architecture) -> str:
    array = arch.array
    return f"{arch.name}: a {array.kind} array of {array.rows} x {array.cols}, {arch.technology}."


def _of_kind(arch: Architecture) -> list[tuple[str, float, str]]:
    """The memories of the array's kind."""
    cols, vector = arch.array.cols, arch.vector
    if arch.array.kind != "dense":
        return [
            ("value memory", vector.buffer_words, f"words of {cols} numerators of 40 bits"),
            ("denominator records", vector.rows, f"words of {cols} int32"),
        ]
    return [
        ("accumulators", arch.accumulator_words, f"words of {cols} int32"),
        ("parameters", arch.parameter_words, f"words of {arch.word_bytes} x 8 bytes"),
        ("vector buffer", vector.buffer_words, f"words of {cols} int16"),
        ("row records", vector.rows, "rows"),
        ("function tables", vector.tables, "tables of 256 int16"),
    ]


def _chosen(arch: Architecture) -> list[tuple[str, float, str]]:
    dense = arch.array.kind == "dense"
    return [
        ("clock", arch.clock_mhz, "MHz"),
        ("array rows", arch.array.rows, "reduction lanes" if dense else "keys"),
        ("array columns", arch.array.cols, "output lanes" if dense else "queries"),
        ("bus", arch.bus.bytes, "bytes a beat"),
        ("bursts", arch.bus.max_burst_beats, "beats at most"),
        ("bursts in flight", arch.bus.outstanding, "a DMA engine"),
        ("scratchpad banks", arch.scratchpad.banks, "banks"),
        ("scratchpad bank", arch.scratchpad.words_per_bank, f"words of {arch.word_bytes} bytes"),
        *_of_kind(arch),
        ("program memory", arch.program_words, "instructions"),
        ("queues", arch.queue_depth, "instructions an engine"),
        ("memory read latency", arch.memory.read_latency, "cycles"),
        ("memory read interval", arch.memory.read_interval, "cycles a beat"),
        ("memory write latency", arch.memory.write_latency, "cycles"),
        ("memory write interval", arch.memory.write_interval, "cycles a beat"),
    ]


def _derived(arch: Architecture) -> list[tuple[str, float, str]]:
    hertz, cols = arch.clock_mhz * 1e6, arch.array.cols
    bandwidth = arch.bus.bytes * hertz / arch.memory.read_interval
    sums = [
        ("accumulators in all", arch.accumulator_words * cols * 4, "bytes"),
        ("parameters in all", arch.parameter_words * arch.word_bytes * 8, "bytes"),
    ]
    return [
        ("scratchpad in all", arch.scratchpad.words * arch.word_bytes, "bytes"),
        *(sums if arch.array.kind == "dense" else []),
        ("peak of the array", arch.array.rows * cols * hertz / 1e9, "GMAC/s"),
        ("peak of the memory, reading", bandwidth / 1e9, "GB/s"),
    ]


def energy_table(report: Report, total: Estimate) -> Markup:
    """Each per-action figure with its provenance, and what it makes of the model's counts."""
    entries = report.energy.entries
    counts = [
        sum(n for (component, action, _), n in total.actions.items() if (component, action) == key)
        for key in ((entry.component, entry.action) for entry in entries)
    ]
    joules = [n * entry.pj_per_count * 1e-12 for n, entry in zip(counts, entries, strict=True)]
    listed = table(
        [
            text_column("component", [*(entry.component for entry in entries), "all"]),
            text_column("action", [*(entry.action for entry in entries), ""]),
            exact("figure (pJ)", [*(entry.pj for entry in entries), None]),
            integers("for (bits)", [*(entry.width_bits for entry in entries), None]),
            exact("node (nm)", [*(entry.node_nm for entry in entries), None]),
            integers("count", [*counts, None]),
            text_column("of", [*("bits" if e.action in PER_BIT else "operations" for e in entries), ""]),
            quantities("energy", [*joules, total.energy_total_pj * 1e-12], "J"),
            text_column("kind", [*(entry.kind for entry in entries), ""]),
            text_column("source", [*(entry.source for entry in entries), ""], prose=True),
        ],
        total=True,
        note="Counts are the whole model's, of the most exact level above. A read or a write costs "
        "the figure over its width, for each bit; other actions cost the figure. Control, clock tree, "
        "leakage and host are not in it.",
    )
    return joined([tag("h2", f"Energy: the table {report.energy.name}"), listed])
