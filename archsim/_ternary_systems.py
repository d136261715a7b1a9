"""Published ternary systems beside what their public facts determine: a row for each figure.

Weights come from the model's own sizes, times from bytes over an interface or a memory. Where facts are
missing the row says so; no parameter is chosen to meet a figure. ``docs/matmulfree.md`` has each rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from archsim._errors import ArchsimError
from archsim._ternary_systems_file import System, SystemEstimate, SystemModel
from workloads import matmul_free

Relation = Literal["at least", "at most", "equal"]
"""What ours is to the true figure: a bound from below, from above, or the figure itself."""
_RELATIONS: dict[str, Relation] = {"seconds": "at least", "cards": "at least", "tokens_per_second": "at most"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemRow:
    """One figure of one system."""

    system: str
    board: str
    quantity: str
    relation: Relation | None
    """None where nothing is computed."""
    ours: float | None
    published: float | None
    kind: str | None
    """How the published figure came about: measured, simulated or derived."""
    error: float | None
    """Ours over the published, less 1."""
    weights_per_cycle: float | None
    """Ternary products a clock cycle that the published throughput takes, where the clock is public."""
    weight_bits: float | None
    assumed: str
    undetermined: str
    source: str

    @property
    def holds(self) -> bool | None:
        """Whether the published figure keeps to ours as a bound; None where there is nothing to compare."""
        if self.ours is None or self.published is None or self.relation in (None, "equal"):
            return None
        return self.ours <= self.published if self.relation == "at least" else self.ours >= self.published

    def document(self) -> dict[str, Any]:
        """The row as plain values, for JSON."""
        return {**asdict(self), "holds": self.holds}


@dataclass(frozen=True, slots=True)
class Weights:
    """Learned numbers of a model."""

    ternary: int
    """Those that a token multiplies by, as trits."""
    other: int
    """An embedding that is not ternary."""


def weights_of(model: SystemModel) -> Weights:
    """The weights of a model: 4 d² and 3 d h a block, and a ternary head where the zoo's model has one."""
    if model.zoo is not None:
        sizes = matmul_free(model.zoo)
        if sizes is None:
            raise ArchsimError(f"model.zoo must be a MatMul-free model, not {model.zoo!r}")
        return Weights(sizes.ternary, sizes.vocab * sizes.hidden)
    hidden = model.hidden or 0
    ternary = (model.layers or 0) * block_weights(hidden, model.inner or 0)
    return Weights(ternary, model.vocab * hidden * (1 if model.tied else 2))


def block_weights(hidden: int, inner: int) -> int:
    """Weights of one block: four square products, and three of the gated feed-forward.

    >>> block_weights(512, 1536)
    3407872
    """
    return 4 * hidden**2 + 3 * hidden * inner


def system_rows(systems: Iterable[System]) -> list[SystemRow]:
    """Every estimate beside its published figure, then what is published and not determined."""
    return [row for system in systems for row in (*_estimated(system), *_left(system))]


def _estimated(system: System) -> Iterator[SystemRow]:
    for item in system.estimates:
        ours = estimate_figure(system, item)
        found = next((figure for figure in system.published if figure.quantity == item.quantity), None)
        yield SystemRow(
            system=system.name,
            board=system.board,
            quantity=item.quantity,
            relation=_RELATIONS.get(item.quantity, "equal"),
            ours=ours,
            published=None if found is None else found.value,
            kind=None if found is None else found.kind,
            error=None if found is None else ours / found.value - 1,
            weights_per_cycle=None if found is None else _per_cycle(system, item.quantity, found.value),
            weight_bits=item.weight_bits,
            assumed=item.assumed,
            undetermined=system.undetermined,
            source=system.source,
        )


def _left(system: System) -> Iterator[SystemRow]:
    computed = {item.quantity for item in system.estimates}
    for figure in system.published:
        if figure.quantity not in computed:
            yield SystemRow(
                system=system.name,
                board=system.board,
                quantity=figure.quantity,
                relation=None,
                ours=None,
                published=figure.value,
                kind=figure.kind,
                error=None,
                weights_per_cycle=_per_cycle(system, figure.quantity, figure.value),
                weight_bits=None,
                assumed="",
                undetermined=system.undetermined,
                source=system.source,
            )


def estimate_figure(system: System, item: SystemEstimate) -> float:
    """One figure from the system's model and memory, or from published figures that it follows from."""
    match item.quantity:
        case "seconds":
            return weight_seconds(system, item.weight_bits or 0)
        case "tokens_per_second":
            return 1 / weight_seconds(system, item.weight_bits or 0)
        case "cards":
            return float(-(-_weight_bytes(system, item.weight_bits or 0) // (system.memory.chip_bytes or 1)))
        case "parameters":
            weights = weights_of(system.model)
            return float(weights.ternary + weights.other)
        case "prefill_tokens_per_second":
            return (item.prompt or 0) / (item.first_token_s or 1)
        case "power_w":
            return (item.tokens_per_second or 0) / (item.tokens_per_joule or 1)
        case _:
            raise ArchsimError(
                f"estimates.quantity must be one that follows from public facts, not {item.quantity}"
            )


def weight_seconds(system: System, weight_bits: float) -> float:
    """Seconds in which all ternary weights come once: whole cycles of an interface, or bytes of a memory.

    Raises ArchsimError where weights stay on chip.
    """
    memory = system.memory
    if memory.interface_bits is not None and system.clock_mhz is not None:
        cycles = -(-_weight_bytes(system, weight_bits) * 8 // memory.interface_bits)
        return cycles / (system.clock_mhz * 1e6)
    if memory.bytes_per_second is not None:
        return _weight_bytes(system, weight_bits) / memory.bytes_per_second
    raise ArchsimError(f"memory of {system.name} must have a rate for its weights to take time")


def _weight_bytes(system: System, weight_bits: float) -> int:
    """Bytes of the ternary weights, so many to a byte."""
    return -(-weights_of(system.model).ternary // round(8 / weight_bits))


def _per_cycle(system: System, quantity: str, value: float) -> float | None:
    if system.clock_mhz is None:
        return None
    tokens = {"seconds": 1 / value, "tokens_per_second": value, "prefill_tokens_per_second": value}
    if quantity not in tokens:
        return None
    return tokens[quantity] * weights_of(system.model).ternary / (system.clock_mhz * 1e6)
