"""The energy file: YAML of published figures, to the ``EnergyTable`` that prices actions."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from archsim._energy import EnergyEntry, EnergyTable
from archsim._errors import ArchsimError
from archsim._yaml_file import Document, read_document, read_text, suggestion, validate

_SUFFIXES = (".yaml", ".yml")
_ACTIONS = {"array": ("mac", "add"), "vector": ("slot",)}


class _Section(BaseModel):
    """A mapping in which every key is known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class EntryFile(_Section):
    """One figure: what one action costs, at which width and node, and who says so."""

    component: Literal[
        "dram", "scratchpad", "accumulator", "parameters", "weights", "buffer", "table", "array", "vector"
    ] = Field(description="unit of the machine")
    action: Literal["read", "write", "mac", "add", "slot"] = Field(
        description="read or write of a memory, mac of the array, add of a ternary one, slot of a vector lane"
    )
    pj: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = Field(
        description="energy of one access of width_bits, or of one operation"
    )
    node_nm: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
    width_bits: Annotated[int, Field(ge=1, le=65536)]
    source: str = Field(min_length=1, max_length=1000, description="publication and place in it")
    kind: Literal["measured", "simulated", "derived"] = Field(
        description="measured on silicon, simulated by its authors, or derived from other figures"
    )


class EnergyFile(_Section):
    """The energy file's schema."""

    name: str = Field(min_length=1, max_length=100)
    entries: list[EntryFile] = Field(min_length=1, max_length=1000)


def load_energy_table(name_or_path: str | Path) -> EnergyTable:
    """The energy table of that library name, or in that ``.yaml`` file.

    Raises ArchsimError with file, line and key where the file cannot be used, and with the nearest
    name where the library has none such.
    """
    if isinstance(name_or_path, Path) or name_or_path.endswith(_SUFFIXES):
        path = Path(name_or_path)
        return parse_energy_table(read_text(path), source=str(path))
    if name_or_path not in (names := energy_table_names()):
        raise ArchsimError(
            f"the technology must be a .yaml file or one of {', '.join(names)}, not {name_or_path[:100]!r}"
            + suggestion(name_or_path, names)
        )
    file = resources.files("archsim") / "library" / "energy" / f"{name_or_path}.yaml"
    return parse_energy_table(file.read_text("utf-8"), source=f"energy/{name_or_path}.yaml")


def energy_table_names() -> tuple[str, ...]:
    """The library's energy tables, oldest technology first."""
    files = (resources.files("archsim") / "library" / "energy").iterdir()
    names = [file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")]
    return tuple(sorted(names, key=lambda name: (-len(name), name)))


def parse_energy_table(text: str, *, source: str = "<text>") -> EnergyTable:
    """The energy table that ``text`` describes; ``source`` names it in messages."""
    document = read_document(text, source=source)
    file = validate(document, EnergyFile)
    _check(file, document)
    entries = tuple(EnergyEntry(**entry.model_dump()) for entry in file.entries)
    return EnergyTable(name=file.name, entries=entries)


def _check(file: EnergyFile, document: Document) -> None:
    """Refuse actions that a component does not do, and figures given twice."""
    first: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(file.entries):
        key, allowed = f"entries[{index}]", _ACTIONS.get(entry.component, ("read", "write"))
        if entry.action not in allowed:
            raise document.error(
                ("entries", index, "action"),
                f"{key}.action must be {' or '.join(allowed)} for {entry.component}, not {entry.action!r}",
            )
        pair = (entry.component, entry.action)
        if first.setdefault(pair, index) != index:
            raise document.error(
                ("entries", index),
                f"{key} must be the only {' '.join(pair)}, not given again after entries[{first[pair]}]",
            )


def energy_schema() -> dict[str, Any]:
    """The JSON Schema of the energy file, for editors."""
    schema = EnergyFile.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "archsim energy table",
    }
