"""The gate's verdicts as JUnit XML, which continuous integration shows, and as JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import assert_never
from xml.etree import ElementTree as ET

from archsim.cli._regress_value import Result, Status, Suite, Verdict

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BAD = (Status.CHANGED, Status.FAILED, Status.NEW, Status.MISSING)


def junit_text(suite: Suite, verdicts: Sequence[Verdict]) -> str:
    """One test case a verdict: a failure where it is changed or wrong, an error where it did not run."""
    errors = sum(verdict.status is Status.ERROR for verdict in verdicts)
    totals = {
        "tests": str(len(verdicts)),
        "failures": str(sum(verdict.status in _BAD for verdict in verdicts)),
        "errors": str(errors),
        "time": f"{sum(map(_seconds, verdicts)):.3f}",
    }
    root = ET.Element("testsuites", totals)
    group = ET.SubElement(root, "testsuite", {"name": _clean(suite.name), "skipped": "0"} | totals)
    for verdict in verdicts:
        _add_case(group, suite, verdict)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _add_case(group: ET.Element, suite: Suite, verdict: Verdict) -> None:
    names = {"classname": _clean(suite.name), "name": _clean(verdict.name)}
    case = ET.SubElement(group, "testcase", names | {"time": f"{_seconds(verdict):.3f}"})
    match verdict.status:
        case Status.PASSED:
            pass
        case Status.ERROR:
            _add_reason(case, "error", verdict)
        case Status.CHANGED | Status.FAILED | Status.NEW | Status.MISSING:
            _add_reason(case, "failure", verdict)
        case _:
            assert_never(verdict.status)
    if figures := _figures(verdict):
        ET.SubElement(case, "system-out").text = _clean(figures)


def _add_reason(case: ET.Element, tag: str, verdict: Verdict) -> None:
    lines = verdict.messages
    reason = ET.SubElement(case, tag, {"type": verdict.status.value, "message": _clean(lines[0])})
    reason.text = _clean("\n".join(lines))


def _figures(verdict: Verdict) -> str:
    outcome = verdict.finished.outcome if verdict.finished else None
    if not isinstance(outcome, Result):
        return ""
    return "\n".join(f"{name} = {value}" for name, value in outcome.measured.figures.items())


def _seconds(verdict: Verdict) -> float:
    outcome = verdict.finished.outcome if verdict.finished else None
    return outcome.seconds if isinstance(outcome, Result) else 0.0


def _clean(text: str) -> str:
    """Text without the characters that XML cannot hold."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def json_document(suite: Suite, verdicts: Sequence[Verdict]) -> dict[str, object]:
    """The verdicts as JSON values."""
    passed = all(verdict.status is Status.PASSED for verdict in verdicts)
    return {"suite": suite.name, "passed": passed, "cases": [_case_document(each) for each in verdicts]}


def _case_document(verdict: Verdict) -> dict[str, object]:
    outcome = verdict.finished.outcome if verdict.finished else None
    measured = outcome.measured.document() if isinstance(outcome, Result) else {"figures": {}, "bits": {}}
    return measured | {
        "name": verdict.name,
        "status": verdict.status.value,
        "kept": verdict.finished is not None and verdict.finished.kept,
        "seconds": _seconds(verdict),
        "messages": list(verdict.messages),
        "changes": [asdict(change) for change in verdict.changes],
    }
