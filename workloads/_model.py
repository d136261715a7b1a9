"""A model: a few cascades, how often each runs, and the work that stays on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from workloads._analyze import inputs, macs, tensor_shapes
from workloads._einsum import Cascade
from workloads._errors import WorkloadError

Phase = Literal["prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Part:
    """A cascade that runs ``repeat`` times, each time on other weights.

    Every tensor that the cascade reads and does not write is an input, a constant or a weight.
    """

    cascade: Cascade
    repeat: int = 1
    inputs: frozenset[str] = frozenset()
    """Activations, masks and caches: given by the host or by what ran before."""
    constants: Mapping[str, float] = field(default_factory=dict)
    """Tensors of which each element has this one value: scales, epsilons, a count of ones."""

    @property
    def weights(self) -> frozenset[str]:
        """Learned tensors: read, never written, neither input nor constant."""
        return frozenset(inputs(self.cascade)) - self.inputs - self.constants.keys()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all repetitions."""
        return self.repeat * macs(self.cascade)


@dataclass(frozen=True, slots=True)
class HostWork:
    """Work left to the host, priced by the elements it produces."""

    name: str
    elements: int


@dataclass(frozen=True, slots=True)
class Model:
    """A network in one phase, at one batch and one length.

    A batch above one is the rank ``b``, first on every activation and every cache; a batch of one
    has no such rank. ``parts`` are in the order of their first run; a block of layers is one part.
    """

    name: str
    phase: Phase
    batch: int
    seq: int
    """Prefill: tokens of each sequence. Decode: tokens attended to, the new one included."""
    parts: tuple[Part, ...]
    host: tuple[HostWork, ...] = ()
    notes: tuple[str, ...] = ()
    """What the counts leave out or assume, in sentences."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all matrix products and convolutions, attention scores in full."""
        return sum(part.macs for part in self.parts)

    def part(self, name: str) -> Part:
        """The part whose cascade is called ``name``."""
        for part in self.parts:
            if part.cascade.name == name:
                return part
        known = ", ".join(part.cascade.name for part in self.parts)
        raise WorkloadError(f"part must be one of {known}, not {name!r}")


def constant_tensors(part: Part) -> dict[str, npt.NDArray[np.float64]]:
    """The constants of ``part`` as arrays, to be evaluated with."""
    shapes = tensor_shapes(part.cascade)
    return {name: np.full(shapes[name], value) for name, value in part.constants.items()}
