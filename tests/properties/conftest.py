"""The summary of the co-simulated properties at the end of a run."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each test that recorded figures: how many triples ran, and how many mismatched."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    recorded = [each for each in reports if each.when == "call" and dict(each.user_properties).get("triples")]
    if not recorded:
        return
    terminalreporter.section("hardware against prediction")
    for report in recorded:
        figures = ", ".join(f"{value} {name}" for name, value in report.user_properties)
        terminalreporter.write_line(f"{report.nodeid.rsplit('::')[-1]}: {figures}")
