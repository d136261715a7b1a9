"""The file of a spatial machine: YAML that people write, to the ``Spatial`` that the estimate reads."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from archsim._errors import ArchsimError
from archsim._spatial import OPERATORS, Area, Assumptions, Buffer, Cores, Dram, Operator, Spatial
from archsim._yaml_file import JSON_SCHEMA, Document, read_document, read_text, suggestion, validate

_SUFFIXES = (".yaml", ".yml")
_Side = Annotated[int, Field(ge=1, le=1 << 16)]
_Price = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
_OperatorName = Literal["mac", "add", "max", "divide", "exp"]


class _Section(BaseModel):
    """A mapping in which every key is known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Array(_Section):
    rows: _Side = Field(description="elements along the keys")
    cols: _Side = Field(description="elements along the queries")
    operators: list[_OperatorName] = Field(min_length=1)
    words: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=1, description="scores that an element keeps in place"
    )


class _Lanes(_Section):
    lanes: _Side
    operators: list[_OperatorName] = Field(min_length=1)


class _Operator(_Section):
    cycles: Annotated[int, Field(ge=1, le=1024)] | None = Field(default=None, description="cycles of one")
    pj: _Price | None = Field(default=None, description="energy of one in pJ")
    macs: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, description="multiply-accumulates that it is made of, in place of cycles and pj"
    )


class _Buffer(_Section):
    bytes: Annotated[int, Field(ge=1, le=1 << 50)]
    read_pj_per_word: _Price
    write_pj_per_word: _Price


class _Dram(_Section):
    bytes_per_second: Annotated[int, Field(ge=1, le=1 << 60)]
    pj_per_bit: _Price


class _Assumptions(_Section):
    difference_in_exp: bool = Field(default=False, description="a lane subtracts as it exponentiates")
    results_stream: bool = Field(default=False, description="lanes take results as they leave the array")
    block_bytes: Annotated[int, Field(ge=1, le=1 << 50)] | None = Field(
        default=None, description="bytes dealt out to a block of query rows; by default the whole buffer"
    )
    spilled_rows: Annotated[int, Field(ge=1, le=1 << 30)] = Field(
        default=1024, description="query rows for one reading of keys and values where scores spill"
    )
    array_fill: bool = Field(default=False, description="filling and draining the array takes cycles")
    register_pj_per_operation: _Price = Field(default=0.0, description="energy of the register files")
    leakage_pj_per_cycle: _Price = Field(default=0.0, description="energy that the whole machine leaks")


class _Cores(_Section):
    count: Annotated[int, Field(ge=1, le=1 << 16)]
    latency_cycles: Annotated[int, Field(ge=0, le=1 << 20)] = Field(
        description="from a core's request to the first word from memory"
    )


class _Area(_Section):
    element_um2: _Price
    lane_um2: _Price
    buffer_um2_per_byte: _Price


class SpatialFile(_Section):
    """The schema of a spatial machine's file: units are in the keys' names."""

    kind: Literal["spatial"]
    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    source: str = Field(min_length=1, max_length=2000, description="who publishes the figures, and where")
    clock_mhz: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
    word_bits: Literal[8, 16, 32, 64]
    array: _Array
    vector: _Lanes
    operators: dict[_OperatorName, _Operator]
    buffer: _Buffer
    dram: _Dram
    assumptions: _Assumptions = _Assumptions()
    area: _Area | None = None
    cores: _Cores | None = Field(
        default=None, description="machines like this one that share the memory; all else is one core's"
    )


def load_spatial(name_or_path: str | Path) -> Spatial:
    """The spatial machine of that library name, or in that ``.yaml`` file.

    Raises ArchsimError with file, line and key where the file cannot be used, and with the nearest
    name where the library has none such.
    """
    if isinstance(name_or_path, Path) or name_or_path.endswith(_SUFFIXES):
        path = Path(name_or_path)
        return parse_spatial(read_text(path), source=str(path))
    if name_or_path not in (names := spatial_names()):
        raise ArchsimError(
            f"the spatial machine must be a .yaml file or one of {', '.join(names)},"
            f" not {name_or_path[:100]!r}{suggestion(name_or_path, names)}"
        )
    return parse_spatial(spatial_text(name_or_path), source=f"spatial/{name_or_path}.yaml")


def spatial_text(name: str) -> str:
    """The file of one of the library's spatial machines, with its comments."""
    return (resources.files("archsim") / "library" / "spatial" / f"{name}.yaml").read_text("utf-8")


def spatial_names() -> tuple[str, ...]:
    """The library's spatial machines."""
    files = (resources.files("archsim") / "library" / "spatial").iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def parse_spatial(text: str, *, source: str = "<text>") -> Spatial:
    """The spatial machine that ``text`` describes; ``source`` names it in messages."""
    document = read_document(text, source=source)
    file = validate(document, SpatialFile)
    operators = _operators(file, document)
    return Spatial(
        name=file.name,
        clock_mhz=float(file.clock_mhz),
        word_bits=file.word_bits,
        rows=file.array.rows,
        cols=file.array.cols,
        lanes=file.vector.lanes,
        array_operators=frozenset(file.array.operators),
        lane_operators=frozenset(file.vector.operators),
        operators=operators,
        buffer=Buffer(**file.buffer.model_dump()),
        dram=Dram(**file.dram.model_dump()),
        element_words=file.array.words,
        assumptions=Assumptions(**file.assumptions.model_dump()),
        area=None if file.area is None else Area(**file.area.model_dump()),
        cores=None if file.cores is None else Cores(**file.cores.model_dump()),
    )


def _operators(file: SpatialFile, document: Document) -> dict[str, Operator]:
    """The operators' costs: given, or those of the multiply-accumulates that they are made of."""
    for name in dict.fromkeys((*file.array.operators, *file.vector.operators, "mac")):
        if name not in file.operators:
            raise document.error(("operators",), f"operators.{name} must be given")
    return {name: _operator(name, file, document) for name in OPERATORS if name in file.operators}


def _operator(name: _OperatorName, file: SpatialFile, document: Document) -> Operator:
    given = file.operators[name]
    if given.macs is None and given.cycles is not None and given.pj is not None:
        return Operator(cycles=given.cycles, pj=given.pj)
    mac = file.operators["mac"]
    if given.macs and given.cycles is given.pj is None and mac.cycles is not None and mac.pj is not None:
        return Operator(cycles=given.macs * mac.cycles, pj=given.macs * mac.pj, macs=given.macs)
    wanted = "cycles and pj" if name == "mac" else "either cycles and pj, or macs"
    raise document.error(("operators", name), f"operators.{name} must have {wanted}")


def spatial_schema() -> dict[str, Any]:
    """The JSON Schema of a spatial machine's file, for editors."""
    schema = SpatialFile.model_json_schema()
    return {"$schema": JSON_SCHEMA, **schema, "title": "archsim spatial machine"}
