"""A run against its baseline: which figures moved, and whether by more than is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from archsim import ArchsimError
from archsim.cli._regress_value import (
    Change,
    Failed,
    Finished,
    Measured,
    Result,
    Status,
    Tolerances,
    Verdict,
)

FORMAT = 1
"""Of the baseline file."""
ROUNDING = 1e-11
"""Relative difference of energies that the order of a sum may make."""
_SHOWN_DIGITS = 12

Baseline = Mapping[str, Measured]


class _CaseFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    figures: dict[str, int | FiniteFloat]
    bits: dict[str, str]


class _BaselineFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    format: int
    suite: str
    cases: dict[str, _CaseFile]


def read_baseline(path: Path) -> Baseline | None:
    """The baseline in a file, or None where there is none; raises ArchsimError where it is no baseline."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ArchsimError(f"{path} must be a baseline that can be read: {error}") from error
    try:
        file = _BaselineFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ArchsimError(
            f"{path} must be a baseline as --update writes it: {place}: {first['msg']}"
        ) from error
    if file.format != FORMAT:
        raise ArchsimError(f"{path} must be a baseline of format {FORMAT}, not {file.format}; use --update")
    return {name: Measured(figures=case.figures, bits=case.bits) for name, case in file.cases.items()}


def baseline_document(suite: str, baseline: Baseline) -> dict[str, object]:
    """A baseline as JSON values: nothing in it depends on when or how fast it was made."""
    cases = {name: measured.document() for name, measured in baseline.items()}
    return {"format": FORMAT, "suite": suite, "cases": cases}


def renewed(baseline: Baseline | None, finished: Sequence[Finished], names: Sequence[str]) -> Baseline:
    """The baseline with the new results; of the cases that were not run, those in ``names`` stay."""
    stays = {name: measured for name, measured in (baseline or {}).items() if name in names}
    results = {each.case.name: each.outcome for each in finished}
    new = {name: outcome.measured for name, outcome in results.items() if isinstance(outcome, Result)}
    return stays | new


def judge(finished: Sequence[Finished], baseline: Baseline, tolerances: Tolerances) -> tuple[Verdict, ...]:
    """A verdict on each case that was run, and then one on each that only ``baseline`` has."""
    names = {each.case.name for each in finished}
    missing = [Verdict(name=name, status=Status.MISSING) for name in baseline if name not in names]
    found = [_verdict(each, baseline.get(each.case.name), tolerances) for each in finished]
    return (*found, *missing)


def _verdict(finished: Finished, before: Measured | None, tolerances: Tolerances) -> Verdict:
    outcome, name = finished.outcome, finished.case.name
    if isinstance(outcome, Failed):
        return Verdict(name=name, status=Status.ERROR, finished=finished)
    changes = () if before is None else compare(before, outcome.measured, tolerances)
    if outcome.failures:
        status = Status.FAILED
    elif before is None:
        status = Status.NEW
    else:
        status = Status.CHANGED if any(change.over for change in changes) else Status.PASSED
    return Verdict(name=name, status=status, finished=finished, changes=changes)


def compare(before: Measured, now: Measured, tolerances: Tolerances) -> tuple[Change, ...]:
    """Every figure and every tensor that is not as it was, in the order of their names."""
    return (*_figures(before, now, tolerances), *_bits(before, now, tolerances))


def _figures(before: Measured, now: Measured, tolerances: Tolerances) -> Iterator[Change]:
    for name in sorted({*before.figures, *now.figures}):
        old, new = before.figures.get(name), now.figures.get(name)
        if old is None or new is None:
            yield Change(figure=name, before=_text(old), now=_text(new), difference="", allowed="", over=True)
        elif abs(new - old) > _rounding(old, new):
            allowed, words = _allowed(name, old, tolerances)
            over = abs(new - old) > allowed + _rounding(old, new)
            yield Change(
                figure=name,
                before=_text(old),
                now=_text(new),
                difference=_difference(old, new),
                allowed=words,
                over=over,
            )


def _rounding(old: float, new: float) -> float:
    """Integers are compared as they are."""
    return 0.0 if isinstance(old, int) and isinstance(new, int) else ROUNDING * abs(old)


def _allowed(name: str, before: float, tolerances: Tolerances) -> tuple[float, str]:
    """By how much a figure may move, and the same in words."""
    section, _, figure = name.rpartition(".")
    if figure in ("cycles", "simulated_cycles"):
        absolute, percent = tolerances.cycles, tolerances.cycles_percent
        relative = _share(before, percent)
        return (relative, f"{percent:g} %") if relative > absolute else (absolute, f"{absolute:,}")
    if figure == "energy_pj":
        return _share(before, tolerances.energy_percent), f"{tolerances.energy_percent:g} %"
    if section == "resources" or figure == "instructions":
        return _share(before, tolerances.resources_percent), f"{tolerances.resources_percent:g} %"
    return 0, "0"


def _share(before: float, percent: float) -> float:
    return abs(before) * percent / 100


def _bits(before: Measured, now: Measured, tolerances: Tolerances) -> Iterator[Change]:
    names = sorted({*before.bits, *now.bits})
    differing = [name for name in names if before.bits.get(name) != now.bits.get(name)]
    for name in differing:
        old, new = before.bits.get(name, ""), now.bits.get(name, "")
        missing = not (old and new)
        yield Change(
            figure=f"bits of {name}",
            before=old[:_SHOWN_DIGITS],
            now=new[:_SHOWN_DIGITS],
            difference="" if missing else f"{len(differing)} of {len(names)} tensors",
            allowed="" if missing else f"{tolerances.bits:,}",
            over=missing or len(differing) > tolerances.bits,
        )


def _text(value: float | None) -> str:
    match value:
        case None:
            return ""
        case int():
            return f"{value:,}"
        case _:
            return f"{value:,.12g}"


def _difference(old: float, new: float) -> str:
    """The way from ``old`` to ``new``, absolute and relative."""
    moved = new - old
    text = f"{moved:+,}" if isinstance(moved, int) else f"{moved:+,.6g}"
    return f"{text} ({100 * moved / old:+.3g} %)" if old else text
