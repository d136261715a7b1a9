"""What ``archsim reproduce fusemax`` shows: everything computed once, for tables, page and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsim.cli._progress import Steps

if TYPE_CHECKING:
    from archsim._fusemax import Point
    from archsim._fusemax_compare import Compared, Variant
    from archsim._published import Published
    from mapper._attention import Design, Found
    from mapper._decode import Dealt

PARETO_LENGTH = 1 << 18
"""Keys and queries for which machines are compared."""
VARIANT_LENGTHS = (1 << 10, 1 << 20)
SPLIT_CONTEXT = 1 << 16
"""Keys for which every number of splits is drawn."""

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The comparison and what goes beyond it."""

    points: tuple[Point, ...]
    published: Published
    means: tuple[Compared, ...]
    best: Mapping[tuple[str, int], Found]
    """(model, length) -> the best mapping on FuseMax's machine."""
    of_area: Mapping[tuple[str, int], Design]
    """(model, length) -> the fastest machine of FuseMax's area."""
    variants: tuple[Variant, ...]
    fronts: Mapping[str, tuple[Design, ...]]
    """Model -> machines that none beats in area and latency."""
    same_area: tuple[Design, ...]
    """For BERT: machines of FuseMax's area, the fastest first."""
    decode: tuple[Dealt, ...]
    splits: Mapping[str, Mapping[str, Curve]]
    """Machine of cores -> model -> (splits, speed-up over whole heads)."""

    def at(self, scope: str, model: str, length: int) -> dict[str, Point]:
        """The points of one workload by configuration."""
        mine = (p for p in self.points if (p.scope, p.model, p.length) == (scope, model, length))
        return {point.config: point for point in mine}


def gather(steps: Steps) -> Reproduction:
    """Compute it all."""
    from archsim._fusemax import ENCODERS, LENGTHS, reproduce
    from archsim._fusemax_compare import compare_means, variants
    from archsim._published import load_published
    from archsim._spatial_file import load_spatial
    from mapper._attention import best, fastest_of_area, pareto, same_area, sweep

    machine, published = load_spatial("fusemax"), load_published("fusemax")
    with steps("120 points of attention and layer"):
        points = tuple(reproduce())
    with steps("the best mapping of each point"):
        found = {
            (model, length): best(encoder, length, machine=machine)
            for model, encoder in ENCODERS.items()
            for length in LENGTHS.values()
        }
    with steps("machines of other sizes"):
        fronts = {
            model: tuple(pareto(sweep(encoder, PARETO_LENGTH, machine=machine)))
            for model, encoder in ENCODERS.items()
        }
        of_area = {
            (model, length): fastest_of_area(encoder, length, machine=machine)
            for model, encoder in ENCODERS.items()
            for length in LENGTHS.values()
        }
        equal = tuple(same_area(ENCODERS["BERT"], PARETO_LENGTH, machine=machine))
    with steps("decoding in splits on many cores"):
        rows, splits = _decode()
    means = tuple(compare_means(points, published))
    return Reproduction(
        points=points,
        published=published,
        means=means,
        best=found,
        of_area=of_area,
        variants=tuple(variants(VARIANT_LENGTHS)),
        fronts=fronts,
        same_area=equal,
        decode=rows,
        splits=splits,
    )


def _decode() -> tuple[tuple[Dealt, ...], dict[str, dict[str, Curve]]]:
    from archsim._spatial_file import load_spatial
    from mapper._decode import CONTEXTS, MACHINES, MODELS, decode_rows, split_curve, tile_costs

    machines = [load_spatial(name) for name in MACHINES]
    splits = {
        core.name: {
            model: tuple(split_curve(heads, SPLIT_CONTEXT, tile_costs(heads, core=core), core=core))
            for model, heads in MODELS.items()
        }
        for core in machines
    }
    return tuple(decode_rows(machines, MODELS, CONTEXTS)), splits
