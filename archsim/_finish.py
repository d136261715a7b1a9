"""When each tensor is complete: the cycle in which the last of its bytes is written to memory."""

from __future__ import annotations

from archsim._errors import ArchsimError
from archsim._isa import Engine
from archsim._program import Program
from archsim._simulate import EVENT_CAP, Simulation


def written_at(program: Program, simulation: Simulation) -> dict[str, int]:
    """The cycle of the last data beat that is written to each stored tensor, in order of first storing.

    ``simulation`` is a traced run of ``program``; cycles are numbered as in ``docs/machine.md``. A STORE
    for which ``program.tensors`` has no name is left out. Raises ``ArchsimError`` for a run that was
    not traced, or of which the trace does not hold everything.
    """
    _refuse_incomplete(simulation)
    found: dict[str, int] = {}
    for event in simulation.events:
        tensor = program.tensors.get(event.instruction)
        if event.engine is Engine.STORE and tensor is not None:
            # A STORE's last issue is its last beat, and the beats of all STOREs are in order.
            found[tensor] = event.issue
    return found


def _refuse_incomplete(simulation: Simulation) -> None:
    if not simulation.events:
        raise ArchsimError(f"simulation of {simulation.program!r} must be traced, not without events")
    if not simulation.complete:
        raise ArchsimError(
            f"trace of {simulation.program!r} must hold the whole run (up to {EVENT_CAP} instructions),"
            f" not its first {len(simulation.events)} events"
        )
