"""``archsim regress``: a suite against its baseline, for continuous integration."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archsim._errors import ArchsimError
from archsim.cli._errors import CheckFailedError
from archsim.cli._options import file_option, json_option
from archsim.cli._regress_value import Failed, Result, Status
from archsim.cli._tables import print_rows
from archsim.cli._write import write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archsim.cli._regress_compare import Baseline
    from archsim.cli._regress_value import Case, Change, Finished, Suite, Verdict

RESULTS = ".archsim-regress"
"""Folder beside the suite in which finished cases are kept."""
MAX_MESSAGES = 20
"""Of one case on the terminal; JUnit and JSON have them all."""


@click.command("regress", short_help="Run a suite and compare it with its baseline.")
@click.argument("suite_path", metavar="SUITE", type=click.Path(path_type=Path))
@file_option("--baseline", help="Committed results to compare with.  [default: SUITE.baseline.json]")
@click.option("--update", is_flag=True, help="Write the results as the baseline.")
@file_option("--junit", help="Write JUnit XML.")
@json_option
@click.option(
    "--jobs", "-j", type=click.IntRange(1, 1024), metavar="N", help="Cases at once.  [default: cores]"
)
@click.option(
    "--results",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Folder where finished cases are kept.  [default: {RESULTS} beside SUITE]",
)
@click.option("--fresh", is_flag=True, help="Run every case again, also those that are kept.")
@click.option("--filter", "text", metavar="TEXT", help="Only the cases that have TEXT in their name.")
def regress_command(
    suite_path: Path,
    *,
    baseline: Path | None,
    update: bool,
    junit: Path | None,
    json_path: Path | None,
    jobs: int | None,
    results: Path | None,
    fresh: bool,
    text: str | None,
) -> None:
    """Run the cases of SUITE and compare cycles, energy, bits and resources with a baseline.

    Each case is estimated, simulated and run on its RTL. Finished cases are kept: after an interruption
    the same command goes on where it stopped, and a case whose inputs did not change is not run again.

    \b
    Examples:
      archsim regress nightly.yaml --update
      archsim regress nightly.yaml --junit results.xml

    Exits with 1 where a case changed or failed, with 2 where the input was wrong.
    """
    from archsim.cli._regress_compare import judge, read_baseline
    from archsim.cli._regress_run import run_suite
    from archsim.cli._regress_suite import load_suite

    suite = load_suite(suite_path)
    baseline = baseline or suite_path.with_suffix(".baseline.json")
    for name, path in (("--junit", junit), ("--json", json_path)):
        if path is not None and path.resolve() == baseline.resolve():
            raise ArchsimError(f"{name} must be another file than the baseline, not {str(path)!r}")
    before = _require_baseline(read_baseline(baseline), baseline, update=update)
    cases = _chosen(suite, text)
    folder = (results or suite_path.parent / RESULTS).resolve()
    finished = run_suite(cases, folder=folder, jobs=jobs or _cores(), fresh=fresh)
    verdicts = judge(finished, _chosen_of(before, text), suite.tolerances)
    print_verdicts(verdicts)
    if update:
        after = _update(suite, baseline, before, finished)
        verdicts = judge(finished, _chosen_of(after, text), suite.tolerances)
    _report(suite, verdicts, junit=junit, json_path=json_path)
    require_passed(verdicts)


def _require_baseline(found: Baseline | None, path: Path, *, update: bool) -> Baseline:
    """Refuse to run long for nothing: without a baseline there is nothing to compare with."""
    if found is None and not update:
        raise ArchsimError(
            f"{path} must be a baseline, and is not there: run with --update to write it, then commit it"
        )
    return found or {}


def _chosen(suite: Suite, text: str | None) -> Sequence[Case]:
    cases = [case for case in suite.cases if text is None or text in case.name]
    if not cases:
        names = ", ".join(repr(case.name) for case in suite.cases[:10])
        raise ArchsimError(f"--filter must be text in the name of a case, not {text!r}; cases are {names}")
    return cases


def _chosen_of(baseline: Baseline, text: str | None) -> Baseline:
    return {name: measured for name, measured in baseline.items() if text is None or text in name}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _update(suite: Suite, path: Path, before: Baseline, finished: Sequence[Finished]) -> Baseline:
    """The new baseline; it is written unless a case has no result that can be trusted."""
    from archsim.cli._regress_compare import baseline_document, renewed

    after = renewed(before, finished, [case.name for case in suite.cases])
    if all(isinstance(each.outcome, Result) and not each.outcome.failures for each in finished):
        write_json(path, baseline_document(suite.name, after))
        click.echo(f"wrote {path} with {len(after)} cases")
    else:
        click.echo(f"{path} stays as it is: every case must run and agree with its RTL first", err=True)
    return after


def _report(suite: Suite, verdicts: Sequence[Verdict], *, junit: Path | None, json_path: Path | None) -> None:
    from archsim.cli._regress_junit import json_document, junit_text

    if junit:
        write_text(junit, junit_text(suite, verdicts))
    if json_path:
        write_json(json_path, json_document(suite, verdicts))


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """The cases, and below them every figure that moved."""
    header = ("case", "verdict", "simulated cycles", "RTL cycles", "time")
    print_rows("Cases", header, map(_case_row, verdicts), text=("verdict",))
    names = ("figure", "baseline", "now", "difference", "allowed", "verdict")
    for verdict in verdicts:
        if verdict.changes:
            print_rows(
                f"Changes of {verdict.name}", names, map(_change_row, verdict.changes), text=("verdict",)
            )


def _case_row(verdict: Verdict) -> tuple[str, ...]:
    finished = verdict.finished
    outcome = finished.outcome if finished else None
    if finished is None or not isinstance(outcome, Result):
        return (verdict.name, verdict.status.value, "", "", "")
    figures = outcome.measured.figures
    cycles = [f"{figures[key]:,}" if key in figures else "" for key in ("simulate.cycles", "cosim.cycles")]
    seconds = "kept" if finished.kept else f"{outcome.seconds:.1f} s"
    return (verdict.name, verdict.status.value, *cycles, seconds)


def _change_row(change: Change) -> tuple[str, ...]:
    word = "over" if change.over else "within"
    before, now = change.before or "none", change.now or "none"
    return (change.figure, before, now, change.difference, change.allowed, word)


def require_passed(verdicts: Sequence[Verdict]) -> None:
    """Raises CheckFailedError where a case changed, failed or crashed, else ArchsimError for wrong input."""
    bad = [verdict for verdict in verdicts if verdict.status is not Status.PASSED]
    if not bad:
        return
    counts = Counter(verdict.status.value for verdict in bad)
    words = ", ".join(f"{number} {word}" for word, number in counts.items())
    lines = [f"every case must be as its baseline, not {words} of {len(verdicts)}"]
    lines += [f"{each.name}: {message}" for each in bad for message in each.messages[:MAX_MESSAGES]]
    raise (ArchsimError if all(map(_is_input, bad)) else CheckFailedError)("\n".join(lines))


def _is_input(verdict: Verdict) -> bool:
    """Whether a case could not be run because of what it was given."""
    outcome = verdict.finished.outcome if verdict.finished else None
    return isinstance(outcome, Failed) and not outcome.crashed
