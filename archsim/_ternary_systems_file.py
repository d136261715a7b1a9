"""The file of published ternary systems: what is public of each, and what is computed from that."""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from archsim._yaml_file import read_document, validate

Quantity = Literal[
    "seconds",
    "tokens_per_second",
    "prefill_tokens_per_second",
    "parameters",
    "cards",
    "power_w",
    "luts",
    "dsps",
]
Kind = Literal["measured", "simulated", "derived", "unstated"]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    """A mapping in which every key is known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SystemModel(_Section):
    """What a token multiplies by: a model of the zoo, or sizes."""

    zoo: str | None = None
    hidden: _Count | None = None
    inner: _Count | None = None
    layers: _Count | None = None
    vocab: Annotated[int, Field(ge=0)] = 0
    tied: bool = False
    source: str

    @model_validator(mode="after")
    def _named_or_sized(self) -> Self:
        sizes = (self.hidden, self.inner, self.layers)
        if (self.zoo is None) == (None in sizes):
            raise ValueError("must have either zoo, or hidden, inner and layers")
        return self


class SystemMemory(_Section):
    """Where weights come from: bits a cycle of the clock, bytes a second, or bytes on each chip."""

    interface_bits: _Count | None = None
    bytes_per_second: _Count | None = None
    chip_bytes: _Count | None = None
    source: str

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.interface_bits, self.bytes_per_second, self.chip_bytes).count(None) != 2:
            raise ValueError("must have one of interface_bits, bytes_per_second and chip_bytes")
        return self


class SystemFigure(_Section):
    """A published figure."""

    quantity: Quantity
    value: _Positive | _Count
    kind: Kind


class SystemEstimate(_Section):
    """What is computed: times and sizes by the bits of a weight, others from published figures."""

    quantity: Quantity
    assumed: str
    weight_bits: _Positive | _Count | None = None
    prompt: _Count | None = None
    first_token_s: _Positive | None = None
    tokens_per_second: _Positive | _Count | None = None
    tokens_per_joule: _Positive | _Count | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needs: dict[str, tuple[str, ...]] = {
            "prefill_tokens_per_second": ("prompt", "first_token_s"),
            "power_w": ("tokens_per_second", "tokens_per_joule"),
            "parameters": (),
        }
        missing = [name for name in needs.get(self.quantity, ("weight_bits",)) if getattr(self, name) is None]
        if missing:
            raise ValueError(f"must have {missing[0]} for {self.quantity}")
        return self


class System(_Section):
    """One published system."""

    name: str
    title: str
    source: str
    board: str
    clock_mhz: _Positive | _Count | None = None
    model: SystemModel
    memory: SystemMemory
    published: list[SystemFigure]
    estimates: list[SystemEstimate]
    undetermined: str

    @model_validator(mode="after")
    def _clocked(self) -> Self:
        if self.memory.interface_bits and self.clock_mhz is None:
            raise ValueError("must have clock_mhz where its memory has interface_bits")
        return self


class SystemsFile(_Section):
    """The schema of the file."""

    name: str
    systems: list[System] = Field(min_length=1)


def load_systems() -> tuple[System, ...]:
    """The published ternary systems of the library."""
    text = (resources.files("archsim") / "library" / "published" / "matmulfree.yaml").read_text("utf-8")
    return parse_systems(text, source="published/matmulfree.yaml")


def parse_systems(text: str, *, source: str = "<text>") -> tuple[System, ...]:
    """The systems in ``text``; raises ArchsimError where it is not such a file."""
    return tuple(validate(read_document(text, source=source), SystemsFile).systems)
