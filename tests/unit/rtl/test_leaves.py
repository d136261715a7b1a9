"""Queue, semaphores, retirement, memories and registers, each against a naive model."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from amaranth.sim import Simulator

from archsim._counters import COUNTER_ADDRESS, COUNTERS, Counter
from archsim._isa import SEMAPHORES
from rtl._queue import Queue
from rtl._registers import REGISTER_MAP, Registers
from rtl._scratchpad import WORD_READERS, Scratchpad, WideMemory
from rtl._semaphores import Retirement, Semaphores
from tests.unit.rtl.control_bench import machine, read_register, write_register


def simulate(component: Any, bench: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("depth", [1, 3, 4, 5])
def test_queue_against_a_deque(depth: int) -> None:
    queue = Queue(8, depth=depth)

    async def bench(ctx: Any) -> None:
        rng, model = random.Random(depth), deque[int]()
        for _ in range(200):
            push, pop, value = rng.random() < 0.6, rng.random() < 0.5, rng.getrandbits(8)
            ctx.set(queue.push.valid, push)
            ctx.set(queue.push.payload, value)
            ctx.set(queue.head.ready, pop)
            assert ctx.get(queue.level) == len(model)
            assert ctx.get(queue.push.ready) == (len(model) < depth)
            assert ctx.get(queue.head.valid) == bool(model)
            room = len(model) < depth
            if model:
                assert ctx.get(queue.head.payload) == model[0]
                if pop:
                    model.popleft()
            if push and room:
                model.append(value)
            await ctx.tick()

    simulate(queue, bench)


def test_semaphores_add_and_take_in_one_cycle() -> None:
    semaphores = Semaphores()

    async def bench(ctx: Any) -> None:
        rng, model = random.Random(0), [0] * SEMAPHORES
        for step in range(150):
            available = sum((count > 0) << index for index, count in enumerate(model))
            assert ctx.get(semaphores.available) == available
            amounts = [rng.choice([0, 0, 0, 1, 3]) for _ in range(SEMAPHORES)]
            take, clear = rng.getrandbits(16) & available, step == 100
            for index, amount in enumerate(amounts):
                ctx.set(semaphores.amounts[index], amount)
            ctx.set(semaphores.take, take)
            ctx.set(semaphores.clear, clear)
            model = [
                0 if clear else count + amounts[index] - (take >> index & 1)
                for index, count in enumerate(model)
            ]
            await ctx.tick()

    simulate(semaphores, bench)


def test_retirement_keeps_order() -> None:
    """Each SYNC retires with the last transfer before it; the model keeps them all in one list."""
    retirement = Retirement(depth=3)

    async def bench(ctx: Any) -> None:
        rng, line = random.Random(1), deque[tuple[bool, int]]()
        for _ in range(400):
            transfers = sum(is_transfer for is_transfer, _ in line)
            complete = transfers > 0 and rng.random() < 0.3
            kind = rng.choice(["transfer", "sync", "none"])
            mask = rng.getrandbits(16)
            transfer, sync = kind == "transfer" and transfers < 3, kind == "sync"
            ctx.set(retirement.transfer, transfer)
            ctx.set(retirement.sync, sync)
            ctx.set(retirement.signals, mask)
            ctx.set(retirement.complete, complete)
            if transfer or sync:
                line.append((transfer, mask))
            retired: list[int] = []
            # A transfer that is popped in this cycle is not the one that completes.
            if complete:
                retired.append(line.popleft()[1])
            while line and not line[0][0]:
                retired.append(line.popleft()[1])
            view = ctx.get(retirement.retiring)
            assert view.retired == len(retired)
            for index in range(SEMAPHORES):
                assert view.amounts[index] == sum(mask >> index & 1 for mask in retired)
            await ctx.tick()

    simulate(retirement, bench)


def test_wide_memory_writes_beats_and_reads_rows() -> None:
    memory = WideMemory(row_bytes=8, beat_bytes=2, depth=5)

    async def bench(ctx: Any) -> None:
        rng, model = random.Random(2), bytearray(40)
        for beat in range(20):
            value = rng.getrandbits(16)
            model[2 * beat : 2 * beat + 2] = value.to_bytes(2, "little")
            ctx.set(memory.write.en, 1)
            ctx.set(memory.write.addr, beat)
            ctx.set(memory.write.data, value)
            await ctx.tick()
        ctx.set(memory.write.en, 0)
        for row in range(5):
            ctx.set(memory.read.en, 1)
            ctx.set(memory.read.addr, row)
            await ctx.tick()
            assert ctx.get(memory.read.data) == int.from_bytes(model[8 * row : 8 * row + 8], "little")

    simulate(memory, bench)


@pytest.mark.parametrize(("kept", "whole"), [(3, 4), (4, 4), (8, 8)])
def test_wide_memory_keeps_whole_beats_of_a_row(kept: int, whole: int) -> None:
    """Rows of four beats of two bytes; the beats past those that are kept are written to no other place."""
    memory = WideMemory(row_bytes=8, beat_bytes=2, depth=3, kept_bytes=kept)

    async def bench(ctx: Any) -> None:
        ctx.set(memory.write.en, 1)
        for beat in range(12):
            ctx.set(memory.write.addr, beat)
            ctx.set(memory.write.data, 0x101 * (beat + 1))
            await ctx.tick()
        ctx.set(memory.write.en, 0)
        ctx.set(memory.read.en, 1)
        for row in range(3):
            ctx.set(memory.read.addr, row)
            await ctx.tick()
            wanted = bytes(4 * row + byte // 2 + 1 if byte < whole else 0 for byte in range(8))
            assert ctx.get(memory.read.data).to_bytes(8, "little") == wanted

    simulate(memory, bench)


@pytest.mark.parametrize(("side", "bus_bytes"), [(4, 4), (8, 4), (2, 8), (1, 16)])
def test_scratchpad_against_a_byte_array(side: int, bus_bytes: int) -> None:
    """Random accesses of all clients: values where no bank is shared, and the conflict bit always."""
    arch = machine(side=side, bus_bytes=bus_bytes)
    scratchpad = Scratchpad(arch)
    word, row = arch.word_bytes, arch.bank_row_bytes
    bank_bytes = arch.scratchpad.words_per_bank * word
    units = dict.fromkeys(WORD_READERS, word) | {"store": row, "load": bus_bytes, "vector": word}
    writers = ("load", "vector")
    spots = [bank * bank_bytes + offset for bank in range(3) for offset in range(0, 4 * row, row)]

    async def bench(ctx: Any) -> None:
        rng, model = random.Random(side), bytearray(3 * bank_bytes)
        clash = False
        for _ in range(300):
            places: dict[str, int] = {}
            for name, unit in units.items():
                port, place = getattr(scratchpad, name), rng.choice(spots) + unit * rng.randrange(row // unit)
                wanted = rng.random() < 0.3
                ctx.set(port.en, wanted)
                ctx.set(port.addr, place // unit)
                if wanted:
                    places[name] = place
            banks = {
                side: [place // bank_bytes for name, place in places.items() if (name in writers) == side]
                for side in (False, True)
            }
            assert ctx.get(scratchpad.conflict) == clash
            clash = any(len(set(taken)) < len(taken) for taken in banks.values())
            if len(set(banks[True])) < len(banks[True]):
                ctx.set(scratchpad.load.en, 0)
                del places["load"]
                clash = len(set(banks[False])) < len(banks[False])
            expected = {name: bytes(model[place : place + units[name]]) for name, place in places.items()}
            written = [places[name] // row for name in writers if name in places]
            for name in writers:
                if name in places:
                    value = rng.randbytes(units[name])
                    ctx.set(getattr(scratchpad, name).data, int.from_bytes(value, "little"))
                    model[places[name] : places[name] + units[name]] = value
            await ctx.tick()
            for name, content in expected.items():
                shared = banks[False].count(places[name] // bank_bytes) > 1
                if name not in writers and not shared and places[name] // row not in written:
                    got = ctx.get(getattr(scratchpad, name).data)
                    assert got == int.from_bytes(content, "little"), (name, places[name])

    simulate(scratchpad, bench)


def test_scratchpad_past_its_end_reads_zero_and_keeps_its_words() -> None:
    arch = machine()
    scratchpad = Scratchpad(arch)

    async def bench(ctx: Any) -> None:
        for address, value in ((0, 7), (arch.scratchpad.words, 9), (4 * 2048, 11)):
            ctx.set(scratchpad.vector.en, 1)
            ctx.set(scratchpad.vector.addr, address)
            ctx.set(scratchpad.vector.data, value)
            await ctx.tick()
        ctx.set(scratchpad.vector.en, 0)
        for address, value in ((0, 7), (arch.scratchpad.words, 0), (4 * 2048, 0)):
            ctx.set(scratchpad.x.en, 1)
            ctx.set(scratchpad.x.addr, address)
            await ctx.tick()
            assert ctx.get(scratchpad.x.data) == value

    simulate(scratchpad, bench)


def test_register_map_by_hand() -> None:
    assert REGISTER_MAP["control"] == 0
    assert REGISTER_MAP["program_length"] == 0x10
    assert REGISTER_MAP["cycles"] == 0x40
    assert REGISTER_MAP["instructions"] == 0x48
    assert REGISTER_MAP["table_reads"] == 0x40 + 18 * 8
    assert REGISTER_MAP["stall_0"] == 0x40 + 20 * 8
    assert REGISTER_MAP["stall_15"] == COUNTER_ADDRESS + 8 * (COUNTERS - 1)


def test_registers_count_keep_and_clear() -> None:
    registers = Registers()

    async def bench(ctx: Any) -> None:
        bus = registers.bus
        assert await read_register(ctx, bus, REGISTER_MAP["version"]) == 0x00010000
        await write_register(ctx, bus, REGISTER_MAP["program_address"], 0x12345678)
        ctx.set(bus.wstrb, 0b0101)
        ctx.set(bus.wdata, 0xAABBCCDD)
        ctx.set(bus.awvalid, 1)
        ctx.set(bus.wvalid, 1)
        await ctx.tick()
        ctx.set(bus.awvalid, 0)
        ctx.set(bus.wvalid, 0)
        assert await read_register(ctx, bus, REGISTER_MAP["program_address"]) == 0x12BB56DD
        await write_register(ctx, bus, REGISTER_MAP["control"], 1)
        assert ctx.get(registers.start)
        assert ctx.get(registers.busy)
        ctx.set(registers.events[Counter.SCRATCHPAD_READS.name.lower()], 3)
        ctx.set(registers.stalls, 1 << 15)
        ctx.set(registers.faults.bank_conflict, 1)
        await ctx.tick().repeat(2)
        ctx.set(registers.events[Counter.SCRATCHPAD_READS.name.lower()], 0)
        ctx.set(registers.stalls, 0)
        ctx.set(registers.faults.bank_conflict, 0)
        # Busy: neither a start nor a new address is taken.
        await write_register(ctx, bus, REGISTER_MAP["program_address"], 0)
        await write_register(ctx, bus, REGISTER_MAP["control"], 1)
        assert await read_register(ctx, bus, REGISTER_MAP["program_address"]) == 0x12BB56DD
        assert await read_register(ctx, bus, REGISTER_MAP["scratchpad_reads"]) == 6
        assert await read_register(ctx, bus, REGISTER_MAP["scratchpad_reads"] + 4) == 0
        assert await read_register(ctx, bus, REGISTER_MAP["stall_15"]) == 2
        ctx.set(registers.halt, 1)
        await ctx.tick()
        ctx.set(registers.halt, 0)
        assert await read_register(ctx, bus, REGISTER_MAP["status"]) == 0b010001
        assert not ctx.get(registers.irq)
        await write_register(ctx, bus, REGISTER_MAP["irq_enable"], 1)
        assert ctx.get(registers.irq)
        await write_register(ctx, bus, REGISTER_MAP["control"], 1)
        assert await read_register(ctx, bus, REGISTER_MAP["status"]) == 0b000010
        assert await read_register(ctx, bus, REGISTER_MAP["scratchpad_reads"]) == 0
        assert await read_register(ctx, bus, 0xFFC) == 0

    simulate(registers, bench)


@pytest.mark.parametrize("pauses", range(3))
def test_axi_lite_answers_wait_for_their_taker(pauses: int) -> None:
    registers = Registers()

    async def bench(ctx: Any) -> None:
        bus = registers.bus
        ctx.set(bus.araddr, REGISTER_MAP["version"])
        ctx.set(bus.arvalid, 1)
        await ctx.tick()
        for _ in range(pauses):
            assert ctx.get(bus.rvalid)
            assert not ctx.get(bus.arready)
            ctx.set(bus.araddr, REGISTER_MAP["status"])
            await ctx.tick()
        assert ctx.get(bus.rdata) == 0x00010000
        ctx.set(bus.arvalid, 0)
        ctx.set(bus.rready, 1)
        await ctx.tick()
        assert not ctx.get(bus.rvalid)

    simulate(registers, bench)
