"""Published values to compare with: a file of figures with their source, never an input to a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from archsim._yaml_file import read_document, validate

Key = tuple[str, str, int, str, str]
"""(scope, model, length, configuration, quantity)."""


class _Section(BaseModel):
    """A mapping in which every key is known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Values(_Section):
    scope: Literal["attention", "layer"]
    model: str
    config: str
    quantity: Literal["cycles", "latency_s", "util_2d", "util_1d", "dram_bytes", "energy_pj"]
    lengths: list[int] = Field(min_length=1)
    values: list[float | int] = Field(min_length=1)


class _Mean(_Section):
    scope: Literal["attention", "layer"]
    quantity: Literal["speedup", "energy"]
    value: float
    length: int | None = None


class PublishedFile(_Section):
    """The schema of a file of published values."""

    name: str
    source: str = Field(min_length=1, max_length=2000)
    values: list[_Values]
    means: list[_Mean]


@dataclass(frozen=True, slots=True)
class Mean:
    """A published mean of FuseMax over FLAT, over all models, at one length or at all."""

    scope: str
    quantity: Literal["speedup", "energy"]
    value: float
    length: int | None


@dataclass(frozen=True, slots=True)
class Published:
    """Published values and where they are from."""

    source: str
    values: Mapping[Key, float]
    means: tuple[Mean, ...]


def load_published(name: str) -> Published:
    """The published values of that library name."""
    text = (resources.files("archsim") / "library" / "published" / f"{name}.yaml").read_text("utf-8")
    return parse_published(text, source=f"published/{name}.yaml")


def parse_published(text: str, *, source: str = "<text>") -> Published:
    """The published values in ``text``; raises ArchsimError where it is not such a file."""
    document = read_document(text, source=source)
    file = validate(document, PublishedFile)
    values: dict[Key, float] = {}
    for number, item in enumerate(file.values):
        if len(item.lengths) != len(item.values):
            raise document.error(
                ("values", number, "values"),
                f"values[{number}].values must be {len(item.lengths)} long, as lengths are,"
                f" not {len(item.values)}",
            )
        for length, value in zip(item.lengths, item.values, strict=True):
            values[item.scope, item.model, length, item.config, item.quantity] = value
    means = tuple(Mean(item.scope, item.quantity, item.value, item.length) for item in file.means)
    return Published(file.source, MappingProxyType(values), means)
