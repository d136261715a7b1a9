"""A run that is told to end leaves no simulator and no temporary file behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from archsim.cli._children import descendants
from archsim.cli._errors import INTERRUPTED
from rtl._toolchain import EXECUTABLE

DEADLINE_S = 120.0
LONG = "gemm:2048x512x512"
"""Millions of cycles: nobody waits for its end here."""


def _simulator(process: int) -> int | None:
    """The simulator that ``process`` runs, if it has come so far."""
    for child in descendants(process):
        with suppress(OSError):
            if Path(f"/proc/{child}/comm").read_text().strip() == EXECUTABLE:
                return child
    return None


def _runs(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.cosim
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_simulator_ends_with_its_command(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "archsim.cli", "cosim", LONG, "--arch", "edge-8x8"]
    # A background job of a shell ignores interruptions, and what it starts would too.
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler)
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path / "out")],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + DEADLINE_S
    while (simulator := _simulator(process.pid)) is None:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    _, error = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == INTERRUPTED
    assert error.splitlines()[-1] == "archsim: interrupted"
    assert not _runs(simulator)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list((tmp_path / "out").iterdir()) == []
