"""Timeloop's files: what is exported is read again by a small reader that walks the loops by itself."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from archsim._hierarchy import Hierarchy, Level, SpatialDimension
from archsim._nest import Nest, parse_nest
from archsim._nest_cost import evaluate_nest
from mapper._errors import MapperError
from mapper._exact import Metric, exact_search
from mapper._timeloop import export_timeloop
from workloads import parse
from workloads._timeloop_file import parse_timeloop_problem

GEMM = "cascade g\nranks m=8, n=6, k=4\n\nZ[m, n] = A[m, k] * B[k, n]\n"
CONV = "cascade c\nranks p=4, o=6, r=3, c=2\n\nO[p, o] = I[c, 2*p + r] * W[o, c, r]\n"


def machine(glb: int = 400, rf: int = 64) -> Hierarchy:
    sides = (SpatialDimension(name="Y", size=2), SpatialDimension(name="X", size=3))
    return Hierarchy(
        name="small",
        clock_mhz=500.0,
        mac_pj=0.5,
        levels=(
            Level(name="DRAM", read_pj_per_bit=8.0, write_pj_per_bit=8.0, bandwidth_bits_per_cycle=64.0),
            Level(name="GLB", read_pj_per_bit=0.5, write_pj_per_bit=0.5, size_bits=glb),
            Level(name="RF", read_pj_per_bit=0.05, write_pj_per_bit=0.05, size_bits=rf, spatial=sides),
        ),
    )


class Loader(yaml.SafeLoader):
    """Reads ``!Component`` and ``!Container`` as mappings with their tag."""


def _tagged(loader: Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    assert isinstance(node, yaml.MappingNode)
    values = loader.construct_mapping(node, deep=True)
    return {"tag": suffix} | {str(key): value for key, value in values.items()}


Loader.add_multi_constructor("!", _tagged)


@dataclass
class Loop:
    dimension: str
    trips: int
    spatial: bool
    step: int = 0


@dataclass
class Store:
    name: str
    keep: list[str]
    depth: int | None
    above: list[Loop] = field(default_factory=list)
    """Every loop outside of it."""


@dataclass
class Walk:
    """What the three files say, and the accesses that walking the loops counts."""

    sizes: dict[str, int]
    spaces: dict[str, tuple[list[list[tuple[str, int]]], bool]]
    stores: list[Store]
    reads: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        for space, (projection, written) in self.spaces.items():
            chain = [store for store in self.stores if space in store.keep]
            for parent, child in itertools.pairwise(chain):
                self._pair(projection, parent, child, written=written)

    def _pair(
        self, projection: list[list[tuple[str, int]]], parent: Store, child: Store, *, written: bool
    ) -> None:
        times = [loop for loop in child.above if not loop.spatial]
        places = [loop for loop in child.above if loop.spatial]
        outside = len([loop for loop in parent.above if loop.spatial])
        used = {dimension for index in projection for dimension, _ in index}
        seen: set[tuple[Any, ...]] = set()
        for when in itertools.product(*(range(loop.trips) for loop in times)):
            served: set[tuple[Any, ...]] = set()
            for where in itertools.product(*(range(loop.trips) for loop in places)):
                tile = self._tile([*zip(times, when, strict=True), *zip(places, where, strict=True)], used)
                count = self._touched(projection, tile, child)
                first = (where, tile) not in seen
                seen.add((where, tile))
                group = (where[:outside], tile)
                self._visit(parent, child, count, (written, first, group in served))
                served.add(group)

    def _visit(self, parent: Store, child: Store, count: int, facts: tuple[bool, bool, bool]) -> None:
        written, first, served = facts
        if not written:
            self.writes[child.name] += count
            self.reads[parent.name] += 0 if served else count
            return
        self.reads[child.name] += count
        self.writes[parent.name] += 0 if served else count
        if not first:
            self.writes[child.name] += count
            self.reads[parent.name] += 0 if served else count

    def _tile(self, trips: list[tuple[Loop, int]], used: set[str]) -> tuple[tuple[str, int], ...]:
        start = dict.fromkeys(sorted(used), 0)
        for loop, number in trips:
            if loop.dimension in used:
                start[loop.dimension] += number * loop.step
        return tuple(start.items())

    def _touched(
        self, projection: list[list[tuple[str, int]]], tile: tuple[tuple[str, int], ...], child: Store
    ) -> int:
        """Different elements of the tile, found one by one."""
        inside = {d: self.sizes[d] for d in self.sizes}
        for loop in child.above:
            inside[loop.dimension] //= loop.trips
        points = itertools.product(*(range(start, start + inside[d]) for d, start in tile))
        names = [d for d, _ in tile]
        elements = set()
        for point in points:
            value = dict(zip(names, point, strict=True))
            elements.add(tuple(sum(factor * value[d] for d, factor in index) for index in projection))
        return len(elements)


def read(files: Mapping[str, str]) -> Walk:
    """The files as loops and stores, innermost pseudo-store last."""
    problem = yaml.load(files["problem.yaml"], Loader)["problem"]
    nodes = yaml.load(files["architecture.yaml"], Loader)["architecture"]["nodes"]
    directives = yaml.load(files["mapping.yaml"], Loader)["mapping"]
    factors = {entry["name"]: entry["default"] for entry in problem["shape"]["coefficients"]}
    sizes = {d: problem["instance"][d] for d in problem["shape"]["dimensions"]}
    spaces = {
        space["name"]: (
            [
                [(term[0], factors[term[1]] if len(term) > 1 else 1) for term in i]
                for i in space["projection"]
            ],
            space.get("read_write", False),
        )
        for space in problem["shape"]["data_spaces"]
    }
    by_target = {(entry["target"], entry["type"]): entry for entry in directives}
    above: list[Loop] = []
    stores = []
    left = dict(sizes)
    for node in nodes[1:-1]:
        kind = "spatial" if node["tag"] == "Container" else "temporal"
        if kind == "temporal":
            keep = by_target[node["name"], "dataspace"]["keep"]
            stores.append(Store(node["name"], keep, node["attributes"].get("depth"), list(above)))
        entry = by_target[node["name"], kind]
        trips = {text.split("=")[0]: int(text.split("=")[1]) for text in entry["factors"]}
        if kind == "spatial":
            assert math.prod(trips.values()) <= math.prod(node["spatial"].values())
        assert sorted(entry["permutation"]) == sorted(sizes)
        for dimension in reversed(entry["permutation"]):
            left[dimension] //= trips[dimension]
            above.append(Loop(dimension, trips[dimension], kind == "spatial", left[dimension]))
    assert set(left.values()) == {1}
    return Walk(sizes, spaces, [*stores, Store("MAC", list(spaces), None, above)])


def compare(nest: Nest, hierarchy: Hierarchy) -> None:
    walk = read(export_timeloop(nest, hierarchy))
    walk.run()
    cost = evaluate_nest(nest, hierarchy)
    bits = hierarchy.input_bits
    for level in cost.levels:
        parts = [s.name for s in walk.stores if s.name == level.level or s.name.startswith(f"{level.level}_")]
        assert sum(walk.reads[name] for name in parts) * bits == level.read_bits, level.level
        assert sum(walk.writes[name] for name in parts) * bits == level.write_bits, level.level


@pytest.mark.parametrize("text", [GEMM, CONV])
@pytest.mark.parametrize("objective", ["edp", "traffic", "energy", "buffer"])
@pytest.mark.parametrize("glb", [200, 2000])
def test_what_is_exported_moves_what_the_nest_moves(text: str, objective: Metric, glb: int) -> None:
    cascade, hierarchy = parse(text), machine(glb)
    found = exact_search(cascade.einsums[0], cascade.ranks, hierarchy, objective, factors="perfect")
    compare(found.points[0].nest, hierarchy)


def small() -> Nest:
    cascade = parse(GEMM)
    return Nest(cascade.einsums[0], tuple(cascade.ranks.items()), (), ())


UNEVEN = """
DRAM holds A[8, 4], B[4, 6], Z[8, 6]
for m in 2 (tiles of 4)
  GLB holds A[4, 4]
  for n in 2 (tiles of 3)
    GLB holds Z[4, 3]
    for k in 2 (tiles of 2)
      spatial Y: k in 2
      spatial X: n in 3
      for m in 4
        RF holds A[1, 1]
        compute
"""


def test_holders_of_one_level_at_two_places_are_two_nodes() -> None:
    nest = parse_nest(UNEVEN, small())
    compare(nest, machine())
    stores = {store.name: store for store in read(export_timeloop(nest, machine())).stores}
    assert stores["GLB_1"].keep == ["A"]
    assert stores["GLB_1"].depth == 16
    assert stores["GLB_2"].keep == ["Z"]
    assert stores["GLB_2"].depth == 12
    assert stores["RF"].depth == 8


def test_the_files_of_a_nest_are_these() -> None:
    mapping = yaml.load(export_timeloop(parse_nest(UNEVEN, small()), machine())["mapping.yaml"], Loader)
    assert mapping["mapping"][2:4] == [
        {"target": "GLB_1", "type": "dataspace", "keep": ["A"], "bypass": ["B", "Z"]},
        {
            "target": "GLB_1",
            "type": "temporal",
            "factors": ["M=1", "N=2", "K=1"],
            "permutation": ["N", "K", "M"],
        },
    ]
    assert mapping["mapping"][6] == {
        "target": "RF_Y", "type": "spatial", "factors": ["M=1", "N=1", "K=2"],
        "permutation": ["K", "N", "M"], "split": 3,
    }  # fmt: skip


def test_a_ragged_rank_is_padded_and_the_files_say_so() -> None:
    cascade = parse(GEMM.replace("m=8", "m=7"))
    nest = Nest(cascade.einsums[0], tuple(cascade.ranks.items()), (), ())
    loops = "for m in 2 (tiles of 4)\nfor m in 4\nfor n in 6\nfor k in 4\ncompute"
    text = f"DRAM holds A[7, 4], B[4, 6], Z[7, 6]\n{loops}"
    files = export_timeloop(parse_nest(text, nest), machine())
    assert yaml.load(files["problem.yaml"], Loader)["problem"]["instance"]["M"] == 8
    assert "# M is 7, padded to its factors' product 8\n" in files["mapping.yaml"]


def test_the_exported_problem_is_read_back() -> None:
    cascade = parse(CONV)
    found = exact_search(cascade.einsums[0], cascade.ranks, machine(), "traffic", factors="perfect")
    files = export_timeloop(found.points[0].nest, machine())
    again = parse_timeloop_problem(files["problem.yaml"])
    assert str(again.einsums[0]) == "O[P, O] = I[C, 2*P + R] * W[O, C, R]"
    assert dict(again.ranks) == {"P": 4, "O": 6, "C": 2, "R": 3}


def test_exporting_twice_gives_the_same_bytes() -> None:
    nest = parse_nest(UNEVEN, small())
    assert export_timeloop(nest, machine()) == export_timeloop(nest, machine())


def test_a_negative_coefficient_has_no_form() -> None:
    cascade = parse("cascade c\nranks p=2, r=2\n\nO[p] = I[p - r + 1] * W[r]\n")
    nest = Nest(cascade.einsums[0], (("p", 2), ("r", 2)), (), ())
    nest = parse_nest("DRAM holds I[3], W[2], O[2]\nfor p in 2\nfor r in 2\ncompute", nest)
    message = r"an access for Timeloop must have positive coefficients, not I\[p - r \+ 1\]"
    with pytest.raises(MapperError, match=message):
        export_timeloop(nest, machine())
