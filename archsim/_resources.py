"""Resources of a machine in closed form: counts of structures, each times what one costs.

A machine is a sum of components, the units that ``rtl`` maps one by one. A component's look-up tables
and flip-flops are a sum over its structures (a bank, a bit of a bank's multiplexer, a row of the array
...), whose costs were solved for that component alone from its mapped counts on a few calibration
machines; the others are held out (``docs/synthesis.md``, *The resource model*). Block RAM is counted
from the shapes of the memories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from archsim._architecture import Architecture
from archsim._block_ram import blocks, memories
from archsim._errors import ArchsimError
from archsim._resources_value import CELLS, Resources
from archsim._yaml_file import read_document

Structures = tuple[float, ...]
"""How many of each structure a component has; the first is the component itself, once."""

_DELAY_CYCLES, _DELAY_BITS = 4, 64
"""From this length and size on, a delay is a memory (``rtl._pipe``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One kind of unit."""

    name: str
    structures: Callable[[Architecture, str], Structures]
    """Of an architecture, on a family."""
    count: Callable[[Architecture], int] = lambda arch: 1
    """Copies in a machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceEstimate:
    """A machine's resources, by component."""

    family: str
    components: Mapping[str, Resources]

    @property
    def total(self) -> Resources:
        """The whole machine."""
        total = Resources()
        for each in self.components.values():
            total += each
        return total


def estimate_resources(arch: Architecture, *, family: str) -> ResourceEstimate:
    """What ``arch`` takes on an FPGA of ``family``.

    Raises: ArchsimError for a family or an array kind whose costs are not known.
    """
    if family not in CELLS:
        raise ArchsimError(f"family must be one of {', '.join(CELLS)}, not {family!r}")
    costs = costs_of(family)
    found = {}
    for component in components(arch):
        if component.name not in costs:
            raise ArchsimError(
                f"family must be one whose costs are known for {component.name}, not {family!r}"
            )
        own = _priced(component.structures(arch, family), costs[component.name])
        found[component.name] = own.times(component.count(arch))
    for memory in memories(arch):
        found[memory.component] += Resources(bram=memory.copies * blocks(memory, family=family))
    return ResourceEstimate(family=family, components=found)


def components(arch: Architecture) -> tuple[Component, ...]:
    """The kinds of units that ``arch`` is made of."""
    if arch.array.kind != "dense":
        raise ArchsimError(
            f"array.kind must be 'dense' for its resources to be known, not {arch.array.kind!r}"
        )
    return COMPONENTS


def _priced(structures: Structures, costs: Mapping[str, Structures]) -> Resources:
    amounts = {
        name: max(0, round(sum(n * each for n, each in zip(structures, per, strict=True))))
        for name, per in costs.items()
    }
    return Resources(**amounts)


@cache
def costs_of(family: str) -> Mapping[str, Mapping[str, Structures]]:
    """Component -> resource -> cost of each of its structures, from the library."""
    file = resources.files("archsim") / "library" / "resources" / f"{family}.yaml"
    if not file.is_file():
        return {}
    value = read_document(file.read_text("utf-8"), source=f"resources/{family}.yaml").value
    assert isinstance(value, dict), "the library's own file"
    return {
        component: {name: tuple(map(float, per)) for name, per in costs.items()}
        for component, costs in value.items()
    }


def _bits(count: int) -> int:
    """Bits that number ``count`` things."""
    return (count - 1).bit_length()


def _small(arch: Architecture, family: str, component: str) -> tuple[int, int]:
    """Memories of a component that stay in look-up tables: pieces of 16 words by 4 bits, and bits read."""
    pieces = bits = 0
    for shape in memories(arch):
        if shape.component == component and not blocks(shape, family=family):
            copies = shape.copies * shape.readers
            pieces += copies * -(-shape.words // 16) * -(-shape.bits // 4)
            bits += copies * shape.bits
    return pieces, bits


def _one(arch: Architecture, family: str) -> Structures:
    return (1,)


def _element(arch: Architecture, family: str) -> Structures:
    """A processing element: itself, and the bits of the sums of a column."""
    return (1, 16 + _bits(arch.array.rows))


def _lane(arch: Architecture, family: str) -> Structures:
    """A lane: itself, and the address bits of its function tables past two."""
    return (1, abs(_bits(arch.vector.tables) - 1))


def _queue(arch: Architecture, family: str) -> Structures:
    """A queue: itself, its second entry where that is the last, and small memories behind the first."""
    behind = arch.queue_depth - 1
    return (1, behind == 1, -(-behind // 16) if behind > 1 else 0)


def _skews(arch: Architecture) -> Iterator[int]:
    """Cycles of each byte-wide delay of the array: operands and weights by row, weights by column."""
    for row in range(arch.array.rows):
        yield from (2 + row, 1 + row)
    for col in range(arch.array.cols):
        yield 1 + col


def _array(arch: Architecture, family: str) -> Structures:
    """Itself; bits of delay in registers, and in memories; columns; bits of control on their way."""
    rows, cols = arch.array.rows, arch.array.cols
    plain = [8 * n for n in _skews(arch) if not _is_ring(8, n)]
    rings = [n for n in _skews(arch) if _is_ring(8, n)]
    sums = 16 + _bits(rows)
    deskew = [n for n in range(cols) if not _is_ring(sums, n)]
    control = sum(2 + row for row in range(rows)) + sum(2 + col for col in range(cols))
    held = sum(plain) + sums * sum(deskew) + control
    ringed = len(rings) * 8 + (cols - len(deskew)) * sums
    latency = (rows + cols + 4) * 17 + (rows + cols) * (2 + _bits(arch.accumulator_words))
    return (1, held, ringed, cols, latency, *_small(arch, family, "array"))


def _is_ring(bits: int, cycles: int) -> bool:
    return cycles >= _DELAY_CYCLES and bits * cycles >= _DELAY_BITS


def _vector(arch: Architecture, family: str) -> Structures:
    """Itself; lanes; address bits of the records; small memories."""
    return (1, arch.array.cols, _bits(arch.vector.rows), *_small(arch, family, "vector"))


def _scratchpad(arch: Architecture, family: str) -> Structures:
    """Itself; banks; bits behind the banks, and of their addresses; bits of a row; small memories."""
    banks, row_bits = arch.scratchpad.banks, 8 * arch.bank_row_bytes
    address = _bits(arch.scratchpad.words)
    return (1, banks, 5 * banks * row_bits, banks * address, row_bits, *_small(arch, family, "scratchpad"))


def _load(arch: Architecture, family: str) -> Structures:
    """Itself, bits of a beat, bursts in flight."""
    return (1, 8 * arch.bus.bytes, arch.bus.outstanding)


def _store(arch: Architecture, family: str) -> Structures:
    """Itself, bits of a beat, beats in a row past one, bursts in flight."""
    return (1, 8 * arch.bus.bytes, arch.bank_row_bytes // arch.bus.bytes - 1, arch.bus.outstanding)


def _core(arch: Architecture, family: str) -> Structures:
    """The wiring between units: itself and the bits of a beat."""
    return (1, 8 * arch.bus.bytes)


def _parameters(arch: Architecture, family: str) -> Structures:
    """Its write lanes; small memories."""
    return (max(1, 8 * arch.word_bytes // arch.bus.bytes), *_small(arch, family, "parameters"))


def _program(arch: Architecture, family: str) -> Structures:
    """Its write lanes; small memories."""
    return (max(1, 64 // arch.bus.bytes), *_small(arch, family, "program"))


COMPONENTS: tuple[Component, ...] = (
    Component(name="core", structures=_core),
    Component(name="array", structures=_array),
    Component(name="pe", structures=_element, count=lambda arch: arch.array.rows * arch.array.cols),
    Component(name="vector", structures=_vector),
    Component(name="lane", structures=_lane, count=lambda arch: arch.array.cols),
    Component(name="scratchpad", structures=_scratchpad),
    Component(name="parameters", structures=_parameters),
    Component(name="program", structures=_program),
    Component(name="load", structures=_load),
    Component(name="store", structures=_store),
    Component(name="sequencer", structures=lambda arch, family: (1, _bits(arch.program_words + 1))),
    Component(name="semaphores", structures=_one),
    Component(name="registers", structures=_one),
    *(
        Component(name=f"{engine}_queue", structures=_queue)
        for engine in ("load", "store", "array", "vector")
    ),
)
