"""The constraints file: what a person fixes of the mappings on a hierarchy, laid over its own constraints."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from archsim._errors import ArchsimError
from archsim._hierarchy import KINDS, Dataflow, Hierarchy, Level, SpatialDimension
from archsim._yaml_file import JSON_SCHEMA, Document, dotted, read_document, read_text, suggestion, validate
from archsim._yaml_file import Path as KeyPath

_TENSORS = ("hold", "bypass", "double_buffer")


class _Section(BaseModel):
    """A mapping in which every key is known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Spatial(_Section):
    name: str = Field(description="one of the level's spatial dimensions")
    ranks: list[str] = Field(description="the only ranks that may be spread over it")


class _Level(_Section):
    name: str = Field(description="one of the hierarchy's levels")
    hold: list[str] | None = Field(default=None, description="tensors or kinds that it must hold")
    bypass: list[str] | None = Field(default=None, description="tensors or kinds that it must not hold")
    double_buffer: list[str] | None = Field(
        default=None, description="tensors or kinds whose tiles count twice"
    )
    spatial: list[_Spatial] = Field(default=[], description="ranks of its spatial dimensions")


class ConstraintsFile(_Section):
    """The constraints file's schema: a key that is given replaces the hierarchy's, others stay."""

    dataflow: Dataflow | None = None
    levels: Annotated[list[_Level], Field(max_length=8)] = []


def load_constraints(
    path: Path, hierarchy: Hierarchy, *, tensors: Collection[str], ranks: Collection[str]
) -> Hierarchy:
    """``hierarchy`` under the constraints of a ``.yaml`` file.

    ``tensors`` and ``ranks`` are those that it may name, besides the kinds input, weight and output.
    Raises ArchsimError with file, line and key where it cannot be used.
    """
    text = read_text(path)
    return parse_constraints(text, hierarchy, tensors=tensors, ranks=ranks, source=str(path))


def parse_constraints(
    text: str,
    hierarchy: Hierarchy,
    *,
    tensors: Collection[str],
    ranks: Collection[str],
    source: str = "<text>",
) -> Hierarchy:
    """``hierarchy`` under the constraints that ``text`` states; ``source`` names it in messages."""
    document = read_document(text, source=source)
    file = validate(document, ConstraintsFile)
    known = {level.name: number for number, level in enumerate(hierarchy.levels)}
    levels = list(hierarchy.levels)
    for number, section in enumerate(file.levels):
        path: KeyPath = ("levels", number)
        _require(document, (*path, "name"), section.name, list(known))
        if section.name in [earlier.name for earlier in file.levels[:number]]:
            raise _refused(
                document, (*path, "name"), f"a level that is not given before, not {section.name!r}"
            )
        _check(section, document, path, outermost=known[section.name] == 0, names=(tensors, ranks))
        level = known[section.name]
        levels[level] = _constrained(levels[level], section, document, path)
    return replace(hierarchy, levels=tuple(levels), dataflow=file.dataflow or hierarchy.dataflow)


def constraints_schema() -> dict[str, Any]:
    """The JSON Schema of the constraints file, for editors."""
    return {"$schema": JSON_SCHEMA, **ConstraintsFile.model_json_schema(), "title": "archsim constraints"}


def _check(
    section: _Level,
    document: Document,
    path: KeyPath,
    *,
    outermost: bool,
    names: tuple[Collection[str], Collection[str]],
) -> None:
    """Refuse tensors and ranks that are not there, and limits on the level that holds everything."""
    tensors, ranks = names
    for key in ("hold", "bypass"):
        if outermost and getattr(section, key):
            raise _refused(document, (*path, key), "absent (the outermost level holds all, once), not given")
    for key in _TENSORS:
        for place, name in enumerate(getattr(section, key) or ()):
            _require(document, (*path, key, place), name, [*KINDS, *tensors])
    for number, dimension in enumerate(section.spatial):
        for place, rank in enumerate(dimension.ranks):
            _require(document, (*path, "spatial", number, "ranks", place), rank, list(ranks))


def _constrained(level: Level, section: _Level, document: Document, path: KeyPath) -> Level:
    result = replace(
        level,
        hold=level.hold if section.hold is None else tuple(section.hold),
        bypass=level.bypass if section.bypass is None else tuple(section.bypass),
        double_buffer=level.double_buffer if section.double_buffer is None else tuple(section.double_buffer),
        spatial=_spatial(level, section, document, path),
    )
    for name in result.hold:
        if name in result.bypass:
            key = "hold" if section.hold is not None else "bypass"
            raise _refused(
                document, (*path, key), f"free of what {level.name} must both hold and bypass: {name!r}"
            )
    return result


def _spatial(
    level: Level, section: _Level, document: Document, path: KeyPath
) -> tuple[SpatialDimension, ...]:
    dimensions = {dimension.name: dimension for dimension in level.spatial}
    for number, given in enumerate(section.spatial):
        _require(document, (*path, "spatial", number, "name"), given.name, list(dimensions))
        dimensions[given.name] = replace(dimensions[given.name], ranks=tuple(given.ranks))
    return tuple(dimensions.values())


def _require(document: Document, path: KeyPath, name: str, known: list[str]) -> None:
    if name not in known:
        listed = ", ".join(known[:12]) + (" ..." if len(known) > 12 else "")
        wanted = f"one of {listed}" if known else "absent (there are none)"
        raise _refused(document, path, f"{wanted}, not {name[:60]!r}{suggestion(name, known)}")


def _refused(document: Document, path: KeyPath, wanted: str) -> ArchsimError:
    return document.error(path, f"{dotted(path)} must be {wanted}")
