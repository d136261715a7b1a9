"""What a machine is made of: its units, and how many of each structure a unit has.

A structure is something whose cost in look-up tables and flip-flops does not depend on how many of it
there are: a bit of a register, of an adder, of a multiplexer, a piece of a small memory. A unit's counts
follow from the architecture; the costs are in ``archsim/library/resources`` (``docs/synthesis.md``,
*The resource model*).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

from archsim._architecture import Architecture, ArrayKind
from archsim._block_ram import WEIGHT_BANK_WORDS, blocks, blocks_deep, memories, piece_of
from archsim._isa import GATED_FIELDS, KIND_OPCODES, OPERANDS, PAYLOAD, SEMAPHORES, Opcode
from archsim._timing import array_retirement, tree_depth

Structures = Mapping[str, float]
"""Name of a structure -> how many a unit has; ``itself`` is what a unit has once, whatever its size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One kind of unit of a machine."""

    name: str
    """The unit's, without the core's: ``load``, ``pe``."""
    cost: str
    """Name of its costs in the library; units that are built alike share it."""
    structures: Callable[[Architecture, str], Structures]
    """Of an architecture, on a family."""
    copies: int = 1
    """Units in the machine."""


def components(arch: Architecture) -> tuple[Component, ...]:
    """The kinds of units that ``arch`` is made of."""
    queues = (each for engine in _QUEUES for each in _queue_of(arch, engine))
    return (*_engines(arch), *queues, *_COMMON)


def _engines(arch: Architecture) -> tuple[Component, ...]:
    """Array and vector unit of the array's kind, with the leaves that they place."""
    array = arch.array
    match array.kind:
        case "dense":
            elements = array.rows * array.cols
            return (
                Component(name="array", cost="array", structures=_array),
                Component(name="pe", cost="pe", structures=_element, copies=elements),
                *_vector_unit(arch),
            )
        case "ternary":
            return (
                Component(name="array", cost="array", structures=_ternary_array),
                Component(name="trits", cost="trits", structures=_one, copies=arch.weight_bytes),
                Component(name="column", cost="column", structures=_column, copies=array.cols),
                *_vector_unit(arch),
            )
        case "fusemax":
            elements = array.rows * array.cols
            return (
                Component(name="array", cost="attend_array", structures=_attend_array),
                Component(name="attend_pe", cost="attend_pe", structures=_one, copies=elements),
                Component(name="attend_lane", cost="attend_lane", structures=_attend_lane, copies=array.cols),
                Component(name="vector", cost="divider", structures=_divider),
                Component(name="divide_lane", cost="divide_lane", structures=_one, copies=array.cols),
            )
        case _:
            assert_never(array.kind)


def _vector_unit(arch: Architecture) -> tuple[Component, ...]:
    """The vector unit, its lanes, and the parameters that they read."""
    return (
        Component(name="vector", cost="vector", structures=_vector),
        Component(name="lane", cost="lane", structures=_lane, copies=arch.array.cols),
        Component(name="parameters", cost="parameters", structures=_parameters),
    )


# Parts of units.


def bits_of(count: int) -> int:
    """Bits that number ``count`` things."""
    return (count - 1).bit_length()


def tree_bits(leaves: int, bits: int) -> tuple[int, int]:
    """Bits of the adders of a tree over ``leaves`` of ``bits``, and of the values that pass a level alone."""
    adders = delays = 0
    while leaves > 1:
        adders += leaves // 2 * (bits + 1)
        delays += leaves % 2 * bits
        leaves, bits = -(-leaves // 2), bits + 1
    return adders, delays


def _one(arch: Architecture, family: str) -> Structures:
    return {"itself": 1}


def _memories(arch: Architecture, family: str, component: str, *, units: int = 1) -> Structures:
    """What a unit's memories take: pieces of small ones in look-up tables, and bits read of them.

    A bit is chosen from as many pieces, or from as many blocks, as stand one behind the other. A machine
    has ``units`` of the component.
    """
    words, wide = piece_of(family)
    pieces = bits = chosen = from_blocks = 0
    for shape in memories(arch):
        if shape.component != component:
            continue
        read = shape.copies // units * shape.readers
        if deep := blocks_deep(shape, family=family):
            from_blocks += read * shape.bits * (deep - 1)
            continue
        deep = -(-shape.words // words)
        pieces += read * deep * -(-shape.bits // wide)
        bits += read * shape.bits
        chosen += read * shape.bits * (deep - 1)
    return {
        "pieces of small memories": pieces,
        "bits of small memories": bits,
        "bits of pieces to choose from": chosen,
        "bits of blocks to choose from": from_blocks,
    }


def _more_entries(queues: Iterable[tuple[int, int]], family: str) -> Structures:
    """Queues of (depth, bits) behind their first entry: a second one is a register, more are a memory."""
    words, wide = piece_of(family)
    second = pieces = 0
    for depth, bits in queues:
        second += bits if depth == 2 else 0
        pieces += -(-(depth - 1) // words) * -(-bits // wide) if depth > 2 else 0
    return {"bits of second entries": second, "pieces of more entries": pieces}


RING = (5, 64)
"""Cycles and bits from which on a delay of a word is a memory (``rtl._pipe``)."""


def _is_ring(bits: int, cycles: int) -> bool:
    return cycles >= RING[0] and bits * cycles >= RING[1]


_SHIFTING = {"xc7": 3, "xcup": 3}
"""Families whose tables shift, and the cycles from which on Yosys lets them (``xilinx_srl -minlen``)."""


def _delays(words: Iterable[tuple[int, int]], family: str, *, control: int) -> Structures:
    """Delays of (bits, cycles) in registers and in memories; ``control`` bits are always registers.

    What a memory is given and gives is registered, and so is its place.
    """
    held, ringed, shifted = control, 0, 0
    shifting = _SHIFTING.get(family)
    for bits, cycles in words:
        if _is_ring(bits, cycles):
            ringed += bits * -(-(cycles - 2) // 16)
            held += 2 * bits + bits_of(cycles - 2)
        elif shifting is not None and cycles >= shifting:
            shifted += bits * -(-cycles // 16)
        else:
            held += bits * cycles
    shifts = {} if shifting is None else {"bits of shift registers": shifted}
    return {"bits of delays": held, "bits of delays in memories": ringed, **shifts}


def _merge_luts(choices: int) -> int:
    """Look-up tables of four inputs that merge ``choices`` bits, each behind its select."""
    pairs = -(-choices // 2)
    return pairs + -(-(pairs - 1) // 3)


# Units of all kinds.


WORD_READERS: Mapping[ArrayKind, int] = {"dense": 4, "ternary": 3, "fusemax": 2}
"""Of the array's operands and the vector unit's: ternary weights are elsewhere, a divider reads none."""


def _scratchpad(arch: Architecture, family: str) -> Structures:
    """A crossbar: every reader chooses among the banks, every bank among readers and two writers.

    What a bank is asked for is registered.
    """
    banks, row_bits = arch.scratchpad.banks, 8 * arch.bank_row_bytes
    lanes = arch.bank_row_bytes // arch.word_bytes
    words = WORD_READERS[arch.array.kind]
    readers = words + 1
    address = bits_of(arch.scratchpad.words_per_bank // lanes)
    chunk = 8 * (arch.array.cols if arch.fold > 1 else arch.word_bytes)
    return {
        "itself": 1,
        "readers of banks": readers * banks,
        "merges of banks' bits": readers * row_bits * _merge_luts(banks),
        "merges of addresses' bits": banks * address * _merge_luts(readers),
        "bits of addresses": (readers + 2) * address,
        "bits of banks' addresses": banks * address,
        "bits of banks' rows": banks * row_bits,
        "bits of writers' units": 8 * arch.bus.bytes + chunk,
        "bits of readers' units": 8 * arch.word_bytes * words + row_bits,
        "bits of words to choose from": words * row_bits if lanes > 1 else 0,
        "bits of words' places": words * bits_of(lanes),
        **_memories(arch, family, "scratchpad"),
    }


def _load(arch: Architecture, family: str) -> Structures:
    """The walk of segments, a beat, and what waits for its last beat: landings and retirements."""
    deep = arch.bus.outstanding
    weights = {"weights' segments": 1} if arch.array.kind == "ternary" else {}
    queues = _more_entries(((deep, _LANDING_BITS), (deep + 2, _GROUP_BITS)), family)
    return {"itself": 1, "bits of a beat": 8 * arch.bus.bytes, **weights, **queues}


def _store(arch: Architecture, family: str) -> Structures:
    """The walk of segments, a few beats read ahead, and what waits for its response."""
    bits, beats = 8 * arch.bus.bytes, arch.bank_row_bytes // arch.bus.bytes
    deep = arch.bus.outstanding
    queues = _more_entries(((deep, 1), (deep + 2, _GROUP_BITS)), family)
    return {"itself": 1, "bits of a beat": bits, "bits of beats to choose from": bits * (beats - 1), **queues}


_LANDING_BITS, _GROUP_BITS = 36, 9 * SEMAPHORES
"""A burst's place, space and flags; what each semaphore grows by with a transfer, and whether it does."""


def _parameters(arch: Architecture, family: str) -> Structures:
    lanes = max(1, 8 * arch.word_bytes // arch.bus.bytes)
    written = {"bits of a beat": 8 * arch.bus.bytes, "bits of a place": bits_of(arch.parameter_words)}
    return {"itself": 1, "beats of a row": lanes, **written, **_memories(arch, family, "parameters")}


def _program(arch: Architecture, family: str) -> Structures:
    return {"itself": 1, "beats of a row": max(1, 64 // arch.bus.bytes), **_memories(arch, family, "program")}


def _sequencer(arch: Architecture, family: str) -> Structures:
    """Its counter and the loops' stack hold places in the program."""
    return {"itself": 1, "bits of a place": bits_of(arch.program_words + 1)}


_COMMON = (
    *(Component(name=name, cost=name, structures=_one) for name in ("core", "semaphores", "registers")),
    Component(name="scratchpad", cost="scratchpad", structures=_scratchpad),
    Component(name="program", cost="program", structures=_program),
    Component(name="load", cost="load", structures=_load),
    Component(name="store", cost="store", structures=_store),
    Component(name="sequencer", cost="sequencer", structures=_sequencer),
)

_QUEUES: Mapping[str, tuple[Opcode, ...]] = {
    "load": (Opcode.LOAD,),
    "store": (Opcode.STORE,),
    "array": (Opcode.MATMUL, Opcode.ATTEND),
    "vector": (Opcode.VECTOR, Opcode.TABLE, Opcode.DIVIDE),
}
_KINDS_OWN = frozenset().union(*KIND_OPCODES.values())
"""Opcodes that not every kind of array has."""


def _queue_of(arch: Architecture, engine: str) -> tuple[Component, Component]:
    """An engine's queue, and what arms its head.

    An entry is the semaphores it waits on, its masks, operands and fields. LOAD and STORE have two operands
    and no releases; a vector unit has a mark of TABLE.
    """
    own = KIND_OPCODES[arch.array.kind]
    fields = {
        name: width
        for opcode in _QUEUES[engine]
        if opcode not in _KINDS_OWN or opcode in own
        for name, width in PAYLOAD[opcode]
        if arch.vector.gated or name not in GATED_FIELDS
    }
    moves = engine in ("load", "store")
    masks, operands = (2, 2) if moves else (3, OPERANDS)
    marks = 1 + (engine == "vector" and Opcode.TABLE in own)
    bits = masks * SEMAPHORES + marks + 32 * operands + sum(fields.values())

    def structures(arch: Architecture, family: str) -> Structures:
        return {"itself": 1, "bits of an entry": bits, **_more_entries([(arch.queue_depth, bits)], family)}

    def armed(arch: Architecture, family: str) -> Structures:
        return {"itself": 1, "bits of a command": bits - SEMAPHORES}

    return (
        Component(name=f"{engine}_queue", cost="queue", structures=structures),
        Component(name=f"{engine}_issue", cost="issue", structures=armed),
    )


# Array and vector unit of kind dense; the ternary array's vector unit too.


def _element(arch: Architecture, family: str) -> Structures:
    """A processing element: the sums of a column grow by a bit each time its rows double."""
    bits = 16 + tree_depth(arch.array.rows)
    return {"itself": 1, "bits of a sum": bits, "pairs of a sum's bits": -(-bits // 2)}


def _array(arch: Architecture, family: str) -> Structures:
    """Slots, the skew of operands and weights, the deskew of sums, accumulators.

    Byte i of a weight word is on its way to row i as long as to column i, and shares the registers. What
    all rows or all columns are delayed by alike is a cost of a row, of a word's byte, or of an accumulator.
    """
    rows, cols = arch.array.rows, arch.array.cols
    sums = 16 + tree_depth(rows)
    skew = [(8, 1 + row) for row in range(rows)] + [(8, row) for row in range(rows)]
    skew += [(8, col) for col in range(cols) if col >= rows or _is_ring(8, col)]
    deskew = [(sums, col) for col in range(cols)]
    captures = sum(range(rows)) + sum(range(cols))
    return {
        "slots of a dense array": 1,
        "rows": rows,
        "bytes of a weight word": max(rows, cols),
        "accumulators": cols,
        **_delays([*skew, *deskew], family, control=captures + _control_bits(arch)),
        **_memories(arch, family, "array"),
    }


def _control_bits(arch: Architecture) -> int:
    """Bits of masks and accumulator addresses on their way through an array."""
    latency = array_retirement(arch)
    return latency * (1 + SEMAPHORES) + latency * (2 + bits_of(arch.accumulator_words))


def _vector(arch: Architecture, family: str) -> Structures:
    """Slots, the parts of parameters and residuals on their way to the lanes, records, buffer."""
    lanes = arch.array.cols
    return {
        "itself": 1,
        "lanes": lanes,
        **({"itself, gated": 1, "lanes, gated": lanes} if arch.vector.gated else {}),
        "bits of delays": 2 * tree_bits(lanes, 16)[1] + tree_bits(lanes, 32)[1],
        "bits of a record's place": bits_of(arch.vector.rows),
        "bits of chunks to choose from": 16 * lanes * (arch.fold - 1),
        **_memories(arch, family, "vector"),
    }


def _lane(arch: Architecture, family: str) -> Structures:
    """A lane: with one function table or more than two, its address is of another width."""
    gated = {"itself, gated": 1} if arch.vector.gated else {}
    return {"itself": 1, **gated, "bits of a table's place": bits_of(arch.vector.tables)}


# The ternary array.


def _ternary_array(arch: Architecture, family: str) -> Structures:
    """Slots, weight memory, activations and what all columns share of them, accumulators."""
    array = arch.array
    word_bits, banks = 8 * arch.weight_bytes, -(-array.weight_words // WEIGHT_BANK_WORDS)
    registers, adders = _shared(arch)
    before = 8 * arch.bus.bytes * (arch.weight_beats - 1)
    place = bits_of(array.weight_words) + bits_of(arch.weight_beats + 1)
    row = bits_of(min(array.weight_words, WEIGHT_BANK_WORDS))
    held = 2 * (8 * array.rows + word_bits) + before + place + row + registers
    return {
        "slots of a ternary array": 1,
        "bits of shared adders": adders,
        "bits of a weight word": word_bits,
        "bits of banks to choose from": word_bits * banks if banks > 1 else 0,
        "accumulators": array.cols,
        **_delays([], family, control=held + _control_bits(arch)),
        **_memories(arch, family, "array"),
    }


def _shared(arch: Architecture) -> tuple[int, int]:
    """Bits of registers and of adders that make of the activations what all columns choose from.

    Alone, each activation and its negative. In groups of three, singles and pairs, and a stage later
    also the sums of three, none that is another's negative; the last group may be smaller.
    """
    rows, group = arch.array.rows, arch.array.group
    if group == 1:
        return 17 * rows, 9 * rows
    registers = adders = 0
    for first in range(0, rows, group):
        lanes = min(group, rows - first)
        singles, pairs, threes = 8 * lanes, 9 * lanes * (lanes - 1), 40 if lanes == group else 0
        registers += 2 * (singles + pairs) + threes
        adders += pairs + threes
    return registers, adders


def _column(arch: Architecture, family: str) -> Structures:
    """A choice for each activation or group, and a tree of adders, one stage a level."""
    group = arch.array.group
    terms = -(-arch.array.rows // group)
    adders, delays = tree_bits(terms, 9 if group == 1 else 10)
    choices = "choices of an activation" if group == 1 else "choices of a group's sum"
    return {choices: terms, "bits of adders": adders, "bits of delays": delays}


# Array and divider of kind fusemax.


def _attend_array(arch: Architecture, family: str) -> Structures:
    """Slots, steps and bytes on their way to rows, words to columns, control to lanes."""
    rows, cols = arch.array.rows, arch.array.cols
    skew = [(8, 1 + row) for row in range(rows)] + [(8, col) for col in range(cols)]
    steps = rows * _STEP_BITS + cols * (_WORD_BITS + 2 + _WORD_BITS) + rows * _LANE_CONTROL_BITS
    return {
        "itself": 1,
        **_delays(skew, family, control=steps + array_retirement(arch) * (1 + SEMAPHORES)),
        "rows": rows,
        "columns": cols,
    }


_STEP_BITS, _WORD_BITS, _LANE_CONTROL_BITS = 4, 24, 21


def _attend_lane(arch: Architecture, family: str) -> Structures:
    """A lane and its memories of numerators and denominators.

    A block leaves open what is read where a word is written: a register of the write and one of each
    read go around it, for the old word to be read.
    """
    ordered = sum(
        (shape.readers + 1) * shape.bits + bits_of(shape.words)
        for shape in memories(arch)
        if shape.component == "attend_lane" and blocks(shape, family=family)
    )
    return {
        "itself": 1,
        "bits of places": bits_of(arch.vector.buffer_words) + bits_of(arch.vector.rows),
        "bits around ordered blocks": ordered,
        **_memories(arch, family, "attend_lane", units=arch.array.cols),
    }


def _divider(arch: Architecture, family: str) -> Structures:
    return {"itself": 1, "lanes": arch.array.cols}
