"""Settings that every test shares."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

# Deadlines measure the machine, not the code; the same examples on every run make a failure a fact.
settings.register_profile(
    "archsim",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile(
    "search",
    deadline=None,
    max_examples=2000,
    database=DirectoryBasedExampleDatabase(".cache/hypothesis"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("archsim")


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
