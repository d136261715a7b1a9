"""What the exact search's kernels take: bundles of arrays and numbers, named."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Tables(NamedTuple):
    """The problem, as ``mapper._exact_problem.Problem`` describes each array."""

    sizes: Ints
    tiles: Ints
    trips: Floats
    steps: Floats
    outer_start: Ints
    outer_list: Ints
    side_start: Ints
    side_list: Ints
    relevant: Bools
    benefits: Bools
    dim_start: Ints
    dim_clip: Ints
    term_start: Ints
    term_rank: Ints
    term_factor: Ints
    least: Floats


class Outlook(NamedTuple):
    """What a stage knows of the stages further out."""

    place: Floats
    """A row for each tensor: its parent's level, energy and bits of an element, what a first visit saves."""
    at_once: Bools
    """Tensors whose parent can be charged after this stage."""
    lanes: float
    """Most lanes that later dimensions can add."""
    level_lanes: Floats
    """Most instances of each level."""
    future: Floats
    """Least that later holders add: energy, then bits of each level's instance."""
    inverse: Floats
    """Cycles for a bit of each level; 0 without limit."""
    floor: float
    """Cycles below which no mapping comes."""
    final: bool
    """Whether the stage completes the mapping."""


class Goal(NamedTuple):
    """What is wanted, and the best of it so far."""

    metrics: Ints
    best: Floats
    """Known points, a row each."""
    lexicographic: bool
    """One metric with ties broken by another; else a front."""
    relaxed: bool
    """Whether bandwidth is left out of latency."""


class Holders(NamedTuple):
    """One level's holders."""

    order: Ints
    """Tensors, innermost first."""
    level: int
    width: Floats
    """Bits that an element of each tensor takes."""
    capacity: float
    fill: Floats
    """A row for each tensor: energy and bits of a fetched element, what a first visit saves of both."""


class Side(NamedTuple):
    """One spatial dimension."""

    size: int
    allowed: Bools
    """Ranks that may be spread over it."""


class States(NamedTuple):
    """Partial mappings, one a row."""

    idx: Ints
    row: Floats
    back: Ints
    """Position in the previous stage."""
    order: Ints
    tiles: Ints
    """Candidate of each rank at each tensor's holder of this stage."""
    bounds: Floats
    """Least latency, energy, EDP, traffic and bits held of any completion."""
