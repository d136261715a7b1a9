"""What a regression gate exchanges: cases, tolerances, results and changes, as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from archsim.cli._job import Job

Level = Literal["estimate", "simulate", "cosim"]
Figures = Mapping[str, int | float]
LEVELS: tuple[Level, ...] = ("estimate", "simulate", "cosim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """By how much a result may differ from its baseline; exact unless the suite says otherwise."""

    cycles: int = 0
    cycles_percent: float = 0.0
    """Of the baseline; the larger of the two is allowed."""
    energy_percent: float = 0.0
    bits: int = 0
    """Output tensors whose bits may differ; one that only one side has is no such tensor."""
    resources_percent: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run of a suite."""

    name: str
    """What tables, baseline and JUnit call it: the words of the suite file, so not a place on a disk."""
    job: Job
    """With paths that can be opened from anywhere."""
    seed: int = 1
    levels: tuple[Level, ...] = LEVELS

    def document(self) -> dict[str, Any]:
        """The case as JSON values; ``case_of`` reads them back."""
        job = {name: getattr(self.job, name) for name in Job.__slots__}
        return {"name": self.name, "job": job, "seed": self.seed, "levels": list(self.levels)}


def case_of(document: Mapping[str, Any]) -> Case:
    """The case whose ``document`` went through JSON."""
    job = dict(document["job"])
    job["host"] = tuple(job["host"])
    job["shapes"] = tuple((name, tuple(sizes)) for name, sizes in job["shapes"])
    return Case(
        name=document["name"], job=Job(**job), seed=document["seed"], levels=tuple(document["levels"])
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The cases of one file, in its order."""

    name: str
    cases: tuple[Case, ...]
    tolerances: Tolerances = Tolerances()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a baseline keeps of a case."""

    figures: Figures
    """Dotted name, as ``estimate.cycles`` -> count or picojoules."""
    bits: Mapping[str, str] = field(default_factory=dict)
    """Tensor that the hardware stored -> SHA-256 of its bytes."""

    def document(self) -> dict[str, Any]:
        """The measurement as JSON values."""
        return {"figures": dict(self.figures), "bits": dict(self.bits)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished case."""

    measured: Measured
    failures: tuple[str, ...] = ()
    """Where hardware and prediction disagree, in sentences; none of them depends on a baseline."""
    seconds: float = 0.0

    def text(self) -> str:
        """The result as the text of its file; ``result_of`` reads it back."""
        document = self.measured.document() | {"failures": list(self.failures), "seconds": self.seconds}
        return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def result_of(text: str) -> Result:
    """The result whose ``text`` was kept; raises ValueError or KeyError where it is no such text."""
    document = json.loads(text)
    measured = Measured(figures=document["figures"], bits=document["bits"])
    return Result(measured=measured, failures=tuple(document["failures"]), seconds=document["seconds"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A case that has no result."""

    message: str
    crashed: bool = False
    """Whether its process died, instead of refusing its input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A case with how it ended."""

    case: Case
    outcome: Result | Failed
    kept: bool = False
    """Whether the result is one that an earlier run left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A figure that is not what the baseline has."""

    figure: str
    """Dotted name, or ``bits`` of a tensor."""
    before: str
    """The baseline's, as text; empty if it has none."""
    now: str
    """This run's, as text; empty if it has none."""
    difference: str
    allowed: str
    over: bool
    """Whether it is more than the tolerance allows."""


class Status(Enum):
    """The verdict on a case."""

    PASSED = "passed"
    CHANGED = "changed"
    """Over a tolerance."""
    FAILED = "failed"
    """Hardware and prediction disagree."""
    ERROR = "error"
    """Could not be run."""
    NEW = "new"
    """Not in the baseline."""
    MISSING = "missing"
    """In the baseline, and not in the suite."""


NEW_CASE = "the baseline has no such case; --update writes it"
MISSING_CASE = "the baseline has this case and the suite has not; --update removes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate says about one case."""

    name: str
    status: Status
    finished: Finished | None = None
    """None for a case that only the baseline has."""
    changes: tuple[Change, ...] = ()

    @property
    def messages(self) -> tuple[str, ...]:
        """Why it did not pass, in sentences."""
        outcome = self.finished.outcome if self.finished else None
        match outcome:
            case Failed():
                return (outcome.message,)
            case Result():
                new = (NEW_CASE,) if self.status is Status.NEW else ()
                changed = (sentence(change) for change in self.changes if change.over)
                return (*new, *outcome.failures, *changed)
            case None:
                return (MISSING_CASE,)


def sentence(change: Change) -> str:
    """A change in words."""
    if not change.before:
        return f"{change.figure} is not in the baseline; it is {change.now}"
    if not change.now:
        return f"{change.figure} is {change.before} in the baseline, and was not measured"
    moved = f" ({change.difference}, allowed {change.allowed})" if change.difference else ""
    return f"{change.figure} must be {change.before}, not {change.now}{moved}"
