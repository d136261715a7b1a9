"""What an attention is to the attention machine: heads, blocks of queries, tiles of keys, layouts."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from archsim._architecture import Architecture
from archsim._errors import ArchsimError
from archsim._storage import Storage
from archsim._timing import attend_period
from workloads import MAX_FEATURES, MAX_KEYS, Access, Attention, Cascade, WorkloadError, attention_of

FEWEST_SLOTS = 4
"""Key tiles that must be on chip where not all of a head are: three at work and one on its way."""
MOST_SLOTS = 16
"""Key tiles that are kept on chip where not all of a head are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPlan:
    """An attention on an array of kind fusemax: loops over heads, blocks of queries, tiles of keys."""

    kernel: Attention
    heads: int
    """Heads of keys."""
    groups: int
    """Heads of queries that share one of keys."""
    query_count: int
    key_count: int
    features: int
    """Of a query, a key and a value alike, d."""
    tile_keys: int
    """Keys of a tile, R."""
    block_queries: int
    """Queries of a block, C."""
    queries: Storage
    keys: Storage
    values: Storage
    output: Storage

    @property
    def blocks(self) -> int:
        """Blocks of queries of a head."""
        return -(-self.query_count // self.block_queries)

    @property
    def all_blocks(self) -> int:
        """Blocks of queries of all heads."""
        return self.heads * self.groups * self.blocks

    @property
    def tiles(self) -> int:
        """Tiles of keys of a head."""
        return -(-self.key_count // self.tile_keys)

    @property
    def period(self) -> int:
        """Cycles of a tile."""
        return attend_period(self.tile_keys, self.features)

    @property
    def tile_words(self) -> int:
        """Scratchpad words of a block of queries or of results, of a tile of keys or of values."""
        return -(-self.features // self.queries.granule) * self.queries.granule

    @property
    def rows(self) -> int:
        """Rows of the result as the machine has it: a value's features."""
        return self.features

    @property
    def chunks(self) -> int:
        """Blocks of queries that are computed at once."""
        return 1


def plan_attention(cascade: Cascade, arch: Architecture) -> AttentionPlan:
    """The attention that ``cascade`` is, laid out for ``arch``; ArchsimError where it cannot run there."""
    try:
        kernel = attention_of(cascade)
    except WorkloadError as error:
        raise ArchsimError(f"{arch.name} has an array of kind {arch.array.kind}: {error}") from error
    sizes = cascade.ranks
    _check_sizes(kernel, cascade)
    heads = kernel.batch + kernel.group
    granule = max(1, arch.bus.bytes // arch.word_bytes)

    def place(access: Access, ranks: tuple[tuple[str, ...], ...], group: int) -> Storage:
        outer, row, col = (tuple(access.ranks.index(rank) for rank in names) for names in ranks)
        shape = tuple(sizes[rank] for rank in access.ranks)
        return Storage(
            tensor=access.tensor,
            shape=shape,
            outer=outer,
            row=row,
            col=col,
            group=group,
            granule=granule,
        )

    positions, tokens = (kernel.positions,), kernel.tokens
    features, columns = (kernel.features,), (kernel.columns,)
    return AttentionPlan(
        kernel=kernel,
        heads=prod(sizes[rank] for rank in kernel.batch),
        groups=prod(sizes[rank] for rank in kernel.group),
        query_count=sizes[kernel.positions],
        key_count=prod(sizes[rank] for rank in tokens),
        features=sizes[kernel.features],
        tile_keys=arch.array.rows,
        block_queries=arch.array.cols,
        queries=place(kernel.queries, (heads, features, positions), arch.array.cols),
        keys=place(kernel.keys, (kernel.batch, features, tokens), arch.array.rows),
        values=place(kernel.values, (kernel.batch, columns, tokens), arch.array.rows),
        output=place(kernel.output, (heads, columns, positions), arch.array.cols),
    )


def _check_sizes(kernel: Attention, cascade: Cascade) -> None:
    sizes = cascade.ranks
    features, columns = sizes[kernel.features], sizes[kernel.columns]
    keys = prod(sizes[rank] for rank in kernel.tokens)
    if features != columns:
        raise ArchsimError(f"features of a value must be those of a key, {features}, not {columns}")
    if features > MAX_FEATURES:
        raise ArchsimError(f"features of an attention must be at most {MAX_FEATURES}, not {features}")
    if keys > MAX_KEYS:
        raise ArchsimError(f"keys of an attention must be at most {MAX_KEYS}, not {keys}")
    tensors = [access.tensor for access in (kernel.queries, kernel.keys, kernel.values)]
    if len(set(tensors)) < len(tensors):
        raise ArchsimError(
            f"queries, keys and values must be three tensors to be laid out, not {', '.join(tensors)}"
        )


def slots_of(plan: AttentionPlan, arch: Architecture) -> int:
    """Key tiles on chip at once: two heads', else one head's, else a few. ArchsimError where none fits."""
    room = key_words(arch) // (2 * plan.tile_words)
    wholes: list[int] = [plan.tiles] if plan.heads == 1 else [2 * plan.tiles, plan.tiles]
    for slots in (*wholes, min(room, MOST_SLOTS)):
        if not any(slot_problems(plan, slots, arch)):
            return slots
    raise ArchsimError(
        f"kernel {plan.kernel.name} on {arch.name}: " + next(iter(slot_problems(plan, wholes[-1], arch)))
    )


def slot_problems(plan: AttentionPlan, slots: int, arch: Architecture) -> list[str]:
    """Why ``plan`` cannot run with ``slots`` key tiles on chip, in the user's words."""
    problems = []
    words, bank = 2 * plan.tile_words, arch.scratchpad.words_per_bank
    if words > bank:
        problems.append(f"two blocks of queries must be at most a bank's {bank} words, not {words}")
    if 2 * plan.features > arch.vector.buffer_words:
        limit = arch.vector.buffer_words
        problems.append(
            f"two blocks of values must be at most vector.buffer_words = {limit}, not {2 * plan.features}"
        )
    room = key_words(arch) // words
    if slots > room:
        problems.append(f"key tiles on chip must be at most {room} (by scratchpad.banks), not {slots}")
    if slots < plan.tiles and slots < FEWEST_SLOTS:
        wanted = f"a head's {plan.tiles} or at least {FEWEST_SLOTS}"
        problems.append(f"key tiles on chip must be {wanted}, not {slots}")
    if slots >= plan.tiles and slots not in _wholes(plan):
        allowed = " or ".join(str(each) for each in _wholes(plan))
        problems.append(f"key tiles on chip must be {allowed} for whole heads, not {slots}")
    return problems


def _wholes(plan: AttentionPlan) -> tuple[int, ...]:
    """Numbers of slots for whole heads; a few slots reused by the next head would wait for themselves."""
    if plan.heads == 1:
        return (plan.tiles,)
    return (plan.tiles, 2 * plan.tiles) if plan.tiles >= 3 else (2 * plan.tiles,)


def key_words(arch: Architecture) -> int:
    """Scratchpad words for keys and values: all banks but those of queries and of results."""
    return (arch.scratchpad.banks - 2) * arch.scratchpad.words_per_bank
