"""A VECTOR pass over one row in the making: operands and fields, stage by stage."""

from __future__ import annotations

from archsim._isa import Destination, Pre, Residual, Source
from archsim._program import Operand


class Pass:
    """From ``of`` to ``to``, chunk by chunk; what is not asked for does nothing."""

    __slots__ = ("fields", "operands")

    def __init__(
        self, source: Source, of: int | Operand, *, to: int | Operand, scratchpad: bool = False
    ) -> None:
        self.operands = [_operand(of), _operand(to), Operand(0), Operand(0)]
        place = Destination.SCRATCHPAD if scratchpad else Destination.BUFFER
        self.fields: dict[str, int] = {
            "source": source,
            "src_stride": 1,
            "dst_stride": 1,
            "destination": place,
        }

    def scaled(self) -> Pass:
        """Times the row's record."""
        self.fields["pre"] = Pre.SCALE
        return self

    def affine(self, parameters: Operand, shift: int, *, uniform: bool = False) -> Pass:
        """Times m plus b, shifted."""
        self.operands[3] = parameters
        self.fields |= {"affine": 1, "shift": shift, "uniform": int(uniform)}
        return self

    def plus(self, of: int | Operand, *, multiplier: int = 1, scratchpad: bool = False) -> Pass:
        """Plus ``multiplier`` times another operand."""
        return self._with(of, Residual.ADD, scratchpad) | {"res_multiplier": multiplier}

    def times(self, of: int | Operand, shift: int) -> Pass:
        """Times another operand of the buffer, shifted with rounding."""
        return self._with(of, Residual.MULTIPLY, False) | {"res_shift": shift}

    def _with(self, of: int | Operand, how: Residual, scratchpad: bool) -> Pass:
        self.operands[2] = _operand(of)
        return self | {"residual": how, "res_stride": 1, "res_buffer": int(not scratchpad)}

    def __or__(self, fields: dict[str, int]) -> Pass:
        self.fields |= fields
        return self


def _operand(place: int | Operand) -> Operand:
    return place if isinstance(place, Operand) else Operand(place)
