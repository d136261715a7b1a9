"""The host's end of a board's serial port: memory, registers and whole runs, over any pair of pipes."""

from __future__ import annotations

import os
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from archsim._counters import COUNTER_ADDRESS, COUNTERS
from archsim._isa import INSTRUCTION_BYTES
from rtl._axi import LITE_BYTES
from rtl._bridge import ACKNOWLEDGE, Operation
from rtl._errors import RtlError
from rtl._jobs import Register

_WORDS = 256
"""Words of a request, so that a lost byte costs little."""
_DONE = 1


class Channel(Protocol):
    """Bytes to and from a board."""

    def send(self, data: bytes) -> None:
        """Hand ``data`` over."""
        ...

    def receive(self, count: int) -> bytes:
        """``count`` bytes, as soon as they have come."""
        ...


class Link:
    """A board behind a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def write_memory(self, address: int, data: bytes) -> None:
        """Write ``data``, padded to whole words, at a byte address that is a multiple of four."""
        self._write(Operation.WRITE_MEMORY, address, data + bytes(-len(data) % LITE_BYTES))

    def read_memory(self, address: int, size_bytes: int) -> bytes:
        """``size_bytes`` from a byte address that is a multiple of four."""
        return self._read(Operation.READ_MEMORY, address, -(-size_bytes // LITE_BYTES))[:size_bytes]

    def write_register(self, address: int, value: int) -> None:
        """Write one register."""
        self._write(Operation.WRITE_REGISTERS, address, value.to_bytes(LITE_BYTES, "little"))

    def read_register(self, address: int) -> int:
        """Read one register."""
        return int.from_bytes(self._read(Operation.READ_REGISTERS, address, 1), "little")

    def counters(self) -> tuple[int, ...]:
        """The core's counters, in register-map order."""
        raw = self._read(Operation.READ_REGISTERS, COUNTER_ADDRESS, 2 * COUNTERS)
        return tuple(int.from_bytes(raw[8 * i : 8 * i + 8], "little") for i in range(COUNTERS))

    def run(self, program: bytes, *, address: int, limit_s: float = 60.0) -> int:
        """Put ``program`` at ``address``, start it, wait for its end; returns the status register.

        Raises: RtlError when it has not ended after ``limit_s`` seconds.
        """
        self.write_memory(address, program)
        self.write_register(Register.PROGRAM_ADDRESS, address)
        self.write_register(Register.PROGRAM_LENGTH, len(program) // INSTRUCTION_BYTES)
        self.write_register(Register.CONTROL, 1)
        deadline = time.monotonic() + limit_s
        while not (status := self.read_register(Register.STATUS)) & _DONE:
            if time.monotonic() > deadline:
                raise RtlError(f"the run must end within {limit_s:g} s, and its status is {status:#x}")
        return status

    def _write(self, operation: Operation, address: int, data: bytes) -> None:
        for place in range(0, len(data), _WORDS * LITE_BYTES):
            part = data[place : place + _WORDS * LITE_BYTES]
            self._channel.send(_header(operation, address + place, len(part) // LITE_BYTES) + part)
            answer = self._channel.receive(1)
            if answer != bytes([ACKNOWLEDGE]):
                raise RtlError(f"the board must acknowledge a write with 06, not {answer.hex()!r}")

    def _read(self, operation: Operation, address: int, words: int) -> bytes:
        parts = []
        for place in range(0, words, _WORDS):
            count = min(_WORDS, words - place)
            self._channel.send(_header(operation, address + place * LITE_BYTES, count))
            parts.append(self._channel.receive(count * LITE_BYTES))
        return b"".join(parts)


def _header(operation: Operation, address: int, words: int) -> bytes:
    if address % LITE_BYTES:
        raise RtlError(f"address must be a multiple of {LITE_BYTES}, not {address!r}")
    return bytes([operation]) + address.to_bytes(4, "little") + words.to_bytes(2, "little")


class _File:
    """A channel over file descriptors."""

    def __init__(self, read: int, write: int, *, alive: Callable[[], bool] = lambda: True) -> None:
        self._in, self._out, self._alive = read, write, alive

    def send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._out, data) :]

    def receive(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = os.read(self._in, count - len(parts))
            if not part:
                raise RtlError(
                    f"the board must answer with {count} bytes, and fell silent after {len(parts)}"
                )
            parts += part
        return bytes(parts)


def pipe_link(read: int, write: int) -> Link:
    """A link over two file descriptors, as of a simulated board."""
    return Link(_File(read, write))


@contextmanager
def serial_link(device: Path, *, baud: int, silence_s: float = 2.0) -> Iterator[Link]:
    """A link over a serial device, as /dev/ttyUSB0.

    Raises: RtlError where the device cannot be opened or has no such rate.
    """
    speed = getattr(termios, f"B{baud}", None)
    if speed is None:
        raise RtlError(f"baud must be a rate that the system has, not {baud!r}")
    try:
        port = os.open(device, os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        raise RtlError(f"device must be a serial port, not {str(device)!r}: {error.strerror}") from error
    try:
        _configure(port, speed, deciseconds=max(1, round(10 * silence_s)))
        yield Link(_File(port, port))
    finally:
        os.close(port)


def _configure(port: int, speed: int, *, deciseconds: int) -> None:
    """Raw bytes, eight bits, no parity; a read gives up after a silence."""
    control: list[bytes | int] = [b"\0"] * len(termios.tcgetattr(port)[6])
    control[termios.VMIN], control[termios.VTIME] = 0, deciseconds
    flags = termios.CS8 | termios.CREAD | termios.CLOCAL
    settings: list[int | list[bytes | int]] = [0, 0, flags, 0, speed, speed, control]
    termios.tcsetattr(port, termios.TCSANOW, settings)
