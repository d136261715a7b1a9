"""Signals that end a command with its programs, and those that it was told to ignore."""

from __future__ import annotations

import os
import signal
import subprocess
import threading

import pytest

from archsim.cli._children import descendants, ended_together


def test_handlers_are_put_back_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        term = signal.getsignal(signal.SIGTERM)
        with ended_together():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not term
        assert signal.getsignal(signal.SIGTERM) is term
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_changes_no_handler() -> None:
    term = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def inside() -> None:
        with ended_together():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [term]


@pytest.mark.parametrize("depth", [1, 2])
def test_descendants_are_found_at_every_depth(depth: int) -> None:
    command = ["sh", "-c", "read line"] if depth == 1 else ["sh", "-c", "sh -c 'echo; read line'; true"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if depth == 2:
            process.stdout.readline()
        found = descendants(os.getpid())
        assert process.pid in found
        assert len(descendants(process.pid)) == depth - 1
        assert {*descendants(process.pid)} <= {*found}
        process.stdin.close()
