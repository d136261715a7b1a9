"""``archsim map`` on a hierarchy: results, their cache, constraints, explanations, pages, interruption."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from archsim._constraints_file import constraints_schema, parse_constraints
from archsim._hierarchy_file import hierarchy_schema, hierarchy_text, load_hierarchy, parse_hierarchy
from archsim._nest import Nest, parse_nest
from archsim._nest_cost import evaluate_nest
from archsim.cli import _map_pool, main
from archsim.cli._app import app
from workloads import Cascade, load_model

ROOT = Path(__file__).parents[3]
STD3 = load_hierarchy("std3-16")
SMALL = ("gemm:16x8x32", "--arch", "std3-16", "--objective", "edp")
TWINS = """\
name: twins
ranks: {m: 16, p: 16, k: 8, n: 32}
einsums:
  - Q[m, n] = X[m, k] * WQ[k, n]
  - K[p, n] = X[p, k] * WK[k, n]
  - S[m, p] = Q[m, n] * K[p, n]
  - C[m] = 2
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARCHSIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mappings"


@pytest.fixture
def twins(tmp_path: Path) -> str:
    path = tmp_path / "twins.yaml"
    path.write_text(TWINS)
    return str(path)


def mapped(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    path = tmp_path / "result.json"
    assert main(["map", *arguments, "--json", str(path)]) == 0
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def like(cascade: Cascade, number: int = 0) -> Nest:
    einsum = cascade.einsums[number]
    sizes = tuple((rank, cascade.ranks[rank]) for rank in einsum.ranks)
    return Nest(einsum, sizes, (), ())


def timeless(found: dict[str, Any]) -> dict[str, Any]:
    kept = {
        key: value for key, value in found.items() if key not in ("search_s", "wall_s", "cached", "evaluated")
    }
    return kept | {
        "rows": [{k: v for k, v in row.items() if k not in ("search_s", "cached")} for row in found["rows"]]
    }


def test_figures_are_those_of_the_mapping_that_is_written(tmp_path: Path) -> None:
    found = mapped(tmp_path, *SMALL)
    (row,) = found["rows"]
    cascade = load_model("gemm:16x8x32").parts[0].cascade
    cost = evaluate_nest(parse_nest(row["mapping"], like(cascade)), STD3)
    assert (found["energy_pj"], found["cycles"]) == (cost.energy_pj, cost.cycles)
    assert (row["dram_bits"], row["buffer_bits"]) == (cost.dram_bits, cost.buffer_bits)
    assert found["proved_optimal"] is True
    assert (found["cached"], row["cached"], found["not_mapped"]) == (0, False, [])
    assert 0 < found["search_s"] <= found["wall_s"]
    assert found["latency_s"] == found["cycles"] / 1e9


def test_the_published_product_is_no_worse_than_published(tmp_path: Path) -> None:
    found = mapped(tmp_path, "gemm:1024x1024x1024", "--arch", "std3-16", "--objective", "edp")
    assert found["cycles"] == 1024**3 / 256
    assert found["energy_pj"] <= 1.816973e9
    assert found["proved_optimal"] is True


def test_equal_einsums_are_searched_once_and_counted_as_often_as_they_run(twins: str, tmp_path: Path) -> None:
    found = mapped(tmp_path, twins, "--arch", "std3-16", "--objective", "energy")
    first, second = found["rows"]
    assert (first["uses"], first["count"]) == (["twins/Q", "twins/K"], 2)
    assert (second["uses"], second["count"]) == (["twins/S"], 1)
    assert found["energy_pj"] == pytest.approx(2 * first["energy_pj"] + second["energy_pj"], rel=1e-12)
    assert found["cycles"] == pytest.approx(2 * first["cycles"] + second["cycles"], rel=1e-12)
    (left,) = found["not_mapped"]
    assert (left["einsum"], left["reason"]) == ("C[m] = 2", "a constant: it reads nothing")


def test_two_processes_find_what_one_finds(twins: str, tmp_path: Path) -> None:
    options = (twins, "--arch", "std3-16", "--objective", "edp", "--no-cache")
    assert timeless(mapped(tmp_path, *options, "--jobs", "2")) == timeless(
        mapped(tmp_path, *options, "--jobs", "1")
    )


def test_a_second_run_does_not_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = mapped(tmp_path, *SMALL)
    monkeypatch.setattr(_map_pool, "run_search", lambda task: pytest.fail("searched again"))
    second = mapped(tmp_path, *SMALL)
    assert (second["cached"], second["evaluated"], second["rows"][0]["cached"]) == (1, 0, True)
    assert second["search_s"] == first["search_s"]
    assert timeless(second) == timeless(first)
    assert "1 of 1 kept from an earlier run" in capsys.readouterr().out


@pytest.mark.parametrize("option", [("--objective", "energy"), ("--factors", "imperfect"), ("--budget", "9")])
def test_other_options_are_other_results(option: tuple[str, str], tmp_path: Path) -> None:
    mapped(tmp_path, *SMALL)
    assert mapped(tmp_path, *SMALL, *option)["cached"] == 0


def test_another_hierarchy_is_another_result_and_its_name_is_not(tmp_path: Path) -> None:
    mapped(tmp_path, *SMALL)
    own = tmp_path / "own.yaml"
    own.write_text(hierarchy_text("std3-16").replace("name: std3-16", "name: own"))
    model, _, _, *rest = SMALL
    assert mapped(tmp_path, model, "--arch", str(own), *rest)["cached"] == 1
    own.write_text(own.read_text().replace("mac_pj: 0.5", "mac_pj: 0.6"))
    assert mapped(tmp_path, model, "--arch", str(own), *rest)["cached"] == 0


def test_a_model_of_other_names_shares_results(twins: str, tmp_path: Path) -> None:
    mapped(tmp_path, twins, "--arch", "std3-16", "--objective", "edp")
    assert mapped(tmp_path, *SMALL)["cached"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[: len(text) // 2], "is damaged and is made again: "),
        (lambda text: "[]", "is damaged and is made again: it is not what a search writes"),
        (
            lambda text: re.sub(r'"energy_pj": \d', '"energy_pj": 9', text),
            "is damaged and is made again: a mapping does not cost what is written",
        ),
        (
            lambda text: text.replace("spatial X: ", "spatial Q: "),
            "is damaged and is made again: a spatial dimension must be one of std3-16's, not 'Q'",
        ),
    ],
)
def test_a_damaged_entry_is_made_again_with_a_notice(
    change: Any, reason: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = mapped(tmp_path, *SMALL)
    (entry,) = cache.iterdir()
    good = entry.read_text()
    assert change(good) != good
    entry.write_text(change(good))
    second = mapped(tmp_path, *SMALL)
    assert f"archsim: {entry} {reason}" in capsys.readouterr().err
    assert (second["cached"], timeless(second)) == (0, timeless(first))
    assert mapped(tmp_path, *SMALL)["cached"] == 1


def test_an_entry_of_another_version_is_ignored_and_replaced(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapped(tmp_path, *SMALL)
    (entry,) = cache.iterdir()
    document = json.loads(entry.read_text())
    entry.write_text(json.dumps(document | {"program": "another", "answer": "of another form"}))
    assert mapped(tmp_path, *SMALL)["cached"] == 0
    assert "damaged" not in capsys.readouterr().err
    assert json.loads(entry.read_text())["program"] == document["program"]


def test_no_cache_neither_reads_nor_writes(cache: Path, tmp_path: Path) -> None:
    mapped(tmp_path, *SMALL, "--no-cache")
    assert not cache.exists()
    mapped(tmp_path, *SMALL)
    assert mapped(tmp_path, *SMALL, "--no-cache")["cached"] == 0


def test_a_cache_that_cannot_be_written_is_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("ARCHSIM_CACHE", str(blocked))
    assert mapped(tmp_path, *SMALL)["proved_optimal"] is True
    assert "cannot keep results: Not a directory" in capsys.readouterr().err


def test_a_budget_says_how_much_better_may_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = mapped(tmp_path, "gemm:64x96x80", "--arch", "std3-16", "--objective", "edp")
    found = mapped(tmp_path, "gemm:64x96x80", "--arch", "std3-16", "--objective", "edp", "--budget", "1")
    assert found["proved_optimal"] is False
    assert found["edp"] * (1 - found["gap"]) <= best["edp"] <= found["edp"]
    assert 0 <= found["gap"] < 1
    assert re.search(
        r"proved optimal +NO for 1 of 1: at most \d+\.\d% better exists", capsys.readouterr().out
    )


def test_constraints_are_laid_over_the_hierarchy(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("dataflow: output-stationary\nlevels:\n  - {name: GLB, bypass: [X, W]}\n")
    found = mapped(tmp_path, *SMALL, "--constraints", str(path))
    assert not re.search(r"GLB holds .*[XW]\[", found["rows"][0]["mapping"])
    assert re.search(r"RF holds Y", found["rows"][0]["mapping"])
    assert found["edp"] >= mapped(tmp_path, *SMALL)["edp"]


def test_constraints_on_what_the_model_has_not_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("levels:\n  - name: GLB\n    hold: [V]\n")
    assert main(["map", *SMALL, "--constraints", str(path)]) == 2
    assert capsys.readouterr().err.endswith(
        f"archsim: {path}:3: levels[0].hold[0] must be one of input, weight, output, X, W, Y, not 'V'\n"
    )


def test_a_model_that_cannot_fit_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tight = tmp_path / "tight.yaml"
    tight.write_text(hierarchy_text("tpu2-128").replace("size_bits: 8\n", "size_bits: 7\n"))
    assert main(["map", "gemm:4x4x4", "--arch", str(tight)]) == 2
    message = "archsim: Y[m, n] = X[m, k] * W[k, n] must have a mapping that fits tpu2-128; none does\n"
    assert capsys.readouterr().err.endswith(message)


def test_the_explanation_compares_every_dataflow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = mapped(tmp_path, *SMALL, "--explain")
    (row,) = found["rows"]
    assert row["dataflows"].keys() == {"input-stationary", "weight-stationary", "output-stationary"}
    assert row["dataflows"][row["dataflow"]]["edp"] == pytest.approx(row["edp"], rel=1e-12)
    assert min(each["edp"] for each in row["dataflows"].values()) >= row["edp"] * (1 - 1e-12)
    out = capsys.readouterr().out
    assert "Why this mapping of Y 16x32x8: " in out
    assert re.search(rf"{row['dataflow']} \(this\) +1\.0000 +1\.0000 +1\.0000 +yes", out)
    worst = max(row["dataflows"].items(), key=lambda item: item[1]["edp"])
    assert re.search(rf"{worst[0]}.* {worst[1]['edp'] / row['edp']:.4f} +yes", out)


def test_a_dataflow_that_does_not_fit_is_said_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = mapped(tmp_path, "gemm:8x8x8", "--arch", "tpu2-128", "--explain")
    assert found["rows"][0]["dataflows"]["output-stationary"] is None
    assert re.search(r"output-stationary +none fits", capsys.readouterr().out)


def test_a_front_is_sorted_and_none_of_it_is_dominated(tmp_path: Path) -> None:
    found = mapped(tmp_path, "gemm:16x8x32", "--arch", "std3-16", "--objective", "energy,latency,buffer")
    points = [(p["energy_pj"], p["cycles"], p["buffer_bits"]) for p in found["rows"][0]["front"]]
    assert points == sorted(points)
    assert len(points) > 2
    for one in points:
        assert not any(
            other != one and all(a <= b for a, b in zip(other, one, strict=True)) for other in points
        )
    assert found["energy_pj"] == mapped(tmp_path, *SMALL, "--objective", "energy")["energy_pj"]


@pytest.mark.parametrize(
    "option",
    [("--explain",), ("--factors", "perfect"), ("--budget", "5"), ("--no-cache",), ("--report", "x.html")],
)
def test_hardware_is_not_asked_what_only_a_hierarchy_answers(
    option: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["map", "gemm:8x8x8", "--arch", "edge-8x8", *option]) == 2
    assert f"{option[0]} must be given with a hierarchy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("speed", "an objective must be one of latency, energy, edp, traffic, buffer, not 'speed'"),
        ("edp,edp", "a front must be of two or three different metrics, not 'edp,edp'"),
        ("latency,energy,edp,buffer", "a front must be of two or three different metrics"),
    ],
)
def test_objectives_that_are_none_are_refused(
    objective: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["map", "gemm:8x8x8", "--arch", "std3-16", "--objective", objective]) == 2
    assert message in capsys.readouterr().err


def test_hardware_has_three_objectives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "gemm:8x8x8", "--arch", "edge-8x8", "--objective", "traffic"]) == 2
    assert "must be one of latency, energy, edp unless ARCH is a hierarchy" in capsys.readouterr().err


def test_other_commands_refuse_a_hierarchy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "gemm:8x8x8", "--arch", "std3-16"]) == 2
    assert "hierarchies are for archsim map" in capsys.readouterr().err


def test_an_unknown_name_is_answered_with_both_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "gemm:8x8x8", "--arch", "std3-61"]) == 2
    err = capsys.readouterr().err
    assert "edge-8x8" in err
    assert err.endswith("not 'std3-61'; did you mean 'std3-16'?\n")


def test_the_page_has_pictures_and_needs_no_other_file(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    options = ("gemm:16x8x32", "--arch", "std3-16", "--objective", "energy,buffer", "--report", str(page))
    found = mapped(tmp_path, *options)
    text = page.read_text()
    assert 'aria-label="Mapping of Y"' in text
    assert 'aria-label="Pareto front of Y"' in text
    assert not re.search(r'(src|href)="(?!#)|https?://(?!www\.w3\.org)', text)
    for line in found["rows"][0]["mapping"].splitlines():
        assert line.strip() in text
    mapped(tmp_path, *options)
    assert page.read_text() == text


LONG = """\
name: long
ranks: {m: 16, n: 16, k: 16, c: 997, d: 991, e: 983}
einsums:
  - Z[m, n] = A[m, k] * B[k, n]
  - Y[c, d] = C[c, e] * D[e, d]
"""


def started(tmp_path: Path, cache: Path) -> subprocess.Popen[str]:
    """A run with one short and one long search, at the moment when the short one is done."""
    model = tmp_path / "long.yaml"
    model.write_text(LONG)
    command = [sys.executable, "-m", "archsim.cli", "map", str(model), "--arch", "std3-16", "--jobs", "2"]
    process = subprocess.Popen(
        [*command, "--objective", "energy,latency,buffer"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(cache.glob("*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def gone(group: int) -> bool:
    """Whether every process of the group ends soon."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_an_interruption_keeps_what_was_found(cache: Path, tmp_path: Path) -> None:
    process = started(tmp_path, cache)
    # As a terminal does it: to the process and to all that it started.
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("archsim: interrupted\n")
    assert gone(process.pid)
    (kept,) = cache.iterdir()
    assert json.loads(kept.read_text())["answer"]["proved_optimal"] is True


def test_a_run_that_is_killed_leaves_no_process(cache: Path, tmp_path: Path) -> None:
    process = started(tmp_path, cache)
    process.kill()
    process.communicate(timeout=30)
    assert gone(process.pid)
    assert len(list(cache.iterdir())) == 1


FILES, COMMANDS = ((ROOT / "docs" / name).read_text() for name in ("files.md", "cli.md"))


def test_the_json_reference_names_every_key(tmp_path: Path) -> None:
    reference = COMMANDS.partition("\n## Mapping on a hierarchy\n")[2].partition("\n## ")[0]
    found = mapped(tmp_path, *SMALL, "--objective", "energy,buffer", "--explain")
    row = found["rows"][0]
    figures = {"energy_pj", "cycles", "edp", "dram_bits", "buffer_bits"}
    keys = {*found, *row, *row["levels"][0], "einsum", "part", "count", "reason"}
    assert {key for key in keys if f"`{key}`" not in reference} == set()
    assert all(point.keys() == figures | {"mapping"} for point in row["front"])
    options = {option for parameter in app.commands["map"].params for option in parameter.opts}
    written = set(re.findall(r"^\| `(--[\w-]+)", reference, re.MULTILINE))
    assert written < options
    general = {"--arch", "--phase", "--seq", "--batch", "--host", "--shape", "--json"}
    assert {option for option in options - general if option.startswith("--")} == written


def test_the_snippets_of_the_file_reference_are_files() -> None:
    snippets = dict(
        re.findall(r"^```yaml (hierarchy|constraints)\n(.*?)^```$", FILES, re.MULTILINE | re.DOTALL)
    )
    hierarchy = parse_hierarchy(snippets["hierarchy"])
    found = parse_constraints(snippets["constraints"], hierarchy, tensors=(), ranks=("m", "n", "k"))
    assert (found.dataflow, found.levels[1].bypass) == ("weight-stationary", ("weight",))


@pytest.mark.parametrize(
    ("section", "schema"), [("Hierarchy", hierarchy_schema()), ("Constraints", constraints_schema())]
)
def test_the_file_reference_has_every_key(section: str, schema: dict[str, Any]) -> None:
    text = FILES.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    objects = (schema, *schema["$defs"].values())
    keys = {key for each in objects for key in each.get("properties", {})}
    assert {key for key in keys if f"`{key}`" not in text and f"{key}:" not in text} == set()


def test_timeloop_files_are_written(twins: str, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    mapped(tmp_path, *SMALL, "--timeloop", str(folder))
    assert {path.name for path in folder.iterdir()} == {"architecture.yaml", "mapping.yaml", "problem.yaml"}
    folder = tmp_path / "two"
    mapped(tmp_path, twins, "--arch", "std3-16", "--objective", "edp", "--timeloop", str(folder))
    assert {path.name for path in folder.iterdir()} == {"001-Q", "002-S"}
