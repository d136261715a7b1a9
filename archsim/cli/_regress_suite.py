"""The suite file: YAML that people write, to the ``Suite`` that the gate runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from archsim._yaml_file import JSON_SCHEMA, Document, read_document, read_text, validate
from archsim.cli._job import Job, Objective, Phase
from archsim.cli._options import MAX_BATCH, MAX_SEQ
from archsim.cli._regress_value import LEVELS, Case, Level, Suite, Tolerances

MAX_CASES = 10_000
_FILES = (".json", ".onnx", ".yaml", ".yml")
_DEFAULT = Job(model="", arch="")


def _once(levels: list[Level]) -> list[Level]:
    if len(set(levels)) != len(levels):
        raise ValueError("a list in which each level is given once")
    return levels


def _percent(value: float) -> float:
    if not 0 <= value <= 1000:
        raise ValueError("a percentage from 0 to 1000")
    return value


_Percent = Annotated[float, AfterValidator(_percent), Field(allow_inf_nan=False)]
_Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class _Section(BaseModel):
    """A mapping in which every key is known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Tolerances(_Section):
    cycles: Annotated[int, Field(ge=0, le=1 << 62)] = Field(
        default=0, description="cycles more or fewer than the baseline's"
    )
    cycles_percent: _Percent = Field(
        default=0.0, description="the same, relative; the larger of the two is allowed"
    )
    energy_percent: _Percent = Field(default=0.0, description="energy, relative to the baseline's")
    bits: Annotated[int, Field(ge=0, le=1 << 20)] = Field(
        default=0, description="output tensors whose bits may differ from the baseline's"
    )
    resources_percent: _Percent = Field(
        default=0.0, description="figures of the design and the program's length, relative"
    )


class CaseFile(_Section):
    """One case: a model on an architecture."""

    model: _Name = Field(description="zoo name, gemm:MxKxN, or a file relative to the suite file")
    arch: _Name = Field(description="library name, or a .yaml file relative to the suite file")
    name: _Name | None = Field(default=None, description="what tables and JUnit call it")
    seed: Annotated[int, Field(ge=0, le=1 << 32)] = Field(default=1, description="of weights and inputs")
    levels: Annotated[list[Level], Field(min_length=1), AfterValidator(_once)] = Field(
        default=list(LEVELS), description="what is run"
    )
    phase: Phase = Field(default="prefill", description="a whole sequence, or one token with a cache")
    seq: Annotated[int, Field(ge=1, le=MAX_SEQ)] | None = Field(default=None, description="sequence length")
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH)] = Field(default=1, description="sequences at once")
    objective: Objective = Field(default="latency", description="what the mapping is chosen for")
    host: list[_Name] = Field(default=[], description="operators to price as host work")
    shapes: dict[_Name, Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]] = Field(
        default={}, description="shape of an ONNX graph's input: name to sizes"
    )


class SuiteFile(_Section):
    """The suite file's schema."""

    name: _Name = Field(description="what reports call the suite")
    tolerances: _Tolerances = Field(default=_Tolerances(), description="exact unless given")
    cases: Annotated[list[CaseFile], Field(min_length=1, max_length=MAX_CASES)]


def load_suite(path: Path) -> Suite:
    """The suite in the file at ``path``; raises ArchsimError with file, line and key."""
    return parse_suite(read_text(path), source=str(path))


def parse_suite(text: str, *, source: str = "<text>") -> Suite:
    """The suite that ``text`` describes; ``source`` names it in messages and anchors its paths."""
    document = read_document(text, source=source)
    file = validate(document, SuiteFile)
    folder = Path(source).resolve().parent
    cases = tuple(_case(item, folder) for item in file.cases)
    _require_distinct(cases, document)
    return Suite(name=file.name, cases=cases, tolerances=Tolerances(**file.tolerances.model_dump()))


def suite_schema() -> dict[str, Any]:
    """The JSON Schema of the suite file, for editors."""
    return {"$schema": JSON_SCHEMA, **SuiteFile.model_json_schema(), "title": "archsim regression suite"}


def _case(item: CaseFile, folder: Path) -> Case:
    options: dict[str, Any] = {
        "phase": item.phase,
        "seq": item.seq,
        "batch": item.batch,
        "objective": item.objective,
        "host": tuple(item.host),
        "shapes": tuple((name, tuple(sizes)) for name, sizes in sorted(item.shapes.items())),
    }
    model, arch = _anchored(item.model, folder), _anchored(item.arch, folder)
    written = Job(model=item.model, arch=item.arch, **options)
    return Case(
        name=item.name or _name(written, item.seed),
        job=Job(model=model, arch=arch, **options),
        seed=item.seed,
        levels=tuple(level for level in LEVELS if level in item.levels),
    )


def _anchored(name: str, folder: Path) -> str:
    """A file beside the suite as a path from anywhere; a name of the library as it is."""
    is_file = name.endswith(_FILES) or "/" in name or (folder / name / "config.json").is_file()
    return str(folder / name) if is_file else name


def _name(job: Job, seed: int) -> str:
    """A name that tells every option that is not the default.

    >>> _name(Job(model="minilm", arch="edge-8x8", seq=16), 1)
    'minilm on edge-8x8, seq 16, seed 1'
    """
    words = [f"{job.model} on {job.arch}"]
    for key in ("phase", "seq", "batch", "objective"):
        if (value := getattr(job, key)) != getattr(_DEFAULT, key):
            words.append(str(value) if key == "phase" else f"{key} {value}")
    words += [f"host {name}" for name in job.host]
    words += [f"{name}={'x'.join(map(str, sizes))}" for name, sizes in job.shapes]
    return ", ".join([*words, f"seed {seed}"])


def _require_distinct(cases: tuple[Case, ...], document: Document) -> None:
    """Refuse two cases of one name: a baseline could not tell them apart."""
    first: dict[str, int] = {}
    for index, case in enumerate(cases):
        if case.name in first:
            line = document.lines["cases", first[case.name]]
            raise document.error(
                ("cases", index),
                f"cases[{index}] must be given once, not again after line {line}: {case.name!r}",
            )
        first[case.name] = index
