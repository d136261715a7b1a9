"""FuseMax's comparison beside the published one: relative errors, headline means, and other assumptions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from archsim._fusemax import CONFIGURATIONS, ENCODERS, Point, attend
from archsim._published import Mean, Published
from archsim._spatial import Spatial
from archsim._spatial_file import load_spatial

QUANTITIES: Mapping[str, Callable[[Point], float]] = MappingProxyType(
    {
        "cycles": lambda point: point.cycles,
        "latency_s": lambda point: point.latency_s,
        "util_2d": lambda point: point.util_2d,
        "util_1d": lambda point: point.util_1d,
        "dram_bytes": lambda point: point.dram_bytes,
        "energy_pj": lambda point: point.energy_pj,
    }
)
"""Figures of a point that may be published."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One computed figure beside the published one."""

    name: str
    ours: float
    published: float

    @property
    def error(self) -> float:
        """Ours over the published one, less 1."""
        return self.ours / self.published - 1


def compare(point: Point, published: Published) -> list[Compared]:
    """Each figure of ``point`` that is published."""
    found = []
    for quantity, figure in QUANTITIES.items():
        value = published.values.get((point.scope, point.model, point.length, point.config, quantity))
        if value is not None:
            found.append(Compared(quantity, figure(point), value))
    return found


def compare_means(points: Sequence[Point], published: Published) -> list[Compared]:
    """The headline means, each beside the published one."""
    return [Compared(_mean_name(mean), mean_of(points, mean), mean.value) for mean in published.means]


def _mean_name(mean: Mean) -> str:
    what = "FLAT's latency over FuseMax's" if mean.quantity == "speedup" else "FuseMax's energy over FLAT's"
    return f"{mean.scope}: {what}{f' at {mean.length:,}' if mean.length else ''}"


def mean_of(points: Iterable[Point], mean: Mean) -> float:
    """The arithmetic mean over models and lengths of FLAT over FuseMax in time, or the inverse in energy."""
    mine = [point for point in points if point.scope == mean.scope and mean.length in (None, point.length)]
    by_config = {(point.config, point.model, point.length): point for point in mine}
    pairs = [
        (point, by_config["flat", model, length])
        for (config, model, length), point in by_config.items()
        if config == "fusemax"
    ]
    if mean.quantity == "speedup":
        return statistics.mean(flat.latency_s / fusemax.latency_s for fusemax, flat in pairs)
    return statistics.mean(fusemax.energy_pj / flat.energy_pj for fusemax, flat in pairs)


@dataclass(frozen=True, slots=True)
class Variant:
    """A configuration under another assumption, against the one of the comparison, on BERT."""

    config: str
    assumption: str
    length: int
    cycles_ratio: float
    energy_ratio: float
    dram_ratio: float


def variants(lengths: Iterable[int]) -> Iterator[Variant]:
    """What each assumption changes, alone; ratios are to the comparison's own."""
    encoder = ENCODERS["BERT"]
    for length in lengths:
        for config, assumption, machine in _changed():
            what = CONFIGURATIONS[config]
            base = attend(encoder, length, machine=load_spatial(what.machine), what=what)
            other = attend(encoder, length, machine=machine, what=what)
            yield Variant(
                config,
                assumption,
                length,
                other.cycles / base.cycles,
                other.energy_total_pj / base.energy_total_pj,
                other.bytes["dram"] / base.bytes["dram"],
            )


def _changed() -> Iterator[tuple[str, str, Spatial]]:
    """(configuration, what is assumed instead, the machine that assumes it)."""
    fusemax, charged = load_spatial("fusemax"), load_spatial("fusemax-charged")
    flat, one_pass = load_spatial("flat"), load_spatial("flat-one-pass")
    base, full = fusemax.assumptions, charged.assumptions
    registers = replace(base, register_pj_per_operation=full.register_pj_per_operation)
    leaks = replace(base, leakage_pj_per_cycle=full.leakage_pj_per_cycle)
    yield (
        "fusemax",
        "filling and draining the array takes cycles",
        replace(fusemax, assumptions=replace(base, array_fill=True)),
    )
    yield "fusemax", "register files take energy", replace(fusemax, assumptions=registers)
    yield "fusemax", "units leak", replace(fusemax, assumptions=leaks)
    yield "fusemax", "all three", charged
    yield (
        "fusemax",
        "exponentials take a cycle, in a unit of their own as FLAT's",
        replace(fusemax, operators={**fusemax.operators, "exp": flat.operators["exp"]}),
    )
    yield (
        "flat",
        "the subtraction before an exponential takes a cycle",
        replace(flat, assumptions=replace(flat.assumptions, difference_in_exp=False)),
    )
    yield (
        "flat",
        "exponentials are six multiply-accumulates, as FuseMax's",
        replace(
            flat,
            operators={**flat.operators, "exp": fusemax.operators["exp"]},
            assumptions=replace(flat.assumptions, difference_in_exp=False),
        ),
    )
    yield (
        "cascade",
        "blocks are dealt out the whole buffer",
        replace(one_pass, assumptions=replace(one_pass.assumptions, block_bytes=None)),
    )
    yield (
        "cascade",
        "scores pass through the buffer before lanes take them",
        replace(one_pass, assumptions=replace(one_pass.assumptions, results_stream=False)),
    )
