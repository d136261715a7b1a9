"""The life of an instruction in ARRAY and in VECTOR: when its tokens are given, when the next one comes."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Mux, Signal, Value

from rtl._pipe import delayed


def retire_in_order(m: Any, engine: Any, done: Value, *, held: Any, latency: int) -> None:
    """Drives the tokens of an ``engine`` that goes on while its instructions drain.

    ``done`` is high in the cycle e of the instruction that is ``held`` in the next cycle.
    """
    ended = delayed(m, done, 1)
    signals = Mux(ended, held.signals, 0)
    m.d.comb += [
        engine.release.eq(Mux(ended, held.releases, 0)),
        engine.retire.eq(delayed(m, ended, latency - 1)),
        engine.signal.eq(delayed(m, signals, latency - 1)),
    ]


def schedule(m: Any, engine: Any, command: Any, *, slot: Signal, last: Value, latency: int) -> Signal:
    """Drives ``slot``, tokens and the ready bit of ``engine``; returns whether it rests.

    ``slot`` is high from the cycle after the pop to that of the slot that is ``last``, the cycle e; a SYNC
    has no slots, and e is its pop. The instruction retires at r = e + latency, and the next one is popped
    from r + 1 on. ``command`` is the instruction held. While the engine rests, its registers follow what is
    offered, so that the pop itself moves no more than the state.
    """
    rests, draining, left = Signal(init=1), Signal(), Signal(range(latency))
    ended, retire = Signal(), Signal()
    head = engine.head
    pop = head.valid & rests
    ends = (pop & head.payload.is_sync) | (slot & last)
    m.d.sync += [
        rests.eq(Mux(rests, ~head.valid, retire)),
        slot.eq((pop & ~head.payload.is_sync) | (slot & ~last)),
        ended.eq(ends),
        draining.eq(ends | (draining & ~retire)),
        left.eq(Mux(draining, left - 1, latency - 1)),
        retire.eq(draining & (left == 1)),
    ]
    with m.If(rests):
        m.d.sync += command.eq(head.payload)
    m.d.comb += [
        head.ready.eq(rests),
        engine.retire.eq(retire),
        engine.signal.eq(Mux(retire, command.signals, 0)),
        engine.release.eq(Mux(ended, command.releases, 0)),
        engine.events.vector_busy.eq((slot | draining) & ~command.is_sync),
    ]
    return rests
