"""A loop nest as Timeloop's YAML: problem, architecture and mapping in the spelling of version 0.4.

The formats are those of the example designs and tutorial exercises of the public repositories
NVlabs/timeloop and Accelergy-Project/timeloop-accelergy-exercises; ``docs/interchange.md`` says how each
part of a nest is written and what does not carry over.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

import yaml

from archsim._hierarchy import Hierarchy, Level, SpatialDimension
from archsim._nest import Holder, Nest, SpatialLoop, TemporalLoop, extents, tensors_of
from archsim._nest_cost import evaluate_nest
from mapper._errors import MapperError
from workloads import Access

VERSION = 0.4
_Plain = dict[str, Any]


@dataclass(slots=True)
class _Node:
    """A storage node or a container of the architecture, with the loops that the mapping gives it."""

    level: Level
    name: str
    kept: tuple[str, ...] = ()
    """Tensors that it holds; none in a container."""
    bits: int | None = None
    """Its size; None where the level has no limit, and in a container."""
    dimension: SpatialDimension | None = None
    """What a container spreads over."""
    mesh: str = ""
    """``meshX`` or ``meshY`` of a container."""
    trips: dict[str, int] = field(default_factory=dict)
    """Trips of each rank, the outermost loop first."""


@dataclass(frozen=True, slots=True)
class _Export:
    """A nest, its hierarchy, and the names that its parts have in the files."""

    nest: Nest
    hierarchy: Hierarchy
    dimensions: Mapping[str, str]
    spaces: Mapping[str, str]
    nodes: tuple[_Node, ...]

    @property
    def padded(self) -> dict[str, int]:
        """Each rank's size as the product of its factors."""
        return {
            rank: math.prod(node.trips.get(rank, 1) for node in self.nodes) for rank, _ in self.nest.sizes
        }


def export_timeloop(nest: Nest, hierarchy: Hierarchy) -> dict[str, str]:
    """The texts of ``problem.yaml``, ``architecture.yaml`` and ``mapping.yaml``, by file name.

    A rank whose last tile is smaller is padded to the product of its factors; the files say so. Raises
    ArchsimError where the nest is not legal on the hierarchy, MapperError where Timeloop has no form for
    its Einsum.
    """
    evaluate_nest(nest, hierarchy)
    tensors = tensors_of(nest.einsum)
    item = _Export(
        nest,
        hierarchy,
        _dimensions([rank for rank, _ in nest.sizes]),
        dict(zip(tensors, _words(tensors), strict=True)),
        _nodes(nest, hierarchy),
    )
    return {
        "problem.yaml": _text({"problem": _problem(item)}, _notes(item)),
        "architecture.yaml": _text({"architecture": _architecture(item)}, _energies(hierarchy)),
        "mapping.yaml": _text({"mapping": _mapping(item)}, _notes(item)),
    }


class _Tagged(dict[str, Any]):
    """A mapping with a tag such as ``!Component``."""

    def __init__(self, tag: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.tag = tag


class _Dumper(yaml.SafeDumper):
    """Writes tagged mappings, and no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        """Nothing is shared."""
        return True


_Dumper.add_representer(_Tagged, lambda dumper, value: dumper.represent_mapping(value.tag, dict(value)))


def _text(value: _Plain, notes: Iterable[str]) -> str:
    head = "".join(f"# {line}\n" for line in notes)
    return head + yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)


def _dimensions(ranks: Sequence[str]) -> dict[str, str]:
    """A capital letter for each rank: its own where it is one letter, else the first that is free."""
    names = {rank: rank.upper() for rank in ranks if len(rank) == 1 and rank.isalpha()}
    if len(set(names.values())) != len(names):
        names = {}
    free = iter([letter for letter in string.ascii_uppercase if letter not in names.values()])
    if len(ranks) > len(string.ascii_uppercase):
        raise MapperError(f"an Einsum for Timeloop must have at most 26 ranks, not {len(ranks)}")
    return {rank: names.get(rank) or next(free) for rank in ranks}


def _words(names: Iterable[str]) -> list[str]:
    """Each name as one word of letters, digits and underscores, all different."""
    words: list[str] = []
    for name in names:
        word = re.sub(r"\W", "_", name)
        while word in words:
            word += "_"
        words.append(word)
    return words


def _notes(item: _Export) -> Iterator[str]:
    """What the reader of a file should know: the Einsum, names that changed, padding."""
    yield str(item.nest.einsum)
    for rank, name in item.dimensions.items():
        if name != rank.upper():
            yield f"{name} is {rank}"
    for rank, size in item.nest.sizes:
        if item.padded[rank] != size:
            yield f"{item.dimensions[rank]} is {size}, padded to its factors' product {item.padded[rank]}"


def _energies(hierarchy: Hierarchy) -> Iterator[str]:
    yield "Energies are Accelergy's to estimate. Those of the hierarchy, for its own tables:"
    for level in hierarchy.levels:
        yield f"{level.name}: {level.read_pj_per_bit:g} pJ a bit read, {level.write_pj_per_bit:g} written"
    yield f"one multiply-accumulate: {hierarchy.mac_pj:g} pJ"


def _problem(item: _Export) -> _Plain:
    tensors = tensors_of(item.nest.einsum)
    spaces = []
    for tensor, (access, kind) in tensors.items():
        space: _Plain = {"name": item.spaces[tensor], "projection": _projection(access, item.dimensions)}
        spaces.append(space | ({"read_write": True} if kind == "output" else {}))
    factors = sorted(
        {
            factor
            for access, _ in tensors.values()
            for index in access.indices
            for _, factor in index.terms
            if factor != 1
        }
    )
    shape: _Plain = {
        "name": "archsim",
        "dimensions": list(item.dimensions.values()),
        "coefficients": [{"name": _times(factor), "default": factor} for factor in factors],
        "data_spaces": spaces,
    }
    sizes = {item.dimensions[rank]: size for rank, size in item.padded.items()}
    return {
        "version": VERSION,
        "shape": shape,
        "instance": sizes | {_times(factor): factor for factor in factors},
    }


def _times(factor: int) -> str:
    return f"times{factor}"


def _projection(access: Access, dimensions: Mapping[str, str]) -> list[list[list[str]]]:
    """Sums of products: each dimension of the tensor a list of ``[D]`` or ``[D, coefficient]``."""
    if any(factor < 0 for index in access.indices for _, factor in index.terms):
        raise MapperError(f"an access for Timeloop must have positive coefficients, not {access}")
    indexed = [index for index in access.indices if index.terms]
    if not indexed:
        raise MapperError(f"a tensor for Timeloop must have a dimension with a rank, not {access}")
    return [
        [[dimensions[rank], *([_times(factor)] if factor != 1 else [])] for rank, factor in index.terms]
        for index in indexed
    ]


def _nodes(nest: Nest, hierarchy: Hierarchy) -> tuple[_Node, ...]:
    """Containers and storage nodes from the outermost, with the factors of their loops.

    Before: DRAM holds A, B, Z / for m in 2 / spatial Y: n in 4 / RF holds B / for k in 8 / RF holds A
    After:  DRAM {m: 2} / RF_Y {n: 4} / RF_1 keeps B {k: 8} / RF_2 keeps A {}
    """
    places = _places(nest, hierarchy)
    nodes: list[_Node] = []
    for level in hierarchy.levels:
        nodes += _containers(level)
        nodes += _storage(level, places[level.name])
    for node, name in zip(nodes, _words(node.name for node in nodes), strict=True):
        node.name = name
    _give_loops(nodes, nest)
    return tuple(nodes)


@dataclass(frozen=True, slots=True)
class _Place:
    """Tensors that a level holds from one point of the nest, and their bits."""

    tensors: tuple[str, ...] = ()
    bits: int = 0


def _places(nest: Nest, hierarchy: Hierarchy) -> dict[str, list[_Place]]:
    """Each level's places from the outermost."""
    tensors, shapes, tiles = tensors_of(nest.einsum), dict(nest.shapes), dict(nest.sizes)
    places: dict[str, list[_Place]] = {level.name: [] for level in hierarchy.levels}
    level = ""
    for node in nest.nodes:
        if not isinstance(node, Holder):
            tiles[node.rank], level = node.tile, ""
            continue
        access, kind = tensors[node.tensor]
        bits = math.prod(extents(access, tiles, shapes.get(node.tensor))) * hierarchy.bits(kind)
        known = places[node.level]
        before = known.pop() if node.level == level else _Place()
        known.append(_Place((*before.tensors, node.tensor), before.bits + bits))
        level = node.level
    return places


def _containers(level: Level) -> list[_Node]:
    """One for each spatial dimension, along the mesh's two directions by turns."""
    return [
        _Node(level, f"{level.name}_{dimension.name}", dimension=dimension, mesh=f"mesh{'XY'[number % 2]}")
        for number, dimension in enumerate(level.spatial)
    ]


def _storage(level: Level, places: Sequence[_Place]) -> list[_Node]:
    """One node for each place, of the place's size; otherwise one of the level's."""
    if len(places) < 2:
        return [_Node(level, level.name, places[0].tensors if places else (), level.size_bits)]
    limited = level.size_bits is not None
    return [
        _Node(level, f"{level.name}_{number}", place.tensors, place.bits if limited else None)
        for number, place in enumerate(places, 1)
    ]


def _give_loops(nodes: Sequence[_Node], nest: Nest) -> None:
    """Give each loop to its container, or to the storage node just outside of it."""
    tiles = dict(nest.sizes)
    containers = {node.dimension.name: node for node in nodes if node.dimension}
    keepers = {(node.level.name, tensor): node for node in nodes for tensor in node.kept}
    current = nodes[0]
    for loop in nest.nodes:
        match loop:
            case Holder():
                current = keepers[loop.level, loop.tensor]
            case TemporalLoop() | SpatialLoop():
                node = containers[loop.dimension] if isinstance(loop, SpatialLoop) else current
                trips = -(-tiles[loop.rank] // loop.tile)
                node.trips[loop.rank] = node.trips.get(loop.rank, 1) * trips
                tiles[loop.rank] = loop.tile
            case _:
                assert_never(loop)


def _architecture(item: _Export) -> _Plain:
    seconds = float(f"{1e-6 / item.hierarchy.clock_mhz:.6g}")
    system = {"name": "system", "attributes": {"technology": "45nm", "global_cycle_seconds": seconds}}
    datawidth = max(item.hierarchy.bits(kind) for _, kind in tensors_of(item.nest.einsum).values())
    mac = {"name": "MAC", "class": "intmac", "attributes": {"datawidth": datawidth}}
    nodes = [_Tagged("!Container", system)]
    nodes += [_architecture_node(item, node, datawidth) for node in item.nodes]
    return {"version": VERSION, "nodes": [*nodes, _Tagged("!Component", mac)]}


def _architecture_node(item: _Export, node: _Node, datawidth: int) -> _Tagged:
    if node.dimension:
        return _Tagged("!Container", {"name": node.name, "spatial": {node.mesh: node.dimension.size}})
    levels = item.hierarchy.levels
    kind = "DRAM" if node.level is levels[0] else "regfile" if node.level is levels[-1] else "SRAM"
    attributes: _Plain = {"width": datawidth, "datawidth": datawidth}
    if node.bits is not None:
        attributes["depth"] = -(-node.bits // datawidth)
    if node.level.bandwidth_bits_per_cycle is not None:
        attributes["rw_bandwidth"] = node.level.bandwidth_bits_per_cycle
    return _Tagged("!Component", {"name": node.name, "class": kind, "attributes": attributes})


def _mapping(item: _Export) -> list[_Plain]:
    directives: list[_Plain] = []
    for node in item.nodes:
        if node.dimension:
            split = len(item.dimensions) if node.mesh == "meshX" else 0
            directives.append(_loops(item, node, "spatial") | {"split": split})
            continue
        keep = [word for tensor, word in item.spaces.items() if tensor in node.kept]
        bypass = [word for tensor, word in item.spaces.items() if tensor not in node.kept]
        directives.append({"target": node.name, "type": "dataspace", "keep": keep, "bypass": bypass})
        directives.append(_loops(item, node, "temporal"))
    return directives


def _loops(item: _Export, node: _Node, kind: str) -> _Plain:
    """One loop for each dimension; the permutation is from the innermost loop outwards."""
    inwards = [*(rank for rank in item.dimensions if rank not in node.trips), *node.trips]
    return {
        "target": node.name,
        "type": kind,
        "factors": [f"{name}={node.trips.get(rank, 1)}" for rank, name in item.dimensions.items()],
        "permutation": [item.dimensions[rank] for rank in reversed(inwards)],
    }
