"""Who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_import_linter_keeps_every_contract() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize(("one", "other"), [("_estimate", "_simulate"), ("_simulate", "_estimate")])
def test_estimator_and_simulator_are_two_opinions(one: str, other: str) -> None:
    shared = {"archsim._estimate_value"}
    files = [path for path in (ROOT / "archsim").glob(f"{one}*.py") if f"archsim.{path.stem}" not in shared]
    assert files
    for path in files:
        taken = {name for name in imports(path) if name.startswith(f"archsim.{other}")}
        assert {name for name in taken if not any(name.startswith(value) for value in shared)} == set(), path


@pytest.mark.parametrize("package", ["archsim", "mapper", "rtl", "hls_gen", "workloads"])
def test_nothing_imports_heavy_frameworks(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        top = {name.split(".")[0] for name in imports(path)}
        assert not top & {"torch", "tensorflow", "transformers", "sentence_transformers"}, path
