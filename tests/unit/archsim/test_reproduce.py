from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType

import pytest

import archsim._fusemax
import archsim.cli._reproduce_best
import archsim.cli._reproduce_page
import mapper._attention
import mapper._decode
from archsim._errors import ArchsimError
from archsim._fusemax import (
    BATCH,
    CONFIGURATIONS,
    ENCODERS,
    LENGTHS,
    Encoder,
    Point,
    attention_io_words,
    linear,
    linear_shapes,
    reproduce,
)
from archsim._fusemax_compare import compare, compare_means, mean_of, variants
from archsim._published import Mean, load_published, parse_published
from archsim._spatial_file import load_spatial
from archsim.cli import main
from archsim.cli._progress import Steps
from archsim.cli._reproduce_data import gather
from archsim.cli._reproduce_page import files
from mapper._attention import Design, best, candidates, fastest_of_area, pareto, same_area, sweep

PUBLISHED = load_published("fusemax")
BOUNDS = {"cycles": 0.01, "latency_s": 0.01, "util_2d": 0.01, "energy_pj": 0.02}
FIGURES = {"cycles", "latency_s", "util_2d", "util_1d", "dram_bytes", "energy_pj"}
DISTANCES = {"cycles_over_mac_bound", "dram_over_compulsory", "dram_over_io_bound"}
KEYS = {"scope", "model", "length", "config"} | FIGURES | DISTANCES
FUSEMAX = load_spatial("fusemax")
WORKLOADS = [(model, length) for model in ENCODERS for length in LENGTHS.values()]
Points = dict[tuple[str, str, int, str], Point]


@pytest.fixture(scope="module")
def points() -> Points:
    return {(p.scope, p.model, p.length, p.config): p for p in reproduce()}


def heads(model: str) -> int:
    return BATCH * ENCODERS[model].heads


def test_every_point_is_there_once_in_order(points: Points) -> None:
    expected = [
        (scope, model, length, config)
        for scope in ("attention", "layer")
        for model in ("BERT", "TrXL", "T5", "XLM")
        for length in (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20)
        for config in ("unfused", "flat", "cascade", "architecture", "fusemax")
    ]
    assert list(points) == expected
    assert {field.name for field in fields(Point)} == KEYS


def test_every_published_figure_is_within_its_bound(points: Points) -> None:
    compared = [each for point in points.values() for each in compare(point, PUBLISHED)]
    assert len(compared) == len(PUBLISHED.values) == 34
    assert {e.name: e.error for e in compared if abs(e.error) > BOUNDS[e.name]} == {}


def test_published_cycles_are_met_exactly(points: Points) -> None:
    for (scope, model, length, config, quantity), value in PUBLISHED.values.items():
        if quantity == "cycles":
            assert points[scope, model, length, config].cycles == value


def test_headline_means_are_within_their_bounds(points: Points) -> None:
    found = compare_means(list(points.values()), PUBLISHED)
    bounds = [0.02, 0.02, 0.03, 0.03, 0.03]
    assert len(found) == len(bounds)
    assert all(abs(each.error) <= bound for each, bound in zip(found, bounds, strict=True))


@pytest.mark.parametrize(("model", "length"), WORKLOADS)
def test_fusemax_in_closed_form(points: Points, model: str, length: int) -> None:
    """The lanes' work: RM, PRM, SPD, RD in 10 cycles, SPNV and RNV over F, for each tile; AV at the end."""
    point, f = points["attention", model, length, "fusemax"], ENCODERS[model].head_features
    tiles = heads(model) * (length // 256) ** 2
    lanes = tiles * (10 + 2 * f) + heads(model) * (length // 256) * f
    assert point.cycles == lanes
    assert point.util_2d == pytest.approx(tiles * (2 * f + 9) / lanes)
    assert point.cycles_over_mac_bound == pytest.approx(lanes / (tiles * 2 * f))
    blocks = max(1, length // (32768 if f == 64 else 16384))
    assert point.dram_bytes == heads(model) * 2 * length * f * 2 * (1 + blocks)


@pytest.mark.parametrize(("model", "length"), WORKLOADS)
def test_architecture_in_closed_form(points: Points, model: str, length: int) -> None:
    """Scores and their maximum, a drain, the maximum so far, then the lanes' remaining 9 + 2 F."""
    point, f = points["attention", model, length, "architecture"], ENCODERS[model].head_features
    tiles = heads(model) * (length // 256) ** 2
    assert point.cycles == tiles * ((f + 1) + 256 + 1 + (9 + 2 * f))


@pytest.mark.parametrize(("model", "length"), WORKLOADS)
def test_cascade_in_closed_form(points: Points, model: str, length: int) -> None:
    """The lanes do 4 cycles for each of a tile's 256 keys, 5 + 2 F for the tile, and the division."""
    point, f = points["attention", model, length, "cascade"], ENCODERS[model].head_features
    tiles = heads(model) * (length // 256) ** 2
    assert point.cycles == tiles * (4 * 256 + 5 + 2 * f) + heads(model) * (length // 256) * f


@pytest.mark.parametrize(("model", "length"), WORKLOADS)
def test_flat_in_closed_form(points: Points, model: str, length: int) -> None:
    point, f = points["attention", model, length, "flat"], ENCODERS[model].head_features
    lanes = heads(model) * 4 * length**2 // 256
    if length >= 1 << 18:
        traffic = 2 * heads(model) * (4 * length**2 + 2 * length * f * (1 + length // 1024))
        assert point.dram_bytes == traffic
        assert point.cycles == max(lanes, math.ceil(traffic * 940_000_000 / (400 << 30)))
    else:
        assert point.cycles == lanes


@pytest.mark.parametrize(("model", "length"), WORKLOADS)
def test_unfused_is_two_products_from_memory_and_a_softmax(points: Points, model: str, length: int) -> None:
    point, f = points["attention", model, length, "unfused"], ENCODERS[model].head_features
    seconds = (length**2 * 2 + 2 * length * f * 2) / (400 << 30)
    expected = heads(model) * (2 * seconds + 4 * length**2 / 256 / 940e6)
    assert point.latency_s == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("model", ENCODERS)
def test_layer_adds_the_linear_layers(points: Points, model: str) -> None:
    length = 4096
    attention, layer = (points[scope, model, length, "fusemax"] for scope in ("attention", "layer"))
    tokens, cycles, energy = BATCH * length, 0, 0.0
    for inputs, outputs in linear_shapes(ENCODERS[model]).values():
        work = tokens * inputs * outputs // 65536
        least = (tokens * (inputs + outputs) + inputs * outputs) * 2 * 940e6 / (400 << 30)
        found = linear(tokens, (inputs, outputs), machine=FUSEMAX)
        assert max(work, math.floor(least)) <= found.cycles <= 1.05 * max(work, least)
        cycles, energy = cycles + found.cycles, energy + found.energy_total_pj
    assert layer.cycles == attention.cycles + cycles
    assert layer.energy_pj == pytest.approx(attention.energy_pj + energy)


def test_distances_are_not_below_one(points: Points) -> None:
    for point in points.values():
        assert point.cycles_over_mac_bound >= 1
        assert point.dram_over_compulsory >= 1
        assert 0 <= point.util_2d <= 1
        assert 0 <= point.util_1d <= 1


def test_io_bound_is_continuous_where_its_two_forms_meet() -> None:
    assert attention_io_words(1024, 64, 64**2) == 1024**2
    assert attention_io_words(1024, 64, 64**2 - 1) == pytest.approx(1024**2, rel=1e-3)
    assert attention_io_words(1024, 64, 4 * 64**2) == 1024**2 / 4


def test_means_by_hand(points: Points) -> None:
    base = points["attention", "BERT", 1024, "fusemax"]
    made = [
        replace(base, config=config, length=length, latency_s=latency, energy_pj=energy)
        for config, length, latency, energy in (
            ("fusemax", 1, 1.0, 3.0),
            ("flat", 1, 4.0, 4.0),
            ("fusemax", 2, 2.0, 1.0),
            ("flat", 2, 4.0, 4.0),
        )
    ]
    assert mean_of(made, Mean("attention", "speedup", 0.0, None)) == 3.0
    assert mean_of(made, Mean("attention", "energy", 0.0, None)) == 0.5
    assert mean_of(made, Mean("attention", "speedup", 0.0, 2)) == 2.0


def test_a_figure_one_percent_off_shows(points: Points) -> None:
    point = points["attention", "BERT", 1024, "fusemax"]
    (cycles, *_) = compare(replace(point, cycles=point.cycles * 101 // 100), PUBLISHED)
    assert cycles.error == pytest.approx(0.01, rel=1e-3)


def test_published_file_is_checked() -> None:
    text = """\
name: x
source: y
values:
  - {scope: layer, model: A, config: b, quantity: cycles, lengths: [1, 2], values: [3]}
means: []
"""
    with pytest.raises(
        ArchsimError, match=r"^a:4: values\[0\]\.values must be 2 long, as lengths are, not 1$"
    ):
        parse_published(text, source="a")
    with pytest.raises(ArchsimError, match=r"^a:4: values\[0\]\.scope must be"):
        parse_published(text.replace("scope: layer", "scope: all"), source="a")


@pytest.mark.parametrize("length", [1 << 10, 1 << 14])
def test_search_tries_fusemax_and_beats_or_meets_it(points: Points, length: int) -> None:
    encoder, point = ENCODERS["BERT"], points["attention", "BERT", length, "fusemax"]
    tried = list(candidates(encoder, length, machine=FUSEMAX))
    own = next(each for each in tried if (each.cascade, each.tile) == ("one-pass", 256))
    assert own.estimate.cycles == point.cycles
    assert own.estimate.energy_total_pj == point.energy_pj
    found = best(encoder, length, machine=FUSEMAX)
    assert found.estimate.cycles == min(each.estimate.cycles for each in tried) <= point.cycles


def test_search_leaves_out_what_a_small_buffer_cannot_hold() -> None:
    tiny = replace(FUSEMAX, buffer=replace(FUSEMAX.buffer, bytes=64))
    found = [each.cascade for each in candidates(ENCODERS["BERT"], 1 << 12, machine=tiny)]
    assert "one-pass" not in found


def test_front_holds_all_that_no_design_beats() -> None:
    found = best(ENCODERS["T5"], 1 << 10, machine=FUSEMAX)
    designs = [
        Design(FUSEMAX, area, latency, found) for area, latency in ((1, 9), (2, 9), (2, 5), (3, 6), (4, 1))
    ]
    front = pareto(designs)
    assert [(each.area_cm2, each.latency_s) for each in front] == [(1, 9), (2, 5), (4, 1)]
    for design in designs:
        beaten = any(
            other.area_cm2 <= design.area_cm2 and other.latency_s <= design.latency_s and other != design
            for other in designs
        )
        assert (design in front) != beaten


def test_machines_of_one_area_take_no_more_and_find_no_slower_mapping() -> None:
    encoder: Encoder = ENCODERS["BERT"]
    equal = same_area(encoder, 1 << 14, machine=FUSEMAX)
    assert {each.machine.elements for each in equal} == {65536}
    assert all(each.area_cm2 <= FUSEMAX.area_um2 * 1e-8 for each in equal)
    own = best(encoder, 1 << 14, machine=FUSEMAX).estimate.seconds
    assert equal[0].latency_s <= own


@pytest.mark.parametrize("length", [1 << 10, 1 << 16])
def test_fastest_machine_of_the_area_is_no_larger_and_no_slower(length: int) -> None:
    encoder = ENCODERS["BERT"]
    found = fastest_of_area(encoder, length, machine=FUSEMAX)
    assert found.area_cm2 <= FUSEMAX.area_um2 * 1e-8
    assert found.latency_s <= best(encoder, length, machine=FUSEMAX).estimate.seconds
    machine = found.machine
    area = machine.rows * machine.cols * 5850.22 + machine.lanes * 29591.16 + machine.buffer.bytes * 5.6133
    assert found.area_cm2 == pytest.approx(area * 1e-8)


def test_a_smaller_buffer_becomes_elements_and_traffic() -> None:
    """At 64K keys 128 x 624 elements with 1 MiB are faster than 256 x 256 with 16 MiB, and read more."""
    encoder, length = ENCODERS["BERT"], 1 << 16
    found = fastest_of_area(encoder, length, machine=FUSEMAX)
    own = best(encoder, length, machine=FUSEMAX).estimate
    assert (found.machine.rows, found.machine.cols, found.machine.buffer.bytes) == (128, 624, 1 << 20)
    rounds = (length // 128) * -(-length // 624)
    assert found.found.estimate.cycles == heads("BERT") * rounds * (2 * 64 + 9)
    assert found.found.estimate.bytes["dram"] > own.bytes["dram"]


def test_sweep_is_sorted_by_area_and_holds_a_quarter_of_fusemax() -> None:
    found = sweep(ENCODERS["T5"], 1 << 12, machine=FUSEMAX)
    assert [each.area_cm2 for each in found] == sorted(each.area_cm2 for each in found)
    assert "128x128+128" in {each.machine.name for each in found}


def test_variants_change_what_they_say() -> None:
    found = {each.assumption: each for each in variants([1 << 10])}
    assert found["filling and draining the array takes cycles"].cycles_ratio == pytest.approx(1 + 512 / 2464)
    assert found["the subtraction before an exponential takes a cycle"].cycles_ratio == 5 / 4
    assert found["exponentials are six multiply-accumulates, as FuseMax's"].cycles_ratio == 10 / 4
    assert found["register files take energy"].cycles_ratio == 1
    assert found["register files take energy"].energy_ratio > 1.05


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One model at three lengths, those that the page compares machines and means at, and few machines."""
    monkeypatch.setattr(mapper._attention, "SIDES", (128, 256))
    model = MappingProxyType({"BERT": ENCODERS["BERT"]})
    lengths = MappingProxyType({name: LENGTHS[name] for name in ("1K", "256K", "1M")})
    monkeypatch.setattr(mapper._attention, "AREA_ROWS", (256,))
    monkeypatch.setattr(mapper._decode, "CONTEXTS", (1 << 10, 1 << 12))
    for module in (archsim._fusemax, archsim.cli._reproduce_page, archsim.cli._reproduce_best):
        monkeypatch.setattr(module, "ENCODERS", model)
        monkeypatch.setattr(module, "LENGTHS", lengths)


@pytest.mark.usefixtures("few")
def test_command_writes_rows_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, folder = tmp_path / "rows.json", tmp_path / "out" / "fusemax"
    assert main(["reproduce", "fusemax", "--json", str(rows), "--output", str(folder)]) == 0
    found = json.loads(rows.read_text())
    assert len(found) == 2 * 3 * len(CONFIGURATIONS)
    assert all(set(row) == KEYS for row in found)
    assert found[4] | {"scope": "attention", "config": "fusemax", "cycles": 1892352} == found[4]
    printed = capsys.readouterr().out
    for word in ("BERT 1K fusemax", "1,892,352", "Beside the published values", "6.72", "0.788", "7.54"):
        assert word in printed
    pictures = {path.name for path in folder.glob("*.svg")}
    assert {"speedup-attention.svg", "energy-layer.svg", "utilization-2d.svg", "pareto.svg"} <= pictures
    assert {"decode-108.svg", "decode-256.svg", "decode-splits.svg", "beyond.svg"} <= pictures
    decode = json.loads((folder / "decode.json").read_text())
    assert len(decode["rows"]) == 2 * 3 * 2 * 3
    best_found = json.loads((folder / "best.json").read_text())
    for key in ("on_fusemax", "in_its_area"):
        assert [row["length"] for row in best_found[key]] == [1 << 10, 1 << 18, 1 << 20]
        assert all(row["speedup_over_fusemax"] >= 1 for row in best_found[key])
        assert all(row.keys() >= DISTANCES for row in best_found[key])
    page = (folder / "README.md").read_text()
    assert all(f"({name})" in page for name in pictures)


@pytest.mark.usefixtures("few")
def test_files_are_the_same_twice() -> None:
    what = gather(Steps())
    once, again = files(what), files(gather(Steps()))
    assert once == again
    assert all(text.startswith("<?xml") for name, text in once.items() if name.endswith(".svg"))


def test_command_refuses_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["reproduce", "fusemax", "--output", str(tmp_path / "file")]) == 2
