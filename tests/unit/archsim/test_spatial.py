from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from dataclasses import replace

import pytest

from archsim._errors import ArchsimError
from archsim._estimate_value import from_json
from archsim._spatial import Cores, Spatial
from archsim._spatial_bind import _trips, bind, operators_of
from archsim._spatial_estimate import Schedule, estimate_spatial, memory_cycles
from archsim._spatial_file import load_spatial, parse_spatial, spatial_names, spatial_schema
from archsim._spatial_traffic import apart, block_rows, blocked, by_rows, crossings, groups, stationary
from archsim.cli import main
from workloads import Cascade, parse, passes
from workloads._attention import deferred, one_pass, three_pass

SMALL = """\
kind: spatial
name: small
source: made up
clock_mhz: 100
word_bits: 16
array: {rows: 2, cols: 3, operators: [mac, add, max, exp]}
vector: {lanes: 3, operators: [mac, add, max, divide, exp]}
operators:
  mac: {cycles: 1, pj: 2.0}
  add: {cycles: 1, pj: 1.0}
  max: {cycles: 1, pj: 0.5}
  divide: {cycles: 4, pj: 8.0}
  exp: {macs: 6}
buffer: {bytes: 65536, read_pj_per_word: 10, write_pj_per_word: 20}
dram: {bytes_per_second: 400000000, pj_per_bit: 5}
"""
FUSEMAX, FLAT, FLAT_ONE_PASS = (load_spatial(name) for name in ("fusemax", "flat", "flat-one-pass"))


def message(text: str) -> str:
    with pytest.raises(ArchsimError) as caught:
        parse_spatial(text, source="a.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("found", "replaced", "expected"),
    [
        ("kind: spatial", "kind: dense", "a.yaml:1: kind must be 'spatial', not 'dense'"),
        ("rows: 2", "rows: 0", "a.yaml:6: array.rows must be at least 1, not 0"),
        ("rows: 2", "row: 2", "a.yaml:6: array.rows must be given"),
        ("word_bits: 16", "word_bits: 12", "a.yaml:5: word_bits must be 8, 16, 32 or 64, not 12"),
        ("clock_mhz: 100", "clock_mhz: 0", "a.yaml:4: clock_mhz must be more than 0, not 0"),
        ("  max: {cycles: 1, pj: 0.5}\n", "", "a.yaml:8: operators.max must be given"),
        ("{macs: 6}", "{macs: 6, pj: 1}", "a.yaml:13: operators.exp must have either cycles and pj, or macs"),
        ("{cycles: 1, pj: 2.0}", "{macs: 2}", "a.yaml:9: operators.mac must have cycles and pj"),
        (
            "divide: {cycles: 4",
            "divide: {cycles: 0",
            "a.yaml:12: operators.divide.cycles must be at least 1, not 0",
        ),
        ("pj_per_bit: 5", "pj_per_bit: -1", "a.yaml:15: dram.pj_per_bit must be at least 0, not -1"),
        (
            "pj_per_bit: 5}",
            "pj_per_bit: 5}\nassumptions: {leak: 1}",
            "a.yaml:16: assumptions.leak must be one of",
        ),
        ("source: made up\n", "", "a.yaml:1: source must be given"),
    ],
)
def test_a_mistake_is_named_with_its_line(found: str, replaced: str, expected: str) -> None:
    assert found in SMALL
    assert expected in message(SMALL.replace(found, replaced))


def test_library_machines_are_read_and_unknown_ones_refused() -> None:
    assert spatial_names() == (
        "decode-108",
        "decode-256",
        "flat",
        "flat-one-pass",
        "fusemax",
        "fusemax-charged",
    )
    for name in spatial_names():
        assert load_spatial(name).name == name
    with pytest.raises(ArchsimError, match="did you mean 'fusemax'"):
        load_spatial("fusemx")


def test_schema_requires_what_the_file_must_say() -> None:
    assert set(spatial_schema()["required"]) == {
        "kind", "name", "source", "clock_mhz", "word_bits", "array", "vector", "operators", "buffer", "dram",
    }  # fmt: skip


def test_exponential_of_macs_costs_its_macs() -> None:
    machine = parse_spatial(SMALL)
    assert (machine.operators["exp"].cycles, machine.operators["exp"].pj) == (6, 12.0)
    assert machine.cycles({"add": 1, "exp": 1}) == 7
    assert FLAT_ONE_PASS.cycles({"add": 1, "exp": 1}) == 2
    assert FLAT.cycles({"add": 1, "exp": 1}) == 1
    assert FLAT.cycles({"add": 1}) == 1


def test_area_is_that_of_elements_lanes_and_buffer() -> None:
    with pytest.raises(ArchsimError, match="area of small must be given"):
        _ = parse_spatial(SMALL).area_um2
    machine = parse_spatial(SMALL + "area: {element_um2: 10, lane_um2: 100, buffer_um2_per_byte: 0.5}\n")
    assert machine.area_um2 == 6 * 10 + 3 * 100 + 65536 * 0.5


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("Z[m, p] = A[e, p] * B[e, m]", {"mac": 1}),
        ("Z[m] = A[m] * B[m]", {"mac": 1}),
        ("Z[p] = A[m, p]", {"add": 1}),
        ("Z[p] = max[m] A[m, p]", {"max": 1}),
        ("Z[p] = max(A[p], B[p])", {"max": 1}),
        ("Z[p] = exp(A[p] - B[p])", {"add": 1, "exp": 1}),
        ("Z[p] = A[p] / B[p]", {"divide": 1}),
        ("Z[p] = A[p] + B[p] + C[p]", {"add": 2}),
    ],
)
def test_operations_of_a_point(statement: str, expected: dict[str, int]) -> None:
    (einsum,) = parse(f"cascade c\nranks m=2, p=2, e=2\n\n{statement}").einsums
    assert operators_of(einsum) == expected


def test_an_operator_without_a_price_is_refused() -> None:
    (einsum,) = parse("cascade c\nranks m=2\n\nZ[m] = gelu(A[m])").einsums
    with pytest.raises(
        ArchsimError, match="an operator must be one of mac, add, max, divide, exp, not 'gelu'"
    ):
        operators_of(einsum)
    lacking = replace(FUSEMAX, lane_operators=frozenset({"mac", "add", "max", "exp"}))
    with pytest.raises(ArchsimError, match=r"vector\.operators must have divide for AV"):
        bind(one_pass(p=256, m1=2, m0=256, e=64, f=64), lacking)


def test_fusemax_keeps_what_spans_a_tile_on_the_array() -> None:
    cascade = one_pass(p=256, m1=2, m0=256, e=64, f=64)
    on_array = {work.tensor for work in bind(cascade, FUSEMAX).works if work.unit == "array"}
    assert on_array == {"QK", "LM", "SLN", "SLD", "SLNV"}
    on_flat = {work.tensor for work in bind(cascade, FLAT_ONE_PASS).works if work.unit == "array"}
    assert on_flat == {"QK", "SLNV"}


def test_cascade_without_two_ranks_to_spread_is_refused() -> None:
    with pytest.raises(ArchsimError, match=r"the first product of c must have two ranks .* not 1"):
        bind(parse("cascade c\nranks m=2, k=2\n\nZ[m] = A[m, k] * B[k]"), FUSEMAX)


def busiest(cascade: Cascade, machine: Spatial) -> dict[str, int]:
    """Cycles of the busiest element and lane, point by point: an Einsum ends before the next one begins."""
    total: Counter[str] = Counter()
    for work in bind(cascade, machine).works:
        load: Counter[tuple[int, ...]] = Counter()
        names = work.einsum.ranks
        for point in itertools.product(*(range(cascade.ranks[name]) for name in names)):
            at = dict(zip(names, point, strict=True))
            where: tuple[int, ...] = (at["p"] % machine.lanes,)
            if work.unit == "array":
                keys = at["m0"] if "m0" in at else at["m"]
                where = (keys % machine.rows, at["p"] % machine.cols)
            load[where] += sum(machine.operators[name].cycles * n for name, n in work.operators.items())
        total[work.unit] += max(load.values())
    return total


@pytest.mark.parametrize(
    "cascade",
    [
        one_pass(p=5, m1=2, m0=3, e=2, f=2),
        one_pass(p=3, m1=3, m0=2, e=3, f=1),
        three_pass(p=4, m=5, e=2, f=3),
        deferred(p=2, m=3, e=1, f=2),
    ],
    ids=str,
)
def test_cycles_are_those_of_the_busiest_element_and_lane(cascade: Cascade) -> None:
    machine = parse_spatial(SMALL)
    bound, expected = bind(cascade, machine), busiest(cascade, machine)
    assert {unit: bound.cycles(unit) for unit in expected} == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cascade", "rank"),
    [
        (three_pass(p=512, m=768, e=64, f=32), "m"),
        (deferred(p=512, m=768, e=64, f=32), "m"),
        (one_pass(p=512, m1=7, m0=64, e=64, f=32), "m0"),
        (one_pass(p=512, m1=7, m0=64, e=64, f=32), "m1"),
    ],
)
def test_trips_do_not_turn_on_sizes(cascade: Cascade, rank: str) -> None:
    found = passes(cascade, rank).trips
    assert _trips(cascade, rank) == {e: n for n, trip in enumerate(found, 1) for e in trip}


@pytest.mark.parametrize("features", [64, 128])
@pytest.mark.parametrize("length", [1 << 10, 1 << 16, 1 << 20])
def test_a_block_is_the_largest_divisor_that_fits(features: int, length: int) -> None:
    cascade = one_pass(p=length, m1=length // 256, m0=256, e=features, f=features)
    words = (16 << 20) // 2 - 2 * 256 * features
    row = 2 * features + 2
    fitting = [n for n in range(256, length + 1, 256) if length % n == 0 and n * row <= words]
    assert block_rows(bind(cascade, FUSEMAX)) == max(fitting)


def test_scores_that_leave_an_array_take_room_in_a_block() -> None:
    bound = bind(one_pass(p=1 << 16, m1=256, m0=256, e=64, f=64), FLAT_ONE_PASS)
    assert {c.tensor: len(c.stages) for c in crossings(bound)} == {"QK": 1, "SLN": 1}
    words = (16 << 20) // 2 - 2 * 256 * 64
    assert block_rows(bound) == 1 << int(math.log2(words / (2 * 64 + 2 + 2 * 256)))


def test_a_buffer_without_room_for_a_tile_is_refused() -> None:
    tiny = replace(FUSEMAX, buffer=replace(FUSEMAX.buffer, bytes=1 << 16))
    with pytest.raises(
        ArchsimError, match=r"buffer\.bytes must hold 256 query rows of 130 words and 32768 words"
    ):
        estimate_spatial(one_pass(p=1024, m1=4, m0=256, e=64, f=64), tiny)


def test_traffic_of_a_block_by_hand() -> None:
    cascade = one_pass(p=6, m1=3, m0=2, e=4, f=5)
    moved = blocked(bind(cascade, parse_spatial(SMALL)))
    assert moved.dram == {("read", "Q"): 24, ("read", "K"): 24, ("read", "V"): 30, ("write", "AV"): 30}
    # Q for each of 3 tiles; K and V for each of 2 waves of 3 queries; running results as well at the end.
    reads = {"Q": 72, "K": 48, "V": 60, "RM": 18, "RD": 18 + 6, "RNV": 90 + 30}
    writes = {"Q": 24, "K": 24, "V": 30, "RM": 18, "RD": 18, "RNV": 90}
    # A row of 2 elements keeps a tile of 2 keys in place.
    assert {t: n for (way, t), n in moved.buffer.items() if way == "read"} == reads
    assert {t: n for (way, t), n in moved.buffer.items() if way == "write"} == writes


def test_whole_rows_spill_where_a_tile_does_not_fit() -> None:
    length, features = 1 << 18, 64
    moved = by_rows(bind(three_pass(p=length, m=length, e=features, f=features), FLAT))
    assert moved.dram["write", "QK"] == moved.dram["read", "QK"] == length**2
    assert moved.dram["write", "A"] == moved.dram["read", "A"] == length**2
    assert moved.dram_words == 4 * length**2 + length * 2 * features * (1 + length // 1024)
    short = by_rows(bind(three_pass(p=1024, m=1024, e=features, f=features), FLAT))
    assert short.dram_words == 4 * 1024 * features


def test_groups_follow_the_arrays() -> None:
    bound = bind(three_pass(p=1024, m=1024, e=64, f=64), FLAT)
    assert [[work.tensor for work in group] for group in groups(bound)] == [
        ["QK"],
        ["GM", "SN", "SD", "A"],
        ["AV"],
    ]
    words = [moved.dram_words for moved in apart(bound)]
    assert words == [1024**2 + 2 * 65536, 2 * 1024**2, 1024**2 + 2 * 65536]


def test_a_group_on_one_array_still_keeps_its_scores_somewhere() -> None:
    machine = replace(FUSEMAX, buffer=replace(FUSEMAX.buffer, bytes=1 << 20))
    (group, _) = apart(bind(deferred(p=1 << 12, m=1 << 12, e=64, f=64), machine))
    assert group.dram["write", "QK"] == group.dram["read", "QK"] == 1 << 24


def test_stationary_counts_by_enumeration() -> None:
    machine = parse_spatial(SMALL)
    x, y, k = 5, 7, 3
    ways = stationary(x, y, k, machine)
    rows, cols = machine.rows, machine.cols
    z_tiles = list(itertools.product(range(0, x, rows), range(0, y, cols)))
    assert ways[0][0] == len({b for _, b in z_tiles})
    assert ways[0][1] == len({a for a, _ in z_tiles})
    sums = len(range(0, k, rows)) - 1
    assert ways[1] == (1, len(range(0, x, cols)), sums)
    assert ways[2] == (len(range(0, y, cols)), 1, sums)


def test_memory_time_is_bytes_over_bandwidth() -> None:
    assert memory_cycles(8, parse_spatial(SMALL)) == 4


@pytest.mark.parametrize("schedule", ["pipelined", "tile"])
def test_slow_memory_bounds_both_overlaps(schedule: Schedule) -> None:
    slow = replace(FUSEMAX, dram=replace(FUSEMAX.dram, bytes_per_second=940_000))
    found = estimate_spatial(one_pass(p=1024, m1=4, m0=256, e=64, f=64), slow, schedule=schedule)
    assert found.cycles == 4 * 1024 * 64 * 2 * 1000


def test_energy_is_counts_times_prices() -> None:
    machine = parse_spatial(SMALL)
    found = estimate_spatial(parse("cascade c\nranks n=4, t=6, d=8\n\nY[n, t] = W[d, n] * X[d, t]"), machine)
    assert found.macs == 4 * 6 * 8
    assert found.energy_pj["array"] == 4 * 6 * 8 * 2.0
    assert found.energy_pj["dram"] == (32 + 48 + 24) * 16 * 5
    assert found.bytes["dram"] == (32 + 48 + 24) * 2
    assert from_json(found.to_json()) == found


def test_charged_assumptions_add_their_own_energy_and_cycles() -> None:
    cascade = one_pass(p=1024, m1=4, m0=256, e=64, f=64)
    plain, charged = (
        estimate_spatial(cascade, FUSEMAX),
        estimate_spatial(cascade, load_spatial("fusemax-charged")),
    )
    operations = sum(n for (unit, _, _), n in plain.actions.items() if unit in ("array", "vector"))
    assert charged.actions == plain.actions
    assert charged.cycles == plain.cycles + 512
    assert charged.energy_pj["registers"] == pytest.approx(operations * (2 * 0.653431 + 0.56957))
    leak = 65792 * (0.180192 + 0.084574 + 0.000431)
    assert charged.energy_pj["leakage"] == pytest.approx(leak * charged.cycles, rel=1e-5)


def test_no_head_is_refused() -> None:
    with pytest.raises(ArchsimError, match="times must be at least 1, not 0"):
        estimate_spatial(one_pass(p=256, m1=1, m0=256, e=64, f=64), FUSEMAX, times=0)


def test_command_line_lists_shows_and_describes_spatial_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "spatial"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in spatial_names())
    (row,) = (line.split() for line in listed.splitlines() if "decode-108" in line)
    assert row == ["decode-108", "108", "16x16", "16", "940", "MHz", "192", "KiB", "2039", "GB/s"]
    assert main(["show", "fusemax"]) == 0
    assert parse_spatial(capsys.readouterr().out) == FUSEMAX
    assert main(["schema", "spatial"]) == 0
    assert json.loads(capsys.readouterr().out) == spatial_schema()


def test_cores_of_a_file_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    text = SMALL + "cores: {count: 4, latency_cycles: 7}\n"
    assert parse_spatial(text).cores == Cores(count=4, latency_cycles=7)
    assert message(text.replace("count: 4", "count: 0")) == "a.yaml:16: cores.count must be at least 1, not 0"
    assert main(["estimate", "gemm:8x8x8", "--arch", "fusemax"]) == 2
    assert "spatial machines are for archsim reproduce" in capsys.readouterr().err
