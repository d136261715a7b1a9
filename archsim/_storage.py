"""Panel layout: how a tensor's elements lie in memory words (``docs/machine.md``)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A tensor as panels of ``group`` columns, one word a row, outer dimensions around them.

    ``order`` permutes the tensor's dimensions to (outer..., row..., column). A block is one point
    of the outer dimensions: ``panels`` panels of ``padded_rows`` words. Rows of several
    dimensions are numbered together, the last of them padded to a multiple of ``row_multiple``.
    """

    tensor: str
    shape: tuple[int, ...]
    outer: tuple[int, ...]
    """Dimensions that number the blocks."""
    row: tuple[int, ...]
    """Dimensions that number the rows."""
    col: tuple[int, ...]
    """The dimensions along the lanes: one, several (numbered together, not padded between), or none."""
    group: int
    row_multiple: int = 1
    granule: int = 1
    """Rows of a panel are padded to this multiple, so that panels start on a bus beat."""

    @property
    def blocks(self) -> int:
        """Points of the outer dimensions."""
        return prod(self.shape[d] for d in self.outer)

    @property
    def cols(self) -> int:
        """Columns of a block."""
        return prod(self.shape[d] for d in self.col)

    @property
    def panels(self) -> int:
        """Panels of a block."""
        return -(-self.cols // self.group)

    @property
    def rows(self) -> int:
        """Rows of a panel, those that pad the last row dimension included."""
        sizes = [self.shape[d] for d in self.row]
        if sizes:
            sizes[-1] = -(-sizes[-1] // self.row_multiple) * self.row_multiple
        return prod(sizes)

    @property
    def padded_rows(self) -> int:
        """Words of a panel."""
        return -(-self.rows // self.granule) * self.granule

    @property
    def words(self) -> int:
        """Words of the whole tensor."""
        return self.blocks * self.panels * self.padded_rows

    def pack(self, values: NDArray[np.int8], word_bytes: int) -> NDArray[np.int8]:
        """``values`` (int8, of ``shape``) as words (blocks, panels, padded_rows, word_bytes), zero padded."""
        matrix = self._blocks(values)
        words = np.zeros((self.blocks, self.panels, self.padded_rows, word_bytes), np.int8)
        for panel in range(self.panels):
            part = matrix[:, :, panel * self.group : (panel + 1) * self.group]
            words[:, panel, : self.rows, : part.shape[2]] = part
        return words

    def unpack(self, words: NDArray[np.int8]) -> NDArray[np.int8]:
        """Inverse of ``pack``: words of shape (blocks, panels, padded_rows, word_bytes)."""
        parts = [words[:, panel, : self.rows, : self.group] for panel in range(self.panels)]
        matrix = np.concatenate(parts, axis=2)[:, :, : self.cols]
        rows = [self.shape[d] for d in self.row]
        padded = [*rows[:-1], -(-rows[-1] // self.row_multiple) * self.row_multiple] if rows else []
        order = (*self.outer, *self.row, *self.col)
        sizes = [*(self.shape[d] for d in self.outer), *padded, *(self.shape[d] for d in self.col)]
        full = matrix.reshape(sizes)
        if rows:
            full = np.take(full, range(rows[-1]), axis=len(self.outer) + len(rows) - 1)
        return np.ascontiguousarray(np.transpose(full, np.argsort(order)))

    def _blocks(self, values: NDArray[np.int8]) -> NDArray[np.int8]:
        """``values`` as (blocks, rows, cols), rows padded with zeros."""
        assert values.shape == self.shape, (values.shape, self.shape)
        ordered = np.transpose(values, (*self.outer, *self.row, *self.col))
        if self.row:
            axis = len(self.outer) + len(self.row) - 1
            pad = [(0, 0)] * ordered.ndim
            pad[axis] = (0, -ordered.shape[axis] % self.row_multiple)
            ordered = np.pad(ordered, pad)
        return ordered.reshape(self.blocks, self.rows, self.cols)
