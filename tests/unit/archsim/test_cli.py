from __future__ import annotations

import json
import os
import re
import shlex
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from archsim._architecture_file import architecture_names, load_architecture, parse_architecture
from archsim._energy_file import energy_table_names
from archsim._errors import ArchsimError
from archsim._estimate_value import Estimate, Row
from archsim.cli import _jobs, main
from archsim.cli._app import app
from archsim.cli._errors import CheckFailedError, guarded
from archsim.cli._job import CosimOutcome, FilesOutcome, Job, MapOutcome
from archsim.cli._write import write_folder, write_json, write_text
from hls_gen import BOARDS, Element, Port, Project
from workloads import ZOO

COMMANDS = (
    "list",
    "show",
    "passes",
    "estimate",
    "map",
    "simulate",
    "rtl",
    "synth",
    "cosim",
    "quantize",
    "run",
    "regress",
    "hls",
    "report",
    "reproduce",
    "demo",
    "schema",
    "completion",
)
GEMM = ("gemm:2x3x4", "--arch", "edge-8x8")
ESTIMATE = Estimate(
    name="gemm",
    level="estimate",
    cycles=100,
    seconds=1e-6,
    actions={("array", "mac", ""): 24},
    energy_pj={"array": 7.2},
    macs=24,
    utilization={"array": 0.5},
    stalls={},
    bytes={"dram": 26},
    rows=(Row(name="gemm", cycles=100, macs=24, utilization=0.5, energy_pj=7.2),),
)

COSIM: dict[str, Any] = {
    "estimate": ESTIMATE,
    "measured": replace(ESTIMATE, level="cosim"),
    "rtl_cycles": 100,
    "compared": 6,
    "mismatches": 0,
}
PROJECT = Project("top", {"src/top.cpp": b"int main;\n"}, Port("y", Element.I8, (2, 4)))


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Replaces the work by its results, and keeps what was asked for."""
    asked: list[Job] = []

    def result(value: object) -> object:
        def job_function(job: Job, **_: object) -> object:
            asked.append(job)
            return value

        return job_function

    monkeypatch.setattr(_jobs, "estimate", result(ESTIMATE))
    monkeypatch.setattr(_jobs, "bound", result(replace(ESTIMATE, level="bound", cycles=60)))
    monkeypatch.setattr(_jobs, "simulate", result(replace(ESTIMATE, level="simulate", cycles=120)))
    monkeypatch.setattr(
        _jobs, "map_model", result(MapOutcome(estimate=ESTIMATE, mappings={"Z": "for m in 2"}, evaluated=7))
    )
    monkeypatch.setattr(_jobs, "cosim", result(CosimOutcome(**COSIM)))
    monkeypatch.setattr(_jobs, "emit_hls", result(PROJECT))
    monkeypatch.setattr(_jobs, "report", result("<html></html>"), raising=False)
    return asked


def test_commands_are_these_and_in_this_order() -> None:
    assert tuple(app.list_commands(click.Context(app))) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert re.search(rf"Examples:\n +archsim {command}", capsys.readouterr().out)


def examples() -> Iterator[str]:
    for text in (app.help, *(command.help for command in app.commands.values())):
        assert text is not None
        yield from (line.strip() for line in text.splitlines() if line.strip().startswith("archsim "))


@pytest.mark.parametrize("line", list(examples()))
def test_examples_of_the_help_are_accepted(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *arguments = shlex.split(re.sub(r" >>? .*", "", line))[1:]
    command = app.commands[name]
    context = command.make_context(name, arguments)
    assert context.params.keys() == {parameter.name for parameter in command.params} - {"help"}


def test_list_names_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "architectures"]) == 0
    assert main(["list", "technologies"]) == 0
    assert main(["list", "boards"]) == 0
    assert main(["list", "models"]) == 0
    words = capsys.readouterr().out.split()
    assert {*architecture_names(), *energy_table_names(), *(board.name for board in BOARDS), *ZOO} <= {*words}


def test_show_prints_an_architecture_as_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "edge-8x8"]) == 0
    assert parse_architecture(capsys.readouterr().out) == load_architecture("edge-8x8")


def test_show_prints_a_model_in_its_phase(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "llama-2-7b", "--phase", "decode", "--seq", "64", "--batch", "3"]) == 0
    assert capsys.readouterr().out.startswith("llama-2-7b: decode, batch 3, seq 64, ")
    assert main(["show", "edge-8x8", "--batch", "3"]) == 2
    message = "--phase, --seq and --batch must be of a model, not of 'edge-8x8'"
    assert message in capsys.readouterr().err


def test_show_prints_a_technology_with_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "45nm"]) == 0
    out = capsys.readouterr().out
    assert "Horowitz" in out
    assert "1300" in out


@pytest.mark.parametrize("file", ["architecture", "energy"])
def test_schema_is_json_schema(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", file]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_calls_the_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert f"_ARCHSIM_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_job_has_what_the_options_say(jobs: list[Job]) -> None:
    options = ["--phase", "decode", "--seq", "64", "--batch", "2", "--objective", "edp", "--host", "Resize"]
    assert main(["estimate", *GEMM, *options]) == 0
    assert main(["estimate", *GEMM]) == 0
    assert jobs == [
        Job(
            model="gemm:2x3x4",
            arch="edge-8x8",
            phase="decode",
            seq=64,
            batch=2,
            objective="edp",
            host=("Resize",),
        ),
        Job(model="gemm:2x3x4", arch="edge-8x8"),
    ]


@pytest.mark.parametrize(
    ("arguments", "cycles"), [(["estimate"], 100), (["estimate", "--bound"], 60), (["simulate"], 120)]
)
@pytest.mark.usefixtures("jobs")
def test_json_has_the_documented_keys(arguments: list[str], cycles: int, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert main([*arguments, *GEMM, "--json", str(path)]) == 0
    document = json.loads(path.read_text())
    assert document["cycles"] == cycles
    assert document["latency_s"] == 1e-6
    assert document["energy_pj"] == 7.2
    assert document["macs"] == 24
    assert document["utilization"] == {"array": 0.5}
    assert document["bytes"] == {"dram": 26}
    assert [row["name"] for row in document["rows"]] == ["gemm"]


@pytest.mark.usefixtures("jobs")
def test_map_writes_loop_nests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "map.json"
    assert main(["map", *GEMM, "--json", str(path)]) == 0
    document = json.loads(path.read_text())
    assert document["mappings"] == {"Z": "for m in 2"}
    assert document["evaluated"] == 7
    assert "for m in 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("outcome", "arguments", "code"),
    [
        ({}, [], 0),
        ({"rtl_cycles": 101}, [], 1),
        ({"rtl_cycles": 101, "stalled": True}, ["--stalls"], 0),
        ({"mismatches": 1, "differences": ("Y[0, 1]: expected 3",), "stalled": True}, ["--stalls"], 1),
        ({"counters_differing": 1, "differences": ("array_rows: simulated 2, RTL 3",)}, [], 1),
    ],
)
@pytest.mark.usefixtures("jobs")
def test_cosim_exits_with_the_verdict(
    outcome: dict[str, object],
    arguments: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = COSIM | outcome
    asked: list[dict[str, object]] = []

    def cosim(job: Job, **options: object) -> CosimOutcome:
        asked.append(options)
        return CosimOutcome(**values)

    monkeypatch.setattr(_jobs, "cosim", cosim)
    path = tmp_path / "cosim.json"
    assert main(["cosim", *GEMM, *arguments, "--json", str(path)]) == code
    assert [options["stalls"] for options in asked] == ["--stalls" in arguments]
    document = json.loads(path.read_text())
    assert document["rtl_cycles"] == values["rtl_cycles"]
    assert document["mismatches"] == values["mismatches"]
    assert document["passed"] is (code == 0)
    error = capsys.readouterr().err
    for line in document["differences"] if code else []:
        assert line in error


@pytest.mark.usefixtures("jobs")
def test_hls_and_report_write_their_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hls", *GEMM, "--output", str(tmp_path / "hls")]) == 0
    assert (tmp_path / "hls/src/top.cpp").read_text() == "int main;\n"
    assert main(["hls", *GEMM, "--output", str(tmp_path / "hls")]) == 2
    assert "must be a new or empty folder" in capsys.readouterr().err
    assert main(["hls", *GEMM, "--output", str(tmp_path / "hls"), "--force"]) == 0
    (tmp_path / "own").mkdir()
    (tmp_path / "own/notes.txt").write_text("")
    assert main(["hls", *GEMM, "--output", str(tmp_path / "own"), "--force"]) == 2
    assert "must hold an HLS project for --force to replace" in capsys.readouterr().err
    assert (tmp_path / "own/notes.txt").exists()
    assert main(["report", *GEMM, "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text() == "<html></html>"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hls", "own", "page.html"]


def test_rtl_writes_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = FilesOutcome(files={"core.v": "module core;\n"}, figures={"multipliers": 1024})
    monkeypatch.setattr(_jobs, "build_rtl", lambda arch, steps: outcome)
    assert (
        main(["rtl", "--arch", "edge-8x8", "-o", str(tmp_path / "rtl"), "--json", str(tmp_path / "r")]) == 0
    )
    assert (tmp_path / "rtl/core.v").read_text() == "module core;\n"
    assert json.loads((tmp_path / "r").read_text()) == {"files": ["core.v"], "figures": {"multipliers": 1024}}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["estimate", "gemm:2x3x4"], "Error: Missing option '--arch'."),
        (
            ["estimate", *GEMM, "--phase", "train"],
            "Error: Invalid value for '--phase': 'train' is not one of",
        ),
        (["estimate", *GEMM, "--seq", "0"], "Error: Invalid value for '--seq': 0 is not in the range"),
        (["estimate", *GEMM, "--json", "none/f.json"], "must be in a folder that exists, not 'none/f.json'"),
        (["estimte"], "Error: No such command 'estimte'."),
    ],
)
@pytest.mark.usefixtures("jobs")
def test_wrong_options_exit_with_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.out == ""


class OwnError(ValueError):
    """A ValueError that is a defect."""


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (ArchsimError("a.yaml:1: rows must be given"), 2, "archsim: a.yaml:1: rows must be given\n"),
        (
            FileNotFoundError(2, "No such file or directory", "x.json"),
            2,
            "archsim: x.json: No such file or directory\n",
        ),
        (CheckFailedError("bits differ"), 1, "archsim: bits differ\n"),
        (click.Abort(), 130, "archsim: interrupted\n"),
    ],
)
def test_errors_become_one_message_and_a_code(
    error: Exception, code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    assert guarded(command) == code
    assert capsys.readouterr().err == expected


def test_defects_keep_their_traceback() -> None:
    def command() -> None:
        raise OwnError("ours")

    with pytest.raises(OwnError, match=r"^ours$"):
        guarded(command)


def test_write_follows_links_and_leaves_devices_in_place(tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "text")
    assert os.read(reader, 8) == b"text"
    os.close(reader)
    assert pipe.is_fifo()


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"b": 1, "a": 2})
    assert path.read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_failed_folder_is_not_half_written(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_folder(tmp_path / "out", {"a.txt": "a", "b.txt": "\ud800"})
    assert list(tmp_path.iterdir()) == []


def test_written_files_have_usual_permissions(tmp_path: Path) -> None:
    ordinary, ours = tmp_path / "ordinary", tmp_path / "ours"
    ordinary.write_text("")
    write_text(ours, "")
    assert stat.S_IMODE(ours.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_yaml_of_an_example_architecture_is_what_show_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["show", "edge-16x16"])
    tree = yaml.safe_load(capsys.readouterr().out)
    path = tmp_path / "board.yaml"
    path.write_text(yaml.safe_dump(tree | {"name": "board"}))
    assert load_architecture(path) == replace(load_architecture("edge-16x16"), name="board")
