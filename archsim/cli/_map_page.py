"""The page of ``archsim map --report``: a model's mappings on a hierarchy, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archsim._hierarchy import Hierarchy
from archsim.cli import _figures as figures
from archsim.cli._figures import Bar
from archsim.cli._map_figures import front_picture, nest_picture
from archsim.cli._map_hierarchy import Other
from archsim.cli._map_tables import (
    UNITS,
    energy_rows,
    joules,
    label,
    left_rows,
    other_header,
    other_rows,
    proof,
    reason,
    share,
    time_rows,
)
from archsim.cli._map_value import MappedEinsum, ModelMapping, metric
from archsim.cli._markup import (
    Column,
    Content,
    Markup,
    exact,
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


def render(found: ModelMapping, others: Mapping[str, Sequence[Other]]) -> str:
    """The page; Einsums with ``others``, by key, get pictures and what each dataflow costs."""
    drawn = [row for row in found.rows if row.key in others]
    drawn.sort(key=lambda row: -row.what.count * row.cost.energy_pj)
    title = f"{found.model} on {found.hierarchy.name}"
    body: list[Content] = [
        tag("h1", title),
        tag("p", _lead(found), class_="lead"),
        _cards(found),
        _einsums(found),
        _energies(found) if len(found.rows) > 1 else "",
        [_einsum(found, row, others[row.key]) for row in drawn],
        _left(found),
        _machine(found.hierarchy),
        _nests(found),
    ]
    return str(page(title, body))


def _lead(found: ModelMapping) -> str:
    asked = found.asked
    kind = "Pareto front of" if len(asked.objective) > 1 else "mapped for"
    budget = f", {asked.budget:,} partial mappings a search" if asked.budget else ""
    return f"{kind} {', '.join(asked.objective)}; {asked.factors} factors{budget}"


def _cards(found: ModelMapping) -> Markup:
    seconds = found.cycles / (found.hierarchy.clock_mhz * 1e6)
    verdict = "proved optimal" if found.proved_optimal else "not proved"
    use = found.macs / (found.cycles * found.hierarchy.macs)
    cards = [
        _card(joules(found.energy_pj), "energy of all levels and multiply-accumulates"),
        _card(quantity(seconds, "s"), f"latency: {found.cycles:,.10g} cycles, one Einsum after another"),
        _card(f"{100 * use:.1f} %", f"of the array's capacity: {found.macs:,} multiply-accumulates"),
        _card(quantity(found.dram_bits / 8, "B"), f"moved to and from {found.hierarchy.levels[0].name}"),
        _card(verdict, f"{proof(found)}; searched for {quantity(found.search_s, 's')}",
              kind="good" if found.proved_optimal else "bad"),
    ]  # fmt: skip
    return tag("div", cards, class_="cards")


def _card(figure: str, what: str, *, kind: str = "") -> Markup:
    return tag("div", tag("b", figure), tag("span", what), class_=f"card {kind}".strip())


def _einsums(found: ModelMapping) -> Markup:
    rows = found.rows
    counts = [row.what.count for row in rows]
    columns: list[Column] = [
        text_column("Einsum", (label(row) for row in rows)),
        integers("uses", counts),
        exact("cycles each", (row.cost.cycles for row in rows)),
        quantities("energy each", (row.cost.energy_pj * 1e-12 for row in rows), "J"),
        percents(
            "of cycles",
            (share(n * row.cost.cycles, found.cycles) for n, row in zip(counts, rows, strict=True)),
        ),
        percents(
            "of energy",
            (share(n * row.cost.energy_pj, found.energy_pj) for n, row in zip(counts, rows, strict=True)),
        ),
        percents("gap", (row.answer.gap if not row.answer.proved_optimal else None for row in rows)),
        integers("mappings evaluated", (row.answer.evaluated for row in rows)),
    ]
    note = (
        "Einsums of equal shape and access pattern are searched once; uses counts them with repetitions. "
        "The numbers are the sizes of the ranks. Gap: how much better a mapping may exist, a dash where "
        "it is proved that none does."
    )
    return joined([tag("h2", "Distinct Einsums"), table(columns, note=note)])


def _energies(found: ModelMapping) -> Markup:
    levels = [level.name for level in found.hierarchy.levels]
    ordered = sorted(found.rows, key=lambda row: -row.what.count * row.cost.energy_pj)
    named = [*levels[:3], "the rest"]
    bars = []
    for row in ordered:
        energies = [row.what.count * level.energy_pj * 1e-6 for level in row.cost.levels[:3]]
        total = row.what.count * row.cost.energy_pj
        bars.append(Bar(label(row), (*energies, total * 1e-6 - sum(energies)), joules(total)))
    svg = figures.bars(f"Energy by Einsum of {found.model}", bars, series=named, unit="µJ")
    more = f" The {figures.MOST_BARS} largest of {len(bars):,}." if len(bars) > figures.MOST_BARS else ""
    caption = f"Over all uses; the rest is multiply-accumulates and further levels.{more}"
    figure = tag("figure", tag("h4", "Energy by Einsum"), Markup(svg), tag("figcaption", caption))
    return tag("div", figure, class_="pictures")


def _einsum(found: ModelMapping, row: MappedEinsum, others: Sequence[Other]) -> Markup:
    nest = row.nest
    svg = nest_picture(f"Mapping of {row.name}", nest, found.hierarchy)
    caption = (
        "Each box is a loop in time; green: what a level holds from there inwards, with its share of one "
        "instance; orange: what is spread over lanes, with its share of them."
    )
    return joined([
        tag("h2", label(row)),
        tag("p", f"{row.what.einsum}, {_times(row.what.count)}: {reason(row)}"),
        tag("figure", tag("div", Markup(svg), class_="scroll"), tag("figcaption", caption)),
        _front(found, row),
        _texts(("resource", "cycles", "of all"), time_rows(row), "The largest is the time."),
        _texts(("where", "energy", "of all"), energy_rows(row), "Bits times energies, for one use."),
        _dataflows(found, row, others),
    ])  # fmt: skip


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _dataflows(found: ModelMapping, row: MappedEinsum, others: Sequence[Other]) -> Markup:
    objective = found.asked.objective[0]
    note = (
        f"The best mapping of each dataflow by {objective}, over the one above. Stationary is the kind of "
        "tensor that stays longest in the innermost level that holds one."
    )
    return _texts(other_header(objective), other_rows(row, others, objective), note)


def _texts(heads: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> Markup:
    columns = [
        Column(head=head, cells=tuple(row[place] for row in rows), kind="number" if place else "text")
        for place, head in enumerate(heads)
    ]
    return table(columns, note=note)


def _front(found: ModelMapping, row: MappedEinsum) -> Content:
    names = found.asked.objective
    if len(names) < 2:
        return ""
    heads = [f"{name} ({UNITS[name]})" for name in names]
    points = [[metric(cost, name) for name in names] for _, cost in row.answer.points]
    svg = front_picture(f"Pareto front of {row.name}", heads, points)
    columns = [exact(head, (point[place] for point in points)) for place, head in enumerate(heads)]
    count = len(points)
    caption = (
        f"{count:,} mapping{'s' if count > 1 else ''}: none is better in one without being worse in another."
    )
    listed = table(columns, note="By the first; the mapping above is the first.")
    return joined([
        tag("figure", tag("h4", "Pareto front"), Markup(svg), tag("figcaption", caption)),
        tag("details", tag("summary", "The front in numbers"), listed),
    ])  # fmt: skip


def _left(found: ModelMapping) -> Content:
    if not found.left:
        return ""
    rows = left_rows(found)
    columns = [
        text_column("Einsum", (einsum for einsum, _ in rows)),
        text_column("reason", (why for _, why in rows), prose=True),
    ]
    return joined([tag("h2", "Not mapped"), table(columns, note="In no figure of this page.")])


def _machine(hierarchy: Hierarchy) -> Markup:
    levels = hierarchy.levels
    columns = [
        text_column("level", (level.name for level in levels)),
        text_column("instances", (_instances(hierarchy, number) for number in range(len(levels)))),
        integers("size (bits)", (level.size_bits for level in levels)),
        exact("bits a cycle", (level.bandwidth_bits_per_cycle for level in levels)),
        exact("read (pJ/bit)", (level.read_pj_per_bit for level in levels)),
        exact("write (pJ/bit)", (level.write_pj_per_bit for level in levels)),
        text_column("must hold", (", ".join(level.hold) or "–" for level in levels)),
        text_column("must not hold", (", ".join(level.bypass) or "–" for level in levels)),
    ]
    bits = f"{hierarchy.input_bits}, {hierarchy.weight_bits}, {hierarchy.output_bits}"
    note = (
        f"{hierarchy.macs:,} multiply-accumulates of {hierarchy.mac_pj:g} pJ in a cycle; {bits} bits an "
        f"element of input, weight and output; {hierarchy.clock_mhz:g} MHz; dataflow: {hierarchy.dataflow}. "
        "A dash is no limit."
    )
    return joined([tag("h2", f"The machine: {hierarchy.name}"), table(columns, note=note)])


def _instances(hierarchy: Hierarchy, number: int) -> str:
    sides = [side for level in hierarchy.levels[: number + 1] for side in level.spatial]
    return " x ".join(f"{side.size} ({side.name})" for side in sides) or "1"


def _nests(found: ModelMapping) -> Markup:
    text = "\n".join(f"{row.what.einsum}\n{row.nest}" for row in found.rows)
    return tag("details", tag("summary", "All loop nests"), tag("pre", text))
