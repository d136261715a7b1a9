"""A machine in Amaranth's simulator: stand-in compute engines, a memory, and a host on AXI4-Lite."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from archsim._architecture import Architecture, Array, Bus, Memory, Scratchpad, Vector
from archsim._counters import COUNTER_ADDRESS, COUNTERS
from archsim._isa import SEMAPHORES, Engine
from archsim._program import Instruction, Program
from rtl._command import ARRAY_EVENTS, VECTOR_EVENTS, command_layout
from rtl._core import Core
from rtl._encode import encode
from rtl._scratchpad import read_port, write_port

STAND_IN_LATENCY = 5


class StandIn(wiring.Component):
    """A compute engine that computes nothing: e = s + rows (s for a SYNC), r = e + STAND_IN_LATENCY."""

    def __init__(self, engine: Engine, arch: Architecture) -> None:
        word = 8 * arch.word_bytes
        ports: dict[str, Any] = {
            "head": In(stream.Signature(command_layout(engine))),
            "signal": Out(SEMAPHORES),
            "release": Out(SEMAPHORES),
            "retire": Out(1),
        }
        if engine is Engine.ARRAY:
            ports |= {
                "x_read": Out(read_port(word)),
                "w_read": Out(read_port(word)),
                "acc_read": In(read_port(32 * arch.array.cols)),
                "events": Out(ARRAY_EVENTS),
            }
        else:
            ports |= {
                "source_read": Out(read_port(word)),
                "residual_read": Out(read_port(word)),
                "param_read": Out(read_port(8 * word)),
                "acc_read": Out(read_port(32 * arch.array.cols)),
                "write": Out(write_port(word)),
                "events": Out(VECTOR_EVENTS),
            }
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left = Signal(16)
        held = Signal(self.head.payload.shape())
        popping = self.head.valid & self.head.ready
        ending = Signal()
        mask = Signal(SEMAPHORES)
        releases = Signal(SEMAPHORES)
        m.d.comb += [
            self.head.ready.eq(left == 0),
            ending.eq((left == 1) | (popping & self.head.payload.is_sync)),
            mask.eq(Mux(left == 1, held.signals, self.head.payload.signals)),
            releases.eq(Mux(left == 1, held.releases, self.head.payload.releases)),
        ]
        m.d.sync += self.release.eq(Mux(ending, releases, 0))
        with m.If(popping):
            m.d.sync += held.eq(self.head.payload)
            with m.If(~self.head.payload.is_sync):
                m.d.sync += left.eq(self.head.payload.rows)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        ended, signals = ending, Mux(ending, mask, 0)
        for _ in range(STAND_IN_LATENCY):
            next_ended, next_signals = Signal(), Signal(SEMAPHORES)
            m.d.sync += [next_ended.eq(ended), next_signals.eq(signals)]
            ended, signals = next_ended, next_signals
        m.d.comb += [self.retire.eq(ended), self.signal.eq(signals)]
        return m


def machine(
    *, side: int = 4, bus_bytes: int = 4, burst: int = 64, outstanding: int = 4, depth: int = 4, **memory: int
) -> Architecture:
    """A small architecture for control tests."""
    return Architecture(
        name="bench",
        clock_mhz=100.0,
        array=Array(rows=side, cols=side),
        bus=Bus(bytes=bus_bytes, max_burst_beats=burst, outstanding=outstanding),
        scratchpad=Scratchpad(banks=3, words_per_bank=2048),
        accumulator_words=16,
        parameter_words=8,
        vector=Vector(buffer_words=16, rows=4),
        program_words=64,
        queue_depth=depth,
        memory=Memory(**memory),
    )


@dataclass(slots=True)
class AxiMemory:
    """A memory with the timing of ``docs/machine.md``; answers SLVERR inside ``bad``."""

    timing: Memory
    image: bytearray
    bus_bytes: int
    bad: range = range(0)
    reads: list[tuple[int, int, int]] = field(default_factory=list)
    """(cycle, address, beats) of each read address handshake."""
    writes: list[tuple[int, int, int]] = field(default_factory=list)
    write_beats: list[int] = field(default_factory=list)
    """Cycle of each write beat."""

    async def run(self, ctx: Any, port: Any) -> None:
        beats: deque[tuple[int, int, bool]] = deque()
        responses: deque[tuple[int, bool]] = deque()
        last_read, last_write = -(10**9), -(10**9)
        address, failed, cycle, reading, answering = 0, False, -1, False, False
        ctx.set(port.arready, 1)
        ctx.set(port.awready, 1)
        ctx.set(port.wready, 1)
        sampled = ctx.tick().sample(
            port.arvalid,
            port.araddr,
            port.arlen,
            port.awvalid,
            port.awaddr,
            port.awlen,
            port.wvalid & port.wready,
            port.wdata,
            port.wlast,
        )
        async for _, _, arvalid, araddr, arlen, awvalid, awaddr, awlen, sent, wdata, wlast in sampled:
            cycle += 1
            if reading:
                beats.popleft()
            if answering:
                responses.popleft()
            if arvalid:
                self.reads.append((cycle, araddr, arlen + 1))
                for index in range(arlen + 1):
                    first = cycle + self.timing.read_latency if index == 0 else 0
                    last_read = max(first, last_read + self.timing.read_interval)
                    beats.append((last_read, araddr + index * self.bus_bytes, index == arlen))
            if awvalid:
                self.writes.append((cycle, awaddr, awlen + 1))
                address, failed = awaddr, False
            if sent:
                self.write_beats.append(cycle)
                last_write = cycle
                failed |= address in self.bad
                self.image[address : address + self.bus_bytes] = int(wdata).to_bytes(self.bus_bytes, "little")
                address += self.bus_bytes
                if wlast:
                    responses.append((cycle + self.timing.write_latency, failed))
            reading = bool(beats) and beats[0][0] <= cycle + 1
            if reading:
                _, place, is_last = beats[0]
                word = int.from_bytes(self.image[place : place + self.bus_bytes], "little")
                ctx.set(port.rdata, word)
                ctx.set(port.rlast, is_last)
                ctx.set(port.rresp, 2 if place in self.bad else 0)
            ctx.set(port.rvalid, reading)
            answering = bool(responses) and responses[0][0] <= cycle + 1
            if answering:
                ctx.set(port.bresp, 2 if responses[0][1] else 0)
            ctx.set(port.bvalid, answering)
            ctx.set(port.wready, cycle + 1 >= last_write + self.timing.write_interval)


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind."""

    counters: tuple[int, ...]
    status: int
    irq: bool
    memory: AxiMemory


async def write_register(ctx: Any, port: Any, address: int, value: int) -> None:
    """Writes over AXI4-Lite; returns when the word is there, two cycles after it was taken."""
    for name, wanted in (("awaddr", address), ("awvalid", 1), ("wdata", value), ("wvalid", 1), ("wstrb", 15)):
        ctx.set(getattr(port, name), wanted)
    ctx.set(port.bready, 1)
    await ctx.tick()
    ctx.set(port.awvalid, 0)
    ctx.set(port.wvalid, 0)
    await ctx.tick()


async def read_register(ctx: Any, port: Any, address: int) -> int:
    """Reads over AXI4-Lite."""
    ctx.set(port.araddr, address)
    ctx.set(port.arvalid, 1)
    ctx.set(port.rready, 1)
    while not ctx.get(port.arready):
        await ctx.tick()
    await ctx.tick()
    ctx.set(port.arvalid, 0)
    while not ctx.get(port.rvalid):
        await ctx.tick()
    value = ctx.get(port.rdata)
    await ctx.tick()
    return int(value)


def run(
    arch: Architecture,
    instructions: list[Instruction],
    *,
    image: bytes = b"",
    bad: range = range(0),
    runs: int = 1,
    length: int | None = None,
) -> Run:
    """Runs the program ``runs`` times; it stands in memory behind ``image``."""
    core = Core(arch, array=StandIn(Engine.ARRAY, arch), vector=StandIn(Engine.VECTOR, arch))
    place = -(-len(image) // 64) * 64
    content = bytearray(image.ljust(place, b"\0") + encode(Program("bench", tuple(instructions))))
    memory = AxiMemory(arch.memory, content, arch.bus.bytes, bad)
    results: list[Run] = []

    async def host(ctx: Any) -> None:
        port = core.s_axil
        await write_register(ctx, port, 0x08, 1)
        await write_register(ctx, port, 0x0C, place)
        await write_register(ctx, port, 0x10, len(instructions) if length is None else length)
        for _ in range(runs):
            await write_register(ctx, port, 0x00, 1)
            assert ctx.get(core.busy)
            limit = 20_000
            while not ctx.get(core.done):
                await ctx.tick()
                limit -= 1
                assert limit, "the run did not end"
            irq = bool(ctx.get(core.irq))
            status = await read_register(ctx, port, 0x04)
            halves = [
                await read_register(ctx, port, COUNTER_ADDRESS + 4 * index) for index in range(2 * COUNTERS)
            ]
            counters = tuple(low | high << 32 for low, high in zip(halves[::2], halves[1::2], strict=True))
            results.append(Run(counters, status, irq, memory))

    async def respond(ctx: Any) -> None:
        await memory.run(ctx, core.m_axi)

    simulator = Simulator(core)
    simulator.add_clock(1e-6)
    simulator.add_process(respond)
    simulator.add_testbench(host)
    simulator.run()
    return results[-1]
