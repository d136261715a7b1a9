"""What writing a text on the hardware gives, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archsim._estimate_value import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One token's run: the token that was read, and how hardware and prediction compare."""

    character: str
    rtl_cycles: int
    wrong_logits: int
    """Logits that differ from the integer oracle's."""
    counters: Mapping[str, tuple[int, int]]
    """Counters that differ, cycles among them: name -> (simulated, hardware)."""

    @property
    def differences(self) -> tuple[str, ...]:
        """All that differs, in words."""
        found = [f"{name}: simulated {s}, hardware {h}" for name, (s, h) in self.counters.items()]
        return (f"{self.wrong_logits} logits differ", *found) if self.wrong_logits else tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageOutcome:
    """A text and what it cost."""

    model: str
    arch: str
    clock_mhz: float
    prompt: str
    text: str
    """What follows the prompt."""
    vocabulary: int
    """Logits of a token."""
    bound: Estimate
    """Of one token, as the next three."""
    estimate: Estimate
    simulated: Estimate
    measured: Estimate | None
    """From the hardware's own counters, of the last token; None without hardware."""
    limit: str
    """What limits a token's cycles."""
    load_cycles: int
    """Of the run that loads the model."""
    load_differences: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    """One a token read, the prompt's first; none without hardware."""
    simulated_hz: float = 0.0
    """RTL cycles that Verilator ran in a second."""

    @property
    def per_token(self) -> Estimate:
        """The best opinion of a token's cost: the hardware's, else the simulator's."""
        return self.measured or self.simulated

    @property
    def differences(self) -> tuple[str, ...]:
        """All differences between hardware and prediction, in words."""
        found = [f"load: {line}" for line in self.load_differences]
        for position, step in enumerate(self.steps):
            found += [f"token {position} ({step.character!r}): {line}" for line in step.differences]
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether every logit and every counter agrees; without hardware there is nothing to differ."""
        return not self.differences
