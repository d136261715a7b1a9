"""The life of an instruction in VECTOR: slots, then the pipeline's latency, one instruction at a time."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Mux, Signal, Value


def schedule(m: Any, engine: Any, command: Any, *, slot: Signal, last: Value, latency: int) -> Signal:
    """Drives ``slot``, tokens and the ready bit of ``engine``; returns the pop.

    ``slot`` is high from the cycle after the pop to that of the slot that is ``last``, the cycle e; a SYNC
    has no slots, and e is its pop. The instruction retires at r = e + latency, and the next one is popped
    from r + 1 on. ``command`` is the instruction held.
    """
    pop, draining, left = Signal(), Signal(), Signal(range(latency))
    m.d.comb += pop.eq(engine.head.valid & engine.head.ready)
    sync, end = pop & engine.head.payload.is_sync, slot & last
    with m.If(sync | end):
        m.d.sync += [slot.eq(0), draining.eq(1), left.eq(latency - 1)]
    with m.Elif(pop):
        m.d.sync += slot.eq(1)
    with m.Elif(draining):
        m.d.sync += [left.eq(left - 1), draining.eq(left != 0)]
    with m.If(pop):
        m.d.sync += command.eq(engine.head.payload)
    m.d.comb += [
        engine.head.ready.eq(~slot & ~draining),
        engine.retire.eq(draining & (left == 0)),
        engine.signal.eq(Mux(engine.retire, command.signals, 0)),
        engine.release.eq(Mux(sync, engine.head.payload.releases, Mux(end, command.releases, 0))),
        engine.events.vector_busy.eq((slot | draining) & ~command.is_sync),
    ]
    return pop
