"""Sites for an ECP5's multipliers and block RAMs, chosen together before the rest is placed.

They are few, they stand in rows far apart, and a large design uses most of them. A placer that moves each
to the nearest site still free leaves the last ones half a device away, with all that hangs on them. Here all
of a kind get their sites at once, by the assignment of least total squared distance from where their nets
pull them (H. W. Kuhn's problem), in turn with the placement that makes the sum of the nets' squared lengths
least (K. M. Hall, "An r-Dimensional Quadratic Placement Algorithm", Management Science 17(3), 1970, which
also has the modes of the graph that it begins with).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.linalg import cg, lobpcg

from rtl._absorb import Cell

Floats = NDArray[np.float64]

_PITCH = 9
_FIRST = 4
_BLOCKS = {
    "MULT18X18D": ((0, "MULT18_0"), (1, "MULT18_1"), (4, "MULT18_4"), (5, "MULT18_5")),
    "DP16KD": ((0, "EBR0"), (2, "EBR1"), (4, "EBR2"), (6, "EBR3")),
}
"""Sites of a group of nine columns: their columns within it, and names."""

_ROUNDS = 40
_GROWTH = 1.25
_FIRST_PULL = 0.02
"""Turns of placement and assignment; a site pulls its block harder with each."""

_CLIQUE = 4
_CROWD = 64
_MOST = 400
"""Pins: nets up to the first are cliques, others stars; beyond the second they count less, then nothing."""

_SPREAD = 60.0
_FEWEST = 64
"""Columns and rows over which the blocks begin; cells below which there is nothing to gain."""


@dataclass(frozen=True, slots=True)
class _Device:
    """Groups of columns to the left and right of the middle two, and the rows of each kind of block."""

    left: int
    right: int
    rows: dict[str, tuple[int, ...]]

    def sites(self, kind: str) -> tuple[Floats, list[str]]:
        """Columns and rows of all sites of ``kind``, and nextpnr's names of them."""
        places, names = [], []
        for row in self.rows[kind]:
            for group in range(self.left + self.right):
                first = _FIRST + _PITCH * group + (2 if group >= self.left else 0)
                for offset, name in _BLOCKS[kind]:
                    places.append((first + offset, row))
                    names.append(f"X{first + offset}/Y{row}/{name}")
        return np.array(places, float), names


_SMALLEST = _Device(3, 4, {"MULT18X18D": (13,), "DP16KD": (25, 37)})
_DEVICES = {
    "12k": _SMALLEST,
    "25k": _SMALLEST,
    "45k": _Device(4, 5, {"MULT18X18D": (22, 46), "DP16KD": (10, 34, 58)}),
    "85k": _Device(7, 6, {"MULT18X18D": (10, 34, 58), "DP16KD": (22, 46, 70, 82)}),
}
"""By the end of nextpnr's name of the size; sites as its device database lists them."""


def choose_sites(module: dict[str, Any], *, size: str, seed: int) -> int:
    """Give each multiplier and block RAM of ``module``, a flat netlist in Yosys' JSON, its site, in place.

    ``size`` is nextpnr's option for the device. Returns how many were given; none in a netlist that is small
    or does not fit, which the placer then says.
    """
    cells: dict[str, Cell] = module["cells"]
    device = _DEVICES[size.rpartition("-")[2]]
    names = list(cells)
    kinds = [np.array([i for i, n in enumerate(names) if cells[n]["type"] == k], dtype=int) for k in _BLOCKS]
    sites = [device.sites(kind) for kind in _BLOCKS]
    blocks = np.concatenate(kinds)
    fits = all(len(own) <= len(given[1]) for own, given in zip(kinds, sites, strict=True))
    if len(cells) < _FEWEST or not len(blocks) or not fits:
        return 0
    plane = _Plane(_graph(cells), blocks, seed=seed)
    middle = np.concatenate([places for places, _ in sites]).mean(axis=0)
    positions = plane.begin(middle)
    targets = positions[blocks]
    for turn in range(_ROUNDS):
        positions = plane.settle(positions, targets, _FIRST_PULL * _GROWTH**turn)
        chosen = [
            linear_sum_assignment(_distances(positions[own], places))[1]
            for own, (places, _) in zip(kinds, sites, strict=True)
        ]
        targets = np.concatenate([places[own] for own, (places, _) in zip(chosen, sites, strict=True)])
    bels = [given[index] for own, (_, given) in zip(chosen, sites, strict=True) for index in own]
    for block, bel in zip(blocks, bels, strict=True):
        cells[names[block]].setdefault("attributes", {})["BEL"] = bel
    return len(bels)


def _distances(positions: Floats, places: Floats) -> Floats:
    squares: Floats = ((positions[:, None, :] - places[None]) ** 2).sum(axis=2)
    return squares


def _graph(cells: dict[str, Cell]) -> sparse.csr_matrix:
    """Weights between cells: a net of n pins weighs as n - 1 wires, whatever its shape."""
    nets: dict[int, set[int]] = {}
    for index, cell in enumerate(cells.values()):
        for bits in cell["connections"].values():
            for bit in bits:
                if isinstance(bit, int):
                    nets.setdefault(bit, set()).add(index)
    ends: list[tuple[int, int]] = []
    weights: list[float] = []
    size = len(cells)
    for net in nets.values():
        pins = sorted(net)
        if len(pins) < 2 or len(pins) > _MOST:
            continue
        if len(pins) <= _CLIQUE:
            pairs = [(a, b) for place, a in enumerate(pins) for b in pins[:place]]
            weight = 1 / (len(pins) - 1)
        else:
            pairs, size = [(pin, size) for pin in pins], size + 1
            weight = (0.3 if len(pins) > _CROWD else 1.0) * len(pins) / (len(pins) - 1) / 2
        ends += pairs
        weights += [weight] * len(pairs)
    rows, columns = np.array(ends, dtype=int).reshape(-1, 2).T
    half = sparse.coo_matrix((weights, (rows, columns)), shape=(size, size)).tocsr()
    return half + half.T


class _Plane:
    """Positions of all nodes of a graph, whose blocks are pulled to targets."""

    def __init__(self, weights: sparse.csr_matrix, blocks: NDArray[np.int_], *, seed: int) -> None:
        self.weights, self.blocks = weights, blocks
        self.degrees = np.asarray(weights.sum(axis=1)).ravel() + 1e-9
        self.laplacian = sparse.diags(self.degrees) - weights
        self.random = np.random.default_rng(seed)

    def begin(self, middle: Floats) -> Floats:
        """The graph's own shape: the order of its nodes in the two slowest modes, around ``middle``."""
        size = len(self.degrees)
        scale = sparse.diags(1 / np.sqrt(self.degrees))
        start = self.random.standard_normal((size, 4))
        start[:, 0] = np.sqrt(self.degrees)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # A rough answer serves.
            normal = 2.0 * sparse.eye(size) - scale @ self.laplacian @ scale
            values, vectors = lobpcg(normal, start, largest=True, maxiter=300, tol=1e-4)
        modes = (vectors[:, np.argsort(-values)] / np.sqrt(self.degrees)[:, None])[:, 1:3]
        orders = np.argsort(np.argsort(modes, axis=0), axis=0) / (size - 1) - 0.5
        self.middle = middle
        positions: Floats = middle + _SPREAD * orders
        return positions

    def settle(self, positions: Floats, targets: Floats, pull: float) -> Floats:
        """The positions of least squared length of all nets and of the blocks' ways to their targets."""
        pulls = np.full(len(self.degrees), 1e-6)
        goal = 1e-6 * np.broadcast_to(self.middle, positions.shape).copy()
        own = pull * self.degrees[self.blocks]
        pulls[self.blocks] += own
        goal[self.blocks] += own[:, None] * targets
        system = self.laplacian + sparse.diags(pulls)
        scale = sparse.diags(1 / system.diagonal())
        solved = [
            cg(system, goal[:, axis], x0=positions[:, axis], rtol=1e-5, maxiter=600, M=scale)[0]
            for axis in range(2)
        ]
        return np.stack(solved, axis=1)
