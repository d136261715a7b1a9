"""Resources of many machines: estimated in closed form beside mapped by Yosys (``make resources``).

``--calibrate`` first: it maps the calibration machines and writes the library's costs. Every unit is kept
on disk as it is mapped and every machine's row at once, so that a run that was stopped goes on where it
was; a row whose hardware or flow has changed since is mapped anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim import (
    Architecture,
    Array,
    Bus,
    Scratchpad,
    Vector,
    architecture_text,
    estimate_resources,
    load_architecture,
)
from archsim._resources import COUNTED, Costs, shaped_blocks
from archsim._resources_value import RESOURCE_NAMES, resources_of
from archsim._structures import components
from rtl import build_cached
from rtl._mapping import Family, Flow, Mapped, cells_of, count_cells, map_unit, unit_key
from rtl._units import Unit, units

RESULTS = Path("sim_results")
COSTS = Path("archsim/library/resources")
FAMILIES: tuple[Family, ...] = ("ecp5", "xc7", "xcup")
"""The families of the table; a run without ``--family`` maps the first one."""

Row = dict[str, Any]
Rows = dict[str, Row]
Matrix = NDArray[np.float64]


# Machines.


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A machine of the table."""

    arch: Architecture
    used: bool
    """Whether costs are taken from its counts; the others are held out."""


_SIZES = {
    "dense": {"banks": 2, "words": 256, "acc": 64, "par": 32, "buf": 32, "rec": 16, "prog": 64},
    "ternary": {"banks": 2, "words": 256, "acc": 64, "par": 32, "buf": 32, "rec": 16, "prog": 64},
    "fusemax": {"banks": 2, "words": 256, "acc": 0, "par": 0, "buf": 32, "rec": 2, "prog": 64},
}
"""Sizes unless a machine's name says otherwise: small, and alike, so that machines share units."""
_COMMON = {"queue": 2, "out": 2, "tab": 2, "weights": 0, "group": 1}


def machine(kind: Any, side: str, bus: int, *, gated: bool = False, **sizes: int) -> Architecture:
    """A small machine whose array is ``side`` (rows x columns), named by what it differs in."""
    rows, cols = map(int, side.split("x"))
    size = {**_COMMON, **_SIZES[kind], **sizes}
    parts = [kind, side, f"bus{bus}", *(f"{key}{value}" for key, value in sizes.items())]
    return Architecture(
        name="-".join([*parts, *(["gated"] if gated else [])]),
        clock_mhz=100,
        array=Array(kind=kind, rows=rows, cols=cols, weight_words=size["weights"], group=size["group"]),
        bus=Bus(bytes=bus, outstanding=size["out"]),
        scratchpad=Scratchpad(banks=size["banks"], words_per_bank=size["words"]),
        accumulator_words=size["acc"],
        parameter_words=size["par"],
        vector=Vector(buffer_words=size["buf"], rows=size["rec"], tables=size["tab"], gated=gated),
        program_words=size["prog"],
        queue_depth=size["queue"],
    )


def calibration() -> Iterator[Architecture]:
    """The machines whose counts give the costs: each structure varies in at least two of them."""
    yield machine("dense", "4x4", 8)
    yield machine("dense", "2x2", 4, words=16, acc=16, prog=16, tab=4, queue=1, out=1)
    yield machine("dense", "4x8", 8)
    yield machine("dense", "8x4", 16, words=64)
    yield machine("dense", "4x4", 8, queue=4, out=4)
    yield machine("dense", "4x4", 8, banks=4, words=1024, acc=256, par=128, buf=256, rec=64)
    yield machine("dense", "8x8", 8, banks=8, rec=4)
    yield machine("dense", "16x16", 16)
    yield machine("ternary", "4x4", 8, weights=64)
    yield machine("ternary", "8x8", 8, weights=9000, group=3, gated=True)
    yield machine("ternary", "16x4", 8, weights=512, group=3)
    yield machine("ternary", "16x8", 4, weights=300, rec=4, gated=True)
    yield machine("ternary", "4x4", 4, weights=5000, group=3, gated=True)
    yield machine("fusemax", "4x4", 8)
    yield machine("fusemax", "8x4", 8, buf=16, rec=64)
    yield machine("fusemax", "4x8", 16, buf=512, rec=16)
    yield machine("fusemax", "16x8", 8, banks=4, words=1024, buf=128, rec=4)


def held_out() -> Iterator[Architecture]:
    """The machines that only check the costs."""
    yield machine("dense", "2x2", 4)
    yield machine("dense", "2x4", 8)
    yield machine("dense", "3x5", 16)
    yield machine("dense", "4x4", 4, banks=8, tab=4)
    yield machine("dense", "6x6", 8, acc=512)
    yield machine("dense", "4x4", 32, out=8)
    yield machine("dense", "2x8", 8, buf=128)
    yield machine("dense", "8x8", 16, banks=4, words=512, acc=512, par=64, buf=64, rec=64)
    yield machine("dense", "16x8", 16, queue=3)
    yield load_architecture("edge-8x8")
    yield machine("ternary", "2x2", 4, weights=64)
    yield machine("ternary", "8x8", 8, weights=128)
    yield machine("ternary", "12x4", 8, weights=256, group=3, banks=4, gated=True)
    yield machine("ternary", "8x4", 4, weights=300, gated=True)
    yield machine("ternary", "16x16", 16, weights=256, group=3, gated=True)
    yield load_architecture("ternary-ecp5")
    yield machine("fusemax", "2x2", 4)
    yield machine("fusemax", "4x2", 8, buf=64)
    yield machine("fusemax", "3x5", 16, rec=8)
    yield machine("fusemax", "8x8", 8)
    yield machine("fusemax", "16x16", 16, banks=4)
    yield load_architecture("fusemax-4x4")


def subjects() -> tuple[Subject, ...]:
    """The table's machines, those that give costs first."""
    used = (Subject(arch=arch, used=True) for arch in calibration())
    return (*used, *(Subject(arch=arch, used=False) for arch in held_out()))


# Mapping.


def refreshed(row: Row | None, subject: Subject, family: Family) -> Row:
    """The row of one machine as Yosys maps it now: resources in all and by component."""
    design = build_cached(subject.arch)
    pieces = units(design.verilog, top=design.top)
    _check_units(subject.arch, pieces)
    flow = Flow(family=family)
    keys = "".join(unit_key(unit, flow) for unit in pieces)
    digest = hashlib.sha256(keys.encode()).hexdigest()[:24]
    about = {
        "architecture": architecture_text(subject.arch),
        "digest": digest,
        "held_out": not subject.used,
    }
    if row is not None and row["digest"] == digest:
        return {**row, **about}
    return {**about, **_counts(pieces, design.top, flow)}


def _check_units(arch: Architecture, pieces: Sequence[Unit]) -> None:
    """End the run where the hardware has other units than the model, before minutes of mapping."""
    real, known = {component_of(unit.name) for unit in pieces}, {each.name for each in components(arch)}
    if real != known:
        differing = ", ".join(sorted(real ^ known))
        sys.exit(f"units of {arch.name} must be those of archsim/_structures.py; these differ: {differing}")


def _counts(pieces: Sequence[Unit], top: str, flow: Flow) -> Row:
    netlists = {}
    for number, unit in enumerate(pieces, 1):
        begun = time.monotonic()
        netlists[unit.name] = map_unit(unit, flow=flow, progress=_tell)
        if (seconds := time.monotonic() - begun) >= 1:
            _tell(f"  mapped {unit.name} ({number} of {len(pieces)}), {seconds:.0f} s")
    mapped = Mapped(flow=flow, top=top, units=tuple(pieces), netlists=netlists)
    own = {
        component_of(name): resources_of(cells_of(each), family=flow.family).as_dict()
        for name, each in netlists.items()
    }
    return {"total": resources_of(count_cells(mapped), family=flow.family).as_dict(), "components": own}


def component_of(unit: str) -> str:
    """The model's name of a unit: ``archsim_core.load`` is load, ``archsim_lane`` is lane."""
    return unit.rpartition(".")[2].removeprefix("archsim_")


# Costs.


def calibrate(rows: Rows, family: Family) -> str:
    """The library's file of costs: each component's, from its own counts on the calibration machines."""
    samples = _samples(rows, family)
    machines = sum(subject.used for subject in subjects())
    lines = [f"# Written by scripts/resources.py --calibrate from {machines} machines mapped by Yosys."]
    for cost, found in sorted(samples.items()):
        for name in undetermined(found, family):
            _tell(f"{cost}: the machines do not tell '{name}' from other structures")
        lines.append(f"{cost}:")
        lines += [f"  {name}: {_flow_text(per)}" for name, per in solved(found, family).items()]
    return "\n".join([*lines, ""])


Sample = tuple[Mapping[str, float], Mapping[str, int]]
"""A unit's structures, and what it takes."""


def _samples(rows: Rows, family: Family) -> dict[str, list[Sample]]:
    """Name of a component's costs -> its samples, each hardware once."""
    samples: dict[str, list[Sample]] = {}
    for subject in subjects():
        if not subject.used:
            continue
        own = rows[subject.arch.name]["components"]
        shaped = shaped_blocks(subject.arch, family=family)
        for component in components(subject.arch):
            taken = dict(own[component.name])
            taken["bram"] -= shaped.get(component.name, 0) // component.copies
            sample = (component.structures(subject.arch, family), taken)
            known = samples.setdefault(component.cost, [])
            if sample not in known:
                known.append(sample)
    return samples


KNOWN: Mapping[Family, Costs] = {
    "ecp5": {
        "bits of delays": {"ff": 1},
        "pieces of small memories": {"lut": 4},
        "bits of small memories": {"ff": 1},
    }
}
"""Costs that need no solving: a register's bit is a flip-flop, of a delay and behind a memory, and a piece
of 16 words by 4 bits is four tables."""


def solved(samples: Sequence[Sample], family: Family) -> dict[str, dict[str, float]]:
    """Structure -> resource -> cost, of what comes nearest to the samples."""
    names = _structures(samples)
    known = {name: dict(KNOWN.get(family, {}).get(name, {})) for name in names}
    open_ = [name for name in names if not known[name]]
    amounts = _amounts(samples, open_)
    for resource in COUNTED:
        given = _amounts(samples, names) @ [known[name].get(resource, 0) for name in names]
        counts = np.array([taken[resource] for _, taken in samples], float)
        for name, cost in zip(open_, _costs(amounts, counts, given, resource), strict=True):
            if round(cost, 4):
                known[name][resource] = round(float(cost), 4)
    return known


def undetermined(samples: Sequence[Sample], family: Family) -> list[str]:
    """Structures whose costs are open and whose amounts are sums of those of others in all ``samples``."""
    names = [name for name in _structures(samples) if name not in KNOWN.get(family, {})]
    amounts = _amounts(samples, names)
    rank = np.linalg.matrix_rank(amounts)
    return [
        name
        for place, name in enumerate(names)
        if amounts[:, place].any() and np.linalg.matrix_rank(np.delete(amounts, place, axis=1)) == rank
    ]


def _structures(samples: Sequence[Sample]) -> list[str]:
    return list(dict.fromkeys(name for structures, _ in samples for name in structures))


def _amounts(samples: Sequence[Sample], names: Sequence[str]) -> Matrix:
    return np.array([[structures.get(name, 0) for name in names] for structures, _ in samples], float)


def _costs(amounts: Matrix, counts: Matrix, given: Matrix, resource: str) -> Matrix:
    """Costs of what is not ``given``, none negative, whose sums come nearest in relative terms.

    Those of multipliers and blocks are whole.
    """
    if resource in ("dsp", "bram") and (found := whole(amounts, counts - given)) is not None:
        return found
    weights = 1 / np.maximum(counts, 1)
    return nonnegative(amounts * weights[:, None], (counts - given) * weights)


def whole(amounts: Matrix, counts: Matrix) -> Matrix | None:
    """Whole costs of the fewest structures, the first ones first, that give ``counts`` exactly, if any do.

    A structure holds a multiplier or a block or it does not, so that there is nothing to average.
    """
    width = amounts.shape[1]
    for size in range(3):
        for chosen in map(list, combinations(range(width), size)):
            found = np.zeros(width)
            found[chosen] = np.round(np.linalg.lstsq(amounts[:, chosen], counts, rcond=None)[0])
            if found.min() >= 0 and np.array_equal(amounts @ found, counts):
                return found
    return None


_RIDGE = 1e-3
"""Weight that keeps a cost small where the machines leave it open; a millionth of a relative square."""


def nonnegative(matrix: Matrix, wanted: Matrix) -> Matrix:
    """Least squares over non-negative unknowns (Lawson and Hanson, Solving Least Squares Problems, 23.10)."""
    scale = np.maximum(np.linalg.norm(matrix, axis=0), 1e-12)
    a = np.vstack([matrix / scale, _RIDGE * np.eye(matrix.shape[1])])
    b = np.concatenate([wanted, np.zeros(matrix.shape[1])])
    found, free = np.zeros(a.shape[1]), np.zeros(a.shape[1], bool)
    while True:
        slope = np.where(free, -np.inf, a.T @ (b - a @ found))
        if slope.max() <= 1e-10:
            return np.asarray(found / scale)
        free[slope.argmax()] = True
        while True:
            best = np.zeros_like(found)
            best[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
            stuck = free & (best <= 0)
            if not stuck.any():
                break
            step = (found[stuck] / (found[stuck] - best[stuck])).min()
            found = found + step * (best - found)
            free &= found > 1e-12
            found = np.where(free, found, 0)
        found = best


def _flow_text(costs: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{name}: {cost:g}" for name, cost in costs.items()) + "}"


# The page.


_ABOUT = """Written by `make resources`. Blocks of RAM are of 18 Kbit; `held out`: the machine's counts
were not used for the model's costs (`docs/synthesis.md`, *The resource model*)."""


def page(rows: Mapping[str, Rows]) -> str:
    """The tables as Markdown: estimated beside mapped, by family."""
    lines = ["# Resources, estimated and mapped", "", _ABOUT]
    for family in FAMILIES:
        found = [subject for subject in subjects() if subject.arch.name in rows[family]]
        if found:
            lines += ["", *_family_lines(found, family, rows[family])]
    return "\n".join([*lines, ""])


def _family_lines(found: Sequence[Subject], family: Family, rows: Rows) -> Iterator[str]:
    heads = [f"{name}, est. / mapped" for name in RESOURCE_NAMES]
    held = sum(not subject.used for subject in found)
    yield f"## {family}: {len(found)} machines, {held} held out"
    yield ""
    yield f"| machine | {' | '.join(heads)} | |"
    yield "|---" * (len(heads) + 2) + "|"
    for subject in found:
        yield _line(subject, family, rows[subject.arch.name]["total"])
    yield ""
    for kind in ("dense", "ternary", "fusemax"):
        own = [subject for subject in found if subject.arch.array.kind == kind]
        if own:
            yield f"- {kind}, {len(own)} machines, largest distance: {_worst(own, family, rows)}."
    yield ""
    yield from _component_lines(found, family, rows)


def _component_lines(found: Sequence[Subject], family: Family, rows: Rows) -> Iterator[str]:
    """Each component's largest distance from one copy as it was mapped, and where."""
    yield "| component, largest distance of one copy | lut | ff |"
    yield "|---|---|---|"
    worst: dict[str, dict[str, tuple[float, str]]] = {}
    for subject in found:
        guesses = estimate_resources(subject.arch, family=family).components
        for component in components(subject.arch):
            own = worst.setdefault(component.cost, {})
            for name in ("lut", "ff"):
                real = rows[subject.arch.name]["components"][component.name][name]
                guess = getattr(guesses[component.name], name) / component.copies
                distance = 100 * (guess - real) / max(real, 1)
                text = f"{distance:+.1f} % of {real:,}, {subject.arch.name}"
                own[name] = max(own.get(name, (-1.0, "")), (abs(distance), text))
    for cost, each in sorted(worst.items()):
        yield f"| {cost} | {each['lut'][1]} | {each['ff'][1]} |"


def _line(subject: Subject, family: Family, real: Mapping[str, int]) -> str:
    guess = estimate_resources(subject.arch, family=family).total.as_dict()
    cells = [f"{guess[n]:,} / {real[n]:,}{_percent(guess[n], real[n])}" for n in RESOURCE_NAMES]
    return f"| {subject.arch.name} | {' | '.join(cells)} | {'' if subject.used else 'held out'} |"


def _percent(guess: int, real: int) -> str:
    return f" ({100 * (guess - real) / real:+.1f} %)" if real else ""


def _worst(found: Sequence[Subject], family: Family, rows: Rows) -> str:
    """The largest distance of each resource, over all and over those held out."""
    parts = []
    for name in ("lut", "ff", "dsp", "bram"):
        distances = [(_distance(subject, family, rows, name), subject.used) for subject in found]
        held = max((each for each, used in distances if not used), default=0.0)
        parts.append(f"{name} {100 * max(each for each, _ in distances):.1f} % ({100 * held:.1f} % held out)")
    return ", ".join(parts)


def _distance(subject: Subject, family: Family, rows: Rows, name: str) -> float:
    guess: int = getattr(estimate_resources(subject.arch, family=family).total, name)
    real: int = rows[subject.arch.name]["total"][name]
    return abs(guess - real) / max(real, 1)


# The command.


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Map what is not mapped yet; then write the costs, or the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--family", choices=FAMILIES, action="append", help="this one; may be given again; ecp5 unless given"
    )
    parser.add_argument("--calibrate", action="store_true", help="map the calibration machines, write costs")
    arguments = parser.parse_args()
    store = RESULTS / "resources.json"
    rows: dict[str, Rows] = json.loads(store.read_text()) if store.exists() else {}
    rows = {family: rows.get(family, {}) for family in FAMILIES}
    for family in arguments.family or FAMILIES[:1]:
        wanted = [subject for subject in subjects() if subject.used or not arguments.calibrate]
        _refresh(rows, wanted, family, store)
        if arguments.calibrate:
            COSTS.mkdir(parents=True, exist_ok=True)
            (COSTS / f"{family}.yaml").write_text(calibrate(rows[family], family))
    if not arguments.calibrate:
        (RESULTS / "resources.md").write_text(page(rows))


def _refresh(rows: dict[str, Rows], wanted: Sequence[Subject], family: Family, store: Path) -> None:
    """Bring the rows of ``wanted`` up to date, each written as soon as it is known."""
    names = {subject.arch.name for subject in subjects()}
    rows[family] = {name: row for name, row in rows[family].items() if name in names and "digest" in row}
    for number, subject in enumerate(wanted, 1):
        name = subject.arch.name
        _tell(f"{family}: {name} ({number} of {len(wanted)})")
        rows[family][name] = refreshed(rows[family].get(name), subject, family)
        _replace(store, json.dumps(rows, indent=1, sort_keys=True) + "\n")


def _replace(path: Path, text: str) -> None:
    """Write ``path`` in one step, so that a run which is stopped leaves the old file or the new one."""
    beside = path.with_suffix(".tmp")
    beside.write_text(text)
    beside.replace(path)


if __name__ == "__main__":
    main()
