"""The README and the file reference say what is so."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from archsim import architecture_schema, load_energy_table, parse_architecture
from archsim._energy_file import energy_schema, parse_energy_table
from archsim.cli import main
from archsim.cli._app import app
from workloads import ZOO, read_cascade
from workloads._cascade_file import load_cascade

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
FILES = (ROOT / "docs/files.md").read_text()
COMMANDS = (ROOT / "docs/cli.md").read_text()
FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SNIPPETS = {(language, kind): body for language, kind, body in FENCE.findall(FILES)}
SHELL = [
    line for language, _, body in FENCE.findall(README) if language == "shell" for line in body.splitlines()
]
ONNX = "backend/test/data/light/light_squeezenet.onnx"


def fence(language: str) -> str:
    """The README's first block of that language."""
    bodies: list[str] = [body for name, _, body in FENCE.findall(README) if name == language]
    return bodies[0]


def test_readme_leads_with_the_two_commands() -> None:
    assert README.startswith("# archsim\n\n```sh\nmake demo\nmake test\n```\n")


def test_readme_sample_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["simulate", "gemm:64x64x64", "--arch", "edge-8x8"]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert [line.rstrip() for line in fence("text").splitlines()] == [line for line in printed if line]


def test_readme_architecture_is_one() -> None:
    assert parse_architecture(fence("yaml")).array.cols == 16


@pytest.mark.cosim
@pytest.mark.parametrize("line", SHELL)
def test_readme_commands_on_own_files_run(line: str, tmp_path: Path) -> None:
    import onnx

    (tmp_path / "model").mkdir()
    shutil.copy(ROOT / "workloads/zoo/gpt2.json", tmp_path / "model/config.json")
    shutil.copy(Path(onnx.__file__).parent / ONNX, tmp_path / "model.onnx")
    shutil.copy(ROOT / "examples/mlp.yaml", tmp_path)
    (tmp_path / "board.yaml").write_text(fence("yaml"))
    name, *arguments = line.split()
    assert name == "archsim"
    result = subprocess.run(
        [sys.executable, "-m", "archsim.cli", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("link", sorted(set(re.findall(r"`((?:docs|examples|tests)/[\w/.]+)`", README))))
def test_readme_links_exist(link: str) -> None:
    assert (ROOT / link).exists()


def test_readme_names_every_family_and_format() -> None:
    for word in ("bert", "gpt2", "opt", "llama", "mistral", "mixtral", "vit", "t5", "ONNX", "YAML"):
        assert word in README
    assert "minilm" in ZOO


def test_command_reference_names_every_command() -> None:
    for name in app.commands:
        assert f"`{name}`" in COMMANDS, name


def test_json_reference_names_every_key(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    assert main(["map", "gemm:8x8x8", "--arch", "edge-8x8", "--json", str(path)]) == 0
    keys = {*json.loads(path.read_text()), "rtl_cycles", "mismatches", "compared", "differences", "passed"}
    assert {key for key in keys if f"`{key}`" not in COMMANDS} == set()


def keys_of(schema: dict[str, object], prefix: str = "") -> list[str]:
    """Dotted keys of a schema, those of its sections included."""
    definitions, found = schema.get("$defs", {}), []
    assert isinstance(definitions, dict)
    properties = schema["properties"]
    assert isinstance(properties, dict)
    for key, value in properties.items():
        if "$ref" in value:
            section = definitions[value["$ref"].rpartition("/")[2]]
            found += keys_of({**section, "$defs": definitions}, f"{prefix}{key}.")
        else:
            found.append(prefix + key)
    return found


def test_reference_has_every_key_of_an_architecture() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| ([^|]*) \|", FILES.partition("## Energy")[0], re.MULTILINE))
    assert list(rows) == keys_of(architecture_schema())


def test_reference_has_every_key_of_an_energy_table() -> None:
    section = FILES.partition("## Energy table")[2].partition("## Cascade")[0]
    entry = energy_schema()["$defs"]["EntryFile"]["properties"]
    assert {key for key in entry if f"`{key}`" not in section} == set()
    pairs = {(e.component, e.action) for e in load_energy_table("45nm").entries}
    assert all(f"`{component}`" in section and f"`{action}`" in section for component, action in pairs)


def test_reference_defaults_are_the_formats() -> None:
    tree = yaml.safe_load(SNIPPETS["yaml", "architecture"])
    full = parse_architecture(SNIPPETS["yaml", "architecture"])
    tree["memory"] = {"read_latency_cycles": 48}
    for key in ("technology", "program", "queue_depth"):
        del tree[key]
    del (
        tree["array"]["kind"],
        tree["bus"]["max_burst_beats"],
        tree["bus"]["outstanding"],
        tree["vector"]["tables"],
    )
    assert parse_architecture(yaml.safe_dump(tree)) == full


def test_reference_snippets_are_files() -> None:
    assert parse_energy_table(SNIPPETS["yaml", "energy"]).name == "my-process"
    cascade = read_cascade(SNIPPETS["yaml", "cascade"])
    assert load_cascade(ROOT / "examples/mlp.yaml") == cascade
