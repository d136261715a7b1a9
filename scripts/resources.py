"""Resources of many machines: estimated in closed form beside mapped by Yosys (``make resources``).

Every machine's units are kept on disk as they are mapped, and every finished row at once, so that a
run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
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
from archsim._resources import COMPONENTS
from archsim._resources_value import RESOURCE_NAMES, resources_of
from rtl import build_cached
from rtl._mapping import Family, Flow, cells_of, count_cells, map_design

RESULTS = Path("sim_results")
FAMILIES: tuple[Family, ...] = ("ecp5", "xc7", "xcup")
"""The families of the table."""


def machine(rows: int, cols: int, bus: int, **sizes: int) -> Architecture:
    """A small machine, named by what it differs in."""
    size = {
        "banks": 2,
        "words": 256,
        "acc": 64,
        "par": 32,
        "buf": 32,
        "rec": 16,
        "tab": 2,
        "prog": 64,
    } | sizes
    size = {"queue": 2, "out": 2} | size
    name = "-".join([f"{rows}x{cols}", f"bus{bus}", *(f"{key}{value}" for key, value in sizes.items())])
    return Architecture(
        name=name,
        clock_mhz=100,
        array=Array(rows=rows, cols=cols),
        bus=Bus(bytes=bus, outstanding=size["out"]),
        scratchpad=Scratchpad(banks=size["banks"], words_per_bank=size["words"]),
        accumulator_words=size["acc"],
        parameter_words=size["par"],
        vector=Vector(buffer_words=size["buf"], rows=size["rec"], tables=size["tab"]),
        program_words=size["prog"],
        queue_depth=size["queue"],
    )


def machines() -> Iterator[tuple[Architecture, bool]]:
    """Each machine, and whether its components' costs are taken from it (the others are held out)."""
    yield machine(2, 2, 4), True
    yield machine(4, 4, 8), True
    yield machine(2, 4, 8), False
    yield machine(4, 4, 8, banks=4, words=1024, acc=256, par=128, buf=256, rec=64), True
    yield machine(4, 8, 8), True
    yield machine(8, 4, 16), True
    yield machine(4, 4, 8, queue=4, out=4), True
    yield machine(4, 4, 16, prog=512), False
    yield machine(8, 8, 8, banks=4), True
    yield machine(3, 5, 16), False
    yield machine(4, 4, 4, banks=8, tab=4), False
    yield machine(6, 6, 8, acc=512), False
    yield machine(4, 4, 32, out=8), False
    yield machine(2, 8, 8), False
    yield machine(4, 2, 4, tab=1), False
    yield machine(5, 5, 8, banks=4, rec=32), True
    yield machine(8, 16, 16), True
    yield machine(16, 8, 16), False
    yield machine(12, 12, 16, banks=4, words=512), False
    yield machine(2, 2, 8, queue=8), False
    yield machine(3, 3, 4, banks=1), False
    yield machine(8, 2, 8, buf=128), False
    yield machine(2, 2, 16, prog=1024), False
    yield machine(4, 6, 4, par=256), False
    yield machine(7, 4, 8, rec=128), False
    yield machine(4, 4, 8, banks=8, words=512, acc=1024), False
    yield machine(8, 8, 16, banks=4, words=512, acc=512, par=64, buf=64, rec=64), False
    yield machine(8, 8, 32, banks=2, queue=4, out=4), False
    yield machine(6, 4, 8, queue=3, out=3), False
    yield machine(16, 16, 32, banks=4, words=512), False
    yield load_architecture("edge-8x8"), True
    yield load_architecture("edge-16x16"), False


def mapped_row(arch: Architecture, family: str) -> dict[str, Any]:
    """One machine as Yosys maps it: resources in all and by component."""
    design = build_cached(arch)
    mapped = map_design(design.verilog, top=design.top, flow=flow_of(family), progress=_tell)
    own = {
        component_of(name): resources_of(cells_of(each), family=family)
        for name, each in mapped.netlists.items()
    }
    total = resources_of(count_cells(mapped), family=family)
    text = architecture_text(arch)
    return {
        "architecture": text,
        "total": total.as_dict(),
        "components": {name: each.as_dict() for name, each in own.items()},
    }


def component_of(unit: str) -> str:
    """The model's name of a unit: ``archsim_core.load`` is load, ``archsim_lane`` is lane."""
    return unit.rpartition(".")[2].removeprefix("archsim_")


def flow_of(family: str) -> Flow:
    """The flow that maps to ``family``."""
    return next(Flow(family=known) for known in FAMILIES if known == family)


def calibrate(rows: dict[str, Any], family: str) -> str:
    """The library's file of costs: each component's, from its own counts on the calibration machines."""
    known = [(arch, rows[arch.name]) for arch, used in machines() if used and arch.name in rows]
    lines = [f"# Written by scripts/resources.py --calibrate from {len(known)} machines mapped by Yosys."]
    for component in COMPONENTS:
        lines.append(f"{component.name}:")
        structures = np.array([component.structures(arch, family) for arch, _ in known], float)
        for name in ("lut", "ff", "dsp"):
            counts = np.array([row["components"][component.name][name] for _, row in known], float)
            costs = solve(structures, counts)
            lines.append(f"  {name}: [{', '.join(f'{cost:.4f}' for cost in costs)}]")
    return "\n".join([*lines, ""])


def solve(structures: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Costs, none negative, whose sums come nearest to ``counts`` in relative terms."""
    costs, _ = nnls(structures / np.maximum(counts, 1)[:, None], counts / np.maximum(counts, 1))
    return costs


def nnls(
    matrix: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least squares over non-negative unknowns: drop the most negative one until none is."""
    kept = list(range(matrix.shape[1]))
    while True:
        found = np.linalg.lstsq(matrix[:, kept], wanted, rcond=None)[0]
        if not len(found) or found.min() >= -1e-9:
            break
        kept.pop(int(found.argmin()))
    costs = np.zeros(matrix.shape[1])
    costs[kept] = np.maximum(found, 0)
    return costs, wanted - matrix @ costs


def page(rows: dict[str, dict[str, Any]]) -> str:
    """The table as Markdown: estimated beside mapped, by family."""
    lines = [
        "# Resources, estimated and mapped",
        "",
        "Written by `make resources`. 18 Kbit blocks; `held out`: ",
    ]
    lines[-1] += "its counts were not used for the model's costs."
    for family in FAMILIES:
        found = [(arch, used) for arch, used in machines() if arch.name in rows[family]]
        if not found:
            continue
        heads = [f"{name}, est. / mapped" for name in RESOURCE_NAMES]
        lines += ["", f"## {family}: {len(found)} machines", "", f"| machine | {' | '.join(heads)} | |"]
        lines.append("|---" * (len(heads) + 2) + "|")
        lines += [_line(arch, family, rows[family][arch.name]["total"], used) for arch, used in found]
        lines += ["", _worst(found, family, rows[family])]
    return "\n".join([*lines, ""])


def _line(arch: Architecture, family: str, real: dict[str, int], used: bool) -> str:
    guess = estimate_resources(arch, family=family).total.as_dict()
    cells = [f"{guess[n]:,} / {real[n]:,}{_percent(guess[n], real[n])}" for n in RESOURCE_NAMES]
    return f"| {arch.name} | {' | '.join(cells)} | {'' if used else 'held out'} |"


def _percent(guess: int, real: int) -> str:
    return f" ({100 * (guess - real) / real:+.1f} %)" if real else ""


def _worst(found: list[tuple[Architecture, bool]], family: str, rows: dict[str, Any]) -> str:
    """The largest distance of each resource, over all and over those held out."""
    parts = []
    for name in ("lut", "ff", "dsp", "bram"):
        distances = []
        for arch, used in found:
            guess = getattr(estimate_resources(arch, family=family).total, name)
            real = rows[arch.name]["total"][name]
            distances.append((abs(guess - real) / max(real, 1), used))
        held = max((each for each, used in distances if not used), default=0.0)
        parts.append(f"{name} {100 * max(each for each, _ in distances):.1f} % ({100 * held:.1f} % held out)")
    return f"Largest distance: {', '.join(parts)}."


def _tell(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Map what is not mapped yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--family", choices=FAMILIES, action="append", help="only this one; may be given again"
    )
    parser.add_argument("--most", type=int, default=1000, help="machines to map in this run, of each family")
    parser.add_argument(
        "--calibrate", action="store_true", help="write the library's costs from the rows at hand"
    )
    arguments = parser.parse_args()
    store = RESULTS / "resources.json"
    rows: dict[str, dict[str, Any]] = json.loads(store.read_text()) if store.exists() else {}
    rows = {family: rows.get(family, {}) for family in FAMILIES}
    for family in arguments.family or FAMILIES:
        missing = [
            arch
            for arch, _ in sorted(machines(), key=lambda each: not each[1])
            if arch.name not in rows[family]
        ]
        for arch in missing[: arguments.most]:
            print(f"{family}: {arch.name}", file=sys.stderr, flush=True)
            rows[family][arch.name] = mapped_row(arch, family)
            store.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
        for arch, _ in machines():
            if arch.name in rows[family]:
                rows[family][arch.name]["architecture"] = architecture_text(arch)
        store.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
        if arguments.calibrate:
            folder = Path("archsim/library/resources")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{family}.yaml").write_text(calibrate(rows[family], family))
    (RESULTS / "resources.md").write_text(page(rows))


if __name__ == "__main__":
    main()
