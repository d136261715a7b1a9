"""The wheel holds the five packages and all their files; the lock holds what the wheel asks for."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"archsim", "mapper", "rtl", "hls_gen", "workloads"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_has_exactly_the_five_packages(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert top == PACKAGES | {f"archsim-{PROJECT['version']}.dist-info"}


def test_wheel_has_every_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    wanted = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_wheel_has_data_types_and_licence(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {"archsim/library/edge-8x8.yaml", "archsim/library/energy/45nm.yaml"} <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert f"archsim-{PROJECT['version']}.dist-info/licenses/LICENSE" in names


def test_wheel_has_the_command(wheel: zipfile.ZipFile) -> None:
    text = wheel.read(f"archsim-{PROJECT['version']}.dist-info/entry_points.txt").decode()
    assert text.split() == ["[console_scripts]", "archsim", "=", "archsim.cli:main"]


def pins(name: str) -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return dict(_pin(line) for line in lines if line)


def _pin(line: str) -> tuple[str, str]:
    match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line)
    assert match, f"a lock's line must be name==version, not {line!r}"
    return re.sub(r"[-_.]+", "-", match[1]).lower(), match[2]


def test_lock_satisfies_the_wheel() -> None:
    locked = pins("requirements.lock")
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert requirement.specifier.contains(locked[requirement.name]), requirement


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-nodeps.lock"])
def test_lock_has_no_training_framework(name: str) -> None:
    heavy = ("torch", "nvidia-", "cuda-", "triton", "tensorflow", "transformers", "sentence-transformers")
    assert not [package for package in pins(name) if package.startswith(heavy)]
