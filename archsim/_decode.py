"""Decoding on many cores: attention of one query over a long context, its keys in splits that are merged.

Each core is a spatial machine, and all share one memory. What a tile, a partial result and its merging cost
is read off the split-K cascade, bound to a core; ``docs/fusemax.md`` has the rules of time and traffic.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from archsim._errors import ArchsimError
from archsim._spatial import Cores, Spatial
from archsim._spatial_bind import Binding, Work, bind
from archsim._spatial_estimate import memory_cycles
from workloads._attention import split_k

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DecodeHeads:
    """Attention of one layer for one new token of one sequence."""

    heads: int
    """Heads of keys and values."""
    queries: int
    """Query heads that share one of them."""
    features: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TileCost:
    """What the split-K cascade costs one core, for one head of keys; cycles and words."""

    keys: int
    """Keys of a tile."""
    tile_cycles: int
    """The busier array's, for one tile."""
    tile_words: int
    piece_cycles: int
    """Filling and draining the array, once for each piece of a head."""
    query_words: int
    partial_words: int
    """Running maximum, sum and product of a piece that is not a whole head."""
    merge_cycles: int
    """Merging one partial result into another."""
    finish_cycles: int
    """Dividing at the end of a head."""
    result_words: int


def tile_cost(heads: DecodeHeads, keys: int, *, core: Spatial) -> TileCost:
    """The costs of tiles of ``keys`` keys on ``core``.

    Raises ArchsimError where the buffer does not hold two tiles, of which one arrives while the other is
    worked on, with the queries and their running results.
    """
    features, queries = heads.features, heads.queries
    bound = bind(split_k(s=1, m1=1, m0=keys, e=features, f=features, p=queries), core)
    local = [work for work in bound.works if "m1" in work.einsum.ranks]
    merge = [work for work in bound.works if work not in local and "s" in work.einsum.ranks]
    finish = [work for work in bound.works if work not in local and work not in merge]
    cost = TileCost(
        keys=keys,
        tile_cycles=max(_cycles(local, unit) for unit in ("array", "vector")),
        tile_words=_words(bound, local, within=("m0",)),
        piece_cycles=core.rows + core.cols if core.assumptions.array_fill else 0,
        query_words=_words(bound, local, without=("m0",)),
        partial_words=_handed(bound, local, merge),
        merge_cycles=_cycles(merge, "vector"),
        finish_cycles=_cycles(finish, "vector"),
        result_words=sum(bound.size(work.einsum.output.ranks) for work in finish),
    )
    held = 2 * cost.tile_words + cost.query_words + cost.partial_words
    if held > core.buffer_words:
        raise ArchsimError(
            f"buffer.bytes must hold two tiles of {keys} keys with queries and results,"
            f" {held * core.word_bytes} bytes, not {core.buffer.bytes}"
        )
    return cost


def _cycles(works: Iterable[Work], unit: str) -> int:
    return sum(work.cycles for work in works if work.unit == unit)


def _words(
    bound: Binding, works: Iterable[Work], *, within: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> int:
    """Words of operands from outside that have all ranks ``within`` and none of ``without``."""
    operands = {a.tensor: a for work in works for a in work.einsum.inputs if a.tensor not in bound.made}
    return sum(
        bound.size(access.ranks)
        for access in operands.values()
        if set(within) <= set(access.ranks) and not set(without) & set(access.ranks)
    )


def _handed(bound: Binding, makers: Iterable[Work], takers: Iterable[Work]) -> int:
    """Words that ``takers`` read of what ``makers`` make, the last of every recurrence."""
    made = {work.tensor for work in makers}
    taken = {a.tensor: a for work in takers for a in work.einsum.inputs if a.tensor in made}
    return sum(bound.size(access.ranks) for access in taken.values())


@dataclass(frozen=True, slots=True)
class Deal:
    """Pieces of heads, dealt out to cores: three arrays of one length."""

    head: Counts
    tiles: Counts
    core: Counts

    @property
    def partials(self) -> Counts:
        """Pieces of each head."""
        return np.bincount(self.head)


def fixed_deal(heads: int, tiles: int, *, splits: int, cores: int) -> Deal:
    """Every head in ``splits`` pieces of tiles, one more or less; pieces in turn to the cores."""
    if not 1 <= splits <= tiles:
        raise ArchsimError(f"splits must be 1 to {tiles}, the tiles of a head, not {splits}")
    bounds = np.arange(splits + 1, dtype=np.int64) * tiles // splits
    pieces = np.arange(heads * splits, dtype=np.int64)
    return Deal(pieces // splits, np.tile(np.diff(bounds), heads), pieces % cores)


def stream_deal(heads: int, tiles: int, *, cores: int) -> Deal:
    """All tiles of all heads in one row, cut evenly for the cores wherever heads begin.

    Source: M. Osama et al., Stream-K, PPoPP 2023; for attention R. Sanovar et al., Lean Attention, 2024.
    """
    total = heads * tiles
    cuts = np.arange(cores + 1, dtype=np.int64) * total // cores
    bounds = np.union1d(cuts, np.arange(heads + 1, dtype=np.int64) * tiles)
    core = np.searchsorted(cuts, bounds[:-1], side="right") - 1
    return Deal(bounds[:-1] // tiles, np.diff(bounds), core)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeTime:
    """What a deal takes."""

    cycles: int
    local_cycles: int
    """Until every piece is done."""
    merge_cycles: int
    steps: int
    """Rounds of merging, one after another."""
    arity: int
    """Partial results that one merging takes; 1 where there is none."""
    words: int
    """Words to and from memory."""
    merge_words: int
    """Those of them that partial results make, written and read."""


@dataclass(frozen=True, slots=True)
class _Local:
    """What the pieces take, before any is merged."""

    cycles: Fraction
    words: int
    partial_words: int
    """Those of them that partial results make."""


def decode_time(deal: Deal, cost: TileCost, *, core: Spatial, arities: Iterable[int] = (2,)) -> DecodeTime:
    """The time of ``deal``, its partial results merged as many at a time as is fastest of ``arities``.

    Raises ArchsimError where the machine is not one of cores.
    """
    local, partials = _local(deal, cost, core=core), deal.partials
    times = [_merged(local, partials, cost, arity=arity, core=core) for arity in arities]
    return min(times, key=lambda time: (time.cycles, time.arity))


def _merged(local: _Local, partials: Counts, cost: TileCost, *, arity: int, core: Spatial) -> DecodeTime:
    """The pieces' time, and that of the rounds after it: each the longer of its work and its words."""
    shared, rounds = cores_of(core), list(_rounds(partials, arity))
    merging, read, written = Fraction(0), 0, 0
    for nodes, more in rounds:
        made = sum(nodes.values())
        taken = sum(size * count for size, count in nodes.items()) * cost.partial_words
        put = made * (cost.partial_words if more else cost.result_words)
        work = _busiest(nodes, shared.count) * cost.merge_cycles
        work += 0 if more else -(-made // shared.count) * cost.finish_cycles
        merging += shared.latency_cycles + max(Fraction(work), memory_cycles(taken + put, core))
        read, written = read + taken, written + put
    kept = written - int((partials > 1).sum()) * cost.result_words
    return DecodeTime(
        cycles=math.ceil(local.cycles + merging),
        local_cycles=math.ceil(local.cycles),
        merge_cycles=math.ceil(merging),
        steps=len(rounds),
        arity=arity if rounds else 1,
        words=local.words + read + written,
        merge_words=local.partial_words + read + kept,
    )


def cores_of(core: Spatial) -> Cores:
    """How many cores share the memory; raises ArchsimError where the file does not say."""
    if core.cores is None:
        raise ArchsimError(f"cores of {core.name} must be given to decode on them")
    return core.cores


def _local(deal: Deal, cost: TileCost, *, core: Spatial) -> _Local:
    split = deal.partials[deal.head] > 1
    out = np.where(split, cost.partial_words, cost.result_words)
    words = deal.tiles * cost.tile_words + cost.query_words + out
    work = deal.tiles * cost.tile_cycles + cost.piece_cycles + np.where(split, 0, cost.finish_cycles)
    of_core = [np.bincount(deal.core, weights=each).astype(np.int64).tolist() for each in (work, words)]
    loads = Counter((w, b) for w, b in zip(*of_core, strict=True) if w)
    taken = shared_time(loads, cycles_per_word=memory_cycles(1, core))
    return _Local(cores_of(core).latency_cycles + taken, int(words.sum()), int(out[split].sum()))


def shared_time(loads: Mapping[tuple[int, int], int], *, cycles_per_word: Fraction) -> Fraction:
    """Cycles until cores with these loads, (cycles of work, words) to how many cores, are all done.

    A core's words come evenly along its work, so that it slows down as its share of the memory falls short;
    the memory is shared evenly, and what a core leaves is the others'.
    """
    left = {load: Fraction(load[0]) for load in loads}
    now = Fraction(0)
    while left:
        demands = [(Fraction(words, work), loads[work, words]) for work, words in left]
        share = _even_share(demands, 1 / cycles_per_word)
        speed = {
            load: min(Fraction(1), share * load[0] / load[1]) if load[1] else Fraction(1) for load in left
        }
        step = min(left[load] / speed[load] for load in left)
        now += step
        left = {load: rest for load in left if (rest := left[load] - step * speed[load])}
    return now


def _even_share(demands: Sequence[tuple[Fraction, int]], capacity: Fraction) -> Fraction:
    """Words a cycle that a core may have at most, where those that want less leave the rest to others."""
    count = sum(number for _, number in demands)
    for demand, number in sorted(demands):
        if demand * count >= capacity:
            return capacity / count
        capacity -= demand * number
        count -= number
    return max(demand for demand, _ in demands)


def _rounds(partials: Counts, arity: int) -> Iterable[tuple[dict[int, int], bool]]:
    """For each round of merging how many merge how many partial results, and whether more rounds follow."""
    left = Counter(int(count) for count in partials if count > 1)
    while left:
        nodes: Counter[int] = Counter()
        after: Counter[int] = Counter()
        for count, heads in left.items():
            nodes[arity] += count // arity * heads
            nodes[count % arity] += heads if count % arity > 1 else 0
            after[-(-count // arity)] += heads
        left = Counter({count: heads for count, heads in after.items() if count > 1})
        yield {size: number for size, number in sorted(nodes.items()) if number}, bool(left)


def _busiest(nodes: Mapping[int, int], cores: int) -> int:
    """Partial results of the core that has the most, the largest mergings dealt out first, in turn."""
    sizes = itertools.chain.from_iterable([size] * nodes[size] for size in sorted(nodes, reverse=True))
    return sum(itertools.islice(sizes, 0, None, cores))
