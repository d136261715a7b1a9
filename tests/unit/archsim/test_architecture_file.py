from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from archsim._architecture import Architecture, Array, Bus, Memory, Scratchpad, Vector
from archsim._architecture_file import (
    architecture_names,
    architecture_schema,
    architecture_text,
    load_architecture,
    parse_architecture,
)
from archsim._errors import ArchsimError

LIBRARY = Path(str(files("archsim"))) / "library"
OTHERS = sorted(
    (path.stem for path in LIBRARY.glob("*.yaml") if not path.stem.startswith(("edge", "cloud"))),
    key=lambda name: (name.partition("-")[0], len(name), name),
)
SMALL = """\
name: small
clock_mhz: 50
array:
  rows: 3
  cols: 5
bus:
  bytes: 16
scratchpad:
  banks: 2
  words_per_bank: 64
accumulator: {words: 32}
parameters: {words: 16}
vector: {buffer_words: 8, rows: 4}
"""


def message(text: str) -> str:
    with pytest.raises(ArchsimError) as caught:
        parse_architecture(text, source="a.yaml")
    return str(caught.value)


def test_file_becomes_the_value_with_defaults() -> None:
    assert parse_architecture(SMALL) == Architecture(
        name="small",
        clock_mhz=50.0,
        array=Array(kind="dense", rows=3, cols=5),
        bus=Bus(bytes=16, max_burst_beats=64, outstanding=4),
        scratchpad=Scratchpad(banks=2, words_per_bank=64),
        accumulator_words=32,
        parameter_words=16,
        vector=Vector(buffer_words=8, rows=4, tables=2),
        program_words=512,
        queue_depth=4,
        memory=Memory(read_latency=32, read_interval=1, write_latency=16, write_interval=1),
        technology="45nm",
    )


@pytest.mark.parametrize(
    ("found", "replaced", "expected"),
    [
        ("rows: 3", "rows: 0", "a.yaml:4: array.rows must be an integer from 1 to 1024, not 0"),
        ("cols: 5", "cols: 1025", "a.yaml:5: array.cols must be an integer from 1 to 1024, not 1025"),
        ("cols: 5", "cols: 5.0", "a.yaml:5: array.cols must be an integer, not 5.0"),
        ("cols: 5", "cols: true", "a.yaml:5: array.cols must be an integer, not true"),
        ("cols: 5", "cols:", "a.yaml:5: array.cols must be an integer, not nothing"),
        ("cols: 5", "cols: [5]", "a.yaml:5: array.cols must be an integer, not a list"),
        ("cols: 5", "colls: 5", "a.yaml:3: array.cols must be given"),
        ("cols: 5", "cols: 5\n  rows: 4", "a.yaml:6: array.rows must be given once, not again after line 4"),
        ("bytes: 16", "bytes: 12", "a.yaml:7: bus.bytes must be a power of two from 4 to 1024, not 12"),
        (
            "bytes: 16",
            "bytes: 128",
            "a.yaml:7: bus.bytes must be at most 64 (eight words of 8 bytes), not 128",
        ),
        ("banks: 2", "banks: 3", "a.yaml:9: scratchpad.banks must be a power of two from 1 to 256, not 3"),
        ("banks: 2", "banks: 0x2", "a.yaml:9: a number must be decimal and short, not '0x2'"),
        ("banks: 2", "banks: !!int 2", "a.yaml:9: the file must not use tags"),
        ("banks: 2", "banks: &two 2", "a.yaml:9: the file must not use anchors or aliases"),
        (
            "clock_mhz: 50",
            "clock_mhz: 0",
            "a.yaml:2: clock_mhz must be a number above 0, at most 10000, not 0",
        ),
        (
            "clock_mhz: 50",
            "clock_mhz: .inf",
            "a.yaml:2: clock_mhz must be a number above 0, at most 10000, not inf",
        ),
        ("clock_mhz: 50", "clock_mhz: fast", "a.yaml:2: clock_mhz must be a number, not 'fast'"),
        ("name: small", "name: 3", "a.yaml:1: name must be text, not 3"),
        (
            "clock_mhz: 50",
            "clock_mhz: 50\ntechnology: 45",
            "a.yaml:3: technology must be text, not 45",
        ),
        (
            "clock_mhz: 50",
            "clock_mhz: 50\ntechnology: 46nm",
            "a.yaml:3: technology must be a .yaml file or one of 45nm, 7nm, not '46nm'; did you mean '45nm'?",
        ),
        (
            "  rows: 3",
            "  kind: sparse\n  rows: 3",
            "a.yaml:4: array.kind must be 'dense', 'fusemax' or 'ternary', not 'sparse'",
        ),
        (
            "  rows: 3",
            "  kind: ternary\n  rows: 3",
            "a.yaml:4: array.weight_words must be given where array.kind is ternary, not left out",
        ),
        (
            "  rows: 3",
            "  rows: 3\n  weight_words: 9",
            "a.yaml:5: array.weight_words must be left out where array.kind is dense, not 9",
        ),
        (
            "  rows: 3",
            "  rows: 3\n  group: 3",
            "a.yaml:5: array.group must be left out where array.kind is dense, not 3",
        ),
        (
            "  rows: 3",
            "  kind: ternary\n  weight_words: 9\n  group: 2\n  rows: 3",
            "a.yaml:6: array.group must be 1 or 3, not 2",
        ),
        (
            "  rows: 3",
            "  kind: ternary\n  weight_words: 0\n  rows: 3",
            "a.yaml:5: array.weight_words must be an integer from 1 to 1048576, not 0",
        ),
        ("name: small", "[small]", "a.yaml:2: the file must be YAML: expected '<document start>', but found"),
    ],
)
def test_message_says_file_line_key_wanted_and_found(found: str, replaced: str, expected: str) -> None:
    assert message(SMALL.replace(found, replaced, 1)).startswith(expected)


def test_bank_must_hold_a_beat() -> None:
    text = SMALL.replace("rows: 3", "rows: 1").replace("cols: 5", "cols: 1").replace("bytes: 16", "bytes: 16")
    expected = "a.yaml:10: scratchpad.words_per_bank must be at least 8 (one beat of 16 bytes), not 4"
    assert message(text.replace("words_per_bank: 64", "words_per_bank: 4")) == expected
    assert parse_architecture(text.replace("words_per_bank: 64", "words_per_bank: 8")).word_bytes == 2


def test_every_mistake_has_its_line() -> None:
    text = SMALL.replace("rows: 3", "rws: 3").replace("banks: 2", "banks: -1")
    assert message(text).splitlines() == [
        "a.yaml:3: array.rows must be given",
        "a.yaml:4: array.rws must be one of kind, rows, cols, weight_words, group; did you mean 'rows'?",
        "a.yaml:9: scratchpad.banks must be a power of two from 1 to 256, not -1",
    ]


def test_nesting_and_size_are_capped() -> None:
    assert message("[" * 100_000) == "a.yaml:1: the file must nest at most 16 levels deep"
    assert message("#" * (1 << 21)) == "a.yaml: the file must be at most 1048576 bytes, not larger"


def test_long_values_are_cut_in_messages() -> None:
    assert len(message(SMALL.replace("rows: 3", f"rows: {'x' * 10_000}"))) < 150


def test_library_names_are_the_files_and_their_names() -> None:
    names = architecture_names()
    assert names == ("edge-8x8", "edge-16x16", "cloud-128x128", "cloud-256x256", *OTHERS)
    assert [load_architecture(name).name for name in names] == list(names)


@pytest.mark.parametrize(
    ("name", "scratchpad_kib", "accumulator_kib"),
    [
        ("edge-8x8", 8 * 1024 * 8 // 1024, 1024 * 8 * 4 // 1024),
        ("edge-16x16", 8 * 4096 * 16 // 1024, 4096 * 16 * 4 // 1024),
        ("cloud-128x128", 8 * 1024, 2 * 1024),
        ("cloud-256x256", 16 * 1024, 4 * 1024),
    ],
)
def test_library_sizes(name: str, scratchpad_kib: int, accumulator_kib: int) -> None:
    architecture = load_architecture(name)
    assert architecture.scratchpad.words * architecture.word_bytes == scratchpad_kib * 1024
    assert architecture.accumulator_words * architecture.array.cols * 4 == accumulator_kib * 1024


ATTENTION = """\
name: small-attention
clock_mhz: 100
array: {kind: fusemax, rows: 3, cols: 5}
bus: {bytes: 8}
scratchpad: {banks: 4, words_per_bank: 64}
vector: {buffer_words: 32, rows: 2}
"""


def test_an_attention_array_has_neither_accumulators_nor_parameters() -> None:
    found = parse_architecture(ATTENTION)
    assert found.array == Array(kind="fusemax", rows=3, cols=5)
    assert (found.accumulator_words, found.parameter_words) == (0, 0)
    assert parse_architecture(architecture_text(found)) == found


@pytest.mark.parametrize("section", ["accumulator", "parameters"])
def test_sections_of_the_other_kind(section: str) -> None:
    expected = f"^a.yaml:7: {section} must be left out where array.kind is fusemax$"
    with pytest.raises(ArchsimError, match=expected):
        parse_architecture(ATTENTION + f"{section}: {{words: 32}}\n", source="a.yaml")
    without = "\n".join(line for line in SMALL.splitlines() if not line.startswith(section))
    with pytest.raises(ArchsimError, match=f"{section} must be given$"):
        parse_architecture(without, source="a.yaml")


def test_unknown_name_suggests_the_nearest() -> None:
    known = ", ".join(architecture_names())
    expected = (
        f"the architecture must be a .yaml file or one of {known}, not 'edge-8x9'; did you mean 'edge-8x8'?"
    )
    with pytest.raises(ArchsimError, match=f"^{re.escape(expected)}$"):
        load_architecture("edge-8x9")


def test_file_is_loaded_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(SMALL + "technology: cells.yaml\n")
    architecture = load_architecture(str(path))
    assert architecture == load_architecture(path)
    assert architecture.technology == str(tmp_path / "cells.yaml")


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ArchsimError, match=r"none\.yaml must be a readable file: No such file or directory$"):
        load_architecture(tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"name: \xff\n")
    with pytest.raises(ArchsimError, match=r"binary\.yaml must be UTF-8 text, not byte 0xff$"):
        load_architecture(binary)


def test_schema_names_every_key_of_the_file() -> None:
    schema = architecture_schema()
    json.dumps(schema)
    written = yaml.safe_load(architecture_text(load_architecture("ternary-ecp5")))
    for name, value in written.items():
        section = schema["properties"][name]
        reference = section.get("$ref") or section.get("allOf", [{}])[0].get("$ref", "")
        if isinstance(value, dict):
            properties = schema["$defs"][reference.rsplit("/", 1)[-1]]["properties"]
            assert set(properties) == set(value)
    assert set(schema["properties"]) == set(written)


def powers(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low.bit_length() - 1, high.bit_length() - 1).map(lambda bit: 1 << bit)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    array = Array(rows=draw(st.integers(1, 1024)), cols=draw(st.integers(1, 1024)))
    if draw(st.booleans()):
        words, group = draw(st.integers(1, 1 << 20)), draw(st.sampled_from([1, 3]))
        array = replace(array, kind="ternary", weight_words=words, group=group)
    word = max(2, 1 << (max(array.rows, array.cols) - 1).bit_length())
    return Architecture(
        name=draw(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)),
        clock_mhz=draw(st.floats(0.001, 10_000)),
        array=array,
        bus=Bus(
            bytes=draw(powers(4, min(1024, 8 * word))),
            max_burst_beats=draw(st.integers(1, 256)),
            outstanding=draw(st.integers(1, 64)),
        ),
        scratchpad=Scratchpad(banks=draw(powers(1, 256)), words_per_bank=draw(powers(1024, 1 << 20))),
        accumulator_words=draw(powers(2, 1 << 20)),
        parameter_words=draw(powers(2, 1 << 16)),
        vector=Vector(
            buffer_words=draw(powers(2, 1 << 20)),
            rows=draw(powers(1, 1 << 16)),
            tables=draw(st.integers(1, 4)),
            gated=draw(st.booleans()),
        ),
        program_words=draw(powers(16, 1 << 16)),
        queue_depth=draw(st.integers(1, 64)),
        memory=Memory(
            read_latency=draw(st.integers(1, 100_000)),
            read_interval=draw(st.integers(1, 1024)),
            write_latency=draw(st.integers(1, 100_000)),
            write_interval=draw(st.integers(1, 1024)),
        ),
        technology=draw(st.sampled_from(["45nm", "7nm"])),
    )


@given(architectures())
def test_text_and_parse_are_inverse(architecture: Architecture) -> None:
    assert parse_architecture(architecture_text(architecture)) == architecture


def parses_or_is_refused(text: str) -> None:
    outcome: object
    try:
        outcome = parse_architecture(text, source="a.yaml")
    except ArchsimError as error:
        outcome = error
    assert isinstance(outcome, Architecture) or str(outcome).startswith("a.yaml:")


@given(st.text(max_size=200))
def test_any_text_is_an_architecture_or_an_error(text: str) -> None:
    parses_or_is_refused(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_any_value_at_any_key_is_an_architecture_or_an_error(data: st.DataObject) -> None:
    tree: dict[str, Any] = yaml.safe_load(SMALL)
    keys = [(name,) for name in tree] + [
        (name, key) for name, section in tree.items() if isinstance(section, dict) for key in section
    ]
    *outer, last = data.draw(st.sampled_from(keys))
    section = tree[outer[0]] if outer else tree
    section[data.draw(st.sampled_from([last, f"{last}x"]))] = data.draw(VALUES)
    parses_or_is_refused(yaml.safe_dump(tree))


@given(st.integers(0, len(SMALL)), st.integers(0, 5), st.text("\t\n:-[]{}&*!|>'\"%@`0aeE.#?,", max_size=5))
def test_any_edit_of_a_file_is_an_architecture_or_an_error(start: int, length: int, inserted: str) -> None:
    parses_or_is_refused(SMALL[:start] + inserted + SMALL[start + length :])


@pytest.mark.parametrize(
    ("kind", "more"), [("hierarchy", ": hierarchies are for archsim map"), ("spatial", "")]
)
def test_a_file_of_another_kind_is_told_in_one_line(kind: str, more: str) -> None:
    text = f"# a comment\nkind: {kind}\nname: h\nlevels: []\n"
    with pytest.raises(ArchsimError) as error:
        parse_architecture(text, source="h.yaml")
    assert str(error.value) == f"h.yaml:2: kind must be left out of an architecture, not {kind!r}{more}"
