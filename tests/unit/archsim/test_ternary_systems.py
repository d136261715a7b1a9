"""Published ternary systems: every figure by hand, the refusals of its file, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archsim._errors import ArchsimError
from archsim._ternary_systems import SystemRow, system_rows, weights_of
from archsim._ternary_systems_file import load_systems, parse_systems
from archsim.cli import main

SYSTEMS = {system.name: system for system in load_systems()}
ROWS = system_rows(SYSTEMS.values())

SMALL = """\
name: x
systems:
  - name: a
    title: b
    source: c
    board: d
    clock_mhz: 100
    model: {hidden: 8, inner: 16, layers: 2, source: e}
    memory: {interface_bits: 16, source: f}
    published: [{quantity: seconds, value: 0.001, kind: measured}]
    estimates: [{quantity: seconds, weight_bits: 2, assumed: g}]
    undetermined: h
"""


def row(system: str, quantity: str, bits: float | None = None) -> SystemRow:
    (found,) = (r for r in ROWS if (r.system, r.quantity, r.weight_bits) == (system, quantity, bits))
    return found


def test_weights_by_hand() -> None:
    """4 d^2 + 3 d h a block with h = 256 * ceil(8 d / 3 / 256), and a ternary head of 32,000 rows."""
    expected = {
        "zhu-one-core": 4 * 512 * 512 + 3 * 512 * 1536,
        "zhu-wide": 24 * (4 * 2048 * 2048 + 3 * 2048 * 5632) + 32000 * 2048,
        "tereffic-hbm": 32 * (4 * 2560 * 2560 + 3 * 2560 * 6912) + 32000 * 2560,
        "tereffic-on-chip": 24 * (4 * 1024 * 1024 + 3 * 1024 * 2816) + 32000 * 1024,
        "tellme-v2": 24 * (4 * 1536 * 1536 + 3 * 1536 * 4096),
    }
    assert {name: weights_of(system.model).ternary for name, system in SYSTEMS.items()} == expected
    assert weights_of(SYSTEMS["tellme-v2"].model).other == 32002 * 1536


def test_one_core_waits_for_an_eight_bit_interface() -> None:
    """Four weights, or one, arrive in a cycle of 60 MHz."""
    assert row("zhu-one-core", "seconds", 2).ours == 3_407_872 / 4 / 60e6
    assert row("zhu-one-core", "seconds", 8).ours == 3_407_872 / 60e6
    assert row("zhu-one-core", "seconds", 2).holds is True
    assert row("zhu-one-core", "seconds", 8).holds is False
    assert row("zhu-one-core", "seconds", 2).error == pytest.approx(851_968 / (0.043 * 60e6) - 1)
    assert row("zhu-one-core", "seconds", 2).weights_per_cycle == pytest.approx(3_407_872 / 2_580_000)


def test_a_wide_interface_gives_less_than_a_bit_a_weight_of_what_is_announced() -> None:
    weights = 24 * 51_380_224 + 65_536_000
    cycles = -(-weights * 2 // 512)
    assert row("zhu-wide", "tokens_per_second", 2).ours == pytest.approx(60e6 / cycles)
    announced = row("zhu-wide", "tokens_per_second", 1.6)
    assert announced.holds is False
    assert announced.weights_per_cycle is not None
    assert announced.weights_per_cycle == pytest.approx(23.8 * weights / 60e6)
    assert 512 / announced.weights_per_cycle < 1


def test_tokens_from_high_bandwidth_memory() -> None:
    """460 GB/s over a byte for five weights: more than the published figure; over one for four: less."""
    weights = 32 * 79_298_560 + 81_920_000
    five, four = (row("tereffic-hbm", "tokens_per_second", bits) for bits in (1.6, 2))
    assert five.ours == pytest.approx(460e9 * 5 / weights)
    assert four.ours == pytest.approx(460e9 * 4 / weights)
    assert (five.holds, four.holds) == (True, False)
    assert row("tereffic-hbm", "power_w").ours == 727 / 16


def test_cards_that_hold_a_model_on_chip() -> None:
    """341 million weights are 68.2 MB in fives; a chip has 960 * 36,864 + 2,016 * 4,608 bytes."""
    assert SYSTEMS["tereffic-on-chip"].memory.chip_bytes == 960 * 36_864 + 2_016 * 4_608
    assert row("tereffic-on-chip", "cards", 1.6).ours == 2
    missing = row("tereffic-on-chip", "tokens_per_second")
    assert (missing.ours, missing.published, missing.relation) == (None, 16300, None)
    assert missing.undetermined.startswith("tokens a second: clock")


def test_bitnet_on_an_edge_board() -> None:
    ternary = 24 * 28_311_552
    assert row("tellme-v2", "parameters").ours == ternary + 49_155_072
    assert row("tellme-v2", "tokens_per_second", 1.6).ours == pytest.approx(19.2e9 * 5 / ternary, rel=1e-8)
    assert row("tellme-v2", "tokens_per_second", 1.6).weights_per_cycle == pytest.approx(25 * ternary / 250e6)
    assert row("tellme-v2", "prefill_tokens_per_second").ours == pytest.approx(64 / 0.45)
    assert {r.quantity for r in ROWS if r.system == "tellme-v2" and r.ours is None} == {
        "power_w",
        "luts",
        "dsps",
    }


def test_a_small_system_by_hand() -> None:
    """2 * (4 * 64 + 3 * 128) weights at 2 bits are 320 bytes: 160 transfers of 16 bits at 100 MHz."""
    (found,) = system_rows(parse_systems(SMALL))
    assert found.ours == 160 / 100e6
    assert found.document()["holds"] is True
    assert found.error == pytest.approx(160 / 100e6 / 0.001 - 1)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("hidden: 8, ", "", "must have either zoo, or hidden, inner and layers"),
        ("interface_bits: 16, ", "", "must have one of interface_bits, bytes_per_second and chip_bytes"),
        ("    clock_mhz: 100\n", "", "must have clock_mhz where its memory has interface_bits"),
        ("weight_bits: 2, ", "", "must have weight_bits for seconds"),
        ("kind: measured", "kind: guessed", "kind must be"),
    ],
)
def test_a_mistake_in_the_file_is_named(old: str, new: str, said: str) -> None:
    assert old in SMALL
    with pytest.raises(ArchsimError) as caught:
        parse_systems(SMALL.replace(old, new), source="a.yaml")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("interface_bits: 16", "chip_bytes: 16", "memory of a must have a rate for its weights to take time"),
        (
            "estimates: [{quantity: seconds,",
            "estimates: [{quantity: luts,",
            "estimates.quantity must be one that follows from public facts, not luts",
        ),
        (
            "model: {hidden: 8, inner: 16, layers: 2,",
            "model: {zoo: bert-base,",
            "model.zoo must be a MatMul-free model, not 'bert-base'",
        ),
    ],
)
def test_what_does_not_follow_is_refused(old: str, new: str, said: str) -> None:
    assert old in SMALL
    with pytest.raises(ArchsimError, match=f"^{said}$"):
        system_rows(parse_systems(SMALL.replace(old, new)))


def test_command_prints_rows_and_writes_page_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, folder = tmp_path / "rows.json", tmp_path / "out"
    assert main(["reproduce", "matmulfree", "--json", str(rows), "--output", str(folder)]) == 0
    found = json.loads(rows.read_text())["rows"]
    assert len(found) == len(ROWS)
    assert {item["system"] for item in found} == set(SYSTEMS)
    printed = capsys.readouterr().out
    for word in ("tellme-v2", "16,300/s", "not determined: products a cycle"):
        assert word in printed
    page = (folder / "README.md").read_text()
    assert all(system.title in page and system.undetermined in page for system in SYSTEMS.values())


def test_command_refuses_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["reproduce", "matmulfree", "--output", str(tmp_path / "file")]) == 2
