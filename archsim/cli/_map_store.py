"""Answers of the exact search on disk, each under a digest of all that it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from archsim._errors import ArchsimError
from archsim._nest import Nest, parse_nest
from archsim._nest_cost import NestCost, evaluate_nest
from archsim.cli._map_value import Answer, Task
from archsim.cli._write import write_text
from mapper._distinct import problem_key

_SOURCES = {
    "archsim": ("_hierarchy.py", "_nest*.py"),
    "mapper": ("_exact*.py", "_distinct.py"),
    "workloads": ("_einsum.py",),
}
"""Package -> the sources on which an answer depends."""


@dataclass(slots=True, eq=False)
class Store:
    """A folder of answers; entries of another version of the program are not read, and written over."""

    folder: Path
    notices: list[str] = field(default_factory=list)
    """Entries that could not be read, in words."""

    def get(self, task: Task) -> Answer | None:
        """The answer to ``task`` where this version found it before."""
        path = self._path(task)
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            if entry["program"] != program_digest():
                return None
            return _answer(entry, task)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.notices.append(f"{path} is damaged and is made again: {_cause(error)}")
            return None

    def put(self, task: Task, raw: Mapping[str, Any]) -> None:
        """Keep an answer, whole or not at all; a folder that cannot be written is a notice."""
        entry = {"program": program_digest(), "problem": task.text, "answer": raw}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self._path(task), json.dumps(entry, indent=1) + "\n")
        except OSError as error:
            notice = f"{self.folder} cannot keep results: {error.strerror}"
            if notice not in self.notices:
                self.notices.append(notice)

    def _path(self, task: Task) -> Path:
        return self.folder / f"{problem_key(task.text)}.json"


def _answer(entry: Mapping[str, Any], task: Task) -> Answer:
    if entry["problem"] != task.text:
        raise ValueError("it answers another problem")
    return answer_of(entry["answer"], task, cached=True)


def answer_of(raw: Mapping[str, Any], task: Task, *, cached: bool) -> Answer:
    """The answer that a search gave; each mapping is priced again, and must cost what is written.

    Raises ValueError, KeyError or TypeError where it is not one.
    """
    points = tuple(_point(point, task) for point in raw["points"])
    if type(raw["proved_optimal"]) is not bool or raw["factors"] not in ("perfect", "imperfect"):
        raise ValueError("it is not what a search writes")
    return Answer(
        points=points,
        proved_optimal=raw["proved_optimal"],
        gap=float(raw["gap"]),
        evaluated=int(raw["evaluated"]),
        factors=raw["factors"],
        search_s=float(raw["search_s"]),
        cached=cached,
    )


def _point(raw: Mapping[str, Any], task: Task) -> tuple[Nest, NestCost]:
    nest = parse_nest(raw["mapping"], task.problem.like)
    cost = evaluate_nest(nest, task.problem.hierarchy)
    if (cost.energy_pj, cost.cycles) != (raw["energy_pj"], raw["cycles"]):
        raise ValueError("a mapping does not cost what is written")
    return nest, cost


@cache
def program_digest() -> str:
    """Digest of the sources that find and price mappings, and of the libraries they compute with."""
    digest = hashlib.sha256(" ".join(version(name) for name in ("numba", "numpy")).encode())
    for package, patterns in _SOURCES.items():
        spec = find_spec(package)
        assert spec is not None, "the packages are installed together"
        for folder in spec.submodule_search_locations or ():
            for path in sorted(path for pattern in patterns for path in Path(folder).glob(pattern)):
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _cause(error: Exception) -> str:
    if isinstance(error, ArchsimError):
        return str(error)
    with suppress(AttributeError):
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
    return "it is not what a search writes" if isinstance(error, KeyError | TypeError) else str(error)
