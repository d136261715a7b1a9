"""Lowering: (cascade, architecture, tilings) to a Program of hardware loops.

Each kernel reads its operands from memory tile by tile into double buffers and writes its result
back; engines hand buffers over with semaphores. An operand is loaded in the innermost loop that
changes it, so that the loops inside reuse it. Example, a product of 64 x 64 x 64 in two inner tiles:

    load w            ; while the array works on the previous tile
    load x
    matmul            ; waits for both, accumulates
    vector            ; requantises the finished tile
    store
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archsim._architecture import Architecture
from archsim._assembler import SEMAPHORE_NAMES, Assembler, Sem
from archsim._attention_plan import AttentionPlan
from archsim._errors import ArchsimError
from archsim._isa import INSTRUCTION_BYTES, Opcode
from archsim._lower_attention import ATTENTION_SEMAPHORES, AttentionLowering
from archsim._lower_memory import ADDRESS_SPACE, PAGE_BYTES, Memory
from archsim._lower_product import ProductLowering
from archsim._lower_rows import RowLowering
from archsim._lower_table import TableBank
from archsim._plan import Planned, ProductPlan, RowPlan, plan
from archsim._program import Program
from archsim._tiling import Tiling, check
from workloads import AttentionScales, Cascade, Quantised

OPENING = "start"
"""Section of the first instructions: every buffer is handed to who fills it."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """A program with the layouts and tilings behind it."""

    program: Program
    planned: Planned
    tilings: tuple[Tiling, ...]
    quantised: Quantised | None
    program_address: int
    """Where the encoded program goes in memory: behind the tensors."""

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that tensors and program take."""
        return self.program_address + INSTRUCTION_BYTES * len(self.program.instructions)

    @property
    def addressable(self) -> bool:
        """Whether the machine's 32-bit addresses reach all of it.

        A larger program is for timing only: its addresses wrap, and the simulator's times depend on
        nothing but their place in a page, so that they are those of a machine with wider addresses.
        """
        return self.memory_bytes <= ADDRESS_SPACE


def lower(
    cascade: Cascade, arch: Architecture, tilings: Sequence[Tiling], *, quantised: Quantised | None = None
) -> Lowered:
    """The program that runs ``cascade`` on ``arch``, one tiling a kernel.

    Without ``quantised`` the program has the right timing and no useful numbers. With it, the
    program computes what ``workloads.evaluate_quantised`` says, bit for bit.
    Raises ArchsimError where a tiling does not fit, or the program memory is too small.
    """
    planned = plan(cascade, arch)
    return lower_planned(cascade, planned, arch, tilings, quantised=quantised)


def lower_planned(
    cascade: Cascade,
    planned: Planned,
    arch: Architecture,
    tilings: Sequence[Tiling],
    *,
    quantised: Quantised | None = None,
) -> Lowered:
    """``lower`` for plans already made, of which ``planned`` may hold a part."""
    if len(tilings) != len(planned.plans):
        raise ArchsimError(f"tilings must be one a kernel ({len(planned.plans)}), not {len(tilings)}")
    if quantised is not None and quantised.attention is not None and arch.array.kind == "dense":
        raise ArchsimError(f"integers must be of kernels on {arch.name}, not of one attention")
    if quantised is not None and planned.copies:
        raise ArchsimError(
            f"{cascade.name} must be a cascade whose kernels agree on layouts to run with values, "
            f"not one that lays out {', '.join(sorted(set(planned.copies)))} twice"
        )
    assembler, memory = _assembled(cascade, planned, arch, tilings, quantised)
    program = Program(
        name=cascade.name,
        instructions=tuple(assembler.instructions),
        regions=tuple(memory.regions.values()),
        semaphores=ATTENTION_SEMAPHORES if arch.array.kind == "fusemax" else SEMAPHORE_NAMES,
        sections=tuple(assembler.sections),
        tensors=assembler.tensors,
    )
    if len(program.instructions) > arch.program_words:
        raise ArchsimError(
            f"program of {cascade.name} must fit program_words = {arch.program_words}, "
            f"not {len(program.instructions)} instructions"
        )
    address = -(-program.dram_bytes // PAGE_BYTES) * PAGE_BYTES
    lowered = Lowered(program, planned, tuple(tilings), quantised, address)
    if quantised is not None and not lowered.addressable:
        raise ArchsimError(
            f"{cascade.name} must take at most {ADDRESS_SPACE} bytes of memory to run with values, "
            f"not {lowered.memory_bytes}"
        )
    return lowered


def program_length(cascade: Cascade, planned: Planned, arch: Architecture, tilings: Sequence[Tiling]) -> int:
    """Instructions of the program for ``planned``, whether or not the program memory holds them."""
    assembler, _ = _assembled(cascade, planned, arch, tilings, None)
    return len(assembler.instructions)


def _assembled(
    cascade: Cascade,
    planned: Planned,
    arch: Architecture,
    tilings: Sequence[Tiling],
    quantised: Quantised | None,
) -> tuple[Assembler, Memory]:
    for kernel_plan, tiling in zip(planned.plans, tilings, strict=True):
        check(kernel_plan, tiling, arch)
    assembler = Assembler()
    memory = Memory(arch)
    kinds = _kinds(cascade)
    for storage in planned.storages:
        memory.place(storage, kinds.get(storage.tensor, "input"))
    _assemble(assembler, memory, planned, tilings, quantised)
    return assembler, memory


def _assemble(
    assembler: Assembler,
    memory: Memory,
    planned: Planned,
    tilings: Sequence[Tiling],
    quantised: Quantised | None,
) -> None:
    if any(isinstance(item, AttentionPlan) for item in planned.plans):
        _assemble_attention(assembler, memory, planned, tilings, quantised)
        return
    _credits(assembler)
    tables = TableBank(assembler, memory, memory.arch)
    for index, (kernel_plan, tiling) in enumerate(zip(planned.plans, tilings, strict=True)):
        assembler.section(kernel_plan.kernel.name)
        if index:
            assembler.emit(Opcode.SYNC_LOAD, waits=[Sem.STORED])
        numbers = quantised.kernels[index] if quantised else None
        slot = tables.ensure(kernel_plan)
        if isinstance(kernel_plan, ProductPlan):
            ProductLowering(assembler, memory, kernel_plan, tiling, numbers, slot).emit()
        elif isinstance(kernel_plan, RowPlan):
            RowLowering(assembler, memory, kernel_plan, tiling, numbers, slot).emit()
        if index + 1 < len(planned.plans):
            assembler.emit(Opcode.SYNC_STORE, signals=[Sem.STORED])
    assembler.emit(Opcode.HALT)


def _assemble_attention(
    assembler: Assembler,
    memory: Memory,
    planned: Planned,
    tilings: Sequence[Tiling],
    quantised: Quantised | None,
) -> None:
    """The one kernel of an attention."""
    (item,) = planned.plans
    (tiling,) = tilings
    assert isinstance(item, AttentionPlan)
    assembler.section(item.kernel.name)
    scales = _attention_scales(item, quantised)
    AttentionLowering(assembler, memory, item, tiling.inner_chunks, scales).emit()
    assembler.emit(Opcode.HALT)


def _attention_scales(item: AttentionPlan, quantised: Quantised | None) -> AttentionScales | None:
    if quantised is None:
        return None
    step = quantised.attention
    if step is None or step.tile != item.tile_keys:
        found = "kernels" if step is None else f"tiles of {step.tile}"
        raise ArchsimError(
            f"integers must be of an attention in tiles of {item.tile_keys} keys, not of {found}"
        )
    return step.scales


def _credits(assembler: Assembler) -> None:
    """Both halves of every double buffer start free."""
    assembler.section(OPENING)
    for _ in range(2):
        assembler.emit(Opcode.SYNC_ARRAY, releases=[Sem.X_FREE, Sem.W_FREE])
        assembler.emit(Opcode.SYNC_VECTOR, signals=[Sem.P_FREE, Sem.RES_FREE], releases=[Sem.ACC_FREE])
        assembler.emit(Opcode.SYNC_STORE, signals=[Sem.OUT_FREE])


def _kinds(cascade: Cascade) -> dict[str, str]:
    """Whether each tensor that the cascade makes is read again; all others are inputs."""
    used = {access.tensor for einsum in cascade.einsums for access in einsum.inputs}
    produced = (einsum.output.tensor for einsum in cascade.einsums)
    return {name: "intermediate" if name in used else "output" for name in produced}
