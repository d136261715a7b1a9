"""Lowering of an attention: one software-pipelined loop of ATTEND over all tiles of all blocks of all heads.

A period works on the scores of one tile, the exponentials of the tile before and the values of the one
before that, so that blocks follow one another without a gap. What a period and a block of periods need is
said by values (``_Period``, ``_Block``); equal ones in a row become hardware loops, so that a program's
length does not depend on sizes. Example, a head of six tiles and many blocks, its keys kept on chip:

    load q; load k; load v; attend          ; first block: keys arrive tile by tile
    ...
    loop
      load q                                ; of this block, while the array works on the one before
      attend                                ; scores of tile 0, exponentials of the last block's last tile
      attend                                ; exponentials of tile 0, the last block's last values
      divide; store                         ; the last block
      loop: attend                          ; the same for each inner tile
      attend                                ; scores of the last tile: the queries' buffer is free
    attend; attend; divide; store           ; the last block's end
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import TypeVar

from archsim._architecture import Architecture
from archsim._assembler import Assembler
from archsim._attention_plan import AttentionPlan
from archsim._fold import Folded, Repeat, folded
from archsim._isa import Opcode
from archsim._lower_memory import Memory
from archsim._program import Operand
from archsim._storage import Storage
from workloads import AttentionScales

Item = TypeVar("Item")


class _Reg(IntEnum):
    """Address registers: DRAM offsets, and places in the scratchpad and the value memory."""

    Q_DRAM = 1
    KV_DRAM = 2
    OUT_DRAM = 3
    Q_LOAD = 4
    Q = 5
    KV_LOAD = 6
    K = 7
    V = 8
    VALUES = 9
    QUOTIENTS = 10
    OUT = 11


class _Sem(IntEnum):
    """Semaphores; LOAD fills keys' and values' slot together."""

    Q_FULL = 0
    Q_FREE = 1
    KV_FULL = 2
    KV_FREE = 3
    VALUES_FULL = 4
    RECORD_FREE = 5
    OUT_FULL = 6
    OUT_FREE = 7


ATTENTION_SEMAPHORES: Mapping[int, str] = {
    _Sem.Q_FULL: "array waits for queries",
    _Sem.Q_FREE: "load waits for a free query buffer",
    _Sem.KV_FULL: "array waits for keys and values",
    _Sem.KV_FREE: "load waits for a free key tile",
    _Sem.VALUES_FULL: "divider waits for the array",
    _Sem.RECORD_FREE: "array waits for the divider",
    _Sem.OUT_FULL: "store waits for results",
    _Sem.OUT_FREE: "divider waits for a free output buffer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """One block of queries: what it does besides its periods, and what is left of the block before."""

    is_first: bool
    """The first of all, with nothing before it and all buffers free."""
    loads: bool
    """Its keys are loaded with it, tile by tile; else they are on chip."""
    waits: bool
    """Those loads wait for free slots."""
    frees: bool
    """It is the last to use its keys: each tile's slot is free when its values are done."""
    again: bool
    """The next block loads the same keys again."""
    frees_before: bool
    """``frees`` of the block before."""
    lanes_before: int
    """Queries of the block before, 0 where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Period:
    """One ATTEND with what goes before and after it; equal periods in a row are a loop."""

    score_keys: int = 0
    """Keys of the tile whose scores are made, 0 where there is none."""
    first_scores: bool = False
    last_scores: bool = False
    exp_keys: int = 0
    first_exp: bool = False
    last_exp: bool = False
    values: bool = False
    last_values: bool = False
    frees: bool = False
    """The slot of the tile whose values are done is free."""


class AttentionLowering:
    """Emits the program of one attention; ``emit`` is called once."""

    def __init__(
        self,
        assembler: Assembler,
        memory: Memory,
        plan: AttentionPlan,
        slots: int,
        scales: AttentionScales | None,
    ) -> None:
        self.assembler = assembler
        self.memory = memory
        self.plan = plan
        self.slots = slots
        self.scales = scales or AttentionScales(scale=0, scale_shift=0, multiplier=0, shift=0)
        self.kept = slots >= plan.tiles
        self.queries_at, self.out_at, self.keys_at = _places(memory.arch)
        self.values_at = self.keys_at + slots * plan.tile_words
        # A block of one tile has a second, empty position: its end would else meet its own beginning.
        self.positions = max(2, plan.tiles)

    def emit(self) -> None:
        """The pipeline, from its first load to its last store."""
        if not self.kept:
            self._repeat(self.slots, lambda: self._sync(Opcode.SYNC_ARRAY, _Sem.KV_FREE))
        first, *others = self._blocks()
        self._block(first)
        self._emit(folded(tuple(others)), self._block)
        self._finish(others[-1] if others else first)

    # Which blocks there are.

    def _blocks(self) -> Iterator[_Block]:
        plan = self.plan
        a_head = plan.groups * plan.blocks
        rest = plan.query_count - (plan.blocks - 1) * plan.block_queries
        frees = lanes = 0
        for number in range(plan.all_blocks):
            head, place = divmod(number, a_head)
            opens, closes = place == 0, place == a_head - 1
            yield _Block(
                is_first=number == 0,
                loads=opens or not self.kept,
                waits=not self.kept or (opens and head > 0),
                frees=not self.kept or (closes and plan.heads > 1),
                again=not self.kept and not closes,
                frees_before=bool(frees),
                lanes_before=lanes,
            )
            frees = not self.kept or (closes and plan.heads > 1)
            lanes = rest if place % plan.blocks == plan.blocks - 1 else plan.block_queries

    # A block.

    def _block(self, block: _Block) -> None:
        self._load(
            self.plan.queries,
            _Reg.Q_DRAM,
            Operand(self.queries_at, _Reg.Q_LOAD),
            waits=() if block.is_first else (_Sem.Q_FREE,),
            signals=(_Sem.Q_FULL,),
        )
        first, *others = (self._period(block, place) for place in range(self.positions))
        self._run(first, block)
        self._step_queries()
        if block.is_first:
            self._credits()
        self._emit(folded(tuple(others)), lambda period: self._run(period, block))

    def _step_queries(self) -> None:
        words = self.plan.tile_words
        self.assembler.ring(_Reg.Q_LOAD, words)
        self.assembler.add(_Reg.Q_DRAM, words * self.memory.arch.word_bytes)

    def _period(self, block: _Block, place: int) -> _Period:
        """Position ``place`` of a block: scores, exponentials of one position ago, values of two."""
        tiles = self.plan.tiles
        exp, values = (place - 1) % self.positions, (place - 2) % self.positions
        has_exp = exp < tiles and (place >= 1 or block.lanes_before > 0)
        has_values = values < tiles and (place >= 2 or block.lanes_before > 0)
        frees = block.frees if place >= 2 else block.frees_before
        return _Period(
            score_keys=self._keys_of(place) if place < tiles else 0,
            first_scores=place == 0,
            last_scores=place == tiles - 1,
            exp_keys=self._keys_of(exp) if has_exp else 0,
            first_exp=has_exp and exp == 0,
            last_exp=has_exp and exp == tiles - 1,
            values=has_values,
            last_values=has_values and values == tiles - 1,
            frees=has_values and frees,
        )

    def _keys_of(self, tile: int) -> int:
        plan = self.plan
        return min(plan.tile_keys, plan.key_count - tile * plan.tile_keys)

    def _finish(self, last: _Block) -> None:
        """The exponentials and values that are left of the last block, its division and its store."""
        plan = self.plan
        after = _Block(
            is_first=False,
            loads=False,
            waits=False,
            frees=False,
            again=False,
            frees_before=last.frees,
            lanes_before=plan.query_count - (plan.blocks - 1) * plan.block_queries,
        )
        for place in range(self.positions):
            found = self._period(after, place)
            left = _Period(
                exp_keys=found.exp_keys if place == 0 else 0,
                first_exp=found.first_exp and place == 0,
                last_exp=found.last_exp and place == 0,
                values=found.values,
                last_values=found.last_values,
                frees=found.frees,
            )
            self._run(left, after)
            if left.last_values:
                return

    # A period.

    def _run(self, period: _Period, block: _Block) -> None:
        if period.score_keys and block.loads:
            self._load_tile(block)
        self._attend(period, block)
        if period.score_keys and block.loads:
            self._step_load(period, block)
        if period.score_keys:
            self._step_tile(_Reg.K, frees=block.frees, last=period.last_scores)
        if period.last_scores:
            self.assembler.ring(_Reg.Q, self.plan.tile_words)
        if period.values:
            self._step_tile(_Reg.V, frees=period.frees, last=period.last_values)
        if period.last_values:
            self.assembler.ring(_Reg.VALUES, self.plan.features)
            self._divide(block.lanes_before)

    def _attend(self, period: _Period, block: _Block) -> None:
        fields = {
            "features": self.plan.features,
            "period": self.plan.period,
            "scale": self.scales.scale,
            "scale_shift": self.scales.scale_shift,
            "keys_scores": period.score_keys,
            "keys_exp": period.exp_keys,
            "record": 0,
            "scores": int(period.score_keys > 0),
            "exponentials": int(period.exp_keys > 0),
            "values": int(period.values),
            "first_scores": int(period.first_scores),
            "first_exp": int(period.first_exp),
            "last_exp": int(period.last_exp),
        }
        waits = [_Sem.Q_FULL] * period.first_scores
        waits += [_Sem.KV_FULL] * (period.score_keys > 0 and block.loads)
        waits += [_Sem.RECORD_FREE] * (period.last_exp and self._shares_record(block))
        releases = [_Sem.Q_FREE] * period.last_scores + [_Sem.KV_FREE] * period.frees
        self.assembler.emit(
            Opcode.ATTEND,
            (
                Operand(self.keys_at, _Reg.K),
                Operand(self.queries_at, _Reg.Q),
                Operand(self.values_at, _Reg.V),
                Operand(0, _Reg.VALUES),
            ),
            fields,
            waits=waits,
            releases=releases,
            signals=[_Sem.VALUES_FULL] * period.last_values,
        )

    def _shares_record(self, block: _Block) -> bool:
        """Whether the record may still hold another block's denominators when a block's are finished."""
        # A block of one tile finishes within its own positions, others in those of the next block.
        return self.plan.all_blocks > 1 and (self.plan.tiles > 1 or not block.is_first)

    def _divide(self, lanes: int) -> None:
        plan, words = self.plan, self.plan.tile_words
        out = Operand(self.out_at, _Reg.OUT)
        self.assembler.emit(
            Opcode.DIVIDE,
            (Operand(0, _Reg.QUOTIENTS), out),
            {
                "rows": plan.features,
                "lanes": lanes,
                "record": 0,
                "multiplier": self.scales.multiplier,
                "shift": self.scales.shift,
            },
            waits=[_Sem.VALUES_FULL, _Sem.OUT_FREE],
            signals=[_Sem.OUT_FULL],
            releases=[_Sem.RECORD_FREE],
        )
        self.assembler.emit(
            Opcode.STORE,
            (Operand(self.memory.address(plan.output.tensor), _Reg.OUT_DRAM), out),
            self._transfer(),
            waits=[_Sem.OUT_FULL],
            signals=[_Sem.OUT_FREE],
            tensor=plan.output.tensor,
        )
        self.assembler.ring(_Reg.QUOTIENTS, plan.features)
        self.assembler.ring(_Reg.OUT, words)
        self.assembler.add(_Reg.OUT_DRAM, words * self.memory.arch.word_bytes)

    # Memory traffic.

    def _load_tile(self, block: _Block) -> None:
        waits = (_Sem.KV_FREE,) if block.waits else ()
        plan = self.plan
        self._load(plan.keys, _Reg.KV_DRAM, Operand(self.keys_at, _Reg.KV_LOAD), waits=waits)
        # LOAD retires in order: the keys are there when the values are.
        values = Operand(self.values_at, _Reg.KV_LOAD)
        self._load(plan.values, _Reg.KV_DRAM, values, signals=(_Sem.KV_FULL,))

    def _load(
        self,
        storage: Storage,
        dram: _Reg,
        local: Operand,
        *,
        waits: tuple[_Sem, ...] = (),
        signals: tuple[_Sem, ...] = (),
    ) -> None:
        self.assembler.emit(
            Opcode.LOAD,
            (Operand(self.memory.address(storage.tensor), dram), local),
            self._transfer(),
            waits=waits,
            signals=signals,
            tensor=storage.tensor,
        )

    def _transfer(self) -> dict[str, int]:
        words = self.plan.tile_words
        return self.memory.transfer(segments=1, rows=words, dram_rows=words, local_rows=words)

    def _step_load(self, period: _Period, block: _Block) -> None:
        words = self.plan.tile_words
        size = words * self.memory.arch.word_bytes
        back = self.plan.tiles * size if period.last_scores and block.again else 0
        self._step_ring(_Reg.KV_LOAD)
        self.assembler.add(_Reg.KV_DRAM, size - back)

    def _step_tile(self, reg: _Reg, *, frees: bool, last: bool) -> None:
        """To the next tile's slot; from the last tile of a head that is used again, back to its first."""
        if frees:
            self._step_ring(reg)
        else:
            words = self.plan.tile_words
            self.assembler.add(reg, words - (self.plan.tiles * words if last else 0))

    def _step_ring(self, reg: _Reg) -> None:
        words = self.plan.tile_words
        fields = {"reg": reg, "imm": words, "limit": self.slots * words}
        self.assembler.emit(Opcode.RING, fields=fields)

    # What is free at the start.

    def _credits(self) -> None:
        """Behind the first ATTEND, which needs none: the second buffers, and the record."""
        plan = self.plan
        for _ in range(min(2, plan.all_blocks)):
            self.assembler.emit(Opcode.SYNC_STORE, signals=[_Sem.OUT_FREE])
        if plan.all_blocks == 1:
            return
        self._sync(Opcode.SYNC_ARRAY, _Sem.Q_FREE)
        if plan.tiles > 1:
            self._sync(Opcode.SYNC_VECTOR, _Sem.RECORD_FREE)
        if self.kept and plan.heads > 1 and self.slots > plan.tiles:
            spare = self.slots - plan.tiles
            self._repeat(spare, lambda: self._sync(Opcode.SYNC_ARRAY, _Sem.KV_FREE))

    def _sync(self, opcode: Opcode, semaphore: _Sem) -> None:
        self.assembler.emit(opcode, releases=[semaphore])

    # Loops.

    def _emit(self, items: Folded[Item], emit: Callable[[Item], None]) -> None:
        for item in items:
            if isinstance(item, Repeat):
                self._repeat(item.count, partial(self._emit, item.body, emit))
            else:
                emit(item)

    def _repeat(self, count: int, body: Callable[[], None]) -> None:
        if count > 1:
            self.assembler.emit(Opcode.LOOP, fields={"imm": count})
        body()
        if count > 1:
            self.assembler.emit(Opcode.END)


def _places(arch: Architecture) -> tuple[int, int, int]:
    """First words of queries, results and keys: the first two have a bank each, keys and values the rest."""
    bank = arch.scratchpad.words_per_bank
    return 0, bank, 2 * bank
