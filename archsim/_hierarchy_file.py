"""The hierarchy file: YAML that people write, to the ``Hierarchy`` that the exact mapper reads."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from archsim._errors import ArchsimError
from archsim._hierarchy import Dataflow, Hierarchy, Level, RaggedSteps, SpatialDimension
from archsim._yaml_file import (
    JSON_SCHEMA,
    Document,
    dotted,
    read_document,
    read_text,
    suggestion,
    validate,
)

_SUFFIXES = (".yaml", ".yml")
_NAME = r"^[A-Za-z_][A-Za-z0-9_.-]*$"


def _positive(value: float) -> float:
    if not 0 < value <= 1e12:
        raise ValueError("a number above 0, at most 1e12")
    return value


def _energy(value: float) -> float:
    if not 0 <= value <= 1e9:
        raise ValueError("a number from 0 to 1e9")
    return value


_Positive = Annotated[float, AfterValidator(_positive), Field(allow_inf_nan=False)]
_Energy = Annotated[float, AfterValidator(_energy), Field(allow_inf_nan=False)]
_Bits = Annotated[int, Field(ge=1, le=1024)]
_Name = Annotated[str, Field(min_length=1, max_length=60, pattern=_NAME)]


class _Section(BaseModel):
    """A mapping in which every key is known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Spatial(_Section):
    name: _Name
    size: Annotated[int, Field(ge=1, le=1 << 20)] = Field(description="instances along it")
    ranks: list[str] | None = Field(default=None, description="the only ranks that may be spread over it")


class _Level(_Section):
    name: _Name
    read_pj_per_bit: _Energy
    write_pj_per_bit: _Energy
    size_bits: Annotated[int, Field(ge=1, le=1 << 50)] | None = Field(
        default=None, description="bits that one instance holds; absent for no limit"
    )
    bandwidth_bits_per_cycle: _Positive | None = Field(
        default=None, description="shared by reads and writes of one instance; absent for no limit"
    )
    spatial: list[_Spatial] = Field(default=[], description="how instances stand below the level outside")
    hold: list[str] = Field(default=[], description="tensors or kinds (input, weight, output) it must hold")
    bypass: list[str] = Field(default=[], description="tensors or kinds that it must not hold")
    double_buffer: list[str] = Field(default=[], description="tensors or kinds whose tiles count twice")


class HierarchyFile(_Section):
    """The hierarchy file's schema: levels from the outermost to the innermost, units in the keys' names."""

    kind: Literal["hierarchy"]
    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    clock_mhz: _Positive
    mac_pj: _Energy = Field(description="energy of one multiply-accumulate")
    levels: list[_Level] = Field(min_length=2, max_length=8)
    input_bits: _Bits = Field(default=8, description="bits of an element of an Einsum's first operand")
    weight_bits: _Bits = Field(default=8, description="bits of an element of any later operand")
    output_bits: _Bits = Field(default=8, description="bits of an element of the result")
    dataflow: Dataflow = "any"
    ragged_steps: RaggedSteps = Field(
        default="whole", description="whether lanes that a last tile leaves without work are lost"
    )


def load_hierarchy(name_or_path: str | Path) -> Hierarchy:
    """The hierarchy of that library name, or in that ``.yaml`` file.

    Raises ArchsimError with file, line and key where the file cannot be used, and with the nearest
    name where the library has none such.
    """
    if isinstance(name_or_path, Path) or name_or_path.endswith(_SUFFIXES):
        path = Path(name_or_path)
        return parse_hierarchy(read_text(path), source=str(path))
    if name_or_path not in (names := hierarchy_names()):
        raise ArchsimError(
            f"the hierarchy must be a .yaml file or one of {', '.join(names)}, not {name_or_path[:100]!r}"
            + suggestion(name_or_path, names)
        )
    return parse_hierarchy(hierarchy_text(name_or_path), source=f"{name_or_path}.yaml")


def hierarchy_text(name: str) -> str:
    """The file of one of the library's hierarchies, with its comments."""
    return (resources.files("archsim") / "library" / "hierarchy" / f"{name}.yaml").read_text("utf-8")


def hierarchy_names() -> tuple[str, ...]:
    """The library's hierarchies, sorted, shorter names first."""
    files = (resources.files("archsim") / "library" / "hierarchy").iterdir()
    names = [file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")]
    return tuple(sorted(names, key=lambda name: (len(name), name)))


def is_hierarchy(name_or_path: str | Path) -> bool:
    """Whether the name or the file is a hierarchy's: a library name, or a file with ``kind: hierarchy``.

    Raises ArchsimError where a file cannot be read; a name that no library has is no hierarchy.
    """
    if isinstance(name_or_path, str) and not name_or_path.endswith(_SUFFIXES):
        return name_or_path in hierarchy_names()
    path = Path(name_or_path)
    value = read_document(read_text(path), source=str(path)).value
    return isinstance(value, dict) and value.get("kind") == "hierarchy"


def parse_hierarchy(text: str, *, source: str = "<text>") -> Hierarchy:
    """The hierarchy that ``text`` describes; ``source`` names it in messages."""
    document = read_document(text, source=source)
    file = validate(document, HierarchyFile)
    _check(file, document)
    return Hierarchy(
        name=file.name,
        clock_mhz=float(file.clock_mhz),
        levels=tuple(_level(level) for level in file.levels),
        mac_pj=float(file.mac_pj),
        input_bits=file.input_bits,
        weight_bits=file.weight_bits,
        output_bits=file.output_bits,
        dataflow=file.dataflow,
        ragged_steps=file.ragged_steps,
    )


def _level(section: _Level) -> Level:
    bandwidth = section.bandwidth_bits_per_cycle
    return Level(
        name=section.name,
        read_pj_per_bit=float(section.read_pj_per_bit),
        write_pj_per_bit=float(section.write_pj_per_bit),
        size_bits=section.size_bits,
        bandwidth_bits_per_cycle=None if bandwidth is None else float(bandwidth),
        spatial=tuple(_spatial(dimension) for dimension in section.spatial),
        hold=tuple(section.hold),
        bypass=tuple(section.bypass),
        double_buffer=tuple(section.double_buffer),
    )


def _spatial(section: _Spatial) -> SpatialDimension:
    ranks = None if section.ranks is None else tuple(section.ranks)
    return SpatialDimension(name=section.name, size=section.size, ranks=ranks)


def _check(file: HierarchyFile, document: Document) -> None:
    """Refuse what no single key shows."""
    first = file.levels[0]
    for key in ("size_bits", "spatial", "hold", "bypass"):
        if getattr(first, key) not in (None, []):
            path = ("levels", 0, key)
            raise document.error(
                path, f"{dotted(path)} must be absent (the outermost level holds all, once), not given"
            )
    names = [level.name for level in file.levels]
    names += [dimension.name for level in file.levels for dimension in level.spatial]
    for name in names:
        if names.count(name) > 1:
            raise document.error(
                ("levels",), f"levels and spatial dimensions must have one name each: {name!r}"
            )
    for number, level in enumerate(file.levels):
        for tensor in level.hold:
            if tensor in level.bypass:
                path = ("levels", number, "bypass")
                raise document.error(path, f"{dotted(path)} must not repeat what hold has, not {tensor!r}")


def hierarchy_schema() -> dict[str, Any]:
    """The JSON Schema of the hierarchy file, for editors."""
    return {"$schema": JSON_SCHEMA, **HierarchyFile.model_json_schema(), "title": "archsim hierarchy"}
