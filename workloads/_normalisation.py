"""What integers leave out of a normalisation, checked on calibrated values: its factors and its epsilon.

The machine divides each row by its own deviation, of which it computes the mean itself, without an
epsilon. A cascade says both with scalar tensors, which must therefore be what the machine takes them for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from workloads._einsum import Cascade, Einsum
from workloads._errors import WorkloadError
from workloads._integer import NORM_UNIT
from workloads._kernel import Normalise, Product, Rowwise

Floats = NDArray[np.float64]


def check_normalisation(cascade: Cascade, kernel: Product | Rowwise, tensors: Mapping[str, Floats]) -> None:
    """Raise WorkloadError unless ``kernel`` normalises its rows as the machine does.

    ``tensors`` are all tensors of one evaluation in floats. The normalised values must be those
    of means over the row within ``NORM_UNIT``, and without their epsilon within as much of a
    deviation; an epsilon is weighed against the mean variance of the rows, where they vary at all.
    """
    epilogue = kernel.epilogue
    assert isinstance(epilogue, Normalise)
    members = [cascade.einsums[position] for position in kernel.einsums]
    members = members[_first_reader(members, epilogue.argument) :]
    root = next(einsum for einsum in members if einsum.unary == "rsqrt")
    normalised = members[_first_reader(members, root.output.tensor)].output
    value = next(a for einsum in members for a in einsum.inputs if a.tensor == epilogue.argument)
    axes = tuple(d for d, rank in enumerate(value.ranks) if rank in kernel.cols)
    rows = tensors[value.tensor]
    if epilogue.centred:
        rows = rows - rows.mean(axis=axes, keepdims=True)
    variance = (rows * rows).mean(axis=axes, keepdims=True)
    epsilons = _scalars(members, "add", tensors)
    epsilon = sum(epsilons.values())
    got = np.transpose(tensors[normalised.tensor], [normalised.ranks.index(rank) for rank in value.ranks])
    with np.errstate(all="ignore"):
        error = np.abs(got - rows / np.sqrt(variance + epsilon))
    length = prod(cascade.ranks[rank] for rank in kernel.cols)
    if (np.where(variance > 0, error, 0.0) > NORM_UNIT).any():
        factors = _said(_scalars(members, "mul", tensors)) or "no factor"
        raise WorkloadError(
            f"the normalisation {kernel.name} must take means over its {length} columns to be quantised, "
            f"with a factor of {1 / length:g}, not {factors}"
        )
    largest = 2 * NORM_UNIT * float(variance.mean())
    if epsilon > largest > 0:
        raise WorkloadError(
            f"the epsilon of the normalisation {kernel.name} must be at most {largest:g} (a part of "
            f"{2 * NORM_UNIT:g} of the calibrated variance) to be left out in integers, not {_said(epsilons)}"
        )


def _first_reader(members: Iterable[Einsum], tensor: str) -> int:
    """Position of the first of ``members`` that reads ``tensor``."""
    return next(n for n, einsum in enumerate(members) if any(a.tensor == tensor for a in einsum.inputs))


def _scalars(members: Iterable[Einsum], operator: str, tensors: Mapping[str, Floats]) -> dict[str, float]:
    """The scalars that ``operator`` applies to statistics, by name."""
    names = (a.tensor for e in members if e.map == operator for a in e.inputs if not a.indices)
    return {name: float(tensors[name]) for name in names}


def _said(scalars: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in scalars.items())
