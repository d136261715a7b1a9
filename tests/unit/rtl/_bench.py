"""A bench for one engine: it plays commands, serves the read ports, and writes a diary of cycles."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from amaranth.sim import Simulator

from archsim._architecture import Architecture, Array, Bus, Scratchpad, Vector
from archsim._isa import Opcode
from archsim._timing import SCRATCHPAD_READ

Command = dict[str, int]
Lookup = Callable[[int], int]
_SCRATCHPAD_PORTS = ("x_read", "w_read", "source_read", "residual_read")


def architecture(rows: int, cols: int, **changes: Any) -> Architecture:
    """A small machine with an array of ``rows`` x ``cols``."""
    keys: dict[str, Any] = {
        "name": "bench",
        "clock_mhz": 100.0,
        "array": Array(rows=rows, cols=cols),
        "bus": Bus(bytes=4),
        "scratchpad": Scratchpad(banks=4, words_per_bank=256),
        "accumulator_words": 60,
        "parameter_words": 32,
        "vector": Vector(buffer_words=48, rows=13, tables=2),
    }
    return Architecture(**(keys | changes))


def sync(opcode: Opcode, **masks: int) -> Command:
    """A command that only passes tokens on."""
    return {"opcode": int(opcode), "is_sync": 1, **masks}


@dataclass
class Diary:
    """What an engine did, by cycle."""

    pops: list[int] = field(default_factory=list)
    retires: list[tuple[int, int]] = field(default_factory=list)
    """(cycle, signal mask) of each retirement."""
    releases: list[tuple[int, int]] = field(default_factory=list)
    reads: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """(cycle, address) of each read, by port."""
    writes: list[tuple[int, int, int]] = field(default_factory=list)
    """(cycle, address, word) of each write."""
    events: dict[str, int] = field(default_factory=dict)
    tape: list[tuple[dict[str, int], dict[str, int]]] = field(default_factory=list)
    """Inputs and outputs of each cycle, by the names that they have in Verilog."""


@dataclass(kw_only=True)
class Player:
    """Plays ``commands`` in order on ``engine``, each offered ``next(gaps)`` cycles after the last pop.

    ``memories`` gives the word at an address for each read port, and ``latencies`` the cycles until it
    comes, where they are not the port's usual ones; ``store`` writes one; ``inspect``, a coroutine
    function, is run after the last retirement.
    """

    engine: Any
    layout: Any
    commands: list[Command]
    memories: Mapping[str, Lookup]
    latencies: Mapping[str, int] = field(default_factory=dict)
    gaps: Iterator[int] | None = None
    store: Callable[[int, int], None] | None = None
    inspect: Callable[[Any], Any] | None = None
    budget: int = 20_000
    diary: Diary = field(default_factory=Diary)
    _coming: dict[str, deque[int]] = field(default_factory=dict)

    def run(self) -> Diary:
        """The diary of the whole run."""
        self.diary.reads = {port: [] for port in self.memories}
        simulator = Simulator(self.engine)
        simulator.add_clock(1e-8)
        simulator.add_testbench(self._bench)
        simulator.run()
        return self.diary

    async def _bench(self, ctx: Any) -> None:
        outputs = self._outputs()
        self._coming = {port: deque([0] * (self.latency(port) - 1)) for port in self.memories}
        served = dict.fromkeys(self.memories, 0)
        wait = taken = cycle = 0
        while taken < len(self.commands) or len(self.diary.retires) < len(self.commands):
            assert cycle < self.budget
            offered = self._offer(ctx, taken, wait)
            _, _, *values = await ctx.tick().sample(*outputs.values())
            seen = dict(zip(outputs, values, strict=True))
            inputs = {f"{port}__data": word for port, word in served.items()}
            self.diary.tape.append(({**offered, **inputs}, seen))
            if offered["head__valid"] and seen["head__ready"]:
                self.diary.pops.append(cycle)
                taken += 1
                wait = next(self.gaps) if self.gaps else 0
            else:
                wait = max(0, wait - 1)
            self._note(cycle, seen)
            served = {port: self._serve(ctx, port, seen, cycle) for port in self.memories}
            cycle += 1
        ctx.set(self.engine.head.valid, 0)
        if self.inspect is not None:
            await self.inspect(ctx)

    def latency(self, port: str) -> int:
        """Cycles from a read at ``port`` to its word."""
        return self.latencies.get(port, SCRATCHPAD_READ if port in _SCRATCHPAD_PORTS else 1)

    def _outputs(self) -> dict[str, Any]:
        engine = self.engine
        outputs = {"head__ready": engine.head.ready}
        outputs |= {name: getattr(engine, name) for name in ("retire", "signal", "release")}
        for port in self.memories:
            outputs |= {f"{port}__{name}": getattr(getattr(engine, port), name) for name in ("en", "addr")}
        if hasattr(engine, "write"):
            outputs |= {f"write__{name}": getattr(engine.write, name) for name in ("en", "addr", "data")}
        return {**outputs, "events": engine.events.as_value()}

    def _offer(self, ctx: Any, taken: int, wait: int) -> dict[str, int]:
        """Shows the next command, and says what the inputs at the head are."""
        valid = int(taken < len(self.commands) and wait == 0)
        payload = self.layout.const(self._decoded(self.commands[min(taken, len(self.commands) - 1)]))
        ctx.set(self.engine.head.valid, valid)
        ctx.set(self.engine.head.payload, payload)
        return {"head__valid": valid, "head__payload": payload.as_bits()}

    def _decoded(self, command: Command) -> Command:
        """``command`` as the sequencer hands it on: of the opcode no more than the engine asks for."""
        fields = {name: value for name, value in command.items() if name != "opcode"}
        if "is_table" in self.layout.members and command["opcode"] == Opcode.TABLE:
            fields |= {"is_table": 1, "rows": 256, "chunks": 1}
        return fields

    def _note(self, cycle: int, seen: dict[str, int]) -> None:
        if seen["retire"]:
            self.diary.retires.append((cycle, seen["signal"]))
        if seen["release"]:
            # Releases are shown a cycle late.
            self.diary.releases.append((cycle - 1, seen["release"]))
        for name, event in self.engine.events.shape():
            count = seen["events"] >> event.offset & (1 << event.width) - 1
            self.diary.events[name] = self.diary.events.get(name, 0) + count
        if seen.get("write__en"):
            self.diary.writes.append((cycle, seen["write__addr"], seen["write__data"]))
            if self.store is not None:
                self.store(seen["write__addr"], seen["write__data"])

    def _serve(self, ctx: Any, port: str, seen: dict[str, int], cycle: int) -> int:
        """The word that a port shows in the next cycle: rubbish if none was asked for in time."""
        signal = getattr(self.engine, port).data
        word = (1 << len(signal)) - 1
        if seen[f"{port}__en"]:
            address = seen[f"{port}__addr"]
            self.diary.reads[port].append((cycle, address))
            word = self.memories[port](address)
        self._coming[port].append(word)
        word = self._coming[port].popleft()
        ctx.set(signal, word)
        return word
