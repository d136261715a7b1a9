"""The suite file: what it says, and what is refused with which words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from archsim._errors import ArchsimError
from archsim.cli import main
from archsim.cli._job import Job
from archsim.cli._regress_suite import CaseFile, load_suite, parse_suite, suite_schema
from archsim.cli._regress_value import Case, Suite, Tolerances, case_of

ROOT = Path(__file__).resolve().parents[3]
FILES = (ROOT / "docs/files.md").read_text()
SECTION = FILES.partition("\n## Regression suite\n")[2].partition("\n## ")[0]
HEAD = "name: s\ncases:\n"


def test_a_suite_is_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        "name: nightly\n"
        "tolerances: {cycles: 3, energy_percent: 0.5}\n"
        "cases:\n"
        '  - {model: "gemm:8x8x8", arch: edge-8x8}\n'
        "  - {model: sub/m.onnx, arch: ../a.yaml, seed: 7, levels: [cosim, estimate], shapes: {x: [1, 3]}}\n"
        "  - {name: short, model: minilm, arch: edge-16x16, seq: 16, phase: decode, objective: edp}\n"
    )
    folder = str(tmp_path)
    assert load_suite(tmp_path / "suite.yaml") == Suite(
        name="nightly",
        tolerances=Tolerances(cycles=3, energy_percent=0.5),
        cases=(
            Case(name="gemm:8x8x8 on edge-8x8, seed 1", job=Job(model="gemm:8x8x8", arch="edge-8x8")),
            Case(
                name="sub/m.onnx on ../a.yaml, x=1x3, seed 7",
                job=Job(model=f"{folder}/sub/m.onnx", arch=f"{folder}/../a.yaml", shapes=(("x", (1, 3)),)),
                seed=7,
                levels=("estimate", "cosim"),
            ),
            Case(
                name="short",
                job=Job(model="minilm", arch="edge-16x16", seq=16, phase="decode", objective="edp"),
            ),
        ),
    )


def test_a_name_tells_every_option() -> None:
    options = "batch: 2, seq: 4, phase: decode, objective: energy, host: [Resize], seed: 0"
    (case,) = parse_suite(f"{HEAD}  - {{model: m, arch: a, {options}}}\n").cases
    assert case.name == "m on a, decode, seq 4, batch 2, objective energy, host Resize, seed 0"


def test_a_case_survives_its_document() -> None:
    (case,) = parse_suite(f"{HEAD}  - {{model: m, arch: a, host: [R], shapes: {{x: [1, 2]}}}}\n").cases
    assert case_of(yaml.safe_load(yaml.safe_dump(_plain(case)))) == case


def _plain(case: Case) -> object:
    """As JSON would make it: tuples become lists."""
    document = case.document()
    shapes = [[name, list(sizes)] for name, sizes in case.job.shapes]
    return document | {"job": document["job"] | {"host": list(case.job.host), "shapes": shapes}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{HEAD}  - {{model: m, arch: a}}\n  - {{model: n, arch: a, sed: 1}}\n",
            (
                "s.yaml:4: cases[1].sed must be one of model, arch, name, seed, levels, phase, seq, batch,"
                " objective, host, shapes; did you mean 'seed'?"
            ),
        ),
        (f"{HEAD}  - {{model: m}}\n", "s.yaml:3: cases[0].arch must be given"),
        ("name: s\ncases: []\n", "s.yaml:2: cases must be at least 1 long, not a list"),
        ("name: s\n", "s.yaml:1: cases must be given"),
        ("- 1\n", "s.yaml:1: the file must be a mapping of keys to values, not a list"),
        (
            f"{HEAD}  - {{model: m, arch: a, levels: [bound]}}\n",
            "s.yaml:3: cases[0].levels[0] must be 'estimate', 'simulate' or 'cosim', not 'bound'",
        ),
        (
            f"{HEAD}  - {{model: m, arch: a, levels: [cosim, cosim]}}\n",
            "s.yaml:3: cases[0].levels must be a list in which each level is given once, not a list",
        ),
        (
            f"{HEAD}  - {{model: m, arch: a, seed: -1}}\n",
            "s.yaml:3: cases[0].seed must be at least 0, not -1",
        ),
        (
            f"{HEAD}  - {{model: m, arch: a, seed: '1'}}\n",
            "s.yaml:3: cases[0].seed must be an integer, not '1'",
        ),
        (
            f"name: s\ntolerances: {{energy_percent: -1}}\n{HEAD[8:]}  - {{model: m, arch: a}}\n",
            "s.yaml:2: tolerances.energy_percent must be a percentage from 0 to 1000, not -1",
        ),
        (
            f"name: s\ntolerances: {{cycle: 1}}\n{HEAD[8:]}  - {{model: m, arch: a}}\n",
            (
                "s.yaml:2: tolerances.cycle must be one of cycles, cycles_percent, energy_percent, bits,"
                " resources_percent; did you mean 'cycles'?"
            ),
        ),
        (
            f"{HEAD}  - {{model: m, arch: a}}\n  - {{model: n, arch: a}}\n  - {{model: m, arch: a}}\n",
            "s.yaml:5: cases[2] must be given once, not again after line 3: 'm on a, seed 1'",
        ),
        (
            f"{HEAD}  - {{model: m, model: n, arch: a}}\n",
            "s.yaml:3: cases[0].model must be given once, not again after line 3",
        ),
        (f"{HEAD}  - *a\n", "s.yaml:3: the file must not use anchors or aliases"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ArchsimError, match=f"^{re.escape(message)}$"):
        parse_suite(text, source="s.yaml")


def test_a_suite_that_is_not_there_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regress", str(tmp_path / "none.yaml")]) == 2
    message = f"archsim: {tmp_path}/none.yaml must be a readable file: No such file or directory\n"
    assert capsys.readouterr().err == message
    assert list(tmp_path.iterdir()) == []


def test_schema_has_every_key() -> None:
    schema = suite_schema()
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["CaseFile"]["properties"].keys() == CaseFile.model_fields.keys()


def test_reference_has_every_key_and_a_suite() -> None:
    (snippet,) = re.findall(r"^```yaml suite\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
    assert parse_suite(snippet).name == "nightly"
    schema = suite_schema()
    keys = [*schema["properties"], *schema["$defs"]["CaseFile"]["properties"]]
    keys += schema["$defs"]["_Tolerances"]["properties"]
    assert {key for key in keys if f"`{key}`" not in SECTION} == set()


def test_the_example_is_a_suite_with_its_baseline() -> None:
    suite = load_suite(ROOT / "examples/regress/nightly.yaml")
    baseline = yaml.safe_load((ROOT / "examples/regress/nightly.baseline.json").read_text())
    assert {case.name for case in suite.cases} == {*baseline["cases"]}
    workflow = yaml.safe_load((ROOT / "examples/regress/workflow.yml").read_text())
    runs = [step["run"] for step in workflow["jobs"]["regress"]["steps"] if "run" in step]
    assert any("archsim regress" in run for run in runs)


def test_a_folder_beside_the_suite_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "mybert").mkdir()
    (tmp_path / "mybert" / "config.json").write_text("{}")
    suite = tmp_path / "s.yaml"
    suite.write_text("name: s\ncases:\n  - {model: mybert, arch: edge-8x8, seed: 1}\n")
    (case,) = load_suite(suite).cases
    assert case.job.model == str(tmp_path / "mybert")
