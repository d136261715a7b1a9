"""A whole encoder as one cascade: its blocks one after another, each with tensors of its own."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from workloads._einsum import Access, Cascade, Einsum
from workloads._errors import WorkloadError
from workloads._model import Model
from workloads._split import split_functions
from workloads._weights import Checkpoint, bind_block

Floats = NDArray[np.float64]

BLOCK = "block"
"""The part of a model that is repeated."""
SOURCE, RESULT = "X", "Z"
"""A block's input and output."""


def layer_name(tensor: str, layer: int) -> str:
    """Name in the encoder of a block's ``tensor``: ``Q`` of the first block is ``Q.0``.

    >>> layer_name("Q", 0)
    'Q.0'
    """
    return f"{tensor}.{layer}"


def layer_of(tensor: str) -> int | None:
    """The layer that makes or owns ``tensor``; None for the input and what all layers share.

    >>> layer_of("Q.0"), layer_of("X")
    (0, None)
    """
    _, dot, layer = tensor.rpartition(".")
    return int(layer) if dot and layer.isdigit() else None


def encoder_cascade(model: Model) -> Cascade:
    """All blocks of ``model`` as one cascade: block i reads ``Z.(i-1)``, the first one ``X``.

    Constants are shared; functions are split off, so that the cascade can be quantised. What comes
    before and after the blocks is left out. Raises WorkloadError for a model that has no part
    ``block``, or runs more than one sequence.
    """
    if model.batch != 1:
        raise WorkloadError(f"batch must be 1 for an encoder of one sequence, not {model.batch}")
    part = model.part(BLOCK)
    block = split_functions(part.cascade)
    einsums = tuple(
        _renamed(einsum, layer, part.constants.keys())
        for layer in range(part.repeat)
        for einsum in block.einsums
    )
    return Cascade(model.name, block.ranks, einsums)


def bind_encoder(model: Model, checkpoint: Checkpoint) -> dict[str, Floats]:
    """Weights and constants of ``encoder_cascade(model)``, from all blocks of ``checkpoint``."""
    part = model.part(BLOCK)
    bound: dict[str, Floats] = {}
    for layer in range(part.repeat):
        block = bind_block(model, checkpoint, layer)
        bound |= {_name(name, layer, part.constants): values for name, values in block.items()}
    return bound


def encoder_result(model: Model) -> str:
    """The last block's output."""
    return layer_name(RESULT, model.part(BLOCK).repeat - 1)


def _name(tensor: str, layer: int, shared: Set[str] | Mapping[str, float]) -> str:
    if tensor in shared:
        return tensor
    if tensor == SOURCE:
        return layer_name(RESULT, layer - 1) if layer else SOURCE
    return layer_name(tensor, layer)


def _renamed(einsum: Einsum, layer: int, shared: Set[str]) -> Einsum:
    def moved(access: Access) -> Access:
        return replace(access, tensor=_name(access.tensor, layer, shared))

    return replace(einsum, output=moved(einsum.output), inputs=tuple(moved(a) for a in einsum.inputs))
