"""Queue, semaphores, retirement, bursts, memories and registers, each against a naive model."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from amaranth.sim import Simulator

from archsim._counters import COUNTER_ADDRESS, COUNTERS, Counter
from archsim._isa import SEMAPHORES, Engine
from archsim._timing import SCRATCHPAD_READ
from rtl._bursts import Bursts
from rtl._queue import Queue
from rtl._registers import REGISTER_MAP, Registers
from rtl._scratchpad import WORD_READERS, Scratchpad, WideMemory
from rtl._semaphores import Retirement, Semaphores
from tests.unit.rtl.control_bench import machine, read_register, write_register
from tests.unit.rtl.control_reference import bursts


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
        for step in range(600):
            available = sum((count > 0) << index for index, count in enumerate(model))
            found = ctx.get(semaphores.available)
            assert found.given | found.grown | found.kept == available
            # Nearly as much is taken as is added, so that each count stays near zero.
            amounts = [rng.choice([0] * 15 + [1, 3]) for _ in range(SEMAPHORES)]
            take, clear = rng.getrandbits(16) & available, step == 100
            give = rng.getrandbits(16) & rng.getrandbits(16) & rng.getrandbits(16)
            for index, amount in enumerate(amounts):
                ctx.set(semaphores.adding.amounts[index], amount)
            ctx.set(
                semaphores.adding.some, sum((amount > 0) << index for index, amount in enumerate(amounts))
            )
            ctx.set(semaphores.give, give)
            ctx.set(semaphores.take, take)
            ctx.set(semaphores.clear, clear)
            model = [
                0 if clear else count + amounts[index] + (give >> index & 1) - (take >> index & 1)
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
            assert ctx.get(retirement.resting) == (transfers == 0)
            at_once = ctx.get(retirement.at_once)
            for index in range(SEMAPHORES):
                given = (mask >> index & 1) * (sync and at_once)
                assert view.amounts[index] + given == sum(mask >> index & 1 for mask in retired)
                assert (view.some >> index & 1) == (view.amounts[index] > 0)
            await ctx.tick()

    simulate(retirement, bench)


@pytest.mark.parametrize(
    ("bus_bytes", "longest"), [(4, 1), (4, 64), (4, 256), (16, 7), (32, 128), (64, 3), (64, 64), (64, 256)]
)
def test_bursts_against_one_beat_at_a_time(bus_bytes: int, longest: int) -> None:
    """Segments of one beat to many pages, from any place in a page, taken at any pace."""
    arch = machine(side=8, bus_bytes=bus_bytes, burst=longest)
    walker, page = Bursts(Engine.LOAD, arch), 4096 // bus_bytes
    command = walker.command

    async def bench(ctx: Any) -> None:
        rng = random.Random(longest)
        for turn in range(24):
            segments = rng.choice([1, 2, 3])
            beats = rng.choice(
                [1, 2, longest, longest + 1, page, rng.randint(1, 4 * page)][: 6 if turn else 1]
            )
            places = [bus_bytes * rng.choice([0, 1, page - 1, rng.randrange(page)]) for _ in range(2)]
            base, stride = 4096 * rng.randrange(8) + places[0], 4096 * rng.randrange(8) + places[1]
            values = {"op0": base, "op1": 64 * turn + 64, "segments": segments, "beats": beats - 1}
            values |= {"dram_stride": stride, "local_stride": 2**32 - 8}
            for name, value in values.items():
                ctx.set(getattr(command, name), value)
            ctx.set(walker.start, 1)
            await ctx.tick()
            ctx.set(walker.start, 0)
            for name in values:
                ctx.set(getattr(command, name), rng.getrandbits(16))
            for segment in range(segments):
                split = bursts(base + segment * stride, beats, arch)
                for place, (address, length) in enumerate(split):
                    if rng.random() < 0.3:
                        await ctx.tick()
                    found = ctx.get(walker.burst)
                    assert ctx.get(walker.active)
                    assert (found.address, found.length + 1) == (address, length)
                    assert found.begins == (place == 0)
                    assert found.last == (segment == segments - 1 and place == len(split) - 1)
                    words = 64 * turn + 64 - 8 * segment
                    assert found.local == words * 8 // bus_bytes % (2**32)
                    ctx.set(walker.advance, 1)
                    await ctx.tick()
                    ctx.set(walker.advance, 0)
            assert not ctx.get(walker.active)

    simulate(walker, bench)


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
        clashes = deque([False, False])
        coming: deque[dict[str, bytes]] = deque([{}] * (SCRATCHPAD_READ - 1))
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
            assert ctx.get(scratchpad.conflict) == clashes.popleft()
            clash = any(len(set(taken)) < len(taken) for taken in banks.values())
            if len(set(banks[True])) < len(banks[True]):
                ctx.set(scratchpad.load.en, 0)
                del places["load"]
                clash = len(set(banks[False])) < len(banks[False])
            clashes.append(clash)
            expected = {name: bytes(model[place : place + units[name]]) for name, place in places.items()}
            written = [places[name] // row for name in writers if name in places]
            for name in writers:
                if name in places:
                    value = rng.randbytes(units[name])
                    ctx.set(getattr(scratchpad, name).data, int.from_bytes(value, "little"))
                    model[places[name] : places[name] + units[name]] = value
            await ctx.tick()
            sure = [
                name
                for name, place in places.items()
                if name not in writers
                and banks[False].count(place // bank_bytes) == 1
                and place // row not in written
            ]
            coming.append({name: expected[name] for name in sure})
            for name, content in coming.popleft().items():
                assert ctx.get(getattr(scratchpad, name).data) == int.from_bytes(content, "little"), name

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
            await ctx.tick().repeat(SCRATCHPAD_READ)
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
        ctx.set(registers.fits, 1)
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
        while not ctx.get(bus.arready):
            await ctx.tick()
        await ctx.tick()
        ctx.set(bus.araddr, REGISTER_MAP["status"])
        while not ctx.get(bus.rvalid):
            assert not ctx.get(bus.arready)
            await ctx.tick()
        for _ in range(pauses):
            assert ctx.get(bus.rvalid)
            assert not ctx.get(bus.arready)
            await ctx.tick()
        assert ctx.get(bus.rdata) == 0x00010000
        ctx.set(bus.arvalid, 0)
        ctx.set(bus.rready, 1)
        await ctx.tick()
        assert not ctx.get(bus.rvalid)

    simulate(registers, bench)


def test_counters_count_far_past_their_low_bits() -> None:
    """Every counter grows at its own rate; reads in between, and a new start, lose nothing."""
    registers = Registers()
    amounts = {counter: 1 + counter % 7 for counter in Counter}

    async def bench(ctx: Any) -> None:
        bus = registers.bus

        async def counted() -> list[int]:
            halves = [
                await read_register(ctx, bus, COUNTER_ADDRESS + 4 * index) for index in range(2 * COUNTERS)
            ]
            return [low | high << 32 for low, high in zip(halves[::2], halves[1::2], strict=True)]

        async def count(on: bool) -> None:
            for counter, amount in amounts.items():
                ctx.set(registers.events[counter.name.lower()], amount if on else 0)
            ctx.set(registers.stalls, 0xFFFF if on else 0)

        for cycles in (1400, 300):
            await write_register(ctx, bus, REGISTER_MAP["control"], 1)
            await count(on=True)
            ctx.set(bus.araddr, REGISTER_MAP["stall_0"])
            ctx.set(bus.arvalid, 1)
            ctx.set(bus.rready, 1)
            seen = [0]
            for _ in range(cycles):
                await ctx.tick()
                if ctx.get(bus.rvalid):
                    seen.append(ctx.get(bus.rdata))
            ctx.set(bus.arvalid, 0)
            await count(on=False)
            assert seen == sorted(seen)
            assert seen[-1] > cycles - 50
            await ctx.tick().repeat(20)
            assert await counted() == [cycles * rate for rate in (*amounts.values(), *[1] * SEMAPHORES)]
            ctx.set(registers.halt, 1)
            await ctx.tick()
            ctx.set(registers.halt, 0)

    simulate(registers, bench)
