"""The gate as it runs: exit codes, what is kept, interruptions, and deaths of processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from archsim import architecture_text, load_architecture
from archsim.cli import main
from archsim.cli._regress_store import kept, key_of
from archsim.cli._regress_suite import parse_suite
from archsim.cli._regress_value import Case

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 100.0
SIZES = (8, 16, 24, 32, 40, 48, 56, 64)


def write_suite(folder: Path, *cases: Mapping[str, object]) -> Path:
    path = folder / "suite.yaml"
    quick: Mapping[str, object] = {"arch": "edge-8x8", "levels": ["estimate", "simulate"]}
    path.write_text(json.dumps({"name": "s", "cases": [{**quick, **case} for case in cases]}))
    return path


def results(folder: Path) -> dict[Path, int]:
    """Finished cases, each with the time at which it was written."""
    return {path: path.stat().st_mtime_ns for path in (folder / ".archsim-regress").glob("[!.]*.json")}


def start(suite: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "archsim.cli", "regress", str(suite), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(
    condition: Callable[[], object], *, while_running: subprocess.Popen[str] | None = None
) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        assert while_running is None or while_running.poll() is None, "it ended before that"
        time.sleep(0.005)


def stat_of(number: int | str) -> list[str]:
    """State, parent and what else the system says of a process; nothing if there is none."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def children(process: subprocess.Popen[str]) -> list[int]:
    numbers = [path.name for path in Path("/proc").glob("[0-9]*")]
    return [int(number) for number in numbers if stat_of(number)[1:2] == [str(process.pid)]]


def is_running(number: int) -> bool:
    """Whether a process lives; one that only waits to be collected does not."""
    return stat_of(number)[:1] not in ([], ["Z"])


def test_a_baseline_is_wanted_written_held_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = tmp_path / "board.yaml"
    arch = load_architecture("edge-8x8")
    board.write_text(architecture_text(arch))
    suite = write_suite(tmp_path, {"model": "gemm:16x16x16", "arch": "board.yaml"}, {"model": "gemm:8x8x8"})
    baseline = tmp_path / "suite.baseline.json"

    assert main(["regress", "--jobs", "1", str(suite)]) == 2
    assert f"{baseline} must be a baseline, and is not there: run with --update" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [board, suite], "refused before anything ran or was written"

    assert main(["regress", "--jobs", "1", str(suite), "--update"]) == 0
    written = json.loads(baseline.read_text())
    assert set(written["cases"]) == {"gemm:16x16x16 on board.yaml, seed 1", "gemm:8x8x8 on edge-8x8, seed 1"}
    first = results(tmp_path)
    assert len(first) == 2

    assert main(["regress", "--jobs", "1", str(suite)]) == 0
    assert "kept" in capsys.readouterr().out
    assert results(tmp_path) == first

    slower = replace(arch, memory=replace(arch.memory, read_latency=arch.memory.read_latency + 1))
    board.write_text(architecture_text(slower))
    junit, verdicts = tmp_path / "junit.xml", tmp_path / "verdicts.json"
    assert main(["regress", "--jobs", "1", str(suite), "--junit", str(junit), "--json", str(verdicts)]) == 1
    captured = capsys.readouterr()
    assert "simulate.cycles" in captured.out
    assert "every case must be as its baseline, not 1 changed of 2" in captured.err
    assert len(results(tmp_path)) == 3, "the case whose file changed ran again, the other did not"
    (group,) = ET.fromstring(junit.read_text())
    assert (group.get("tests"), group.get("failures"), group.get("errors")) == ("2", "1", "0")
    assert [case["status"] for case in json.loads(verdicts.read_text())["cases"]] == ["changed", "passed"]

    assert main(["regress", "--jobs", "1", str(suite), "--filter", "edge-8x8"]) == 0
    assert main(["regress", "--jobs", "1", str(suite), "--filter", "nothing"]) == 2
    assert json.loads(baseline.read_text()) == written
    assert main(["regress", "--jobs", "1", str(suite), "--update", "--filter", "board"]) == 0
    assert main(["regress", "--jobs", "1", str(suite)]) == 0


def test_fresh_runs_again(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, {"model": "gemm:8x8x8"})
    assert main(["regress", "--jobs", "1", str(suite), "--update"]) == 0
    (before,) = results(tmp_path).values()
    assert main(["regress", "--jobs", "1", str(suite), "--fresh"]) == 0
    (after,) = results(tmp_path).values()
    assert after > before


def test_wrong_input_of_one_case_costs_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = {"model": "gemm:8x8x8"}
    assert main(["regress", str(write_suite(tmp_path, good)), "--update", "--jobs", "1"]) == 0
    bad = ({"model": "none.onnx"}, {"model": "minlm"}, {**good, "arch": "edge-9x9"})
    suite = write_suite(tmp_path, good, *bad)
    junit = tmp_path / "junit.xml"
    assert main(["regress", "--jobs", "1", str(suite), "--junit", str(junit)]) == 2
    error = capsys.readouterr().err
    assert "every case must be as its baseline, not 3 error of 4" in error
    assert "none.onnx" in error
    assert "close names are minilm" in error
    assert "did you mean 'edge-8x8'?" in error
    assert "Traceback" not in error
    (group,) = ET.fromstring(junit.read_text())
    assert (group.get("tests"), group.get("failures"), group.get("errors")) == ("4", "0", "3")


def test_a_baseline_is_not_written_over_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(tmp_path, {"model": "gemm:8x8x8"}, {"model": "none.onnx"})
    assert main(["regress", "--jobs", "1", str(suite), "--update"]) == 2
    assert "stays as it is" in capsys.readouterr().err
    assert not (tmp_path / "suite.baseline.json").exists()


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, *({"model": f"gemm:{size}x{size}x{size}"} for size in SIZES))
    first = start(suite, "--update", "--jobs", "1")
    wait_until(lambda: results(tmp_path), while_running=first)
    workers = children(first)
    first.kill()
    first.communicate()
    assert workers
    wait_until(lambda: not any(map(is_running, workers)))
    assert not (tmp_path / "suite.baseline.json").exists()
    before = results(tmp_path)
    assert 1 <= len(before) < len(SIZES)

    second = start(suite, "--update", "--jobs", "2")
    _, progress = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, progress
    after = results(tmp_path)
    assert len(after) == len(SIZES)
    assert {path: after[path] for path in before} == before
    assert progress.count("kept from an earlier run") == len(before)


def test_an_interrupt_ends_the_workers_too(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, *({"model": f"gemm:{size}x{size}x{size}"} for size in SIZES))
    process = start(suite, "--update", "--jobs", "2")
    wait_until(lambda: len(children(process)) == 2, while_running=process)
    workers = children(process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert error.endswith("archsim: interrupted\n")
    assert "Traceback" not in error
    wait_until(lambda: not any(map(is_running, workers)))


def test_the_death_of_a_process_costs_one_case(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, *({"model": f"gemm:{size}x{size}x{size}"} for size in SIZES[:3]))
    junit = tmp_path / "junit.xml"
    process = start(suite, "--update", "--jobs", "1", "--junit", str(junit))
    wait_until(lambda: children(process), while_running=process)
    (worker,) = children(process)
    os.kill(worker, signal.SIGKILL)
    _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "the process of the case must end well, not by signal SIGKILL" in error
    (group,) = ET.fromstring(junit.read_text())
    assert (group.get("tests"), group.get("errors")) == ("3", "1")
    assert len(results(tmp_path)) == 2


def case(text: str, folder: Path) -> Case:
    (only,) = parse_suite(f"name: s\ncases:\n  - {{{text}}}\n", source=str(folder / "s.yaml")).cases
    return only


def test_a_key_covers_everything_that_a_result_depends_on(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(architecture_text(load_architecture("edge-8x8")))
        (tmp_path / name / "m.yaml").write_text((ROOT / "examples/mlp.yaml").read_text())
    plain = case("model: m.yaml, arch: a.yaml", tmp_path / "one")
    key = key_of(plain, program="p")
    assert key_of(case("model: m.yaml, arch: a.yaml, name: other", tmp_path / "two"), program="p") == key
    different = [
        key_of(case(f"model: m.yaml, arch: a.yaml, {option}", tmp_path / "one"), program="p")
        for option in ("seed: 2", "objective: energy", "levels: [estimate]", "batch: 2")
    ]
    different.append(key_of(plain, program="q"))
    different.append(key_of(case("model: m.yaml, arch: edge-16x16", tmp_path / "one"), program="p"))
    (tmp_path / "one/m.yaml").write_text((ROOT / "examples/mlp.yaml").read_text() + "# changed\n")
    different.append(key_of(plain, program="p"))
    assert len({key, *different}) == 1 + len(different)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"figures": {}}', "\x00"])
def test_a_result_that_was_spoilt_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text(text)
    assert kept(tmp_path, "k") is None
