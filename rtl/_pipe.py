"""Delays, memory ports and shared leaf modules that the compute engines are built from."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

UNCHECKED = MappingProxyType({"no_rw_check": 1})
"""Attributes of a memory that is never read in the cycle in which the same word is written.

Synthesis then spends no logic on the order of the two, which a block RAM leaves open.
"""

_RING_CYCLES = 5
_RING_BITS = 64
"""From this length and size on, a delay is cheaper in a memory than in registers."""


def read_port(address_bits: int, data_bits: int) -> wiring.Signature:
    """A memory's read port seen by its reader; the data are valid one cycle after ``en``."""
    return wiring.Signature({"en": Out(1), "addr": Out(address_bits), "data": In(data_bits)})


def write_port(address_bits: int, data_bits: int) -> wiring.Signature:
    """A memory's write port seen by its writer."""
    return wiring.Signature({"en": Out(1), "addr": Out(address_bits), "data": Out(data_bits)})


def delayed(m: Any, value: Any, cycles: int) -> Any:
    """``value`` as it was ``cycles`` cycles ago, zero after reset: for control."""
    for _ in range(cycles):
        stage = Signal(value.shape())
        m.d.sync += stage.eq(value)
        value = stage
    return value


def delayed_word(m: Any, value: Any, cycles: int) -> Any:
    """``value`` as it was ``cycles`` cycles ago, anything after reset: for operands."""
    rings = cycles >= _RING_CYCLES and len(value) * cycles >= _RING_BITS
    # What is written to a memory is late there: a register stands before it.
    for _ in range(1 if rings else cycles):
        stage = Signal(value.shape(), reset_less=True)
        m.d.sync += stage.eq(value)
        value = stage
    return _ring(m, value, cycles - 1) if rings else value


def _ring(m: Any, value: Any, cycles: int) -> Any:
    """A memory that is read at the place which is written in the same cycle, old value first."""
    depth = cycles - 1
    m.submodules += (ring := Memory(shape=value.shape(), depth=depth, init=[]))
    read, write = ring.read_port(), ring.write_port()
    place = Signal(range(depth), reset_less=True)
    m.d.sync += place.eq(Mux(place == depth - 1, 0, place + 1))
    m.d.comb += [write.en.eq(1), write.addr.eq(place), write.data.eq(value), read.addr.eq(place)]
    return read.data


def saturated(value: Any, bits: int) -> Any:
    """Signed ``value`` clamped to ``bits`` bits."""
    top = value[bits - 1 :]
    fits = top.all() | ~top.any()
    negative = value[len(value) - 1]
    limit = Mux(negative, Const(1 << bits - 1, bits), Const((1 << bits - 1) - 1, bits))
    return Mux(fits, value[:bits], limit).as_signed()


def module_text(component: wiring.Component, module: str) -> str:
    """Verilog of ``component``, which has one clock and no reset, as the module named ``module``."""
    text: str = verilog.convert(
        component,
        name=module,
        emit_src=False,
        strip_internal_attrs=True,
        missing_domain=lambda name: ClockDomain(name, reset_less=True),
    )
    return text


def placed(m: Any, name: str, make: Callable[[], wiring.Component], module: str | None) -> Any:
    """The interface of a leaf placed in ``m``, as an instance of ``module`` or, if None, inline.

    Amaranth writes one Verilog module for each submodule; an instance refers to one shared module,
    which keeps a large array's text short, but Amaranth's own simulator runs inline leaves only.
    """
    component = make()
    if module is None:
        m.submodules[name] = component
        return component
    ports = component.signature.create(path=(name,))
    component._MustUse__silence = True  # its text is written once, by module_text
    flows = {
        f"{'i' if member.flow == In else 'o'}_{key}": getattr(ports, key)
        for key, member in component.signature.members.items()
    }
    m.submodules[name] = Instance(module, i_clk=ClockSignal(), **flows)
    return ports
