"""Every byte through the sender and the receiver, at short and odd bit lengths."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from rtl._uart import Receiver, Sender


@pytest.mark.parametrize("bit_cycles", [4, 5, 9])
def test_bytes_arrive(bit_cycles: int) -> None:
    m = Module()
    m.submodules.sender = sender = Sender(bit_cycles=bit_cycles)
    m.submodules.receiver = receiver = Receiver(bit_cycles=bit_cycles)
    m.d.comb += receiver.line.eq(sender.line)
    sent, seen = [0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80, 0x06], []

    async def send(ctx: Any) -> None:
        for byte in sent:
            ctx.set(sender.bytes.payload, byte)
            ctx.set(sender.bytes.valid, 1)
            await ctx.tick().until(sender.bytes.ready)
        ctx.set(sender.bytes.valid, 0)
        await ctx.tick().repeat(20 * bit_cycles)

    async def watch(ctx: Any) -> None:
        async for *_, valid, byte in ctx.tick().sample(receiver.valid, receiver.byte):
            if valid:
                seen.append(byte)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(send)
    simulator.add_process(watch)
    simulator.run()
    assert seen == sent


def test_a_frame_has_a_low_start_eight_bits_and_a_high_stop() -> None:
    sender, line = Sender(bit_cycles=4), []

    async def send(ctx: Any) -> None:
        ctx.set(sender.bytes.payload, 0b1010_0110)
        ctx.set(sender.bytes.valid, 1)
        await ctx.tick()
        ctx.set(sender.bytes.valid, 0)
        for _ in range(40):
            line.append(ctx.get(sender.line))
            await ctx.tick()

    simulator = Simulator(sender)
    simulator.add_clock(1e-6)
    simulator.add_testbench(send)
    simulator.run()
    bits = [0, 0, 1, 1, 0, 0, 1, 0, 1, 1]
    assert line == [bit for bit in bits for _ in range(4)]
