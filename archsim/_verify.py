"""Static checks of a program against its machine, run before it is timed, encoded or executed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archsim._architecture import Architecture
from archsim._errors import ArchsimError
from archsim._isa import (
    GATED_FIELDS,
    KIND_OPCODES,
    LOOP_DEPTH,
    OPERANDS,
    PAYLOAD,
    REGISTERS,
    SEMAPHORES,
    SIGNED,
    Destination,
    Engine,
    Lookup,
    Opcode,
    Pre,
    Reduce,
    Residual,
    Source,
    Space,
)
from archsim._program import Instruction, Operand, Program
from archsim._timing import attend_period
from workloads import MAX_FEATURES, MAX_SCALE_SHIFT, MAX_SHIFT

_WRITERS = frozenset({Opcode.SET, Opcode.ADD, Opcode.RING})
_TRANSFERS = frozenset({Opcode.LOAD, Opcode.STORE})
_ENUMS = {
    "space": Space,
    "source": Source,
    "pre": Pre,
    "residual": Residual,
    "lookup": Lookup,
    "destination": Destination,
    "reduce": Reduce,
}
_COUNTS = {
    Opcode.LOOP: ("imm",),
    Opcode.LOAD: ("segments", "beats"),
    Opcode.STORE: ("segments", "beats"),
    Opcode.MATMUL: ("rows", "k_chunks", "n_chunks", "w_rows"),
    Opcode.VECTOR: ("rows", "chunks", "length", "group"),
    Opcode.ATTEND: ("features", "period"),
    Opcode.DIVIDE: ("rows", "lanes"),
}
"""Fields that count something: at least 1."""


def verify(arch: Architecture, program: Program) -> None:
    """Raise an ``ArchsimError`` that names the first instruction that ``arch`` cannot run.

    Checked are field widths, loop nesting, registers, semaphores (one signalling engine by one mask,
    one waiting engine), alignment to the bus, and that base addresses lie in their memories. What
    depends on the run, such as a deadlock or two engines on one port, is the simulator's to find.
    """
    if len(program.instructions) > arch.program_words:
        found = len(program.instructions)
        raise ArchsimError(
            f"program {program.name!r} must fit {arch.program_words} instructions, not {found}"
        )
    _verify_flow(program)
    _verify_semaphores(program)
    steps = _register_steps(program)
    for index, instruction in enumerate(program.instructions):
        for problem in _problems(arch, program, instruction, steps):
            raise _error(index, instruction, problem)


def _error(index: int, instruction: Instruction, problem: str) -> ArchsimError:
    return ArchsimError(f"instruction {index} ({instruction}): {problem}")


def _verify_flow(program: Program) -> None:
    depth = 0
    last = len(program.instructions) - 1
    for index, instruction in enumerate(program.instructions):
        depth += (instruction.opcode is Opcode.LOOP) - (instruction.opcode is Opcode.END)
        if depth < 0:
            raise _error(index, instruction, "END must close a LOOP, not stand alone")
        if depth > LOOP_DEPTH:
            raise _error(index, instruction, f"loops must nest at most {LOOP_DEPTH} deep, not {depth}")
        if instruction.opcode is Opcode.HALT and index != last:
            raise _error(index, instruction, "HALT must be the last instruction, not followed by others")
    if depth:
        raise ArchsimError(
            f"program {program.name!r} must close every LOOP by an END, not leave {depth} open"
        )
    if last < 0 or program.instructions[last].opcode is not Opcode.HALT:
        raise ArchsimError(f"program {program.name!r} must end with HALT")


@dataclass(slots=True)
class _Users:
    """Who signals and who waits, per semaphore."""

    signals: dict[int, tuple[Engine, str]] = field(default_factory=dict)
    waits: dict[int, Engine] = field(default_factory=dict)


def _verify_semaphores(program: Program) -> None:
    users = _Users()
    for index, instruction in enumerate(program.instructions):
        engine = instruction.engine
        if engine is None:
            if instruction.waits | instruction.signals | instruction.releases:
                raise _error(index, instruction, "a sequencer instruction must have no semaphores")
            continue
        if engine in (Engine.LOAD, Engine.STORE) and instruction.releases:
            raise _error(index, instruction, f"{engine.name} must signal at retirement, not release at issue")
        for semaphore in range(SEMAPHORES):
            if problem := _semaphore_problem(users, instruction, engine, semaphore):
                raise _error(index, instruction, problem)
    for semaphore in sorted(users.waits.keys() - users.signals.keys()):
        who = users.waits[semaphore].name
        raise ArchsimError(
            f"semaphore {semaphore} must be signalled by an engine, not only waited for by {who}"
        )


def _semaphore_problem(users: _Users, instruction: Instruction, engine: Engine, semaphore: int) -> str | None:
    bit = 1 << semaphore
    if instruction.waits & bit and users.waits.setdefault(semaphore, engine) is not engine:
        both = f"{users.waits[semaphore].name} and {engine.name}"
        return f"semaphore {semaphore} must have one waiting engine, not {both}"
    for mask, kind in ((instruction.signals, "signals"), (instruction.releases, "releases")):
        first = users.signals.setdefault(semaphore, (engine, kind)) if mask & bit else None
        if first is not None and first != (engine, kind):
            both = f"{first[0].name} {first[1]} and {engine.name} {kind}"
            return f"semaphore {semaphore} must have one signalling engine and mask, not {both}"
    return None


Steps = dict[int, int]
"""Register -> bitwise OR of every constant that it is set to, stepped by or wrapped at."""


def _register_steps(program: Program) -> Steps:
    steps: Steps = {}
    for instruction in program.instructions:
        if instruction.opcode in _WRITERS:
            constants = instruction.field("imm") | instruction.field("limit")
            steps[instruction.field("reg")] = steps.get(instruction.field("reg"), 0) | constants
    return steps


def _problems(arch: Architecture, program: Program, instruction: Instruction, steps: Steps) -> Iterator[str]:
    """What is wrong with one instruction; fields first, since the others read them."""
    kinds = [kind for kind, opcodes in KIND_OPCODES.items() if instruction.opcode in opcodes]
    if kinds and arch.array.kind not in kinds:
        yield f"array.kind must be {kinds[0]} for {instruction.opcode.name}, not {arch.array.kind}"
    yield from _field_problems(instruction)
    if instruction.opcode in _WRITERS and instruction.field("reg") == 0:
        yield "register 0 must stay 0, not be written"
    match instruction.opcode:
        case Opcode.LOAD | Opcode.STORE:
            yield from _transfer_problems(arch, program, instruction, steps)
        case Opcode.MATMUL:
            yield from _matmul_problems(arch, instruction)
        case Opcode.VECTOR:
            yield from _vector_problems(arch, instruction)
        case Opcode.TABLE:
            yield from _slot_problems(arch, instruction)
            yield from _range("table image", _base(instruction, 0), 256, arch.scratchpad.words)
        case Opcode.ATTEND:
            yield from _attend_problems(arch, instruction)
        case Opcode.DIVIDE:
            yield from _divide_problems(arch, instruction)
        case _:
            pass


def _field_problems(instruction: Instruction) -> Iterator[str]:
    widths = dict(PAYLOAD[instruction.opcode])
    for name, value in instruction.fields.items():
        if name not in widths:
            yield f"field must be one of {', '.join(widths) or 'none'}, not {name!r}"
            return
        low, high = _limits(name, widths[name])
        if not low <= value <= high:
            yield f"{name} must be {low} to {high}, not {value}"
        if name in _ENUMS and value >= len(_ENUMS[name]):
            yield f"{name} must be below {len(_ENUMS[name])}, not {value}"
    for name in _COUNTS.get(instruction.opcode, ()):
        if instruction.field(name) < 1:
            yield f"{name} must be at least 1, not {instruction.field(name)}"
    yield from _header_problems(instruction)


def _limits(name: str, width: int) -> tuple[int, int]:
    return (-(1 << width - 1), (1 << width - 1) - 1) if name in SIGNED else (0, (1 << width) - 1)


def _header_problems(instruction: Instruction) -> Iterator[str]:
    for label, mask in (
        ("waits", instruction.waits),
        ("signals", instruction.signals),
        ("releases", instruction.releases),
    ):
        if not 0 <= mask < 1 << SEMAPHORES:
            yield f"{label} must be a mask of {SEMAPHORES} bits, not {mask}"
    if len(instruction.operands) > OPERANDS:
        yield f"operands must be at most {OPERANDS}, not {len(instruction.operands)}"
    for operand in instruction.operands:
        if not 0 <= operand.base < 1 << 32:
            yield f"an operand's base must be 0 to {(1 << 32) - 1}, not {operand.base}"
        if not 0 <= operand.reg < REGISTERS:
            yield f"an operand's register must be 0 to {REGISTERS - 1}, not {operand.reg}"


def _base(instruction: Instruction, index: int) -> Operand:
    return instruction.operands[index] if index < len(instruction.operands) else Operand(0)


def _range(what: str, operand: Operand, words: int, size: int) -> Iterator[str]:
    """The address of the first word must exist, and of the last one too where no register moves it."""
    last = operand.base if operand.reg else operand.base + words - 1
    if operand.base >= size or last >= size:
        yield f"{what} must lie in words 0 to {size - 1}, not {operand.base} to {last}"


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _extent(base: Operand, strides: tuple[tuple[int, int], ...], words: int) -> tuple[Operand, int]:
    """The lowest address of a strided block, and its length in words."""
    reach = [_signed(stride) * (count - 1) for stride, count in strides]
    low, high = sum(min(0, each) for each in reach), sum(max(0, each) for each in reach)
    if base.reg:
        return base, words
    return Operand(max(0, base.base + low)), words + high - low


def _transfer_problems(
    arch: Architecture, program: Program, instruction: Instruction, steps: Steps
) -> Iterator[str]:
    bus, word, field_ = arch.bus.bytes, arch.word_bytes, instruction.field
    dram, local = _base(instruction, 0), _base(instruction, 1)
    space = field_("space")
    # A weight word has its own place in DRAM's beats, whatever its address.
    unit = bus if space == Space.WEIGHTS else word
    for what, value in (
        ("DRAM address", dram.base | steps.get(dram.reg, 0) * (dram.reg > 0)),
        ("dram_stride", field_("dram_stride") if field_("segments") > 1 else 0),
        ("local address in bytes", (local.base | steps.get(local.reg, 0) * (local.reg > 0)) * unit),
        ("local_stride in bytes", field_("local_stride") * unit if field_("segments") > 1 else 0),
    ):
        if value % bus:
            yield f"{what} must be a multiple of the bus's {bus} bytes, not {value}"
    if program.regions and dram.base >= program.dram_bytes:
        yield f"DRAM address must be below {program.dram_bytes}, not {dram.base}"
    if space == Space.WEIGHTS:
        yield from _weight_problems(arch, instruction)
        return
    if space == Space.PROGRAM or (space == Space.PARAMETERS and instruction.opcode is Opcode.STORE):
        wanted = "SCRATCHPAD or PARAMETERS" if instruction.opcode is Opcode.LOAD else "SCRATCHPAD"
        yield f"space must be {wanted}, not {Space(space).name}"
    size = arch.parameter_words * 8 if space == Space.PARAMETERS else arch.scratchpad.words
    words = -(-field_("beats") * bus // word)
    yield from _range(
        "local address", *_extent(local, ((field_("local_stride"), field_("segments")),), words), size
    )


def _weight_problems(arch: Architecture, instruction: Instruction) -> Iterator[str]:
    """A transfer to or from the weight memory, which counts in its own words."""
    field_ = instruction.field
    if instruction.opcode is Opcode.STORE or arch.array.kind != "ternary":
        wanted = "SCRATCHPAD or PARAMETERS" if instruction.opcode is Opcode.LOAD else "SCRATCHPAD"
        yield f"space must be {wanted}, not WEIGHTS"
        return
    if field_("beats") % arch.weight_beats:
        yield f"beats must be a multiple of a weight word's {arch.weight_beats}, not {field_('beats')}"
    strides = ((field_("local_stride"), field_("segments")),)
    extent = _extent(_base(instruction, 1), strides, field_("beats") // arch.weight_beats)
    yield from _range("local address", *extent, arch.array.weight_words)


def _matmul_problems(arch: Architecture, instruction: Instruction) -> Iterator[str]:
    field_ = instruction.field
    is_ternary = arch.array.kind == "ternary"
    if is_ternary and (field_("w_rows") != 1 or field_("transpose")):
        found = f"{field_('w_rows')} and {field_('transpose')}"
        yield f"w_rows and transpose must be 1 and 0 on a ternary array, not {found}"
    side = arch.array.cols if field_("transpose") else arch.array.rows
    if field_("w_rows") > side:
        yield f"w_rows must be at most {side}, not {field_('w_rows')}"
    k, n, size = field_("k_chunks"), field_("n_chunks"), arch.scratchpad.words
    x, w, a = (_base(instruction, index) for index in range(3))
    weights = ((field_("w_n_stride"), n), (field_("w_k_stride"), k))
    yield from _range("streamed operand", *_extent(x, ((field_("x_k_stride"), k),), field_("rows")), size)
    held = arch.array.weight_words if is_ternary else size
    yield from _range("stationary operand", *_extent(w, weights, field_("w_rows")), held)
    sums = _extent(a, ((field_("acc_n_stride"), n),), field_("rows"))
    yield from _range("accumulators", *sums, arch.accumulator_words)


def _slot_problems(arch: Architecture, instruction: Instruction) -> Iterator[str]:
    if instruction.field("slot") >= arch.vector.tables:
        yield f"slot must be below the {arch.vector.tables} tables, not {instruction.field('slot')}"


def _vector_problems(arch: Architecture, instruction: Instruction) -> Iterator[str]:
    field_ = instruction.field
    rows, chunks = field_("rows"), field_("chunks")
    if field_("group") > arch.array.cols:
        yield f"group must be at most the {arch.array.cols} lanes, not {field_('group')}"
    records = (field_("pre"), field_("reduce"), field_("lookup") == Lookup.EXP)
    if any(records) and rows > arch.vector.rows:
        yield f"rows must be at most the {arch.vector.rows} row records, not {rows}"
    yield from _gated_problems(arch, instruction)
    scales = arch.vector.gated and field_("pre") == Pre.SCALE
    if field_("pre") and field_("source") == Source.ACCUMULATOR and not scales:
        yield f"source must be SCRATCHPAD or BUFFER where pre is {Pre(field_('pre')).name}, not ACCUMULATOR"
    if field_("lookup"):
        yield from _slot_problems(arch, instruction)
    scratchpad, buffer = arch.scratchpad.words, arch.vector.buffer_words
    source = (arch.accumulator_words, scratchpad, buffer)[field_("source")]
    places = [("source", 0, "src_stride", source, field_("source") == Source.SCRATCHPAD)]
    if field_("destination"):
        folded = field_("destination") == Destination.SCRATCHPAD
        places.append(("destination", 1, "dst_stride", scratchpad if folded else buffer, folded))
    if field_("residual"):
        folded = not field_("res_buffer")
        places.append(("residual", 2, "res_stride", scratchpad if folded else buffer, folded))
    for what, index, stride, size, folded in places:
        steps = -(-chunks // arch.fold) if folded else chunks
        yield from _range(what, *_extent(_base(instruction, index), ((field_(stride), steps),), rows), size)
    if field_("affine"):
        words = 1 if field_("uniform") else chunks
        yield from _range("parameters", _base(instruction, 3), words, arch.parameter_words)


def _attend_problems(arch: Architecture, instruction: Instruction) -> Iterator[str]:
    field_, rows = instruction.field, arch.array.rows
    features = field_("features")
    if features > MAX_FEATURES:
        yield f"features must be at most {MAX_FEATURES}, not {features}"
    if field_("period") < (least := attend_period(rows, features)):
        yield f"period must be at least {least} for {features} features, not {field_('period')}"
    if field_("scale_shift") > MAX_SCALE_SHIFT:
        yield f"scale_shift must be at most {MAX_SCALE_SHIFT}, not {field_('scale_shift')}"
    for stage, keys in (("scores", "keys_scores"), ("exponentials", "keys_exp")):
        if field_(stage) and not 1 <= field_(keys) <= rows:
            yield f"{keys} must be 1 to the {rows} rows, not {field_(keys)}"
    if field_("last_exp"):
        yield from _record_problems(arch, instruction)
    scratchpad = arch.scratchpad.words
    places = [("keys", 0, scratchpad), ("queries", 1, scratchpad)] if field_("scores") else []
    if field_("values"):
        places += [("values", 2, scratchpad), ("value memory", 3, arch.vector.buffer_words)]
    for what, index, size in places:
        yield from _range(what, _base(instruction, index), features, size)


def _divide_problems(arch: Architecture, instruction: Instruction) -> Iterator[str]:
    field_ = instruction.field
    if field_("lanes") > arch.array.cols:
        yield f"lanes must be at most the {arch.array.cols} lanes, not {field_('lanes')}"
    if field_("shift") > MAX_SHIFT:
        yield f"shift must be at most {MAX_SHIFT}, not {field_('shift')}"
    yield from _record_problems(arch, instruction)
    yield from _range("value memory", _base(instruction, 0), field_("rows"), arch.vector.buffer_words)
    yield from _range("destination", _base(instruction, 1), field_("rows"), arch.scratchpad.words)


def _record_problems(arch: Architecture, instruction: Instruction) -> Iterator[str]:
    if instruction.field("record") >= arch.vector.rows:
        yield f"record must be below the {arch.vector.rows} records, not {instruction.field('record')}"


def _gated_problems(arch: Architecture, instruction: Instruction) -> Iterator[str]:
    """What only a gated vector unit does."""
    field_ = instruction.field
    if arch.vector.gated:
        return
    for name in sorted(GATED_FIELDS):
        if field_(name):
            yield f"{name} must be 0 where vector.gated is false, not {field_(name)}"
    for name, value in (("lookup", Lookup.INTERPOLATE), ("reduce", Reduce.ABSMAX)):
        if field_(name) == value:
            yield f"{name} must be below {int(value)} where vector.gated is false, not {value.name}"
