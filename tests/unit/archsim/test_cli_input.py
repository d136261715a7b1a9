"""What people get wrong: one message, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from archsim.cli import main

ARCH = ("--arch", "edge-8x8")
GEMM = "gemm:8x8x8"
CASCADE = """\
name: two
ranks: {m: 8, k: 8, n: 8, o: 8}
einsums:
  - H[m, n] = X[m, k] * W[k, n]
  - Y[m, o] = H[m, n] * V[n, o]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A working folder with files that are broken, each in its own way."""
    monkeypatch.chdir(tmp_path)
    assert main(["show", "edge-8x8"]) == 0
    good = capsys.readouterr().out
    files: dict[str, str | bytes] = {
        "two.yaml": CASCADE,
        "text.txt": "no model",
        "suite.yaml": f'name: s\ncases:\n  - {{model: "{GEMM}", arch: edge-8x8}}\n',
        "unclosed.yaml": "name: [\n",
        "keys.yaml": CASCADE.replace("ranks", "rank"),
        "einsum.yaml": CASCADE.replace("V[n, o]", "V[n, q]"),
        "broken.json": '{"model_type": "bert",',
        "list.json": "[1, 2]",
        "other.json": '{"model_type": "none"}',
        "broken.onnx": "not a protobuf",
        "bytes.yaml": b"\xff\xfe\x00",
        "rows.yaml": good.replace("  rows: 8\n", "  rows: 0\n", 1),
        "typo.yaml": good.replace("clock_mhz", "clock_mzh"),
        "tiny.yaml": good.replace("words_per_bank: 1024", "words_per_bank: 2"),
    }
    for name, text in files.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "empty").mkdir()
    return tmp_path


WRONG = {
    "no such file": (["none.onnx", *ARCH], "MODEL must be a file that exists, not 'none.onnx'"),
    "no such path": (["a/b", *ARCH], "MODEL must be a file that exists, not 'a/b'"),
    "a folder": (["empty", *ARCH], "MODEL must be a folder with a config.json, not 'empty'"),
    "another kind": (["text.txt", *ARCH], "a model file must end in .json, .onnx or .yaml, not 'text.txt'"),
    "a typo": (["bert-bas", *ARCH], "not 'bert-bas'; close names are bert-base"),
    "no size": (["gemm:0x1x2", *ARCH], "must be gemm:MxKxN with sizes 1 to"),
    "unclosed YAML": (["unclosed.yaml", *ARCH], "unclosed.yaml:2: the file must be YAML"),
    "no YAML text": (["bytes.yaml", *ARCH], "bytes.yaml: a cascade's file must be UTF-8 text"),
    "unknown key": (["keys.yaml", *ARCH], "keys.yaml:2: a key must be one of name, ranks"),
    "unknown rank": (["einsum.yaml", *ARCH], "einsum.yaml:5: einsums[1]"),
    "broken JSON": (["broken.json", *ARCH], "broken.json"),
    "JSON list": (["list.json", *ARCH], "list.json"),
    "unknown family": (["other.json", *ARCH], "other.json"),
    "broken ONNX": (["broken.onnx", *ARCH], "broken.onnx"),
    "length of a GEMM": ([GEMM, *ARCH, "--seq", "4"], "seq and phase must be left out for gemm:8x8x8"),
    "phase of a graph": (["squeezenet", *ARCH, "--phase", "decode"], "phase must be prefill for an ONNX"),
    "length 0": (["minilm", *ARCH, "--seq", "0"], "Invalid value for '--seq': 0 is not in the range"),
    "batch 0": ([GEMM, *ARCH, "--batch", "0"], "Invalid value for '--batch': 0 is not in the range"),
    "unknown machine": ([GEMM, "--arch", "edge-9x9"], "not 'edge-9x9'; did you mean 'edge-8x8'?"),
    "no such machine": ([GEMM, "--arch", "none.yaml"], "none.yaml must be a readable file"),
    "folder as machine": ([GEMM, "--arch", "empty"], "must be a .yaml file or one of"),
    "machine of no rows": (
        [GEMM, "--arch", "rows.yaml"],
        "array.rows must be an integer from 1 to 1024, not 0",
    ),
    "misspelt key": ([GEMM, "--arch", "typo.yaml"], "did you mean 'clock_mhz'?"),
    "machine too small": (["gemm:64x64x64", "--arch", "tiny.yaml"], "no tiling fits: kernel Y on edge-8x8"),
    "uncountable product": (
        ["gemm:16777216x16777216x16777216", *ARCH],
        "an Einsum must have at most 288230376151711744 points, not 4722366482869645213696",
    ),
    "no shape": (["squeezenet", *ARCH, "--shape", "data"], "a shape must be as tokens=1x128, not 'data'"),
    "shape of no input": (["squeezenet", *ARCH, "--shape", "q=1x3"], "shapes must be of the inputs"),
    "shape of a GEMM": ([GEMM, *ARCH, "--shape", "X=8x8"], "shapes and host operators must be left out"),
    "JSON of no name": ([GEMM, *ARCH, "--json", ""], "the file must have a name"),
    "JSON into a folder": ([GEMM, *ARCH, "--json", "empty"], "Invalid value for '--json'"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_message_and_code_2(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in folder.rglob("*"))
    json_option = [] if "--json" in arguments else ["--json", "result.json"]
    assert main(["estimate", *arguments, *json_option]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.mark.parametrize("command", ["map", "simulate", "cosim", "hls", "report"])
def test_every_command_refuses_a_wrong_model(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in folder.rglob("*"))
    assert main([command, "none.yaml", *ARCH]) == 2
    assert "MODEL must be a file that exists, not 'none.yaml'" in capsys.readouterr().err
    assert main(["show", "none.yaml"]) == 2
    assert "'none.yaml'" in capsys.readouterr().err
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rtl", "--arch", "edge-9x9"], "did you mean 'edge-8x8'?"),
        (["rtl", *ARCH, "-o", "text.txt"], "Invalid value for '--output'"),
        (["cosim", "squeezenet", *ARCH], "must be of products, softmaxes and normalisations"),
        (["hls", GEMM, *ARCH, "--kernel", "Q"], "kernel must be one of Y, not 'Q'"),
        (["hls", GEMM, *ARCH, "--board", "none"], "board must be kv260"),
        (["list", "toys"], "'toys' is not one of"),
        (["schema", "none"], "'none' is not one of"),
        (["estimate", GEMM, *ARCH, "--json", "-"], "the file must have a name, not '-'"),
        (
            ["map", GEMM, "--arch", "std3-16", "--json", "x", "--report", "empty/../x"],
            "--json must be another file than --report, not 'x'",
        ),
        (
            ["simulate", GEMM, *ARCH, "--json", "x", "--trace", "x"],
            "--json must be another file than --trace",
        ),
        (
            ["estimate", "two.yaml", *ARCH, "--json", "two.yaml"],
            "--json must be another file than MODEL, not 'two.yaml'",
        ),
        (
            ["regress", "suite.yaml", "--json", "suite.baseline.json"],
            "--json must be another file than the baseline, not 'suite.baseline.json'",
        ),
    ],
)
def test_wrong_options_of_one_command(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in folder.rglob("*"))
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert sorted(path.name for path in folder.rglob("*")) == before


NUMBERS = ("cycles", "latency_s", "energy_pj", "macs")


@pytest.mark.parametrize("command", ["estimate", "map", "simulate"])
def test_json_of_a_cascade(command: str, folder: Path) -> None:
    assert main([command, "two.yaml", *ARCH, "--json", "result.json"]) == 0
    document = json.loads((folder / "result.json").read_text())
    assert all(type(document[key]) in (int, float) and document[key] > 0 for key in NUMBERS)
    assert document["macs"] == 2 * 8**3
    assert document["latency_s"] == pytest.approx(document["cycles"] / 100e6)
    assert document["energy_pj"] == pytest.approx(sum(document["energy_by_component_pj"].values()))
    assert document["bytes"]["dram"] >= 4 * 64
    assert all(0 <= share <= 1 for share in document["utilization"].values())
    rows = {row["name"]: row for row in document["rows"]}
    assert {"H", "Y"} <= rows.keys()
    assert rows["H"]["macs"] == rows["Y"]["macs"] == 8**3
    if command == "map":
        assert document["mappings"].keys() == {"H", "Y"}
        assert document["evaluated"] > 0
    if command == "simulate":
        assert sum(row["cycles"] for row in document["rows"]) == document["cycles"]


def test_levels_are_in_order(folder: Path) -> None:
    cycles = {}
    for name, arguments in {
        "bound": ["estimate", "--bound"],
        "estimate": ["estimate"],
        "simulate": ["simulate"],
    }.items():
        command, *options = arguments
        assert main([command, "two.yaml", *ARCH, *options, "--json", "result.json"]) == 0
        cycles[name] = json.loads((folder / "result.json").read_text())["cycles"]
    assert 0 < cycles["bound"] <= cycles["estimate"] <= cycles["simulate"]


def test_trace_is_a_list_of_events(folder: Path) -> None:
    assert main(["simulate", "two.yaml", *ARCH, "--trace", "trace.json"]) == 0
    assert json.loads((folder / "trace.json").read_text())["traceEvents"]


@pytest.mark.cosim
def test_cosim_of_a_cascade_agrees(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "two.yaml", *ARCH, "--json", "estimate.json"]) == 0
    least = json.loads((folder / "estimate.json").read_text())["cycles"]
    assert main(["cosim", "two.yaml", *ARCH, "--json", "result.json", "-o", "run"]) == 0
    document = json.loads((folder / "result.json").read_text())
    assert document["rtl_cycles"] == document["cycles"] > 0
    assert document["mismatches"] == 0
    assert document["compared"] == 2 * 8 * 8
    assert document["passed"] is True
    assert (folder / "run/results.xml").read_text().startswith("<")
    forecast = f"for a run of {least:,} cycles or more, under a minute of Verilator ..."
    assert forecast in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (["gemm:16777216x1024x1024"], "must have at most 268435456 elements to run with values"),
        (["minilm", "--seq", "513"], "seq must be at most 512 to run minilm with its weights, not 513"),
    ],
)
def test_too_large_to_run_with_values(
    model: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hls", *model, *ARCH, "-o", "hls"]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "hls").exists()


def test_shape_of_an_onnx_input(folder: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    sizes: list[str | int | None] = ["rows", "columns", 8]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "free",
        [value("x", onnx.TensorProto.FLOAT, sizes), value("w", onnx.TensorProto.FLOAT, [8, 8])],
        [value("y", onnx.TensorProto.FLOAT, sizes)],
    )
    onnx.save(onnx.helper.make_model(graph), str(folder / "free.onnx"))
    assert main(["estimate", "free.onnx", *ARCH]) == 2
    arguments = ["estimate", "free.onnx", *ARCH, "--shape", "x=2x3x8", "--json", "result.json"]
    assert main(arguments) == 0
    assert json.loads((folder / "result.json").read_text())["macs"] == 2 * 3 * 8 * 8


def test_a_reader_that_leaves_early_is_no_failed_check(folder: Path) -> None:
    command = [sys.executable, "-m", "archsim.cli", "show", "minilm"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder)
    assert run.stdout is not None
    run.stdout.close()
    assert run.wait(60) == 0
    assert run.stderr is not None
    assert run.stderr.read() == b""
    run.stderr.close()
