"""Where things lie: DRAM regions of a program, and the scratchpad's four on-chip regions."""

from __future__ import annotations

from archsim._architecture import Architecture
from archsim._isa import Space
from archsim._plan import Capacity
from archsim._program import Region
from archsim._storage import Storage

PAGE_BYTES = 4096
ADDRESS_SPACE = 1 << 32
"""Bytes that the machine's address registers reach; they wrap beyond."""


class Memory:
    """Allocates DRAM regions and knows the on-chip regions' bases."""

    def __init__(self, arch: Architecture) -> None:
        self.arch = arch
        self.capacity = Capacity.of(arch)
        self.regions: dict[str, Region] = {}
        self._next = 0
        span = arch.scratchpad.banks // 4 * arch.scratchpad.words_per_bank
        self.x_base, self.w_base, self.out_base, self.res_base = (span * i for i in range(4))

    def place(self, storage: Storage, kind: str) -> Region:
        """Region of a tensor, page aligned."""
        return self._allocate(
            storage.tensor,
            rows=storage.padded_rows,
            valid_rows=storage.rows,
            panels=storage.blocks * storage.panels,
            group=storage.group,
            kind=kind,
        )

    def reserve(self, name: str, words: int, kind: str) -> Region:
        """Region of ``words`` scratchpad-sized words that is no tensor: parameters, tables."""
        known = self.regions.get(name)
        return known or self._allocate(
            name, rows=words, valid_rows=words, panels=1, group=self.arch.word_bytes, kind=kind
        )

    def _allocate(
        self, name: str, *, rows: int, valid_rows: int, panels: int, group: int, kind: str
    ) -> Region:
        size = -(-rows * panels * self.arch.word_bytes // self.arch.bus.bytes) * self.arch.bus.bytes
        region = Region(name, self._next, rows, panels, group, size, kind, valid_rows)
        self._next += -(-size // PAGE_BYTES) * PAGE_BYTES
        self.regions[name] = region
        return region

    def address(self, name: str) -> int:
        """First byte of region ``name``, modulo ``ADDRESS_SPACE`` as the address registers hold it."""
        return self.regions[name].address % ADDRESS_SPACE

    def transfer(self, *, segments: int, rows: int, dram_rows: int, local_rows: int) -> dict[str, int]:
        """Fields of a LOAD or STORE of ``segments`` panels of ``rows`` words; adjacent panels are merged."""
        word, beat = self.arch.word_bytes, self.arch.bus.bytes
        beats = -(-rows * word // beat)
        if segments > 1 and rows == dram_rows == local_rows and segments * rows * word // beat < 1 << 16:
            segments, beats = 1, segments * rows * word // beat
        return {
            "space": Space.SCRATCHPAD,
            "segments": segments,
            "beats": beats,
            "dram_stride": dram_rows * word % ADDRESS_SPACE if segments > 1 else 0,
            "local_stride": local_rows if segments > 1 else 0,
        }
