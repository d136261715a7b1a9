"""Where a MatMul-free language model lies: on chip, and in memory.

Everything that persists from token to token (state, tables, constants and, where they fit, weights and
parameters) is written once, by the load program; the step program reads an embedding's row and writes
logits. Chunks are C columns, streamed words hold ``stream`` of them or more side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

from archsim._architecture import Architecture
from archsim._errors import ArchsimError
from archsim._isa import INSTRUCTION_BYTES, TABLE_ENTRIES
from archsim._lower_memory import PAGE_BYTES
from archsim._program import Region
from workloads import HgrnSizes

CONSTANTS = 3
"""Parameter words that every pass may read: the embedding's 256, the rounding of a high byte, and zero."""
EMBEDDING, HIGH, ZERO = range(CONSTANTS)
PRODUCTS = ("i", "f", "g", "o", "gate", "up", "down")
"""A layer's products in the order in which they run."""
GAINS = ("mixer_gain", "kept", "output_gain", "feed_gain")
"""A layer's parameters with one multiplier a column, in their order."""
SIGMOID, SILU = 0, 1
"""Table slots."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The placing of a model of ``sizes`` on ``arch``; every count is of words unless it says otherwise."""

    sizes: HgrnSizes
    arch: Architecture

    @property
    def stream(self) -> int:
        """Columns of a streamed word."""
        return self.arch.fold * self.arch.array.cols

    def chunks(self, columns: int) -> int:
        """Slots of a pass over ``columns``."""
        return -(-columns // self.arch.array.cols)

    def streamed(self, columns: int) -> int:
        """Scratchpad words of ``columns`` columns."""
        return -(-columns // self.stream)

    @property
    def hidden(self) -> int:
        """Chunks of the residual stream."""
        return self.chunks(self.sizes.hidden)

    @property
    def inner(self) -> int:
        """Chunks of the feed-forward's middle."""
        return self.chunks(self.sizes.inner)

    @property
    def vocab(self) -> int:
        """Chunks of the logits."""
        return self.chunks(self.sizes.vocab)

    def shape(self, product: str) -> tuple[int, int]:
        """(output, input) columns of a product, ``head`` among them."""
        d, j = self.sizes.hidden, self.sizes.inner
        if product == "head":
            return self.sizes.vocab, d
        return (j, d) if product in ("gate", "up") else (d, j) if product == "down" else (d, d)

    def blocks(self, product: str) -> tuple[int, int]:
        """(n_chunks, k_chunks) of a product."""
        outs, ins = self.shape(product)
        return self.chunks(outs), self.streamed(ins)

    def weight_words(self, product: str) -> int:
        """Weight words of a product."""
        n, k = self.blocks(product)
        return n * k

    @property
    def layer_weights(self) -> int:
        """Weight words of a layer."""
        return sum(self.weight_words(product) for product in PRODUCTS)

    @property
    def all_weights(self) -> int:
        """Weight words of the model."""
        return self.sizes.layers * self.layer_weights + self.weight_words("head")

    @property
    def weights_resident(self) -> bool:
        """Whether all weights fit the weight memory; else they pass through it token by token."""
        return self.all_weights <= self.arch.array.weight_words

    @property
    def block_parameters(self) -> int:
        """Parameter words of a layer, and of the block behind the last layer that is the head's."""
        return len(GAINS) * self.hidden + len(PRODUCTS)

    @property
    def parameters_resident(self) -> bool:
        """Whether all blocks of parameters fit; else two halves alternate."""
        return self.all_parameters <= self.arch.parameter_words

    @property
    def all_parameters(self) -> int:
        """Parameter words of constants, layers and head."""
        return CONSTANTS + (self.sizes.layers + 1) * self.block_parameters

    @property
    def ring(self) -> int:
        """Weight words of half a ring."""
        return self.arch.array.weight_words // 2

    # The vector buffer.

    @property
    def x(self) -> int:
        """Buffer: the residual stream."""
        return 0

    @property
    def s(self) -> int:
        """Buffer: the candidate state."""
        return self.hidden

    @property
    def v(self) -> int:
        """Buffer: a product's input before it is quantised; logits."""
        return 2 * self.hidden

    @property
    def wide(self) -> int:
        """Words of each of the two wide areas."""
        return max(self.hidden, self.inner)

    @property
    def gate(self) -> int:
        """Buffer: gates."""
        return self.v + self.wide

    @property
    def state(self) -> int:
        """Buffer: the state, layer by layer."""
        return self.gate + self.wide

    @property
    def buffer_words(self) -> int:
        """Buffer words that are used."""
        return self.state + self.sizes.layers * self.hidden

    # Accumulators and scratchpad.

    @property
    def half(self) -> int:
        """Accumulator words of each of two halves."""
        return self.arch.accumulator_words // 2

    @property
    def head_tile(self) -> int:
        """Chunks of logits that are made at once: as many as the memories hold."""
        grain = self.arch.fold * max(1, self.arch.bus.bytes // self.arch.word_bytes)
        room = min(self.half, self.wide, self.quarter // 2 * self.arch.fold)
        if not self.weights_resident:
            room = min(room, self.ring // self.blocks("head")[1])
        return self.vocab if room >= self.vocab else room - room % grain

    @property
    def quarter(self) -> int:
        """Scratchpad words of a quarter of the banks: what two units use at once lies in two of them."""
        return self.arch.scratchpad.banks // 4 * self.arch.scratchpad.words_per_bank

    @property
    def q(self) -> int:
        """Scratchpad: a product's input."""
        return 0

    @property
    def embedding(self) -> int:
        """Scratchpad: the embedding's high bytes; the low ones a quarter on, as one pass reads both."""
        return self.quarter

    @property
    def embedding_words(self) -> int:
        """Words of the embedding's high bytes."""
        return self.whole_beats(self.streamed(self.sizes.hidden))

    def logits(self, number: int) -> int:
        """Scratchpad: high bytes of a tile of logits, behind them low ones; two quarters in turn."""
        return (1 + number % 2) * self.quarter

    @property
    def tile_words(self) -> int:
        """Words of a tile's high bytes."""
        return self.whole_beats(-(-self.head_tile // self.arch.fold))

    @property
    def logit_words(self) -> int:
        """Words of all high bytes in memory."""
        return self.whole_beats(-(-self.vocab // self.arch.fold))

    def whole_beats(self, words: int) -> int:
        """Words that end with a beat."""
        per_beat = max(1, self.arch.bus.bytes // self.arch.word_bytes)
        return -(-words // per_beat) * per_beat

    # Memory.

    @property
    def weight_bytes(self) -> int:
        """Bytes of a weight word in memory."""
        return self.arch.weight_beats * self.arch.bus.bytes

    @property
    def parameter_bytes(self) -> int:
        """Bytes of a parameter word."""
        return 8 * self.arch.word_bytes

    def regions(self) -> dict[str, Region]:
        """Regions by name; what a step moves comes first, so that its image ends with ``step_program``."""
        size, found = self.arch.word_bytes, {}
        address = 0
        for name, kind, length in (
            ("embedding", "input", 2 * self.embedding_words * size),
            ("logits", "output", 2 * self.logit_words * size),
            ("step_program", "input", self.arch.program_words * INSTRUCTION_BYTES),
            ("load_program", "input", self.arch.program_words * INSTRUCTION_BYTES),
            ("tables", "table", 2 * TABLE_ENTRIES * size),
            ("parameters", "parameter", self.all_parameters * self.parameter_bytes),
            ("weights", "weight", self.all_weights * self.weight_bytes),
        ):
            words = -(-length // size)
            found[name] = Region(name, address, words, 1, self.stream, words * size, kind, words)
            address += -(-words * size // PAGE_BYTES) * PAGE_BYTES
        return found


def layout(sizes: HgrnSizes, arch: Architecture) -> Layout:
    """The placing, or an ArchsimError that names the memory that is too small or the unit that is missing."""
    found = Layout(sizes, arch)
    if arch.array.kind != "ternary" or not arch.vector.gated:
        raise ArchsimError(
            f"{arch.name} must have a ternary array and a gated vector unit for a MatMul-free model, not "
            f"array.kind {arch.array.kind} and vector.gated {str(arch.vector.gated).lower()}"
        )
    if arch.array.rows < arch.array.cols:
        raise ArchsimError(
            f"{arch.name} must have at least as many array.rows as array.cols, "
            f"not {arch.array.rows} and {arch.array.cols}"
        )
    for key, needed, there in _needs(found):
        if needed > there:
            raise ArchsimError(f"{key} of {arch.name} must be at least {needed}, not {there}")
    return found


def _needs(found: Layout) -> tuple[tuple[str, int, int], ...]:
    """(key of the architecture file, words needed, words there)."""
    arch = found.arch
    parameters = CONSTANTS + 2 * found.block_parameters
    return (
        ("vector.tables", 2, arch.vector.tables),
        ("vector.buffer_words", found.buffer_words, arch.vector.buffer_words),
        ("accumulator.words", 2 * found.wide, arch.accumulator_words),
        (
            "parameters.words",
            0 if found.parameters_resident else parameters,
            arch.parameter_words,
        ),
        ("scratchpad.banks", 4, arch.scratchpad.banks),
        ("scratchpad words", max(2 * TABLE_ENTRIES, 4 * _least_quarter(found)), arch.scratchpad.words),
        (
            "array.weight_words",
            0 if found.weights_resident else 2 * _least_ring(found),
            arch.array.weight_words,
        ),
    )


def _least_quarter(found: Layout) -> int:
    """Scratchpad words of a quarter that holds a product's input, or the smallest tile of logits."""
    inputs = max(found.streamed(found.sizes.hidden), found.streamed(found.sizes.inner))
    return max(inputs, found.embedding_words, 2 * max(1, found.arch.bus.bytes // found.arch.word_bytes))


def _least_ring(found: Layout) -> int:
    """Words of half a ring that holds one output chunk of every product, of the head a whole word's."""
    layers = max(found.blocks(product)[1] for product in PRODUCTS)
    grain = found.arch.fold * max(1, found.arch.bus.bytes // found.arch.word_bytes)
    return max(layers, min(grain, found.vocab) * found.blocks("head")[1])
