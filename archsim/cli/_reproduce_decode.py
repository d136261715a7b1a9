"""Decoding on many cores, as ``archsim reproduce fusemax`` shows it: table, pictures, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from archsim.cli._reproduce_data import SPLIT_CONTEXT, Reproduction
from archsim.cli._reproduce_figures import line_panels, quantity_name
from mapper._decode import Dealt

DECODE_HEADER = ("cores", "model", "keys", "way", "pieces", "cycles", "steps", "speed-up", "over bound")


def decode_rows(what: Reproduction) -> list[Sequence[str]]:
    """A row for each machine, model, context and way to deal."""
    return [_row(dealt) for dealt in what.decode]


def _row(dealt: Dealt) -> tuple[str, ...]:
    pieces = f"{dealt.splits} a head" if dealt.way != "stream" else f"{dealt.splits} cores"
    return (
        dealt.machine,
        dealt.model,
        quantity_name(dealt.context),
        dealt.way,
        pieces,
        f"{dealt.time.cycles:,}",
        str(dealt.time.steps),
        f"{dealt.speedup:.3f}",
        f"{dealt.over_bound:.3f}",
    )


def decode_json(what: Reproduction) -> str:
    """Every row, and the speed-up of every number of splits at one context."""
    splits = {
        machine: {model: [list(point) for point in curve] for model, curve in curves.items()}
        for machine, curves in what.splits.items()
    }
    found = {
        "rows": [dealt.document() for dealt in what.decode],
        "split_context": SPLIT_CONTEXT,
        "speedup_by_splits": splits,
    }
    return json.dumps(found, indent=2, sort_keys=True, allow_nan=False) + "\n"


def decode_pictures(what: Reproduction) -> dict[str, str]:
    """Speed-up over contexts by machine, and over the number of splits at one context."""
    found = {}
    for machine in what.splits:
        mine = [dealt for dealt in what.decode if dealt.machine == machine]
        panels = {
            model: {
                way: [(d.context, d.speedup) for d in mine if (d.model, d.way) == (model, way)]
                for way in ("fixed", "stream")
            }
            for model in dict.fromkeys(dealt.model for dealt in mine)
        }
        found[f"{machine}.svg"] = line_panels(
            f"Speed-up over whole heads, {machine}", ("keys", "speed-up"), panels
        )
    names = [model for curves in what.splits.values() for model in curves]
    by_model = {
        model: {machine: curves[model] for machine, curves in what.splits.items()}
        for model in dict.fromkeys(names)
    }
    found["decode-splits.svg"] = line_panels(
        f"Speed-up by splits of a head, {quantity_name(SPLIT_CONTEXT)} keys", ("splits", "speed-up"), by_model
    )
    return found
