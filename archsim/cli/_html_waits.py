"""The report's account of waiting: how much of each kernel's time the array works, and what it waits for."""

from __future__ import annotations

from collections.abc import Sequence

from archsim._causes import GROUPS, MEANINGS
from archsim.cli import _figures as figures
from archsim.cli._figures import Bar
from archsim.cli._markup import Content, Markup, integers, joined, percents, table, tag, text_column
from archsim.cli._report_data import PartReport
from archsim.cli._waits import PartWaits, WaitRow

UNFOLDED = 12
"""Kernels with streamed weights that are listed without a click."""

_GROUPS = {
    "work": "a product is in progress",
    "memory": "an operand is on its way, or earlier results are in the way of the next",
    "dependence": "the vector unit, the array's own last sums, or a result that is not in memory yet",
    "control": "the program's fetch, the sequencer, and the hand-overs",
}


def waits(part: PartReport) -> Markup:
    """Tables and a picture of why the array waits, and of the weights that stream; empty if not simulated."""
    found = part.waits
    if found is None:
        return Markup("")
    pieces: list[Content] = [tag("h3", "Why the array waits"), tag("p", _lead(found))]
    if found.layers:
        pieces += [_table("layer", found.layers, found), _folded(found)]
    else:
        pieces.append(_table("kernel", found.kernels, found))
    if found.traced:
        pieces += [_meanings(found), _streamed(part)]
    else:
        pieces.append(_streamed(part))
    return joined(pieces)


def picture(part: PartReport) -> Content:
    """Stacked bars of the groups, a bar a layer or a kernel; empty where they are not known."""
    found = part.waits
    if found is None or not found.traced:
        return ""
    rows: Sequence[WaitRow] = found.rows
    cut = ""
    if len(rows) > figures.MOST_BARS:
        cut = f" The {figures.MOST_BARS} of {len(rows):,} of most cycles."
        rows = sorted(rows, key=lambda row: -row.cycles)
    drawn = [Bar(row.name, tuple(100 * share for share in _shares(row)), _beside(row)) for row in rows]
    title = "Work and waiting of the array"
    svg = figures.bars(f"{title} of {part.name}", drawn, series=GROUPS, unit="% of its cycles")
    caption = tag("figcaption", f"From a traced run; the groups are those of the table above.{cut}")
    return tag("figure", tag("h4", title), Markup(svg), caption)


def _beside(row: WaitRow) -> str:
    return f"{row.cycles:,} cycles"


def _shares(row: WaitRow) -> tuple[float, ...]:
    return row.work, row.memory or 0.0, row.dependence or 0.0, row.control or 0.0


def _lead(found: PartWaits) -> str:
    whole, worst = found.whole, max(found.kernels, key=lambda row: row.idle)
    works = f"The array works {100 * whole.work:.1f} % of the time"
    most = f"{worst.name} loses most, {worst.idle:,.0f} cycles"
    most += f", longest to {worst.reason}." if worst.reason else "."
    if not found.traced:
        return (
            f"{works}. {most} The run is too long to be traced, so that this is from each kernel's counters: "
            "ARRAY_BUSY, and the cycles in which the array waited for each semaphore, which may overlap."
        )
    memory, dependence, control = (100 * share for share in _shares(whole)[1:])
    return (
        f"{works}, waits {memory:.1f} % for memory and {dependence:.1f} % for other results, and loses "
        f"{control:.1f} % to control. {most}"
    )


def _table(first: str, rows: Sequence[WaitRow], found: PartWaits) -> Markup:
    shown = [*rows, found.whole]
    worst = [text_column("worst kernel", (row.worst for row in shown))] if first == "layer" else []
    columns = [
        text_column(first, [*(row.name.replace(" ", "\N{NO-BREAK SPACE}") for row in rows), "all"]),
        integers("cycles", (row.cycles for row in shown)),
        percents("work", (row.work for row in shown)),
        percents("memory", (row.memory for row in shown)),
        percents("dependence", (row.dependence for row in shown)),
        percents("control", (row.control for row in shown)),
        text_column("longest wait", (row.reason for row in shown)),
        percents("of cycles", (row.reason_share if row.reason else None for row in shown)),
        *worst,
    ]
    known = "; ".join(f"{group}: {_GROUPS[group]}" for group in GROUPS)
    note = f"From a traced run: each cycle has one cause, and the shares are of the row's cycles. {known}."
    counted = "From the counters of the simulation, kernel by kernel; a dash is what they do not say."
    return table(columns, note=note if found.traced else counted, total=True)


def _folded(found: PartWaits) -> Markup:
    return tag("details", tag("summary", "The same by kernel"), _table("kernel", found.kernels, found))


def _meanings(found: PartWaits) -> Markup:
    causes = [share for share in found.causes if share.cause in MEANINGS]
    listed = table(
        [
            text_column("cause", (share.cause for share in causes)),
            text_column("group", (share.group for share in causes)),
            integers("cycles", (share.cycles for share in causes)),
            percents("of all", (share.cycles / max(1, found.whole.cycles) for share in causes)),
            text_column("what happens in such a cycle", (MEANINGS[s.cause][1] for s in causes), prose=True),
        ],
        note="A pause is followed back from its end: through tokens, buffers, barriers and full queues to "
        "what was under way in each of its cycles.",
    )
    return tag("details", tag("summary", "All causes, and what they mean"), listed)


def _streamed(part: PartReport) -> Markup:
    if not part.streamed:
        return Markup("")
    assert part.waits is not None
    waiting = {row.name: row.memory for row in part.waits.kernels}
    region = part.streamed[0].region_bytes
    listed = table(
        [
            text_column("kernel", (one.kernel for one in part.streamed)),
            text_column("weights", (one.tensor for one in part.streamed)),
            integers("size (bytes)", (one.size_bytes for one in part.streamed)),
            integers("of regions", (-(-one.size_bytes // one.region_bytes) for one in part.streamed)),
            integers("read (bytes)", (one.read_bytes for one in part.streamed)),
            percents("waits for memory", (waiting.get(one.kernel) for one in part.streamed)),
        ],
        note=f"The scratchpad's region for stationary operands holds {region:,} bytes, one half being filled "
        "while the array works from the other. Of regions: how many it would take to hold the weights; read: "
        "by one run, again where a tile is read again; waits: share of the kernel's cycles, for any operand.",
    )
    title = f"Weights larger than the scratchpad's stationary region ({len(part.streamed):,} kernels)"
    unfolded = {"open": "open"} if len(part.streamed) <= UNFOLDED else {}
    return tag("details", tag("summary", title), listed, **unfolded)
