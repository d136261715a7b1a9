"""The architecture file: YAML that people write, to the ``Architecture`` that every tool reads."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from archsim._architecture import Architecture, Array, ArrayKind, Bus, Memory, Scratchpad, Vector
from archsim._energy_file import energy_table_names
from archsim._errors import ArchsimError
from archsim._yaml_file import Document, dotted, read_document, read_text, suggestion, validate

_SUFFIXES = (".yaml", ".yml")
_ABSENT: Any = None
"""Of a section that need not be given, and may not be nothing where it is."""


@dataclass(frozen=True, slots=True)
class _Between:
    """Restricts an integer to ``low`` .. ``high``, and to the powers of two in it where ``power_of_two``."""

    low: int
    high: int
    power_of_two: bool = False

    def _check(self, value: int) -> int:
        if not self.low <= value <= self.high or (self.power_of_two and value & (value - 1)):
            kind = "a power of two" if self.power_of_two else "an integer"
            raise ValueError(f"{kind} from {self.low} to {self.high}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        limits: JsonSchemaValue = {"minimum": self.low, "maximum": self.high}
        if self.power_of_two:
            limits = {"enum": [1 << bit for bit in range(21) if self.low <= 1 << bit <= self.high]}
        return {**handler(schema), **limits}


def _frequency(value: float) -> float:
    if not 0 < value <= 10_000:
        raise ValueError("a number above 0, at most 10000")
    return value


class _Section(BaseModel):
    """A mapping in which every key is known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Array(_Section):
    kind: ArrayKind = Field(default="dense", description="what a processing element does")
    rows: Annotated[int, _Between(1, 1024)] = Field(description="reduction lanes, R; of fusemax, keys")
    cols: Annotated[int, _Between(1, 1024)] = Field(description="output lanes, C; of fusemax, queries")
    weight_words: Annotated[int, _Between(1, 1 << 20)] | None = Field(
        default=None, description="ternary: words of R x C trits in the weight memory"
    )
    group: Literal[1, 3] | None = Field(
        default=None,
        description="ternary: activations whose sums are made once for all columns, 1 or 3",
    )


class _Bus(_Section):
    bytes: Annotated[int, _Between(4, 1024, power_of_two=True)] = Field(description="bytes of a data beat, B")
    max_burst_beats: Annotated[int, _Between(1, 256)] = Field(default=64, description="longest burst")
    outstanding: Annotated[int, _Between(1, 64)] = Field(
        default=4, description="bursts that a DMA engine may have in flight"
    )


class _Scratchpad(_Section):
    banks: Annotated[int, _Between(1, 256, power_of_two=True)]
    words_per_bank: Annotated[int, _Between(2, 1 << 20, power_of_two=True)] = Field(
        description="words of L bytes, L the power of two that holds the array's longer side"
    )


class _Accumulator(_Section):
    words: Annotated[int, _Between(2, 1 << 20, power_of_two=True)] = Field(
        description="words of one int32 per column"
    )


class _Parameters(_Section):
    words: Annotated[int, _Between(2, 1 << 16, power_of_two=True)] = Field(
        description="words of 8 bytes per lane"
    )


class _Vector(_Section):
    buffer_words: Annotated[int, _Between(2, 1 << 20, power_of_two=True)] = Field(
        description="words of one int16 per column, between passes; of fusemax, the value memory's"
    )
    rows: Annotated[int, _Between(1, 1 << 16, power_of_two=True)] = Field(
        description="row records kept at once; of fusemax, denominator records"
    )
    tables: Annotated[int, _Between(1, 4)] = Field(
        default=2, description="function tables of 256 entries; fusemax has none"
    )
    gated: bool = Field(
        default=False, description="int16 second operands, interpolated functions and absolute maxima"
    )


class _Program(_Section):
    words: Annotated[int, _Between(16, 1 << 16, power_of_two=True)] = Field(
        default=512, description="instructions that the program memory holds"
    )


class _Memory(_Section):
    read_latency_cycles: Annotated[int, _Between(1, 100_000)] = Field(
        default=32, description="from a read address to its first beat"
    )
    read_interval_cycles: Annotated[int, _Between(1, 1024)] = Field(
        default=1, description="between read beats"
    )
    write_latency_cycles: Annotated[int, _Between(1, 100_000)] = Field(
        default=16, description="from a burst's last beat to its response"
    )
    write_interval_cycles: Annotated[int, _Between(1, 1024)] = Field(
        default=1, description="between write beats"
    )


class ArchitectureFile(_Section):
    """The architecture file's schema: units are in the keys' names, words are those of the machine."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    clock_mhz: Annotated[float, AfterValidator(_frequency), Field(allow_inf_nan=False)]
    technology: str = Field(default="45nm", description="energy table: a library name, or a .yaml file")
    array: _Array
    bus: _Bus
    scratchpad: _Scratchpad
    # Which kind of array has them is checked behind the schema, for what it says on one line.
    accumulator: _Accumulator = Field(default=_ABSENT, description="of arrays other than fusemax")
    parameters: _Parameters = Field(default=_ABSENT, description="of arrays other than fusemax")
    vector: _Vector
    program: _Program = _Program()
    queue_depth: Annotated[int, _Between(1, 64)] = Field(
        default=4, description="entries of each engine's instruction queue"
    )
    memory: _Memory = _Memory()


def load_architecture(name_or_path: str | Path) -> Architecture:
    """The architecture of that library name, or in that ``.yaml`` file.

    Raises ArchsimError with file, line and key where the file cannot be used, and with the nearest
    name where the library has none such.
    """
    if isinstance(name_or_path, Path) or name_or_path.endswith(_SUFFIXES):
        path = Path(name_or_path)
        return parse_architecture(read_text(path), source=str(path))
    if name_or_path not in (names := architecture_names()):
        raise ArchsimError(
            f"the architecture must be a .yaml file or one of {', '.join(names)}, not {name_or_path[:100]!r}"
            + suggestion(name_or_path, names)
        )
    file = resources.files("archsim") / "library" / f"{name_or_path}.yaml"
    return parse_architecture(file.read_text("utf-8"), source=f"{name_or_path}.yaml")


def architecture_names() -> tuple[str, ...]:
    """The library's architectures by family, the smallest first: those for the edge before all others."""
    files = (resources.files("archsim") / "library").iterdir()
    names = [file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")]
    return tuple(sorted(names, key=_by_family_and_size))


def _by_family_and_size(name: str) -> tuple[bool, str, int, str]:
    return not name.startswith("edge"), name.partition("-")[0], len(name), name


def parse_architecture(text: str, *, source: str = "<text>") -> Architecture:
    """The architecture that ``text`` describes; ``source`` names it in messages and anchors its paths."""
    document = read_document(text, source=source)
    _refuse_kind(document)
    file = validate(document, ArchitectureFile)
    _check_sections(file, document)
    architecture = _architecture(file, Path(source).parent)
    _check(architecture, document)
    return architecture


def _refuse_kind(document: Document) -> None:
    """A file of another kind is told as such, not as an architecture with all keys wrong."""
    if isinstance(document.value, dict) and (kind := document.value.get("kind")) is not None:
        other = ": hierarchies are for archsim map" if kind == "hierarchy" else ""
        raise document.error(("kind",), f"kind must be left out of an architecture, not {kind!r:.80}{other}")


def _architecture(file: ArchitectureFile, folder: Path) -> Architecture:
    technology, dense = file.technology, file.array.kind != "fusemax"
    if technology.endswith(_SUFFIXES):
        technology = str(folder / technology)
    return Architecture(
        name=file.name,
        clock_mhz=float(file.clock_mhz),
        array=Array(**file.array.model_dump(exclude_none=True)),
        bus=Bus(**file.bus.model_dump()),
        scratchpad=Scratchpad(**file.scratchpad.model_dump()),
        accumulator_words=file.accumulator.words if dense else 0,
        parameter_words=file.parameters.words if dense else 0,
        vector=Vector(**file.vector.model_dump()),
        program_words=file.program.words,
        queue_depth=file.queue_depth,
        memory=_memory(file.memory),
        technology=technology,
    )


def _memory(section: _Memory) -> Memory:
    return Memory(
        read_latency=section.read_latency_cycles,
        read_interval=section.read_interval_cycles,
        write_latency=section.write_latency_cycles,
        write_interval=section.write_interval_cycles,
    )


def _check_sections(file: ArchitectureFile, document: Document) -> None:
    """Most arrays accumulate in memory and scale by parameters; a fusemax array does neither."""
    dense = file.array.kind != "fusemax"
    for name in ("accumulator", "parameters"):
        given = name in file.model_fields_set
        if dense and not given:
            raise document.error((name,), f"{name} must be given")
        if not dense and given:
            raise document.error((name,), f"{name} must be left out where array.kind is {file.array.kind}")


def _check(architecture: Architecture, document: Document) -> None:
    """Refuse what no single key shows: sizes that contradict each other, a technology that is not there."""
    bus, word = architecture.bus.bytes, architecture.word_bytes
    if bus > 8 * word:
        raise document.error(
            ("bus", "bytes"), f"bus.bytes must be at most {8 * word} (eight words of {word} bytes), not {bus}"
        )
    if architecture.scratchpad.words_per_bank * word < bus:
        raise document.error(
            ("scratchpad", "words_per_bank"),
            f"scratchpad.words_per_bank must be at least {bus // word} (one beat of {bus} bytes),"
            f" not {architecture.scratchpad.words_per_bank}",
        )
    _check_array(architecture.array, document)
    technology, tables = architecture.technology, energy_table_names()
    if not technology.endswith(_SUFFIXES) and technology not in tables:
        raise document.error(
            ("technology",),
            f"{dotted(('technology',))} must be a .yaml file or one of {', '.join(tables)},"
            f" not {technology[:100]!r}{suggestion(technology, tables)}",
        )


def _check_array(array: Array, document: Document) -> None:
    """Refuse a ternary array without weights, and a ternary array's keys on another."""
    if array.kind == "ternary" and not array.weight_words:
        raise document.error(
            ("array", "kind"), "array.weight_words must be given where array.kind is ternary, not left out"
        )
    for name, given in (("weight_words", array.weight_words != 0), ("group", array.group != 1)):
        if array.kind != "ternary" and given:
            raise document.error(
                ("array", name),
                f"array.{name} must be left out where array.kind is {array.kind},"
                f" not {getattr(array, name)!r}",
            )


def architecture_schema() -> dict[str, Any]:
    """The JSON Schema of the architecture file, for editors."""
    schema = ArchitectureFile.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "archsim architecture",
    }


def architecture_text(architecture: Architecture) -> str:
    """The architecture as a file: ``parse_architecture(architecture_text(a)) == a``."""
    memory = architecture.memory
    vector, bus, pad = architecture.vector, architecture.bus, architecture.scratchpad
    sections: dict[str, Any] = {
        "name": architecture.name,
        "clock_mhz": architecture.clock_mhz,
        "technology": architecture.technology,
        "array": _array_keys(architecture.array),
        "bus": {"bytes": bus.bytes, "max_burst_beats": bus.max_burst_beats, "outstanding": bus.outstanding},
        "scratchpad": {"banks": pad.banks, "words_per_bank": pad.words_per_bank},
        **_dense_sections(architecture),
        "vector": {"buffer_words": vector.buffer_words, "rows": vector.rows, "tables": vector.tables}
        | ({"gated": True} if vector.gated else {}),
        "program": {"words": architecture.program_words},
        "queue_depth": architecture.queue_depth,
        "memory": {
            "read_latency_cycles": memory.read_latency,
            "read_interval_cycles": memory.read_interval,
            "write_latency_cycles": memory.write_latency,
            "write_interval_cycles": memory.write_interval,
        },
    }
    return yaml.safe_dump(sections, sort_keys=False)


def _dense_sections(architecture: Architecture) -> dict[str, Any]:
    if architecture.array.kind == "fusemax":
        return {}
    return {
        "accumulator": {"words": architecture.accumulator_words},
        "parameters": {"words": architecture.parameter_words},
    }


def _array_keys(array: Array) -> dict[str, Any]:
    keys: dict[str, Any] = {"kind": array.kind, "rows": array.rows, "cols": array.cols}
    if array.kind == "ternary":
        keys |= {"weight_words": array.weight_words, "group": array.group}
    return keys
