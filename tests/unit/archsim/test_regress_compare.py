"""The comparison with a baseline, and its reports: every kind of change, under and over its tolerance."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from archsim._errors import ArchsimError
from archsim.cli._errors import CheckFailedError
from archsim.cli._job import Job
from archsim.cli._regress import require_passed
from archsim.cli._regress_compare import baseline_document, compare, judge, read_baseline, renewed
from archsim.cli._regress_junit import json_document, junit_text
from archsim.cli._regress_value import (
    Case,
    Failed,
    Finished,
    Measured,
    Result,
    Status,
    Suite,
    Tolerances,
    Verdict,
    sentence,
)

BEFORE = Measured(
    figures={
        "cosim.cycles": 1000,
        "cosim.elements_compared": 64,
        "estimate.energy_pj": 2000.0,
        "program.instructions": 40,
        "resources.cells": 500,
        "simulate.cycles": 1000,
    },
    bits={"G": "aa" * 32, "Y": "bb" * 32},
)
EXACT = Tolerances()
ROOT = Path(__file__).resolve().parents[3]


def moved(name: str, value: float) -> Measured:
    return replace(BEFORE, figures={**BEFORE.figures, name: value})


def test_the_same_is_no_change() -> None:
    assert compare(BEFORE, BEFORE, EXACT) == ()


@pytest.mark.parametrize(
    ("name", "value", "tolerances", "over"),
    [
        ("simulate.cycles", 1001, EXACT, True),
        ("simulate.cycles", 999, EXACT, True),
        ("cosim.cycles", 1003, Tolerances(cycles=3), False),
        ("cosim.cycles", 1004, Tolerances(cycles=3), True),
        ("cosim.cycles", 1020, Tolerances(cycles=3, cycles_percent=2.0), False),
        ("cosim.cycles", 1021, Tolerances(cycles=3, cycles_percent=2.0), True),
        ("cosim.cycles", 1003, Tolerances(cycles=3, cycles_percent=0.1), False),
        ("estimate.energy_pj", 2000.001, EXACT, True),
        ("estimate.energy_pj", 2020.0, Tolerances(energy_percent=1.0), False),
        ("estimate.energy_pj", 1979.9, Tolerances(energy_percent=1.0), True),
        ("estimate.energy_pj", 2001.0, Tolerances(cycles=9, bits=9, resources_percent=9.0), True),
        ("resources.cells", 501, EXACT, True),
        ("resources.cells", 510, Tolerances(resources_percent=2.0), False),
        ("resources.cells", 511, Tolerances(resources_percent=2.0), True),
        ("program.instructions", 41, Tolerances(cycles=9, energy_percent=9.0, bits=9), True),
        ("program.instructions", 44, Tolerances(resources_percent=10.0), False),
    ],
)
def test_a_figure_against_its_tolerance(
    name: str, value: float, tolerances: Tolerances, *, over: bool
) -> None:
    (change,) = compare(BEFORE, moved(name, value), tolerances)
    assert (change.figure, change.over) == (name, over)


def test_elements_compared_have_no_tolerance() -> None:
    loose = Tolerances(cycles=9, cycles_percent=9.0, energy_percent=9.0, bits=9, resources_percent=9.0)
    (change,) = compare(BEFORE, moved("cosim.elements_compared", 63), loose)
    assert change.over


def test_the_order_of_a_sum_is_no_change_of_energy() -> None:
    total = sum([0.1] * 10)
    assert total != 1.0
    before, now = moved("estimate.energy_pj", 1.0), moved("estimate.energy_pj", total)
    assert compare(before, now, EXACT) == ()


def test_large_counts_are_compared_as_integers() -> None:
    big = 1 << 60
    (change,) = compare(moved("simulate.cycles", big), moved("simulate.cycles", big + 1), EXACT)
    assert change.over
    assert change.now == f"{big + 1:,}"


@pytest.mark.parametrize(("allowed", "over"), [(0, True), (1, True), (2, False)])
def test_bits_count_the_tensors_that_differ(allowed: int, *, over: bool) -> None:
    now = replace(BEFORE, bits={"G": "cc" * 32, "Y": "dd" * 32})
    changes = compare(BEFORE, now, Tolerances(bits=allowed))
    assert [(change.figure, change.over) for change in changes] == [
        ("bits of G", over),
        ("bits of Y", over),
    ]


def test_one_bit_of_one_tensor_is_a_change() -> None:
    now = replace(BEFORE, bits={**BEFORE.bits, "Y": "bb" * 31 + "ba"})
    (change,) = compare(BEFORE, now, EXACT)
    assert (change.figure, change.over) == ("bits of Y", True)


def test_a_tensor_of_one_side_is_never_tolerated() -> None:
    fewer = replace(BEFORE, bits={"G": BEFORE.bits["G"]})
    lenient = Tolerances(bits=9)
    (gone,) = compare(BEFORE, fewer, lenient)
    assert (gone.over, sentence(gone)) == (
        True,
        f"bits of Y is {'b' * 12} in the baseline, and was not measured",
    )
    (new,) = compare(fewer, BEFORE, lenient)
    assert (new.over, sentence(new)) == (True, f"bits of Y is not in the baseline; it is {'b' * 12}")


def test_a_figure_that_comes_or_goes_is_a_change() -> None:
    fewer = replace(BEFORE, figures={n: v for n, v in BEFORE.figures.items() if n != "cosim.cycles"})
    (gone,) = compare(BEFORE, fewer, Tolerances(cycles=10**9))
    (come,) = compare(fewer, BEFORE, Tolerances(cycles=10**9))
    assert (gone.before, gone.now, gone.over) == ("1,000", "", True)
    assert (come.before, come.now, come.over) == ("", "1,000", True)


def finished(name: str, outcome: Result | Failed) -> Finished:
    return Finished(case=Case(name=name, job=Job(model="m", arch="a")), outcome=outcome)


GOOD = Result(measured=BEFORE, seconds=1.25)
RUN = (
    finished("same", GOOD),
    finished("slower", Result(measured=moved("simulate.cycles", 1010), seconds=0.5)),
    finished("wrong", Result(measured=BEFORE, failures=("Y[0] \x1b: expected 1, got 2 <&>",))),
    finished("broken", Failed(message="the model must be a file")),
    finished("fresh", GOOD),
)
BASELINE = dict.fromkeys(("same", "slower", "wrong", "broken", "gone"), BEFORE)
SUITE = Suite(name="s", cases=tuple(each.case for each in RUN))


def verdicts() -> tuple[Verdict, ...]:
    return judge(RUN, BASELINE, EXACT)


def test_each_case_gets_its_verdict() -> None:
    assert {each.name: each.status for each in verdicts()} == {
        "same": Status.PASSED,
        "slower": Status.CHANGED,
        "wrong": Status.FAILED,
        "broken": Status.ERROR,
        "fresh": Status.NEW,
        "gone": Status.MISSING,
    }


def test_messages_say_what_and_by_how_much() -> None:
    messages = {each.name: each.messages for each in verdicts()}
    assert messages["same"] == ()
    assert messages["slower"] == ("simulate.cycles must be 1,000, not 1,010 (+10 (+1 %), allowed 0)",)
    assert messages["broken"] == ("the model must be a file",)
    assert messages["fresh"] == ("the baseline has no such case; --update writes it",)
    assert messages["gone"] == ("the baseline has this case and the suite has not; --update removes it",)


def test_a_wrong_bit_fails_whatever_the_baseline_and_tolerances() -> None:
    loose = Tolerances(cycles=10**9, energy_percent=100.0, bits=100, resources_percent=100.0)
    (verdict,) = judge(RUN[2:3], {"wrong": BEFORE}, loose)
    assert verdict.status is Status.FAILED


def test_junit_parses_and_its_counts_agree() -> None:
    root = ET.fromstring(junit_text(SUITE, verdicts()))
    (group,) = root
    cases = group.findall("testcase")
    assert [case.get("name") for case in cases] == ["same", "slower", "wrong", "broken", "fresh", "gone"]
    assert int(group.get("tests", "")) == len(cases) == 6
    assert int(group.get("failures", "")) == len(group.findall("testcase/failure")) == 4
    assert int(group.get("errors", "")) == len(group.findall("testcase/error")) == 1
    assert float(group.get("time", "")) == 1.25 + 0.5 + 0.0 + 1.25
    failure = cases[2].find("failure")
    assert failure is not None
    assert failure.text == "Y[0] \N{REPLACEMENT CHARACTER}: expected 1, got 2 <&>"


def test_json_has_the_documented_keys() -> None:
    document = json.loads(json.dumps(json_document(SUITE, verdicts())))
    assert document["passed"] is False
    slower = document["cases"][1]
    assert slower.keys() == {
        "name", "status", "kept", "seconds", "figures", "bits", "messages", "changes",
    }  # fmt: skip
    assert slower["changes"][0]["difference"] == "+10 (+1 %)"
    reference = (ROOT / "docs/cli.md").read_text().partition("\n## Regressions\n")[2]
    assert {key for key in (*document, *slower) if f"`{key}`" not in reference} == set()
    assert json_document(SUITE, verdicts()[:1])["passed"] is True


def test_exit_follows_the_worst_case() -> None:
    by_name = {each.name: each for each in verdicts()}
    require_passed([by_name["same"]])
    with pytest.raises(
        ArchsimError, match=r"^every case must be as its baseline, not 1 error of 2\nbroken: "
    ):
        require_passed([by_name["same"], by_name["broken"]])
    for name in ("slower", "wrong", "fresh", "gone"):
        with pytest.raises(CheckFailedError):
            require_passed([by_name["broken"], by_name[name]])
    crashed = judge([finished("c", Failed(message="died", crashed=True))], {}, EXACT)
    with pytest.raises(CheckFailedError):
        require_passed(crashed)


def test_a_renewed_baseline_has_the_new_and_keeps_what_was_not_run() -> None:
    new = renewed(BASELINE, RUN[1:2], ["same", "slower", "wrong"])
    assert set(new) == {"same", "slower", "wrong"}
    assert new["slower"].figures["simulate.cycles"] == 1010
    assert new["same"] is BEFORE


def test_a_baseline_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    assert read_baseline(path) is None
    path.write_text(json.dumps(baseline_document("s", BASELINE)))
    assert read_baseline(path) == BASELINE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be a baseline as --update writes it: the file: Invalid JSON"),
        ('{"format": 1}', "must be a baseline as --update writes it: suite: Field required"),
        ('{"format": 2, "suite": "s", "cases": {}}', "must be a baseline of format 1, not 2; use --update"),
        (
            '{"format": 1, "suite": "s", "cases": {"c": {"figures": {"x": "1"}, "bits": {}}}}',
            "must be a baseline as --update writes it: cases.c.figures.x.int: Input should be",
        ),
    ],
)
def test_what_is_no_baseline_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(ArchsimError, match=f"^{re.escape(f'{path} {message}')}"):
        read_baseline(path)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_a_baseline_has_no_figure_that_nothing_differs_from(tmp_path: Path, value: str) -> None:
    path = tmp_path / "nan.json"
    document = json.dumps(baseline_document("s", {"a": moved("simulate.cycles", 7.5)}))
    path.write_text(document.replace("7.5", value))
    with pytest.raises(ArchsimError, match="must be a baseline as --update writes it"):
        read_baseline(path)
