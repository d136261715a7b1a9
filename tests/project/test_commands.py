"""The development commands, the README's snippets and the examples."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TARGETS = (
    "setup",
    "demo",
    "test",
    "check",
    "test-all",
    "bench",
    "results",
    "io-curve",
    "resources",
    "area",
    "format",
    "clean",
)
README = (ROOT / "README.md").read_text()
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = [body for language, body in FENCE.findall(README) if language == "python"]
SHELL = [
    line.removeprefix("$ ")
    for language, body in FENCE.findall(README)
    if language in ("sh", "bash", "console")
    for line in body.splitlines()
    if line.removeprefix("$ ").startswith(("archsim ", "make "))
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_make_has_the_target(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_continuous_integration_is_check_and_test() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert [line for line in script.read_text().splitlines() if "make" in line] == ["make check test"]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["check-and-test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]


def test_readme_has_snippets() -> None:
    assert PYTHON
    assert any(line.startswith("archsim ") for line in SHELL)


@pytest.mark.cosim
@pytest.mark.parametrize("snippet", PYTHON)
def test_readme_python_runs(snippet: str, tmp_path: Path) -> None:
    run([sys.executable, "-c", snippet], tmp_path)


@pytest.mark.cosim
def test_readme_commands_run_in_order(tmp_path: Path) -> None:
    for line in SHELL:
        name, *arguments = shlex.split(line, comments=True)
        if name == "make":
            assert set(arguments) <= set(TARGETS), line
        elif arguments[0] != "demo":
            run([sys.executable, "-m", "archsim.cli", *arguments], tmp_path)


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.cosim
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    run([sys.executable, str(path)], tmp_path)
