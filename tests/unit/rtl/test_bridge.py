"""The bridge alone: requests byte by byte, and what it does to memory, registers and the line."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.sim import Simulator

from rtl._bridge import ACKNOWLEDGE, Bridge, Operation


def request(operation: int, address: int, words: list[int], *, count: int | None = None) -> bytes:
    """A request as it goes over the line."""
    head = bytes([operation]) + address.to_bytes(4, "little") + (count or len(words)).to_bytes(2, "little")
    return head + b"".join(word.to_bytes(4, "little") for word in words)


def serve(sent: bytes) -> tuple[bytes, dict[int, int], dict[int, int]]:
    """The bridge's answers to ``sent``, and memory and registers (address to word) afterwards."""
    bridge = Bridge()
    memory, registers, answers = dict.fromkeys(range(0, 64, 4), 0), {0x10: 0x1122_3344}, bytearray()

    async def line(ctx: Any) -> None:
        for byte in sent:
            ctx.set(bridge.byte, byte)
            ctx.set(bridge.valid, 1)
            await ctx.tick()
            ctx.set(bridge.valid, 0)
            await ctx.tick().repeat(8)
        await ctx.tick().repeat(200)

    async def world(ctx: Any) -> None:
        held: list[int] = [0, 0]
        ctx.set(bridge.bytes.ready, 1)
        ctx.set(bridge.registers.awready, 1)
        ctx.set(bridge.registers.wready, 1)
        ctx.set(bridge.registers.arready, 1)
        port = bridge.registers
        names: tuple[Any, ...] = (
            bridge.address,
            bridge.write,
            bridge.word,
            bridge.bytes.valid,
            bridge.bytes.payload,
        )
        names += (port.awvalid, port.wdata, port.awaddr, port.arvalid, port.araddr, port.rready)
        asked = False
        async for *_, address, write, word, valid, byte, aw, data, to, ar, at, rready in ctx.tick().sample(
            *names
        ):
            held = [held[1], memory.get(address, 0)]
            ctx.set(bridge.read, held[0])
            if write:
                memory[address] = word
            if valid:
                answers.append(byte)
            if aw:
                registers[to] = data
            if asked and rready:
                asked = False
            asked = asked or bool(ar)
            ctx.set(port.rvalid, asked)
            if ar:
                ctx.set(port.rdata, registers.get(at, 0))

    simulator = Simulator(bridge)
    simulator.add_clock(1e-6)
    simulator.add_testbench(line)
    simulator.add_process(world)
    simulator.run()
    return bytes(answers), memory, registers


def test_memory_words_are_written_and_read_back() -> None:
    words = [0x0403_0201, 0xFFEE_DDCC, 7]
    sent = request(Operation.WRITE_MEMORY, 8, words) + request(Operation.READ_MEMORY, 8, [], count=3)
    answers, memory, _ = serve(sent)
    assert [memory[address] for address in (4, 8, 12, 16, 20)] == [0, *words, 0]
    assert answers == bytes([ACKNOWLEDGE]) + b"".join(word.to_bytes(4, "little") for word in words)


def test_registers_are_written_and_read() -> None:
    sent = request(Operation.WRITE_REGISTERS, 0x0C, [0xABCD]) + request(
        Operation.READ_REGISTERS, 0x10, [], count=1
    )
    answers, _, registers = serve(sent)
    assert registers[0x0C] == 0xABCD
    assert answers == bytes([ACKNOWLEDGE, 0x44, 0x33, 0x22, 0x11])


@pytest.mark.parametrize("noise", [b"\x00", b"\xff\x06", b"\x05\x80"])
def test_bytes_that_are_no_operation_are_skipped(noise: bytes) -> None:
    answers, memory, _ = serve(noise + request(Operation.WRITE_MEMORY, 0, [1]))
    assert (answers, memory[0]) == (bytes([ACKNOWLEDGE]), 1)
