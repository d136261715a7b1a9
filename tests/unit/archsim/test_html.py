from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from archsim import (
    Architecture,
    Array,
    Bus,
    EnergyEntry,
    EnergyTable,
    Estimate,
    Row,
    Scratchpad,
    Simulation,
    Vector,
)
from archsim import Mapping as LoopNest
from archsim._breakdown import Share
from archsim._causes import ARRAY_DRAIN, READ_BANDWIDTH, STREAMING
from archsim._estimate_value import Level
from archsim._isa import Engine
from archsim._mapping import Hold, Spatial, Temporal
from archsim._simulate import Event
from archsim.cli._figures import Bar, RooflinePoint, bars, roofline
from archsim.cli._html import render
from archsim.cli._markup import Markup, integers, quantities, quantity, table, tag, text_column
from archsim.cli._report_data import (
    Accuracy,
    CounterCheck,
    PartReport,
    Report,
    Resource,
    Span,
    TensorCheck,
    Timeline,
    Verification,
    sqnr,
    timeline,
)
from archsim.cli._waits import PartWaits, StreamedWeights, WaitRow
from workloads import parse

ARCH = Architecture(
    name="tiny",
    clock_mhz=100,
    array=Array(rows=4, cols=8),
    bus=Bus(bytes=16),
    scratchpad=Scratchpad(banks=4, words_per_bank=256),
    accumulator_words=64,
    parameter_words=32,
    vector=Vector(buffer_words=16, rows=16),
)
TABLE = EnergyTable(
    name="unit <costs>",
    entries=(
        EnergyEntry(
            component="dram", action="read", pj=64, node_nm=45, width_bits=32, source="A & B", kind="derived"
        ),
        EnergyEntry(
            component="array", action="mac", pj=0.5, node_nm=45, width_bits=8, source="C", kind="measured"
        ),
    ),
)
CASCADE = parse("cascade part\nranks m=64, n=32, k=32\n\nZ[m, n] = A[m, k] * B[k, n]\n")
MACS = 64 * 32 * 32


def an_estimate(level: Level, cycles: int) -> Estimate:
    """``cycles`` at 100 MHz; 1,600 bits at 2 pJ and MACS operations at half a pJ."""
    energy = {"array": MACS * 0.5, "dram": 1600 * 2.0}
    return Estimate(
        name="part",
        level=level,
        cycles=cycles,
        seconds=cycles / 1e8,
        actions={("dram", "read", "A"): 1600, ("array", "mac", ""): MACS},
        energy_pj=energy,
        macs=MACS,
        utilization={"mac": MACS / (cycles * 32), "array": 0.75},
        stalls={} if level in ("bound", "estimate") else {"array waits for <data>": 300},
        bytes={"dram": 200},
        rows=_rows(level, cycles, sum(energy.values())),
    )


def _rows(level: Level, cycles: int, energy: float) -> tuple[Row, ...]:
    if level == "bound":
        return ()
    return (Row(name="Z", cycles=cycles, macs=MACS, utilization=MACS / (cycles * 32), energy_pj=energy),)


NEST = LoopNest(
    "Z",
    "tiny",
    (
        Hold("dram", ("A", "B", "Z")),
        Temporal(("m",), 4, 16),
        Hold("scratchpad", ("A",)),
        Temporal(("n",), 1, 32),
        Spatial("rows", ("k",), 4),
    ),
)
SPANS = (Span(Engine.LOAD, "Z", 0, 900), Span(Engine.ARRAY, "Z", 800, 2500))
Z_ROW = WaitRow(
    name="Z",
    cycles=2560,
    work=0.8,
    memory=0.15,
    dependence=0.05,
    control=0.0,
    reason=f"{READ_BANDWIDTH} (<B>)",
    reason_share=0.15,
)
WAITS = PartWaits(
    part="part",
    repeat=3,
    traced=True,
    whole=replace(Z_ROW, name="part"),
    kernels=(Z_ROW,),
    causes=(
        Share(cause=STREAMING, cycles=2048),
        Share(cause=READ_BANDWIDTH, cycles=384),
        Share(cause=ARRAY_DRAIN, cycles=128),
    ),
)
PART = PartReport(
    name="part",
    repeat=3,
    cascade=CASCADE,
    mappings=(NEST,),
    levels=(an_estimate("bound", 2048), an_estimate("estimate", 2400), an_estimate("simulate", 2560)),
    dram_bytes={"Z": 200},
    waits=WAITS,
    streamed=(StreamedWeights(kernel="Z", tensor="B", size_bytes=5000, region_bytes=2048, read_bytes=10000),),
    timelines=(Timeline(2560, 2560, SPANS), Timeline(1280, 2560, SPANS[:1])),
)
BARE = replace(PART, levels=(an_estimate("estimate", 2400),), dram_bytes={}, waits=None, timelines=())
CHECK = Verification(
    part="part",
    tensors=(TensorCheck("Z", 2048, 0),),
    counters=(CounterCheck("cycles", 2560, 2560),),
    rtl_cycles_per_s=54321.0,
)
REPORT = Report(
    title="net <b>&",
    phase="prefill",
    batch=2,
    seq=16,
    objective="latency",
    architecture=ARCH,
    energy=TABLE,
    parts=(PART,),
    verification=CHECK,
    accuracy=(Accuracy("Z", 31.25, 0.015),),
    resources=(Resource(name="LUT", used=1200, available=4800, source="a tool"),),
    host=(("embedding", 6144),),
    notes=("No <pooler>.",),
)


class Page(HTMLParser):
    """Checks that tags nest, and collects tables, attributes and text."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def rows(self, first: str, *, head: str = "") -> Mapping[str, list[str]]:
        """First cell -> the others, of the table whose head starts with ``first`` and has ``head``."""
        found = next(table for table in self.tables if table[0][0] == first and head in ["", *table[0]])
        return {row[0]: row[1:] for row in found[1:]}


@pytest.fixture(scope="module")
def text() -> str:
    return render(REPORT)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_tags_nest_and_the_page_is_small(text: str, page: Page) -> None:
    assert page.open == []
    assert text.startswith('<!doctype html>\n<html lang="en">')
    assert len(text) < 1_000_000


def test_the_page_needs_no_other_file_and_no_script(text: str, page: Page) -> None:
    assert "<script" not in text
    assert "@import" not in text
    fetched = [a for a in page.attributes if a[1] in ("src", "href", "xlink:href", "srcset", "data")]
    assert all(value.startswith("#") for _, _, value in fetched), fetched
    assert [a for a in page.attributes if a[1].startswith("on")] == []
    assert all(reference.startswith("#") for reference in re.findall(r"url\((.*?)\)", text))


def test_every_reference_has_one_target(text: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)


def test_pictures_take_every_colour_from_the_page(text: str) -> None:
    pictures = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--blue)" in pictures
    assert re.findall(r"(?:fill|stroke): ?#\w+", pictures) == []
    assert re.search(r":root\{[^}]*--blue:#", text)
    assert re.search(r"prefers-color-scheme:dark\)\{:root\{[^}]*--blue:#", text)


def test_every_picture_is_named(page: Page) -> None:
    pictures = [a for a in page.attributes if a[:2] == ("svg", "role")]
    names = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    # Cycles, roofline, causes, waiting, engines, waits, energy, traffic; two timelines, each in two widths.
    assert len(pictures) == len(names) == 8 + 4
    assert all(name.endswith(" of part") for name in names)


def test_equal_reports_give_equal_text(text: str) -> None:
    assert render(replace(REPORT)) == text


def test_what_people_named_is_escaped(text: str, page: Page) -> None:
    for raw in ("net <b>", "unit <costs>", "<pooler>", "for <data>"):
        assert raw not in text
        assert raw in " ".join(page.words)


def test_totals_are_three_repetitions(page: Page) -> None:
    rows = page.rows("level")
    # 2,560 x 3 = 7,680 cycles of 10 ns; 3 x (65,536 / 2 + 3,200) pJ = 107,904 pJ; 3 x 200 bytes.
    assert rows["simulated"][:5] == ["7,680", "100.0", "76.80", "107.9", "600"]
    assert rows["bound"][:3] == ["6,144", "80.0", "61.44"]
    assert rows["estimated"][:2] == ["7,200", "93.8"]
    assert "RTL" not in rows


def test_kernels_add_up(page: Page) -> None:
    rows = page.rows("kernel")
    # 65,536 MACs over 32 lanes are 2,048 cycles at full rate: 80 % of 2,560.
    assert rows["Z"][:7] == ["2,560", "100.0", "2,400", "2,048", "65,536", "80.0", "200"]
    assert rows["all"] == rows["Z"]


def test_the_array_s_waiting_is_told_in_shares_and_words(page: Page) -> None:
    rows = page.rows("kernel", head="memory (%)")
    assert rows["Z"] == ["2,560", "80.0", "15.0", "5.0", "0.0", f"{READ_BANDWIDTH} (<B>)", "15.0"]
    assert rows["all"] == rows["Z"]
    words = " ".join(page.words)
    assert "works 80.0 % of the time, waits 15.0 % for memory and 5.0 % for other results" in words
    assert f"Z loses most, 512 cycles, longest to {READ_BANDWIDTH} (<B>)." in words
    causes = page.rows("cause")
    # 384 of 2,560 cycles.
    assert causes[READ_BANDWIDTH][:3] == ["memory", "384", "15.0"]


def test_weights_that_stream_are_listed_beside_their_region(page: Page) -> None:
    # 5,000 bytes take three regions of 2,048.
    assert page.rows("kernel", head="weights")["Z"] == ["B", "5,000", "3", "10,000", "15.0"]


def test_layers_come_first_and_their_kernels_are_folded() -> None:
    layer = replace(Z_ROW, name="layer 0", worst="Z.0")
    layered = replace(WAITS, kernels=(replace(Z_ROW, name="Z.0"),), layers=(layer,))
    page = Page(render(replace(REPORT, parts=(replace(PART, waits=layered, streamed=()),))))
    assert page.rows("layer")["layer\N{NO-BREAK SPACE}0"][-1] == "Z.0"
    assert page.rows("kernel", head="memory (%)").keys() == {"Z.0", "all"}


def test_without_a_trace_what_counters_do_not_say_is_a_dash() -> None:
    row = WaitRow(name="Z", cycles=2560, work=0.8, reason="array waits for W", reason_share=0.1)
    counted = PartWaits(part="part", repeat=3, traced=False, whole=row, kernels=(row,))
    page = Page(render(replace(REPORT, parts=(replace(PART, waits=counted, streamed=()),))))
    shares = page.rows("kernel", head="memory (%)")["Z"]
    assert shares == ["2,560", "80.0", "–", "–", "–", "array waits for W", "10.0"]
    assert "too long to be traced" in " ".join(page.words)


def test_energy_entries_show_provenance_and_price(page: Page) -> None:
    rows = page.rows("component")
    # 3 x 1,600 bits at 64/32 pJ are 9,600 pJ; 3 x 65,536 MACs at 0.5 pJ are 98,304 pJ.
    assert rows["dram"] == ["read", "64", "32", "45", "4,800", "bits", "9.6", "derived", "A & B"]
    assert rows["array"][4:8] == ["196,608", "operations", "98.3", "measured"]
    assert rows["all"][6] == "107.9"


def test_architecture_derives_its_peaks(page: Page) -> None:
    rows = page.rows("parameter")
    # 4 x 8 lanes at 100 MHz; 16 bytes a cycle; words of 8 bytes.
    assert rows["peak of the array"] == ["3.2", "GMAC/s"]
    assert rows["peak of the memory, reading"] == ["1.6", "GB/s"]
    assert rows["scratchpad in all"] == ["8,192", "bytes"]


def test_verification_shows_both_sides(page: Page) -> None:
    assert page.rows("tensor") == {"Z": ["2,048", "0"]}
    assert page.rows("counter") == {"cycles": ["2,560", "2,560", "0"]}
    words = " ".join(page.words)
    assert "RTL agrees" in words
    assert "54,321 cycles a second" in words


def test_one_wrong_bit_or_cycle_is_seen() -> None:
    bit = replace(CHECK, tensors=(TensorCheck("Z", 2048, 1),))
    cycle = replace(CHECK, counters=(CounterCheck("cycles", 2560, 2561),))
    for check in (bit, cycle):
        assert not check.passed
        assert "RTL differs" in render(replace(REPORT, parts=(BARE,), verification=check))
    assert replace(cycle, stalled=True).passed
    assert not replace(bit, stalled=True).passed


def test_resources_and_accuracy(page: Page) -> None:
    assert page.rows("resource") == {"LUT": ["1,200", "4,800", "25.0", "a tool"]}
    accuracy = next(table for table in page.tables if "SQNR (dB)" in table[0])
    assert accuracy[1] == ["Z", "31.2", "1.5"]


def test_what_was_not_made_is_left_out() -> None:
    text = render(replace(REPORT, parts=(BARE,), verification=None, accuracy=(), resources=()))
    for absent in ("Roofline", "Verification", "Accuracy", "Resources", "The engines over the run"):
        assert absent not in text
    assert "From the closed-form estimate." in text


def test_measured_cycles_are_totalled_only_where_the_part_runs_once() -> None:
    proved = replace(PART, levels=(*PART.levels, an_estimate("cosim", 2560)))
    levels = {
        repeat: [one.level for one in replace(REPORT, parts=(replace(proved, repeat=repeat),)).totals]
        for repeat in (1, 2)
    }
    assert levels == {1: ["bound", "estimate", "simulate", "cosim"], 2: ["bound", "estimate", "simulate"]}


def test_a_total_needs_every_part() -> None:
    other = replace(PART, levels=(an_estimate("estimate", 10),))
    assert [one.level for one in replace(REPORT, parts=(PART, other)).totals] == ["estimate"]


def test_the_nest_is_drawn_inside_out(text: str) -> None:
    nest = text[text.index('<div class="nest">') :]
    places = [nest.index(str(node)) for node in NEST.nodes]
    assert places == sorted(places)
    assert '<div class="loop once"><div class="head">for n in 1' in nest
    assert '<div class="loop"><div class="head">for m in 4' in nest


def an_event(engine: Engine, pop: int, issue: int, retire: int, section: str = "Z") -> Event:
    return Event(
        engine=engine,
        instruction=0,
        section=section,
        push=0,
        head=pop,
        pop=pop,
        issue=issue,
        retire=retire,
        cause=None,
        operands=(),
        bursts=(),
    )


def test_a_timeline_joins_what_overlaps_and_ends_with_its_window() -> None:
    run = Simulation(
        program="p",
        cycles=5000,
        counters=(),
        sections=(),
        executions=(),
        events=(
            an_event(Engine.LOAD, 0, 5, 99),
            an_event(Engine.LOAD, 50, 60, 199),
            an_event(Engine.LOAD, 300, 310, 399),
            an_event(Engine.LOAD, 400, 410, 499, "Y"),
            an_event(Engine.ARRAY, 500, 799, 830),
            an_event(Engine.ARRAY, 900, 4000, 4030),
            an_event(Engine.STORE, 1000, 1010, 1020),
        ),
    )
    assert timeline(run, 1000) == Timeline(
        1000,
        5000,
        (
            Span(Engine.LOAD, "Z", 0, 200),
            Span(Engine.LOAD, "Z", 300, 400),
            Span(Engine.LOAD, "Y", 400, 500),
            Span(Engine.ARRAY, "Z", 500, 800),
            Span(Engine.ARRAY, "Z", 900, 1000),
        ),
    )


def test_sqnr_is_the_ratio_of_powers() -> None:
    # Signal 2 x 9, noise 2 x 0.09: a ratio of 100, 20 dB; the largest error is 0.3 of 3.
    found = sqnr("A", np.array([3.0, -3.0]), np.array([3.3, -3.3]))
    assert found.sqnr_db == pytest.approx(20)
    assert found.largest_error == pytest.approx(0.1)
    assert sqnr("A", np.ones(3), np.ones(3)).sqnr_db == float("inf")
    assert sqnr("A", np.zeros(3), np.ones(3)).sqnr_db == -float("inf")


def test_tags_escape_text_and_attributes_but_not_markup() -> None:
    made = tag("p", "a<b", [tag("i", '"&"'), Markup("<br>")], title='"x"')
    assert made == '<p title="&quot;x&quot;">a&lt;b<i>&quot;&amp;&quot;</i><br></p>'


def test_a_table_shows_dashes_for_what_is_unknown_and_one_prefix_a_column() -> None:
    columns = [
        text_column("k", ["a", "b"]),
        integers("n", [12345, None]),
        quantities("t", [0.0123, 0.5e-3], "s"),
    ]
    shown = Page(table(columns, note="from a test")).tables[0]
    assert shown == [["k", "n", "t (ms)"], ["a", "12,345", "12.30"], ["b", "–", "0.50"]]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0 J"), (1.5e-9, "1.50 nJ"), (0.0124535, "12.5 mJ"), (123456.0, "123 kJ"), (1.0, "1.00 J")],
)
def test_quantities_have_three_digits(value: float, shown: str) -> None:
    assert quantity(value, "J") == shown


def test_a_column_of_wide_range_takes_a_smaller_prefix() -> None:
    column = quantities("e", [2.5, 0.0009, 0.0], "J")
    assert (column.head, column.cells) == ("e (mJ)", ("2,500.0", "0.9", "0.0"))


def test_names_in_pictures_are_text_not_mathematics() -> None:
    drawn = bars("T", [Bar("$x$ <y>", (1.0,), "1 %")])
    assert "$x$ &lt;y&gt;" in drawn


def test_the_roofline_names_spots_once_and_joins_equal_ones() -> None:
    points = [RooflinePoint("a", 4.0, 20.0), RooflinePoint("b", 4.0, 20.0), RooflinePoint("c", 1.0, 4.0)]
    drawn = roofline("T", points, peak=32, bytes_per_cycle=16)
    assert drawn.count(">a, b<") == 1
    assert drawn.count(">c<") == 1
