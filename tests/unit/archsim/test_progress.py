"""Lines of progress where there is no terminal."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from archsim import load_architecture
from archsim.cli._jobs import verilator_seconds
from archsim.cli._progress import Details, Steps, roughly


def test_a_log_says_how_far_a_long_step_is() -> None:
    log = io.StringIO()
    say = Details(Console(file=log, width=80), "running", every_s=0.0)
    for number in range(3):
        say(f"{number} of 3 [programs]")
    assert log.getvalue().splitlines() == [f"running: {number} of 3 [programs]" for number in range(3)]


def test_a_log_is_not_filled_with_it() -> None:
    log = io.StringIO()
    say = Details(Console(file=log, width=80), "running", every_s=math.inf)
    say("1 of 3")
    assert log.getvalue() == ""


def test_a_step_in_a_log_gets_such_lines() -> None:
    with Steps(Console(file=io.StringIO(), width=80))("running") as say:
        assert isinstance(say, Details)
        assert (say.title, say.every_s) == ("running", 10.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "under a minute"),
        (59.9, "under a minute"),
        (60.0, "about a minute"),
        (90.0, "about 2 minutes"),
        (5399.0, "about 90 minutes"),
        (5400.0, "about 2 hours"),
        (86400.0 * 400, "about 400 days"),
    ],
)
def test_a_time_ahead_in_words(seconds: float, words: str) -> None:
    assert roughly(seconds) == words


def test_a_run_s_time_is_that_of_the_measured_ones() -> None:
    for name, speed in (("edge-8x8", 660_656), ("edge-16x16", 242_205)):
        assert verilator_seconds(load_architecture(name), speed) == pytest.approx(1.0, rel=0.01)
