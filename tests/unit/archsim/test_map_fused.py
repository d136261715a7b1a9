"""``archsim map --fuse``: fused runs beside no fusion, and what cannot be asked with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archsim.cli import main

CHAIN = """name: chain
ranks: {m: 8, k: 4, n: 4, q: 4}
einsums:
  - T[m, n] = A[m, k] * B[k, n]
  - Z[m, q] = T[m, n] * C[n, q]
"""


@pytest.fixture
def chain(tmp_path: Path) -> str:
    path = tmp_path / "chain.yaml"
    path.write_text(CHAIN)
    return str(path)


def test_what_is_between_two_products_stays_on_chip(
    chain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "fused.json"
    arguments = [
        "map",
        chain,
        "--arch",
        "tpu2-128",
        "--objective",
        "traffic",
        "--fuse",
        "--json",
        str(target),
    ]
    assert main(arguments) == 0
    found = json.loads(target.read_text())
    assert found["proved_optimal"] is True
    # Bytes: A 32, B 16, C 16 and Z 32 cross once; without fusion T does too, there and back.
    assert found["dram_bits"] == 8 * (32 + 16 + 16 + 32)
    assert found["unfused"]["dram_bits"] == 8 * (32 + 16 + 16 + 32 + 2 * 32)
    out = capsys.readouterr().out
    assert "outermost level's traffic" in out
    assert "1.667" in out
    assert found["parts"][0]["mapping"] in out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            ("--objective", "energy,latency"),
            "--objective must be one of latency, energy, edp, traffic with --fuse",
        ),
        (("--objective", "buffer"), "--objective must be one of latency, energy, edp, traffic with --fuse"),
        (("--explain",), "--fuse must be given without --explain"),
    ],
)
def test_what_fusion_cannot_be_asked(
    chain: str, capsys: pytest.CaptureFixture[str], extra: tuple[str, ...], message: str
) -> None:
    assert main(["map", chain, "--arch", "tpu2-128", "--fuse", *extra]) == 2
    assert message in capsys.readouterr().err


def test_hardware_fuses_nothing(chain: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", chain, "--arch", "edge-8x8", "--fuse"]) == 2
    assert "--fuse must be given with a hierarchy" in capsys.readouterr().err


def test_a_machine_without_energies_has_no_shares(chain: str, tmp_path: Path) -> None:
    arch = tmp_path / "free.yaml"
    arch.write_text(
        "kind: hierarchy\nname: free\nclock_mhz: 1000\nmac_pj: 0\nlevels:\n"
        "  - {name: DRAM, read_pj_per_bit: 0, write_pj_per_bit: 0}\n"
        "  - {name: BUF, read_pj_per_bit: 0, write_pj_per_bit: 0, size_bits: 4096}\n"
    )
    assert main(["map", chain, "--arch", str(arch), "--fuse"]) == 0
    assert main(["map", chain, "--arch", str(arch), "--no-cache", "--report", str(tmp_path / "r.html")]) == 0
