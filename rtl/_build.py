"""From an architecture to its hardware."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never, get_args

from amaranth.back import verilog

from archsim._architecture import Architecture, ArrayKind
from archsim._isa import INSTRUCTION_BYTES
from rtl import _array, _attend, _divide, _ternary, _vector
from rtl._axi import flat_names
from rtl._core import Core
from rtl._errors import RtlError
from rtl._registers import REGISTER_MAP
from rtl._verilog import finish

TOP = "archsim_core"


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The hardware of one architecture, as text."""

    arch: Architecture
    verilog: str = field(repr=False)
    """Every module, self-contained."""
    top: str = TOP
    """Name of the outermost module."""
    registers: Mapping[str, int] = field(default_factory=lambda: REGISTER_MAP, repr=False)
    """Byte address of each register of the AXI4-Lite port."""


def build(arch: Architecture, *, weights: bytes = b"") -> Design:
    """Generates the machine that ``arch`` describes; the same text each time.

    ``weights`` is what a ternary array's weight memory holds from the start, word 0 first, in DRAM's
    form: for a bitstream whose weights are on chip.

    Ports: ``clk``, ``rst`` (synchronous, active high), ``irq``, ``busy``, ``done``, and the AXI ports
    under their conventional names with the prefixes ``m_axi`` and ``s_axil``.

    Raises ``RtlError`` for what an architecture may say but this generator cannot make.
    """
    check(arch)
    array, vector, extra = _engines(arch, weights)
    core = Core(arch, array=array, vector=vector)
    text = verilog.convert(core, name=TOP, ports=dict(_ports(core)), emit_src=False)
    return Design(arch=arch, verilog=finish(text + extra))


def _engines(arch: Architecture, weights: bytes) -> tuple[Any, Any, str]:
    """ARRAY and VECTOR of the array's kind, and the Verilog of the modules that they instantiate by name."""
    kind = arch.array.kind
    if weights and kind != "ternary":
        raise RtlError(f"weights must be given for a ternary array, not a {kind} one")
    match kind:
        case "dense":
            extra = _array.extra_verilog(arch) + _vector.extra_verilog(arch)
            return _array.ArrayEngine(arch), _vector.VectorEngine(arch), extra
        case "ternary":
            extra = _ternary.extra_verilog(arch) + _vector.extra_verilog(arch)
            return _ternary.TernaryEngine(arch, weights=weights), _vector.VectorEngine(arch), extra
        case "fusemax":
            extra = _attend.extra_verilog(arch) + _divide.extra_verilog()
            return _attend.AttendEngine(arch), _divide.DivideEngine(arch), extra
        case _:
            assert_never(kind)


def _ports(core: Core) -> Iterator[tuple[str, tuple[Any, None]]]:
    """Each port under its name; its direction follows from whether the core drives it."""
    for prefix in ("m_axi", "s_axil"):
        for name, signal in flat_names(prefix, getattr(core, prefix)):
            yield name, (signal, None)
    for name in ("irq", "busy", "done"):
        yield name, (getattr(core, name), None)


def check(arch: Architecture) -> None:
    """Raises ``RtlError`` where ``arch`` asks for more than the generator makes."""
    for name, value, wanted, holds in _limits(arch):
        if not holds:
            raise RtlError(f"{name} must be {wanted}, not {value!r}")


def _limits(arch: Architecture) -> Iterator[tuple[str, object, str, bool]]:
    """Each limit: the key, its value, what is wanted, and whether it holds."""
    array, bus, scratchpad, vector = arch.array, arch.bus, arch.scratchpad, arch.vector
    kinds = get_args(ArrayKind)
    yield "array.kind", array.kind, f"one of {kinds}", array.kind in kinds
    if array.kind == "ternary":
        yield "array.group", array.group, "1 or 3", array.group in (1, 3)
        yield "array.weight_words", array.weight_words, "in 1..65536", 1 <= array.weight_words <= 1 << 16
    for name, value, most in (
        ("array.rows", array.rows, 256),
        ("array.cols", array.cols, 256),
        ("bus.max_burst_beats", bus.max_burst_beats, 256),
        ("bus.outstanding", bus.outstanding, 64),
        ("scratchpad.banks", scratchpad.banks, 64),
        *_dense_limits(arch),
        ("vector.buffer_words", vector.buffer_words, 1 << 16),
        ("vector.rows", vector.rows, 1 << 16),
        ("queue_depth", arch.queue_depth, 256),
    ):
        yield name, value, f"in 1..{most}", 1 <= value <= most
    yield "bus.bytes", bus.bytes, "4, 8, 16, 32 or 64", bus.bytes in (4, 8, 16, 32, 64)
    widest = 8 * arch.word_bytes
    yield "bus.bytes", bus.bytes, f"at most eight words of {arch.word_bytes} bytes", bus.bytes <= widest
    words, least = scratchpad.words_per_bank, arch.bank_row_bytes // arch.word_bytes
    is_power = words >= least and words & (words - 1) == 0
    yield "scratchpad.words_per_bank", words, f"a power of two, at least {least}", is_power
    # The program is fetched by one segment, whose length in beats has 16 bits.
    most = 65535 * bus.bytes // INSTRUCTION_BYTES
    yield "program.words", arch.program_words, f"in 1..{most}", 1 <= arch.program_words <= most


def _dense_limits(arch: Architecture) -> tuple[tuple[str, int, int], ...]:
    """Name, value and largest value of what a dense machine alone has."""
    if arch.array.kind != "dense":
        return ()
    return (
        ("accumulator.words", arch.accumulator_words, 1 << 16),
        ("parameters.words", arch.parameter_words, 1 << 16),
        ("vector.tables", arch.vector.tables, 4),
    )
