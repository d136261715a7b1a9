"""Lowering of a MatMul-free language model: one program that loads it, one that makes a token's step.

A step, for a model of one layer whose weights are on chip:

    load embedding
    vector x = 256 hi + lo
    vector v = gain x, q = int8 v          ; the input of i, f and g
    matmul i   | vector s = silu, d = h - s
    matmul f   | vector f = sigmoid, d = f d, h = s + d
    matmul g   | vector gate = silu, v = h gate, q
    matmul o   | vector x = x + o, v = gain x, q
    matmul gate, up | vector gate = silu, v = up gate, q
    matmul down     | vector x = x + down
    vector v = gain x, q ; matmul head ; vector hi, lo ; store

Products of one input follow one another, so that a product's passes run while the array makes the next.
Where weights do not fit, the array waits tile by tile for a ring that LOAD fills two tiles ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from archsim._architecture import Architecture
from archsim._assembler import Assembler, Reg, Sem
from archsim._errors import ArchsimError
from archsim._hgrn_layout import (
    CONSTANTS,
    EMBEDDING,
    GAINS,
    HIGH,
    PRODUCTS,
    SIGMOID,
    SILU,
    Layout,
    layout,
)
from archsim._hgrn_load import LoadProgram
from archsim._hgrn_pass import Pass
from archsim._isa import (
    Lookup,
    Opcode,
    Reduce,
    Source,
    Space,
)
from archsim._program import Operand, Program
from workloads import HgrnSizes, Shifts

NEW_INPUT = frozenset({"i", "o", "gate", "down"})
"""Products whose input is not the one of the product before."""
LOOKAHEAD = 2
"""Tiles of weights that are asked for before the one that is worked on; the ring has two halves."""
SEMAPHORES: Mapping[int, str] = {
    Sem.X_FULL: "array waits for its input",
    Sem.W_FULL: "array waits for weights",
    Sem.W_FREE: "load waits for free weight words",
    Sem.P_FULL: "vector waits for parameters",
    Sem.P_FREE: "load waits for free parameter words",
    Sem.RES_FULL: "vector waits for the embedding",
    Sem.ACC_FULL: "vector waits for the array",
    Sem.ACC_FREE: "array waits for free accumulators",
    Sem.OUT_FULL: "store waits for logits",
    Sem.OUT_FREE: "vector waits for free logit words",
    Sem.TABLE_FULL: "vector waits for the tables",
}


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a product's outputs, and where its weights are."""

    product: str
    first: int
    """Output chunk."""
    chunks: int
    columns: int
    word: int
    """First weight word, counted from the layer's or the head's."""
    words: int


@dataclass(frozen=True, slots=True)
class LoweredHgrn:
    """Programs of a model on a machine, and their places."""

    layout: Layout
    load: Program
    """Writes what stays on chip, and a state of zeros."""
    step: Program
    """Reads an embedding, advances the state, writes logits."""

    @property
    def arch(self) -> Architecture:
        """The machine."""
        return self.layout.arch

    @property
    def load_address(self) -> int:
        """Where the encoded load program goes."""
        return self.layout.regions()["load_program"].address

    @property
    def step_address(self) -> int:
        """Where the encoded step program goes."""
        return self.layout.regions()["step_program"].address


def lower_hgrn(sizes: HgrnSizes, arch: Architecture, shifts: Shifts | None = None) -> LoweredHgrn:
    """The programs of a model of ``sizes`` on ``arch``; without ``shifts`` they are for timing only.

    Raises ArchsimError where a memory of ``arch`` is too small, naming the key and what is needed.
    """
    placed = layout(sizes, arch)
    load, step = Assembler(), Assembler()
    LoadProgram(placed, load).emit()
    _Step(placed, step, shifts or Shifts(**dict.fromkeys(Shifts.__slots__, 0))).emit()
    return LoweredHgrn(placed, _program("load", placed, load), _program("step", placed, step))


def _program(name: str, placed: Layout, assembler: Assembler) -> Program:
    program = Program(
        name=name,
        instructions=tuple(assembler.instructions),
        regions=tuple(placed.regions().values()),
        semaphores=SEMAPHORES,
        sections=tuple(assembler.sections),
        tensors=assembler.tensors,
    )
    if len(program.instructions) > placed.arch.program_words:
        raise ArchsimError(
            f"program.words of {placed.arch.name} must be at least {len(program.instructions)}, "
            f"not {placed.arch.program_words}"
        )
    return program


@dataclass(slots=True)
class _Step:
    """Emits the step program."""

    at: Layout
    out: Assembler
    by: Shifts

    def emit(self) -> None:
        at, out = self.at, self.out
        out.section("start")
        self._credits()
        self._embed()
        if at.sizes.layers > 1:
            out.emit(Opcode.LOOP, fields={"imm": at.sizes.layers})
        self._layer()
        self._advance()
        if at.sizes.layers > 1:
            out.emit(Opcode.END)
        self._head()
        out.emit(Opcode.HALT)

    def _credits(self) -> None:
        at, out = self.at, self.out
        for _ in range(2):
            releases = [Sem.ACC_FREE] if at.parameters_resident else [Sem.ACC_FREE, Sem.P_FREE]
            out.emit(Opcode.SYNC_VECTOR, releases=releases)
            if not at.weights_resident:
                out.emit(Opcode.SYNC_ARRAY, releases=[Sem.W_FREE])
            if self._stores_overlap:
                out.emit(Opcode.SYNC_STORE, signals=[Sem.OUT_FREE])

    def _embed(self) -> None:
        at, bus = self.at, self.at.arch.bus.bytes
        size = at.embedding_words * at.arch.word_bytes
        self.out.emit(
            Opcode.LOAD,
            (Operand(at.regions()["embedding"].address), Operand(at.embedding)),
            {
                "space": Space.SCRATCHPAD,
                "segments": 2,
                "beats": size // bus,
                "dram_stride": size,
                "local_stride": at.quarter,
            },
            signals=[Sem.RES_FULL],
            tensor="embedding",
        )
        self._ask_parameters()
        self._pass(
            at.sizes.hidden,
            Pass(Source.SCRATCHPAD, at.embedding, to=at.x)
            .affine(Operand(EMBEDDING), 0, uniform=True)
            .plus(at.embedding + at.quarter, scratchpad=True),
            waits=[Sem.RES_FULL],
        )

    def _ask_parameters(self) -> None:
        """Load the next block of parameters, where they do not all stay."""
        at = self.at
        if at.parameters_resident:
            return
        region, size = at.regions()["parameters"], at.parameter_bytes
        self.out.emit(
            Opcode.LOAD,
            (Operand(region.address + CONSTANTS * size, Reg.P), Operand(8 * CONSTANTS, Reg.RING_P_LOAD)),
            {
                "space": Space.PARAMETERS,
                "segments": 1,
                "beats": at.block_parameters * size // at.arch.bus.bytes,
            },
            waits=[Sem.P_FREE],
            signals=[Sem.P_FULL],
            tensor="parameters",
        )
        self.out.add(Reg.P, at.block_parameters * size)
        self.out.ring(Reg.RING_P_LOAD, 8 * at.block_parameters)

    def _advance(self) -> None:
        """Registers to the next layer's weights, parameters and state."""
        at = self.at
        per_word = 1 if at.weights_resident else at.weight_bytes
        self.out.add(Reg.W, at.layer_weights * per_word)
        self.out.add(Reg.RES, at.hidden)
        if at.parameters_resident:
            self.out.add(Reg.P, at.block_parameters)
        else:
            self.out.ring(Reg.RING_P, at.block_parameters)

    def _layer(self) -> None:
        tiles = self._tiles(PRODUCTS)
        self.out.section("mixer")
        self._ask(tiles[:LOOKAHEAD])
        self._mixer(tiles)
        self.out.section("feed")
        # Not before: LOAD would wait for the half of the layer before, and weights behind it.
        self._ask_parameters()
        self._feed(tiles)

    def _mixer(self, tiles: Sequence[Tile]) -> None:
        at, by, d = self.at, self.by, self.at.sizes.hidden
        state = Operand(at.state, Reg.RES)
        self._quantised_from_x("mixer_gain", waits=self._parameters_there)
        self._product("i", tiles)
        self._product("f", tiles)
        # A pass that frees accumulators stands before the product that waits for them, or a queue of
        # one entry would deadlock.
        self._from_sums("i", by.i, SILU, to=at.s)
        self._pass(d, Pass(Source.BUFFER, state, to=at.v).plus(at.s, multiplier=-1))
        self._product("g", tiles)
        self._from_sums("f", by.f, SIGMOID, to=at.gate)
        kept = Pass(Source.BUFFER, at.gate, to=at.v).affine(self._gain("kept"), 14)
        self._pass(d, kept.times(at.v, 15))
        self._pass(d, Pass(Source.BUFFER, at.v, to=state).plus(at.s))
        self._from_sums("g", by.g, SILU, to=at.gate)
        output = Pass(Source.BUFFER, state, to=at.v).affine(self._gain("output_gain"), by.output)
        self._pass(d, output.times(at.gate, by.gated), reduce=Reduce.ABSMAX)
        self._quantised(d)
        self._product("o", tiles)
        self._from_sums("o", by.o, None, to=at.x, plus=at.x)

    def _feed(self, tiles: Sequence[Tile]) -> None:
        at, by, j = self.at, self.by, self.at.sizes.inner
        self._quantised_from_x("feed_gain")
        self._product("gate", tiles)
        self._product("up", tiles)
        self._from_sums("gate", by.gate, SILU, to=at.gate)
        up = self._sums("up", by.up, to=at.v).times(at.gate, by.fed)
        self._pass(j, up, reduce=Reduce.ABSMAX, waits=[Sem.ACC_FULL], releases=[Sem.ACC_FREE])
        self._quantised(j)
        self._product("down", tiles)
        free = [] if at.parameters_resident else [Sem.P_FREE]
        self._from_sums("down", by.down, None, to=at.x, plus=at.x, free=free)

    def _head(self) -> None:
        """Logits tile by tile; where tiles are many, a loop over pairs of them, one for each half."""
        at, out = self.at, self.out
        out.section("head")
        tiles = self._head_tiles()
        # A loop's tiles ask for full ones two ahead of them; the last tile may not be full.
        pairs = max(0, (len(tiles) - 1 - LOOKAHEAD) // 2)
        looped = 2 * pairs if pairs > 1 else 0
        self._ask(tiles[:LOOKAHEAD])
        self._quantised_from_x(GAINS[0], waits=self._parameters_there)
        out.emit(Opcode.SYNC_ARRAY, waits=[Sem.X_FULL])
        if looped:
            out.emit(Opcode.LOOP, fields={"imm": pairs})
            for number in range(2):
                self._logit_tile(tiles, number, after=tiles[number + LOOKAHEAD])
            words = tiles[2].word * (1 if at.weights_resident else at.weight_bytes)
            out.add(Reg.W, words)
            out.add(Reg.OUT, self._stored(tiles[2].first))
            out.emit(Opcode.END)
        origin = tiles[looped] if looped else Tile("head", 0, 0, 0, 0, 0)
        rest = [
            replace(tile, first=tile.first - origin.first, word=tile.word - origin.word)
            for tile in tiles[looped:]
        ]
        for number in range(len(rest)):
            after = rest[number + LOOKAHEAD] if number + LOOKAHEAD < len(rest) else None
            self._logit_tile(rest, number, after=after)

    def _head_tiles(self) -> tuple[Tile, ...]:
        return self._tiles(["head"], self.at.head_tile)

    def _logit_tile(self, tiles: Sequence[Tile], number: int, *, after: Tile | None) -> None:
        """A tile of logits as two int8: whole to the buffer, then high bytes, then low ones; and stored."""
        at, tile, half = self.at, tiles[number], number % 2
        self._matmul(tile, half * at.half, waits=[Sem.ACC_FREE], signals=[Sem.ACC_FULL])
        self._ask([after] if after else [])
        high = at.logits(half)
        sums = self._sums("head", self.by.head, to=at.v, half=half)
        self._pass(tile.columns, sums, waits=[Sem.ACC_FULL], releases=[Sem.ACC_FREE])
        rounded = Pass(Source.BUFFER, at.v, to=high, scratchpad=True)
        rounded = rounded.affine(Operand(HIGH), 8, uniform=True)
        self._pass(tile.columns, rounded, waits=[Sem.OUT_FREE] if self._stores_overlap else [])
        rest = Pass(Source.BUFFER, at.v, to=high + at.tile_words, scratchpad=True)
        rest = rest.plus(high, multiplier=-256, scratchpad=True)
        self._pass(tile.columns, rest, signals=[Sem.OUT_FULL])
        self._store(tile, high)

    @property
    def _stores_overlap(self) -> bool:
        """Whether a half of the logits' area is written again before the program's end."""
        return self.at.head_tile * 2 < self.at.vocab

    def _store(self, tile: Tile, high: int) -> None:
        at, size = self.at, self.at.arch.word_bytes
        fields = {
            "space": Space.SCRATCHPAD,
            "segments": 2,
            "beats": self._stored(tile.chunks) // at.arch.bus.bytes,
            "dram_stride": at.logit_words * size,
            "local_stride": at.tile_words,
        }
        address = at.regions()["logits"].address + self._stored(tile.first)
        self.out.emit(
            Opcode.STORE,
            (Operand(address, Reg.OUT if self._stores_overlap else Reg.ZERO), Operand(high)),
            fields,
            waits=[Sem.OUT_FULL],
            signals=[Sem.OUT_FREE] if self._stores_overlap else [],
            tensor="logits",
        )

    def _stored(self, chunks: int) -> int:
        """Bytes of the high bytes of that many chunks of logits."""
        return self.at.whole_beats(-(-chunks // self.at.arch.fold)) * self.at.arch.word_bytes

    # Products.

    def _tiles(self, products: Sequence[str], most: int | None = None) -> tuple[Tile, ...]:
        """Products in order, in tiles of at most ``most`` chunks and, where weights stream, half a ring."""
        at, word, found = self.at, 0, []
        for product in products:
            n, k = at.blocks(product)
            size = most or n
            if not at.weights_resident:
                size = min(size, at.ring // k)
            for first in range(0, n, size):
                chunks = min(size, n - first)
                columns = min(chunks * at.arch.array.cols, at.shape(product)[0] - first * at.arch.array.cols)
                found.append(Tile(product, first, chunks, columns, word, chunks * k))
                word += chunks * k
        return tuple(found)

    def _product(self, product: str, tiles: Sequence[Tile]) -> None:
        """A whole product into its half of the accumulators, its input waited for where it is a new one."""
        own = [number for number, tile in enumerate(tiles) if tile.product == product]
        half = PRODUCTS.index(product) % 2 * self.at.half
        for number in own:
            tile, first = tiles[number], number == own[0]
            new_input = first and product in NEW_INPUT
            self._matmul(
                tile,
                half + tile.first,
                waits=[Sem.ACC_FREE] * first + [Sem.X_FULL] * new_input,
                signals=[Sem.ACC_FULL] * (number == own[-1]),
            )
            self._ask(tiles[number + LOOKAHEAD : number + LOOKAHEAD + 1])

    def _matmul(self, tile: Tile, sums: int, *, waits: Sequence[Sem], signals: Sequence[Sem]) -> None:
        at, streams = self.at, not self.at.weights_resident
        _, k = at.blocks(tile.product)
        self.out.emit(
            Opcode.MATMUL,
            (
                Operand(at.q),
                Operand(0, Reg.RING_W) if streams else Operand(tile.word, Reg.W),
                Operand(sums),
            ),
            {
                "rows": 1,
                "k_chunks": k,
                "n_chunks": tile.chunks,
                "w_rows": 1,
                "x_k_stride": 1,
                "w_n_stride": k,
                "w_k_stride": 1,
                "acc_n_stride": 1,
            },
            waits=[*waits, *[Sem.W_FULL] * streams],
            signals=signals,
            releases=[Sem.W_FREE] * streams,
        )
        if streams:
            self.out.ring(Reg.RING_W, at.ring)

    def _ask(self, tiles: Sequence[Tile]) -> None:
        """Have LOAD fetch the weights of ``tiles``, where weights stream."""
        if self.at.weights_resident:
            return
        base = self.at.regions()["weights"].address
        for tile in tiles:
            self.out.emit(
                Opcode.LOAD,
                (Operand(base + tile.word * self.at.weight_bytes, Reg.W), Operand(0, Reg.RING_X)),
                {"space": Space.WEIGHTS, "segments": 1, "beats": tile.words * self.at.arch.weight_beats},
                waits=[Sem.W_FREE],
                signals=[Sem.W_FULL],
                tensor="weights",
            )
            self.out.ring(Reg.RING_X, self.at.ring)

    # Passes.

    @property
    def _parameters_there(self) -> list[Sem]:
        return [] if self.at.parameters_resident else [Sem.P_FULL]

    def _parameter(self, word: int) -> Operand:
        """A word of the present layer's block of parameters."""
        ring = Reg.P if self.at.parameters_resident else Reg.RING_P
        return Operand(CONSTANTS + word, ring)

    def _gain(self, name: str) -> Operand:
        return self._parameter(GAINS.index(name) * self.at.hidden)

    def _quantised_from_x(self, gain: str, *, waits: Sequence[Sem] = ()) -> None:
        """``v = gain * x``, then its int8."""
        at = self.at
        gained = Pass(Source.BUFFER, at.x, to=at.v).affine(self._gain(gain), 15)
        self._pass(at.sizes.hidden, gained, reduce=Reduce.ABSMAX, waits=waits)
        self._quantised(at.sizes.hidden)

    def _quantised(self, columns: int) -> None:
        at = self.at
        scaled = Pass(Source.BUFFER, at.v, to=at.q, scratchpad=True).scaled()
        self._pass(columns, scaled, reduce=Reduce.SQUARES, signals=[Sem.X_FULL])

    def _sums(self, product: str, shift: int, *, to: int, half: int | None = None) -> Pass:
        """The pass from the accumulators of ``product``: over its input's norm, by its weights' scale."""
        place = (PRODUCTS.index(product) if product in PRODUCTS else 0) + len(GAINS) * self.at.hidden
        chosen = PRODUCTS.index(product) % 2 if half is None else half
        sums = Pass(Source.ACCUMULATOR, chosen * self.at.half, to=to).scaled()
        return sums.affine(self._parameter(place), shift, uniform=True)

    def _from_sums(
        self,
        product: str,
        shift: int,
        slot: int | None,
        *,
        to: int,
        plus: int | None = None,
        free: Sequence[Sem] = (),
    ) -> None:
        """A product's output through a function or onto a residual."""
        sums = self._sums(product, shift, to=to)
        if plus is not None:
            sums = sums.plus(plus)
        if slot is not None:
            sums.fields |= {"lookup": Lookup.INTERPOLATE, "slot": slot}
        self._pass(self.at.shape(product)[0], sums, waits=[Sem.ACC_FULL], releases=[Sem.ACC_FREE, *free])

    def _pass(
        self,
        columns: int,
        made: Pass,
        *,
        reduce: Reduce = Reduce.NONE,
        waits: Sequence[Sem] = (),
        signals: Sequence[Sem] = (),
        releases: Sequence[Sem] = (),
    ) -> None:
        fields = {
            "rows": 1,
            "chunks": self.at.chunks(columns),
            "length": columns,
            "group": self.at.arch.array.cols,
            "count": 1,
            **made.fields,
        }
        if reduce is not Reduce.NONE:
            fields |= {"reduce": reduce, "reduce_first": 1}
        self.out.emit(
            Opcode.VECTOR, tuple(made.operands), fields, waits=waits, signals=signals, releases=releases
        )
