"""A mapping on a hierarchy as tables for people, and why it wins in words."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import click

from archsim.cli._map_hierarchy import Other, dataflow_of
from archsim.cli._map_value import MappedEinsum, ModelMapping, metric, resources
from archsim.cli._tables import print_figures, print_rows, quantity

MOST_ROWS = 20
"""Distinct Einsums that are shown one by one unless all are asked for."""
MOST_NESTS = 3
"""Loop nests that are printed, and mappings that are explained, unless all are asked for."""
MOST_POINTS = 20
"""Points of a front that are shown unless all are asked for."""


def costliest(found: ModelMapping, count: int | None) -> list[MappedEinsum]:
    """The Einsums of most energy over all their uses; all, in the model's order, if ``count`` is None."""
    if count is None:
        return list(found.rows)
    return sorted(found.rows, key=lambda row: -row.what.count * row.cost.energy_pj)[:count]


def print_mapping(found: ModelMapping, *, every: bool) -> None:
    """Loop nests, totals, and a table of the distinct Einsums."""
    shown = costliest(found, None if every else MOST_NESTS)
    for row in shown:
        click.echo(f"{row.what.einsum}\n{row.nest}")
    if len(shown) < len(found.rows):
        click.echo(f"{len(found.rows) - len(shown)} more loop nests (--all)\n")
    print_figures(f"{found.model} on {found.hierarchy.name}", summary(found))
    if len(found.rows) > 1:
        header = HEADER if found.proved_optimal else (*HEADER, "gap")
        print_rows("Distinct Einsums", header, einsum_rows(found, every=every))
    if len(found.asked.objective) > 1:
        for row in shown:
            print_rows(
                f"Pareto front of {row.name}", front_header(found), front_rows(found, row, every=every)
            )
    if found.left:
        print_rows("Not mapped", ("Einsum", "reason"), left_rows(found), text=("reason",))


def summary(found: ModelMapping) -> dict[str, str]:
    """Totals over the model as text."""
    seconds = found.cycles / (found.hierarchy.clock_mhz * 1e6)
    objective = ", ".join(found.asked.objective)
    lanes = found.macs / (found.cycles * found.hierarchy.macs) if found.cycles else 0.0
    which = "figures of" if len(found.asked.objective) > 1 else "objective"
    return {
        which: f"the first of each front of {objective}" if len(found.asked.objective) > 1 else objective,
        "energy": joules(found.energy_pj),
        "cycles": f"{found.cycles:,.10g}",
        "latency": quantity(seconds, "s"),
        "energy x cycles": f"{found.energy_pj * found.cycles:.6g} pJ cycles",
        "outermost level's traffic": quantity(found.dram_bits / 8, "B"),
        "multiply-accumulates (MACs)": f"{found.macs:,}",
        "multipliers in use": f"{lanes:.1%}",
        "proved optimal": proof(found),
        "searched for": f"{quantity(found.search_s, 's')}, {_kept(found)}",
    }


def proof(found: ModelMapping) -> str:
    """Whether nothing better exists; otherwise how much better the worst proved Einsum could be."""
    open_rows = [row for row in found.rows if not row.answer.proved_optimal]
    if not open_rows:
        return "yes" if len(found.rows) == 1 else f"yes, all {len(found.rows):,}"
    gap = max(row.answer.gap for row in open_rows)
    return f"NO for {len(open_rows):,} of {len(found.rows):,}: at most {gap:.1%} better exists"


def _kept(found: ModelMapping) -> str:
    if found.cached:
        return f"{found.cached:,} of {len(found.rows):,} kept from an earlier run"
    return f"{found.evaluated:,} partial mappings"


HEADER = ("Einsum", "uses", "energy each", "cycles each", "of energy", "of cycles")


def einsum_rows(found: ModelMapping, *, every: bool) -> list[tuple[str, ...]]:
    """A row for each distinct Einsum, or for those of most energy and one for the rest."""
    shown = costliest(found, None if every or len(found.rows) <= MOST_ROWS else MOST_ROWS)
    rows = [_einsum_row(found, row) for row in shown]
    rest = [row for row in found.rows if row not in shown]
    if rest:
        energy = sum(row.what.count * row.cost.energy_pj for row in rest)
        cycles = sum(row.what.count * row.cost.cycles for row in rest)
        shares = (f"{share(energy, found.energy_pj):.1%}", f"{share(cycles, found.cycles):.1%}")
        uses = sum(row.what.count for row in rest)
        rows.append((f"{len(rest)} more (--all)", f"{uses:,}", "", "", *shares))
    return rows if found.proved_optimal else [*_with_gap(rows, shown)]


def _with_gap(rows: Sequence[tuple[str, ...]], shown: Sequence[MappedEinsum]) -> Iterable[tuple[str, ...]]:
    for row, texts in itertools.zip_longest(shown, rows):
        yield (*texts, "" if row is None or row.answer.proved_optimal else f"{row.answer.gap:.1%}")


def _einsum_row(found: ModelMapping, row: MappedEinsum) -> tuple[str, ...]:
    count, cost = row.what.count, row.cost
    return (
        label(row),
        f"{count:,}",
        joules(cost.energy_pj),
        f"{cost.cycles:,.10g}",
        f"{share(count * cost.energy_pj, found.energy_pj):.1%}",
        f"{share(count * cost.cycles, found.cycles):.1%}",
    )


def share(part: float, whole: float) -> float:
    """``part`` of ``whole``; 0 of nothing, as where a machine's energies are all 0."""
    return part / whole if whole else 0.0


def label(row: MappedEinsum) -> str:
    """Its result and the sizes of its ranks.

    Ranks of one are left out: they make no loop.
    """
    sizes = "x".join(str(size) for _, size in row.what.ranks if size > 1)
    return f"{row.name} {sizes}".rstrip()


def front_header(found: ModelMapping) -> tuple[str, ...]:
    """Columns of a front."""
    return ("mapping", *(f"{name} ({UNITS[name]})" for name in found.asked.objective))


UNITS = {"latency": "cycles", "energy": "pJ", "edp": "pJ cycles", "traffic": "bits", "buffer": "bits"}


def front_rows(found: ModelMapping, row: MappedEinsum, *, every: bool) -> list[tuple[str, ...]]:
    """A row for each point of an Einsum's front, by the first metric."""
    points = [
        (f"{number}", *(f"{metric(cost, name):,.10g}" for name in found.asked.objective))
        for number, (_, cost) in enumerate(row.answer.points, 1)
    ]
    if every or len(points) <= MOST_POINTS:
        return points
    blank = ("",) * len(found.asked.objective)
    return [*points[:MOST_POINTS], (f"{len(points) - MOST_POINTS} more (--all)", *blank)]


def left_rows(found: ModelMapping) -> list[tuple[str, str]]:
    """What is not mapped, and why."""
    return [(str(each.use.einsum), each.reason) for each in found.left]


def print_explanation(row: MappedEinsum, others: Sequence[Other], found: ModelMapping) -> None:
    """Why the winner wins: what bounds it, where its energy goes, what other dataflows cost."""
    click.echo(f"Why this mapping of {label(row)}: {reason(row)}\n")
    print_rows("Time: the largest counts", ("resource", "cycles", "of all"), time_rows(row))
    print_rows("Energy", ("where", "energy", "of all"), energy_rows(row))
    objective = found.asked.objective[0]
    title = f"The best mapping of each dataflow, by {objective}; ratios to this one"
    print_rows(title, other_header(objective), other_rows(row, others, objective))


def reason(row: MappedEinsum) -> str:
    """What bounds it, in a sentence."""
    ordered = resources(row.cost)
    (first, most), (second, next_most) = ordered[:2]
    lanes = row.what.points / row.cost.array_cycles
    if first == "array":
        bound = f"it keeps {lanes:,.6g} multipliers at work in each step, so that the array bounds its time"
    else:
        steps = most / max(1.0, row.cost.array_cycles)
        bound = f"{first} bounds its time: its bits take {steps:.2f} times the array's steps"
    spare = f"{second} needs {next_most / most:.0%} of that" if most else "nothing takes time"
    where, energy = max(_energies(row), key=lambda pair: pair[1])
    share = energy / row.cost.energy_pj if row.cost.energy_pj else 0.0
    return f"{bound}; {spare}. Most energy goes to {where}, {share:.0%}."


def time_rows(row: MappedEinsum) -> list[tuple[str, str, str]]:
    """Cycles of the array and of each level, the longest first."""
    total = row.cost.cycles or 1.0
    return [(name, f"{cycles:,.10g}", f"{cycles / total:.1%}") for name, cycles in resources(row.cost)]


def _energies(row: MappedEinsum) -> Iterable[tuple[str, float]]:
    return [*((level.level, level.energy_pj) for level in row.cost.levels), ("MACs", row.cost.mac_pj)]


def energy_rows(row: MappedEinsum) -> list[tuple[str, str, str]]:
    """Energy of each level and of the arithmetic."""
    total = row.cost.energy_pj or 1.0
    return [(name, joules(energy), f"{energy / total:.1%}") for name, energy in _energies(row)]


def other_header(objective: str) -> tuple[str, ...]:
    """Columns of the dataflows' ratios."""
    return ("dataflow", *(METRIC_NAMES.get(each, each) for each in _compared(objective)), "proved")


METRIC_NAMES = {"latency": "cycles"}


def _compared(objective: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(("energy", "latency", objective)))


def other_rows(row: MappedEinsum, others: Sequence[Other], objective: str) -> list[tuple[str, ...]]:
    """Each dataflow's energy, cycles and objective over the winner's; ``this`` is the winner's own."""
    own = dataflow_of(row)
    rows: list[tuple[str, ...]] = []
    for other in others:
        name = f"{other.dataflow} (this)" if other.dataflow == own else other.dataflow
        if not other.answer.points:
            rows.append((name, "none fits", *("",) * len(_compared(objective))))
            continue
        cost = other.answer.points[0][1]
        ratios = (_ratio(metric(cost, each), metric(row.cost, each)) for each in _compared(objective))
        rows.append((name, *ratios, "yes" if other.answer.proved_optimal else "no"))
    return rows


def _ratio(one: float, other: float) -> str:
    return f"{one / other:.4f}" if other else ("1.0000" if one == other else "more")


def joules(energy_pj: float) -> str:
    """An energy with its SI prefix, six digits.

    >>> joules(1816972984.3)
    '1.81697 mJ'
    """
    for scale, prefix in ((1e12, ""), (1e9, "m"), (1e6, "µ"), (1e3, "n")):
        if energy_pj >= scale:
            return f"{energy_pj / scale:.6g} {prefix}J"
    return f"{energy_pj:.6g} pJ"
