"""The report as one HTML page: tables, pictures and where each number comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from archsim import Estimate, Row
from archsim._estimate_value import Level
from archsim._mapping import Hold, Node, Spatial, Temporal
from archsim.cli import _figures as figures
from archsim.cli import _html_waits as waiting
from archsim.cli._figures import Bar, KernelCycles, RooflinePoint
from archsim.cli._html_facts import accuracy, architecture, energy_table, resources, verification
from archsim.cli._markup import (
    Column,
    Content,
    Markup,
    integers,
    joined,
    page,
    percents,
    quantities,
    quantity,
    table,
    tag,
    text_column,
)
from archsim.cli._report_data import PartReport, Report

DRAWN_PARTS = 3
"""Parts that get pictures: those of most cycles."""

_NAMES: Mapping[Level, str] = {
    "bound": "bound",
    "estimate": "estimated",
    "simulate": "simulated",
    "cosim": "RTL",
}
_MEANING: Mapping[Level, str] = {
    "bound": "what no mapping can beat: the array at full rate, or the compulsory traffic",
    "estimate": "closed form over the mapping's counts",
    "simulate": "cycle by cycle, the machine's program",
    "cosim": "the hardware's own counters, in Verilator",
}


def render(report: Report) -> str:
    """``report`` as a self-contained HTML document; equal reports give equal text."""
    drawn = sorted(report.parts, key=lambda part: -part.cycles)[:DRAWN_PARTS]
    arch = report.architecture
    body = [
        tag("h1", f"{report.title} on {arch.name}"),
        tag("p", _lead(report), class_="lead"),
        _cards(report),
        _whole_model(report),
        [_part(report, part, drawn=part in drawn) for part in report.parts],
        verification(report),
        accuracy(report),
        resources(report),
        architecture(arch),
        energy_table(report, _best(report.totals)),
    ]
    return str(page(f"{report.title} on {arch.name}", body))


def _lead(report: Report) -> str:
    unit = "tokens" if report.phase == "prefill" else "tokens attended to"
    length = f", {report.seq:,} {unit}" if report.seq > 1 else ""
    kind = f"{report.phase}{length}" if length else "one pass"
    return f"{kind}, batch {report.batch:,}; mapped for {report.objective}"


def _best(levels: Iterable[Estimate]) -> Estimate:
    found = {one.level: one for one in levels}
    order: tuple[Level, ...] = ("simulate", "estimate", "cosim", "bound")
    return next(found[level] for level in order if level in found)


def _cards(report: Report) -> Markup:
    best, arch = _best(report.totals), report.architecture
    watts = best.energy_total_pj * 1e-12 / best.seconds
    cards = [
        _card(quantity(best.seconds, "s"), f"latency: {best.cycles:,} cycles at {arch.clock_mhz:g} MHz"),
        _card(
            quantity(best.energy_total_pj * 1e-12, "J"),
            f"energy of the counted actions: {quantity(watts, 'W')} on average",
        ),
        _card(
            f"{100 * best.utilization['mac']:.1f} %",
            f"of the array's capacity over the latency: {best.macs:,} multiply-accumulates",
        ),
        _card(quantity(best.macs / best.seconds, "MAC/s"), "throughput: multiply-accumulates over latency"),
    ]
    if (check := report.verification) is not None:
        verdict = "RTL agrees" if check.passed else "RTL differs"
        what = (
            f"{check.compared:,} elements, {check.mismatches:,} differ; {check.counter_mismatches:,} counters"
        )
        cards.append(_card(verdict, f"{what} differ", kind="good" if check.passed else "bad"))
    return tag("div", cards, class_="cards")


def _card(figure: str, what: str, *, kind: str = "") -> Markup:
    return tag("div", tag("b", figure), tag("span", what), class_=f"card {kind}".strip())


def _whole_model(report: Report) -> Markup:
    pieces: list[Content] = [
        tag("h2", "The whole model"),
        _levels(report.totals, f"Sum over the parts, each times its repetitions, of {report.title}."),
    ]
    if len(report.parts) > 1:
        pieces.append(_parts(report))
    if report.host:
        pieces.append(
            table(
                [
                    text_column("host operator", (name for name, _ in report.host)),
                    integers("elements", (elements for _, elements in report.host)),
                ],
                note="Left to the host: in no cycle and no energy of this page.",
            )
        )
    pieces += [tag("p", sentence, class_="note") for sentence in report.notes]
    return joined(pieces)


def _levels(levels: Iterable[Estimate], origin: str) -> Markup:
    shown = tuple(levels)
    reference = _best(shown)
    return table(
        [
            text_column("level", (_NAMES[one.level] for one in shown)),
            integers("cycles", (one.cycles for one in shown)),
            percents(f"of {_NAMES[reference.level]}", (one.cycles / reference.cycles for one in shown)),
            quantities("latency", (one.seconds for one in shown), "s"),
            quantities("energy", (one.energy_total_pj * 1e-12 for one in shown), "J"),
            integers("DRAM (bytes)", (one.bytes.get("dram") for one in shown)),
            text_column("what it is", (_MEANING[one.level] for one in shown), prose=True),
        ],
        note=f"{origin} Latency is cycles over the clock; energy is actions times the energy table below.",
    )


def _parts(report: Report) -> Markup:
    whole = sum(part.cycles for part in report.parts)
    macs = [part.best.macs * part.repeat for part in report.parts]
    return table(
        [
            text_column("part", (part.name for part in report.parts)),
            integers("repetitions", (part.repeat for part in report.parts)),
            integers("cycles each", (part.best.cycles for part in report.parts)),
            integers("cycles", (part.cycles for part in report.parts)),
            percents("of all", (part.cycles / whole for part in report.parts)),
            integers("MACs", macs),
            quantities(
                "energy", (part.best.energy_total_pj * part.repeat * 1e-12 for part in report.parts), "J"
            ),
        ],
        caption="Parts",
        note=f"{_source(report.parts[0].best)} Cycles, MACs and energy are over all repetitions.",
    )


def _source(estimate: Estimate) -> str:
    return {
        "bound": "From the bound, which no mapping can beat.",
        "estimate": "From the closed-form estimate.",
        "simulate": "From the cycle-exact simulation.",
        "cosim": "From the hardware's counters.",
    }[estimate.level]


def _part(report: Report, part: PartReport, *, drawn: bool) -> Markup:
    rows = _rows(part.best)
    title = f"{part.name}, {part.repeat:,} times" if part.repeat > 1 else part.name
    pieces: list[Content] = [
        tag("h2", title),
        _levels(part.levels, "One repetition."),
        _kernels(report, part, rows),
        waiting.waits(part),
    ]
    if drawn:
        pieces.append(_pictures(report, part, rows))
        pieces += [_timeline(part, position) for position in range(len(part.timelines))]
    pieces += [_mappings(part, rows, drawn=drawn), _folded("The cascade", str(part.cascade))]
    return joined(pieces)


def _rows(estimate: Estimate | None) -> dict[str, Row]:
    """Kernel -> its row; a kernel that several programs share is summed."""
    found: dict[str, Row] = {}
    for row in estimate.rows if estimate is not None else ():
        old = found.get(row.name)
        cycles = row.cycles + (old.cycles if old else 0)
        macs = row.macs + (old.macs if old else 0)
        found[row.name] = Row(
            name=row.name,
            cycles=cycles,
            macs=macs,
            utilization=row.utilization if old is None else 0.0,
            energy_pj=row.energy_pj + (old.energy_pj if old else 0.0),
        )
    return found


def _floor(report: Report, row: Row | Estimate) -> int:
    return -(-row.macs // (report.architecture.array.rows * report.architecture.array.cols))


def _kernels(report: Report, part: PartReport, rows: Mapping[str, Row]) -> Markup:
    best, closed = part.best, part.level("estimate")
    estimated = _rows(closed)
    shown = list(rows.values())
    floors = [_floor(report, row) or None for row in shown]
    shares = [floor / max(1, row.cycles) if floor else None for floor, row in zip(floors, shown, strict=True)]
    columns: list[Column] = [
        text_column("kernel", [*rows, "all"]),
        integers(f"cycles, {_NAMES[best.level]}", [*(row.cycles for row in shown), best.cycles]),
        percents("of part", [*(row.cycles / best.cycles for row in shown), 1.0]),
        integers(
            "cycles, estimated",
            [
                *(estimated[name].cycles if name in estimated else None for name in rows),
                closed.cycles if closed is not None else None,
            ],
        ),
        integers("cycles, array at full rate", [*floors, _floor(report, best)]),
        integers("MACs", [*(row.macs or None for row in shown), best.macs]),
        percents("array", [*shares, best.utilization.get("mac")]),
        integers("DRAM (bytes)", [*(part.dram_bytes.get(name) for name in rows), best.bytes.get("dram")]),
        quantities("energy", [*(row.energy_pj * 1e-12 for row in shown), best.energy_total_pj * 1e-12], "J"),
    ]
    array = report.architecture.array
    note = (
        f"{_source(best)} A kernel's cycles are those by which its instructions made the run longer. "
        f"Array at full rate: MACs / ({array.rows} x {array.cols}); array: that over the cycles. DRAM: bus "
        f"beats times {report.architecture.bus.bytes} bytes. (start) is the fetch of the program, start the "
        "loading of the function tables."
    )
    return joined([tag("h3", "Kernels"), table(columns, note=note, total=True)])


def _pictures(report: Report, part: PartReport, rows: Mapping[str, Row]) -> Markup:
    best = part.best
    drawn = [
        _cycles_picture(report, part, rows),
        _roofline_picture(report, part, rows),
        _bar_picture(
            part,
            "Where the array's cycles go",
            [(one.cause, one.cycles, best.cycles) for one in (part.waits.causes if part.waits else ())],
            "From a traced run: each cycle has one cause, and they add up to the run. Streaming is the work.",
        ),
        waiting.picture(part),
        _busy_picture(part),
        _bar_picture(
            part,
            "Cycles in which an engine waits",
            [(cause, cycles, best.cycles) for cause, cycles in _largest(best.stalls) if cycles],
            f"{_source(best)} One counter for each semaphore; several engines may wait at once.",
        ),
        _energy_picture(part),
        _traffic_picture(part),
    ]
    return tag("div", drawn, class_="pictures")


def _picture(title: str, svg: str, caption: str) -> Markup:
    return tag("figure", tag("h4", title), Markup(svg), tag("figcaption", caption))


def _largest(values: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(values.items(), key=lambda item: (-item[1], item[0]))


def _more(count: int) -> str:
    return f" The {figures.MOST_BARS} largest of {count:,}." if count > figures.MOST_BARS else ""


def _cycles_picture(report: Report, part: PartReport, rows: Mapping[str, Row]) -> Markup:
    closed = _rows(part.level("estimate"))
    entries = [
        KernelCycles(name, row.cycles, closed[name].cycles if name in closed else None, _floor(report, row))
        for name, row in rows.items()
    ]
    if len(entries) > figures.MOST_BARS:
        entries.sort(key=lambda entry: -entry.cycles)
    svg = figures.kernel_cycles(f"Cycles by kernel of {part.name}", entries, drawn=_NAMES[part.best.level])
    return _picture("Cycles by kernel", svg, f"{_source(part.best)}{_more(len(entries))}")


def _roofline_picture(report: Report, part: PartReport, rows: Mapping[str, Row]) -> Content:
    arch = report.architecture
    points = [
        RooflinePoint(name, row.macs / part.dram_bytes[name], row.macs / row.cycles)
        for name, row in rows.items()
        if row.macs and row.cycles and part.dram_bytes.get(name)
    ]
    if not points:
        return ""
    bandwidth = arch.bus.bytes / arch.memory.read_interval
    peak = arch.array.rows * arch.array.cols
    svg = figures.roofline(f"Roofline of {part.name}", points, peak=peak, bytes_per_cycle=bandwidth)
    limits = f"Limits: {peak:,} MACs and {bandwidth:g} bytes a cycle."
    caption = f"{limits} A kernel's bytes are those that it moved itself, by the simulation."
    return _picture("Roofline", svg, caption)


def _bar_picture(part: PartReport, title: str, entries: list[tuple[str, int, int]], caption: str) -> Content:
    if not entries:
        return ""
    drawn = [
        Bar(name, (count,), f"{count:,} · {100 * count / whole:.1f} %") for name, count, whole in entries
    ]
    svg = figures.bars(f"{title} of {part.name}", drawn, unit="cycles")
    return _picture(title, svg, caption + _more(len(drawn)))


def _busy_picture(part: PartReport) -> Content:
    shares = part.best.utilization
    drawn = [Bar(engine, (100 * share,), f"{100 * share:.1f} %") for engine, share in shares.items()]
    if not drawn:
        return ""
    caption = (
        f"{_source(part.best)} mac: the model's MACs over those that fit in the cycles; array, vector: "
        "cycles busy; load, store: beats times the memory's interval."
    )
    return _picture(
        "How busy the engines are",
        figures.bars(f"Engines of {part.name}", drawn, unit="% of cycles"),
        caption,
    )


def _energy_picture(part: PartReport) -> Markup:
    whole = part.best.energy_total_pj or 1.0
    ordered = sorted(part.best.energy_pj.items(), key=lambda item: (-item[1], item[0]))
    drawn = [
        Bar(name, (pj * 1e-6,), f"{quantity(pj * 1e-12, 'J')} · {100 * pj / whole:.1f} %")
        for name, pj in ordered
    ]
    svg = figures.bars(f"Energy by component of {part.name}", drawn, unit="µJ")
    return _picture(
        "Energy by component", svg, f"{_source(part.best)} Actions times the energy table, one repetition."
    )


def _traffic_picture(part: PartReport) -> Content:
    moved: dict[str, list[int]] = {}
    for (component, action, tensor), bits in part.best.actions.items():
        if component == "dram":
            moved.setdefault(tensor or "(all)", [0, 0])[action == "write"] += bits // 8
    ordered = sorted(moved.items(), key=lambda item: (-sum(item[1]), item[0]))
    drawn = [Bar(name, (read, written), f"{read + written:,}") for name, (read, written) in ordered]
    if not drawn:
        return ""
    svg = figures.bars(f"DRAM traffic of {part.name}", drawn, series=("read", "written"), unit="bytes")
    caption = f"{_source(part.best)} Whole bus beats, padding included.{_more(len(drawn))}"
    return _picture("DRAM traffic by tensor", svg, caption)


def _timeline(part: PartReport, position: int) -> Markup:
    what = part.timelines[position]
    whole = what.cycles == what.total
    title = "The engines over the run" if whole else f"The first {what.cycles:,} cycles"
    name = f"{title} of {part.name}"
    caption = (
        "From a traced run: from the cycle in which an instruction leaves its queue to its last issue "
        "(array) or its retirement. The two tones tell one kernel from the "
        "next; gaps narrower than a line are closed."
    )
    if part.programs > 1:
        caption += f" The part runs as {part.programs:,} programs, one after another: this is the first."
    pictures = [
        tag("div", Markup(figures.timeline(name, what, width=width)), class_=kind)
        for width, kind in ((figures.FULL, "wide"), (figures.PHONE, "phone"))
    ]
    return joined([tag("h3", title), tag("figure", pictures, tag("figcaption", caption))])


def _mappings(part: PartReport, rows: Mapping[str, Row], *, drawn: bool) -> Markup:
    pieces: list[Content] = [tag("h3", "Mappings")]
    costliest = max(
        part.mappings, key=lambda m: rows[m.kernel].cycles if m.kernel in rows else 0, default=None
    )
    if drawn and costliest is not None:
        priced = f" Found among {part.evaluated:,} legal mappings of all kernels." if part.evaluated else ""
        pieces += [
            tag("p", f"{costliest.kernel}, the kernel of most cycles, as its loop nest."),
            tag("div", _nest(costliest.nodes), class_="nest"),
            tag(
                "p",
                "Each box is a loop in time, grey where it runs once; green: what a memory keeps from there "
                f"inwards; orange: what is unrolled over the array.{priced}",
                class_="note",
            ),
        ]
    pieces.append(_folded("All loop nests", "\n\n".join(str(mapping) for mapping in part.mappings)))
    return joined(pieces)


def _nest(nodes: tuple[Node, ...]) -> Markup:
    """Nested boxes: a loop holds all that stands inside it."""
    if not nodes:
        return Markup("")
    first, rest = nodes[0], nodes[1:]
    match first:
        case Temporal():
            kind = "loop" if first.trips > 1 else "loop once"
            return tag("div", tag("div", str(first), class_="head"), _nest(rest), class_=kind)
        case Hold():
            return joined([tag("span", str(first), class_="hold"), _nest(rest)])
        case Spatial():
            return joined([tag("span", str(first), class_="lane"), _nest(rest)])


def _folded(title: str, text: str) -> Markup:
    return tag("details", tag("summary", title), tag("pre", text))
