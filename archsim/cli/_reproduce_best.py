"""What the search finds beyond FuseMax's mapping, as ``archsim reproduce fusemax`` shows it: tables, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from archsim._estimate_value import Estimate
from archsim._fusemax import ENCODERS, LENGTHS, Limits, attention_limits
from archsim._spatial import Spatial
from archsim._spatial_file import load_spatial
from archsim.cli._reproduce_data import PARETO_LENGTH, Reproduction
from archsim.cli._reproduce_figures import panels, quantity_name
from mapper._attention import Design, Found

BEST_HEADER = ("point", "mapping", "cycles", "speed-up", "energy", "MACs", "I/O")
AREA_HEADER = ("point", "machine", "speed-up", "energy", "MACs", "I/O")


def best_rows(what: Reproduction) -> list[Sequence[str]]:
    """The search's best of each point on FuseMax's machine, beside FuseMax's own mapping."""
    machine = load_spatial("fusemax")
    rows: list[Sequence[str]] = []
    for (model, length), found in what.best.items():
        estimate = found.estimate
        rows.append(
            (
                f"{model} {quantity_name(length)}",
                str(found),
                f"{estimate.cycles:,}",
                *_beside(what, (model, length), estimate, machine),
            )
        )
    return rows


def area_rows(what: Reproduction) -> list[Sequence[str]]:
    """The fastest machine of FuseMax's area for each point, beside FuseMax itself."""
    return [
        (
            f"{model} {quantity_name(length)}",
            f"{design.machine.name}, {design.machine.buffer.bytes >> 20} MiB",
            *_beside(what, (model, length), design.found.estimate, design.machine),
        )
        for (model, length), design in what.of_area.items()
    ]


def _beside(
    what: Reproduction, key: tuple[str, int], estimate: Estimate, machine: Spatial
) -> tuple[str, str, str, str]:
    """Speed-up and energy against FuseMax's own, and the distances from the limits, as text."""
    speedup, energy = _against(what, key, estimate)
    limits = attention_limits(ENCODERS[key[0]], key[1], estimate, machine=machine)
    return (
        f"{speedup:.3f}",
        f"{energy:.3f}",
        f"{limits.cycles_over_mac_bound:.3f}",
        f"{limits.dram_over_io_bound:.4g}",
    )


def _against(what: Reproduction, key: tuple[str, int], estimate: Estimate) -> tuple[float, float]:
    point = what.at("attention", *key)["fusemax"]
    return point.latency_s / estimate.seconds, estimate.energy_total_pj / point.energy_pj


def best_json(what: Reproduction) -> str:
    """The search's best of each point on FuseMax's machine and in its area, and the Pareto fronts."""
    machine = load_spatial("fusemax")
    found = {
        "on_fusemax": [
            _document(what, key, found, machine=machine, area_cm2=machine.area_um2 * 1e-8)
            for key, found in what.best.items()
        ],
        "in_its_area": [_design(what, key, design) for key, design in what.of_area.items()],
        "front_length": PARETO_LENGTH,
        "fronts": {
            model: [_design(what, (model, PARETO_LENGTH), design) for design in front]
            for model, front in what.fronts.items()
        },
    }
    return json.dumps(found, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _design(what: Reproduction, key: tuple[str, int], design: Design) -> dict[str, Any]:
    return _document(what, key, design.found, machine=design.machine, area_cm2=design.area_cm2)


def _document(
    what: Reproduction, key: tuple[str, int], found: Found, *, machine: Spatial, area_cm2: float
) -> dict[str, Any]:
    estimate = found.estimate
    limits: Limits = attention_limits(ENCODERS[key[0]], key[1], estimate, machine=machine)
    speedup, energy = _against(what, key, estimate)
    return {
        "model": key[0],
        "length": key[1],
        "rows": machine.rows,
        "cols": machine.cols,
        "lanes": machine.lanes,
        "buffer_bytes": machine.buffer.bytes,
        "area_cm2": area_cm2,
        "cascade": found.cascade,
        "tile": found.tile,
        "schedule": found.schedule,
        "cycles": estimate.cycles,
        "latency_s": estimate.seconds,
        "energy_pj": estimate.energy_total_pj,
        "dram_bytes": estimate.bytes["dram"],
        "speedup_over_fusemax": speedup,
        "energy_over_fusemax": energy,
        **asdict(limits),
    }


def best_pictures(what: Reproduction) -> dict[str, str]:
    """Speed-ups over FuseMax's own mapping and machine."""
    return {
        "beyond.svg": panels(
            "Speed-up over FuseMax", list(LENGTHS), {model: dict(_series(what, model)) for model in ENCODERS}
        )
    }


def _series(what: Reproduction, model: str) -> Iterator[tuple[str, list[float]]]:
    keys = [(model, length) for length in LENGTHS.values()]
    yield "its machine", [_against(what, key, what.best[key].estimate)[0] for key in keys]
    yield "its area", [_against(what, key, what.of_area[key].found.estimate)[0] for key in keys]
