"""What the commands ask for and what they get back, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from archsim._estimate_value import Estimate

Phase = Literal["prefill", "decode"]
Objective = Literal["latency", "energy", "edp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A model on an architecture, as the command line gives it."""

    model: str
    """Zoo name, ``config.json``, ``.onnx``, ``.yaml`` or ``gemm:MxKxN``."""
    arch: str
    """Library name or ``.yaml`` file."""
    phase: Phase = "prefill"
    seq: int | None = None
    """Sequence length of a prefill, position of a decode; None for the model's own."""
    batch: int = 1
    objective: Objective = "latency"
    host: tuple[str, ...] = ()
    """Operators that are priced as host work."""
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Shapes of an ONNX graph's inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOutcome:
    """The best mapping of each Einsum, and what it costs."""

    estimate: Estimate
    mappings: Mapping[str, str]
    """Einsum -> its loop nest as text."""
    evaluated: int
    """Mappings that the search priced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesOutcome:
    """Generated files, not yet written."""

    files: Mapping[str, str]
    """Relative path -> text."""
    figures: Mapping[str, str | int] = field(default_factory=dict)
    """What to tell the person about them: name -> value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CosimOutcome:
    """What the hardware did, against what was predicted."""

    estimate: Estimate
    """The simulator's prediction."""
    measured: Estimate
    """The hardware's own counters."""
    rtl_cycles: int
    compared: int
    """Elements compared with the oracle."""
    mismatches: int
    """Elements that differ from the oracle."""
    differences: tuple[str, ...] = ()
    """In words: each tensor's first wrong element, counters, and cycles in which tensors were complete."""
    counters_differing: int = 0
    """Counters in which hardware and simulator differ."""
    files: tuple[Path, ...] = ()
    """The JUnit file, and the trace where one was asked for."""
    stalled: bool = False
    """Whether the memory stalled at random: then only bits are compared."""
    rtl_cycles_per_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether all bits agree, and without random stalls all counters and times, cycles among them."""
        if self.mismatches or self.differences:
            return False
        return self.stalled or self.rtl_cycles == self.estimate.cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOutcome:
    """The whole road on one model: three opinions of it all, and the proof on one layer."""

    bound: Estimate
    estimate: Estimate
    model: Estimate
    """The simulation of all layers."""
    layer: Estimate
    """The simulation of the layer that ran on the RTL."""
    rtl_cycles: int
    compared: int
    """Elements compared with the oracle."""
    mismatches: int
    differences: tuple[str, ...]
    """Elements and counters that differ, in words."""
    rtl_cycles_per_s: float
    report: Path

    @property
    def passed(self) -> bool:
        """Whether every bit, counter and cycle agrees."""
        return not self.differences and self.rtl_cycles == self.layer.cycles
