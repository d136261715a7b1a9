"""What running sentences on the hardware gives, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from archsim._estimate_value import Estimate
    from archsim.cli._waits import PartWaits
    from workloads import Signal

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCycles:
    """When a layer's output is complete in memory."""

    layer: int
    simulated: int
    """Cycle of its last byte."""
    rtl: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """One text through the whole encoder."""

    text: str
    tokens: int
    estimated_cycles: int
    measured: Estimate
    """From the hardware's own counters."""
    simulated_cycles: int
    layers: tuple[LayerCycles, ...]
    linear_utilization: float
    """Share of the multipliers that work while products with weights run."""
    embedding: Floats
    """Of the hardware's output, pooled and of length 1."""
    reference: Floats
    """Of the float model's."""
    compared: int
    mismatches: int
    differences: tuple[str, ...]
    """Elements, counters and times that differ, in words."""
    instructions: int
    even: bool
    """Whether the best tilings' program would not fit, so that even ones were taken."""
    simulated_hz: float
    """RTL cycles that Verilator ran in a second."""

    @property
    def cosine(self) -> float:
        """Of the hardware's and the float model's embedding."""
        return float(self.embedding @ self.reference)

    @property
    def rtl_cycles(self) -> int:
        """The hardware's own count."""
        return self.measured.cycles

    @property
    def passed(self) -> bool:
        """Whether every bit, counter and cycle agrees."""
        return not self.differences and self.rtl_cycles == self.simulated_cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """All sentences, and what they say together."""

    model: str
    arch: str
    clock_mhz: float
    calibrated_on: int
    """Inputs that the integers were calibrated on."""
    sentences: tuple[Sentence, ...]
    waits: PartWaits
    """Why the array waits in the first sentence's run."""
    signals: tuple[Signal, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether hardware, simulator and oracle agree on every sentence."""
        return all(sentence.passed for sentence in self.sentences)

    @property
    def similarities(self) -> tuple[Floats, Floats]:
        """Cosine of every pair of sentences: by the hardware, by the float model."""
        return tuple(similarity([getattr(s, of) for s in self.sentences]) for of in _SIDES)  # type: ignore[return-value]

    @property
    def spearman(self) -> float | None:
        """Rank correlation of the pairs' similarities; None for fewer than three sentences, or equal ones."""
        if len(self.sentences) < 3:
            return None
        pairs = np.triu_indices(len(self.sentences), 1)
        got, wanted = self.similarities
        return rank_correlation(got[pairs], wanted[pairs])


_SIDES = ("embedding", "reference")


def similarity(embeddings: Sequence[Floats]) -> Floats:
    """Cosines of all pairs of vectors of length 1."""
    rows = np.stack(embeddings)
    return np.asarray(rows @ rows.T)


def rank_correlation(left: Floats, right: Floats) -> float | None:
    """Spearman's coefficient: Pearson's of the ranks, ties sharing their mean rank.

    None where all of one side are equal: they have no order.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 15.0]))
    0.5
    """
    x, y = (_ranks(values) - (len(values) + 1) / 2 for values in (left, right))
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length else None


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], np.float64)
