"""Tile sizes of a kernel on the machine, and whether they fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim._architecture import Architecture
from archsim._attention_plan import AttentionPlan, slot_problems, slots_of
from archsim._errors import ArchsimError
from archsim._isa import TABLE_ENTRIES
from archsim._plan import Capacity, MatrixPlan, Plan, ProductPlan, table_name
from workloads import Elementwise, Normalise, Requantise, Softmax

Ints = NDArray[np.int64]

FIELD_MAX = 65535
"""Largest value of an instruction's 16-bit field."""

Rule = tuple[Any, str, Any]
"""Whether it is broken, what it says, and what was found: an integer, or an array not to be printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """How many rows, column chunks and inner chunks are on chip at once, and which loop is outside.

    Of an attention: a value's features, one block of queries, and tiles of keys.
    """

    rows: int
    col_chunks: int = 1
    inner_chunks: int = 1
    cols_outer: bool = False
    """Loop over columns outside the loop over rows (so that the stationary tile is kept)."""


@dataclass(frozen=True, slots=True)
class Tilings:
    """Many tilings at once: arrays of equal shape, fields as in ``Tiling``."""

    rows: Ints
    col_chunks: Ints
    inner_chunks: Ints
    cols_outer: NDArray[np.bool_]

    def one(self, position: int) -> Tiling:
        """The tiling at ``position``."""
        return Tiling(
            rows=int(self.rows[position]),
            col_chunks=int(self.col_chunks[position]),
            inner_chunks=int(self.inner_chunks[position]),
            cols_outer=bool(self.cols_outer[position]),
        )


def align(rows: Any, granule: int) -> Any:
    """``rows`` (an integer or an array) rounded up to whole bus beats."""
    return -(-rows // granule) * granule


def attention_tiling(plan: AttentionPlan, arch: Architecture) -> Tiling:
    """As many key tiles on chip as are of use and fit; ArchsimError where too few do."""
    return Tiling(rows=plan.features, inner_chunks=slots_of(plan, arch))


def granule_of(arch: Architecture) -> int:
    """Words in a bus beat, at least one."""
    return max(1, arch.bus.bytes // arch.word_bytes)


def violations(plan: Plan, tiling: Tiling, arch: Architecture) -> Iterator[str]:
    """Reasons why ``tiling`` cannot run, in the user's words; none if it can."""
    if isinstance(plan, AttentionPlan):
        yield from _attention_violations(plan, tiling, arch)
        return
    limits = _limits(arch)
    for name, need in _needs(plan, tiling, arch).items():
        if need > limits[name]:
            yield f"{name} tile must be at most {limits[name]} words (by {_KEYS[name]}), not {need}"
    for broken, rule, found in _rules(plan, tiling, arch):
        if broken:
            yield f"{rule}, not {found}"


def legal(plan: Plan, tilings: Tilings, arch: Architecture) -> NDArray[np.bool_]:
    """Which of many tilings can run; agrees with ``fits`` on each."""
    if isinstance(plan, AttentionPlan):
        return np.array([fits(plan, tilings.one(place), arch) for place in range(len(tilings.rows))])
    limits = _limits(arch)
    good = np.ones(tilings.rows.shape, np.bool_)
    for name, need in _needs(plan, tilings, arch).items():
        good &= np.asarray(need <= limits[name])
    for broken, _, _ in _rules(plan, tilings, arch):
        good &= ~np.asarray(broken, np.bool_)
    return good


def _attention_violations(plan: AttentionPlan, tiling: Tiling, arch: Architecture) -> Iterator[str]:
    wanted = Tiling(rows=plan.features, inner_chunks=tiling.inner_chunks)
    if tiling != wanted:
        yield f"tiles of an attention must be {plan.features} features and one block of queries, not {tiling}"
    yield from slot_problems(plan, tiling.inner_chunks, arch)


def fits(plan: Plan, tiling: Tiling, arch: Architecture) -> bool:
    """Whether ``tiling`` can run."""
    return next(violations(plan, tiling, arch), None) is None


def check(plan: Plan, tiling: Tiling, arch: Architecture) -> None:
    """Raise ArchsimError, naming the kernel, unless ``tiling`` can run."""
    for reason in violations(plan, tiling, arch):
        raise ArchsimError(f"kernel {plan.kernel.name} on {arch.name}: {reason}")


_KEYS = {
    "streamed": "scratchpad.words_per_bank",
    "stationary": "scratchpad.words_per_bank",
    "output": "scratchpad.words_per_bank",
    "accumulator": "accumulator.words",
    "parameter": "parameters.words",
    "buffer": "vector.buffer_words",
    "records": "vector.rows",
}
"""The architecture key that says how much of each memory there is."""


def _limits(arch: Architecture) -> dict[str, int]:
    capacity = Capacity.of(arch)
    return {
        "streamed": capacity.operand,
        "stationary": capacity.operand,
        "output": capacity.operand,
        "accumulator": capacity.accumulator,
        "parameter": capacity.parameter,
        "buffer": capacity.buffer,
        "records": capacity.records,
    }


# Integers and arrays of integers alike from here on: one rule for one tiling and for many.


def _needs(plan: MatrixPlan, tiling: Tiling | Tilings, arch: Architecture) -> dict[str, Any]:
    """Words that a tile takes of each memory."""
    granule = granule_of(arch)
    rows = align(tiling.rows, granule)
    if not isinstance(plan, ProductPlan):
        needs = {"output": plan.chunks * rows, "parameter": plan.parameter_sets * plan.chunks}
        if not isinstance(plan.kernel, Elementwise):
            needs |= {"buffer": plan.chunks * tiling.rows, "records": tiling.rows}
        return needs
    cols, depth = tiling.col_chunks, tiling.inner_chunks
    if plan.transposed:
        stationary = depth * align(cols * plan.group, granule)
    else:
        stationary = cols * align(depth * plan.inner_group, granule)
    needs = {
        "streamed": depth * rows,
        "stationary": stationary,
        "output": cols * rows,
        "accumulator": cols * tiling.rows,
        "parameter": cols * plan.parameter_sets,
    }
    if not isinstance(plan.kernel.epilogue, Requantise):
        needs |= {"buffer": cols * tiling.rows, "records": tiling.rows}
    return needs


def _rules(plan: MatrixPlan, tiling: Tiling | Tilings, arch: Architecture) -> Iterator[Rule]:
    """Each rule besides the capacities."""
    granule = granule_of(arch)
    beat = f"must be a multiple of {granule} (a bus beat)"
    ragged = (tiling.rows < plan.rows) & (tiling.rows % granule != 0)
    yield ragged, f"row tile {beat}", tiling.rows
    table, words = table_name(plan), arch.scratchpad.words
    lacking = table is not None and words < TABLE_ENTRIES
    yield lacking, f"scratchpad must have {TABLE_ENTRIES} words to load the table of {table}", words
    yield from _field_rules(plan, tiling, arch)
    if not isinstance(plan, ProductPlan):
        return
    split = tiling.col_chunks < plan.col_chunks
    if isinstance(plan.kernel.epilogue, Normalise):
        whole = f"a normalised row must be whole on chip: {plan.col_chunks} column chunks"
        yield split, whole, tiling.col_chunks
    if isinstance(plan.kernel.epilogue, Softmax):
        outside = "a softmax in column tiles must loop over rows outside"
        yield split & tiling.cols_outer, outside, "over columns"
    if plan.transposed:
        width = tiling.col_chunks * plan.group
        yield split & (width % granule != 0), f"column tile {beat}", width
    else:
        depth = tiling.inner_chunks * plan.inner_group
        cut = (tiling.inner_chunks < plan.inner_chunks) & (depth % granule != 0)
        yield cut, f"inner tile {beat}", depth


def _field_rules(plan: MatrixPlan, tiling: Tiling | Tilings, arch: Architecture) -> Iterator[Rule]:
    """What the 16-bit fields of an instruction can say: beats of one segment, columns of a row."""
    chunks = tiling.col_chunks if isinstance(plan, ProductPlan) else plan.chunks
    columns = np.minimum(chunks * plan.group, plan.cols)
    yield columns > FIELD_MAX, f"column tile must be at most {FIELD_MAX} columns", columns
    panels = {"row": tiling.rows, "parameter": 8 * plan.parameter_sets * chunks}
    if isinstance(plan, ProductPlan):
        across = chunks * plan.group if plan.transposed else tiling.inner_chunks * plan.inner_group
        panels["column" if plan.transposed else "inner"] = across
    for name, words in panels.items():
        beats = -(-align(words, granule_of(arch)) * arch.word_bytes // arch.bus.bytes)
        yield beats > FIELD_MAX, f"{name} tile must be at most {FIELD_MAX} bus beats a panel", beats
