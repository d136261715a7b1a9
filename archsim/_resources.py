"""Resources of a machine in closed form: counts of structures, each times what one costs.

A machine is a sum of components, the units that ``rtl`` maps one by one. A component's look-up tables,
flip-flops and multipliers are a sum over its structures (``archsim._structures``), whose costs were
solved for that component alone from its mapped counts on a few calibration machines; the others are
held out (``docs/synthesis.md``, *The resource model*). Block RAM is counted from the shapes of the
memories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from archsim._architecture import Architecture
from archsim._block_ram import blocks, memories
from archsim._errors import ArchsimError
from archsim._resources_value import CELLS, Resources
from archsim._structures import Structures, components
from archsim._yaml_file import read_document

COUNTED = ("lut", "ff", "dsp", "bram")
"""Resources that are sums of costs; of blocks of RAM those that follow from no memory's shape."""

Costs = Mapping[str, Mapping[str, float]]
"""Structure -> resource -> what one takes."""


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

    Raises: ArchsimError for a family, or on it an array kind, whose costs are not known.
    """
    if family not in CELLS:
        raise ArchsimError(f"family must be one of {', '.join(CELLS)}, not {family!r}")
    costs, found = costs_of(family), {}
    if not costs:
        raise ArchsimError(f"family must be one whose costs are known, not {family!r}")
    for component in components(arch):
        if component.cost not in costs:
            kind = arch.array.kind
            raise ArchsimError(f"array.kind must be one whose costs are known on {family}, not {kind!r}")
        own = _priced(component.structures(arch, family), costs[component.cost])
        found[component.name] = own.times(component.copies)
    for name, count in shaped_blocks(arch, family=family).items():
        found[name] += Resources(bram=count)
    return ResourceEstimate(family=family, components=found)


def shaped_blocks(arch: Architecture, *, family: str) -> Mapping[str, int]:
    """Component -> blocks of RAM in all its units, from the shapes of its memories."""
    found: dict[str, int] = {}
    for memory in memories(arch):
        count = memory.copies * blocks(memory, family=family)
        found[memory.component] = found.get(memory.component, 0) + count
    return found


def _priced(structures: Structures, costs: Costs) -> Resources:
    amounts = {
        name: round(sum(count * costs[structure].get(name, 0) for structure, count in structures.items()))
        for name in COUNTED
    }
    return Resources(**amounts)


@cache
def costs_of(family: str) -> Mapping[str, Costs]:
    """Name of a component's costs -> the costs of its structures, from the library."""
    file = resources.files("archsim") / "library" / "resources" / f"{family}.yaml"
    if not file.is_file():
        return {}
    value = read_document(file.read_text("utf-8"), source=f"resources/{family}.yaml").value
    assert isinstance(value, dict), "the library's own file"
    return value
