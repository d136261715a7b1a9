"""From a kernel of a quantised cascade to the kernel and the tensors that ``emit`` takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from hls_gen._errors import HlsError
from hls_gen._kernel import AttentionSpec, KernelSpec, LinearSpec, NormSpec, NormStage, ResidualSpec
from workloads import (
    Access,
    Cascade,
    Normalise,
    Product,
    Quantised,
    QuantisedKernel,
    Requantise,
    Rowwise,
    Softmax,
    exp2_table,
)

Array = NDArray[np.integer]
_Matrix = Product | Rowwise


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedJob:
    """A kernel and its tensors, the expected result among them."""

    spec: KernelSpec
    tensors: Mapping[str, Array]


def quantised_job(
    quantised: Quantised, name: str, tensors: Mapping[str, Array], *, batch: int = 0
) -> QuantisedJob:
    """The kernel that makes tensor ``name``, for one index of its batch (a head, a sequence).

    ``tensors`` are the int8 tensors of the cascade: inputs, weights, and what
    ``workloads.evaluate_quantised`` makes of them, which is what the testbench expects. A softmax
    is emitted with both of its products, under either name. Raises HlsError for a name that no
    kernel makes, for a softmax that is not between two products, and for a batch out of range.
    """
    reader = _Reader(quantised.cascade, tensors, batch)
    step = _step(quantised, name)
    if isinstance(step.kernel, Product) and isinstance(step.kernel.epilogue, Softmax):
        return _attention(reader, step, _consumer(quantised, name))
    if isinstance(step.kernel, Rowwise):
        return _norm(reader, step)
    assert isinstance(step.kernel, Product)
    scores = _makes(quantised, step.kernel.streamed.tensor)
    if (
        scores is not None
        and isinstance(scores.kernel, Product)
        and isinstance(scores.kernel.epilogue, Softmax)
    ):
        return _attention(reader, scores, step)
    return _linear(reader, step)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Tensors as the matrices of one batch index."""

    cascade: Cascade
    tensors: Mapping[str, Array]
    batch: int

    def matrix(self, access: Access, kernel: _Matrix, *groups: tuple[str, ...]) -> Array:
        """The tensor as [rows, columns]: its dimensions permuted and joined, its batch index taken."""
        if access.tensor not in self.tensors:
            known = ", ".join(sorted(self.tensors))
            raise HlsError(f"tensors must have {access.tensor!r}, not only {known}")
        blocks = (kernel.batch if isinstance(kernel, Product) else (), *groups)
        ranks = [index.terms[0][0] for index in access.indices]
        order = [ranks.index(rank) for group in blocks for rank in group if rank in ranks]
        shape = [self.size(tuple(rank for rank in group if rank in ranks)) for group in blocks]
        batches = np.transpose(self.tensors[access.tensor], order).reshape(shape)
        if not 0 <= self.batch < batches.shape[0]:
            raise HlsError(f"batch must be in 0..{batches.shape[0] - 1}, not {self.batch!r}")
        return np.asarray(batches[self.batch])

    def size(self, ranks: tuple[str, ...]) -> int:
        """Elements over the ranks together."""
        return prod(self.cascade.ranks[rank] for rank in ranks)


def _makes(quantised: Quantised, name: str) -> QuantisedKernel | None:
    return next((step for step in quantised.kernels if step.kernel.name == name), None)


def _step(quantised: Quantised, name: str) -> QuantisedKernel:
    step = _makes(quantised, name)
    if step is None:
        names = ", ".join(each.kernel.name for each in quantised.kernels)
        raise HlsError(f"kernel must be one of {names}, not {name!r}")
    return step


def _consumer(quantised: Quantised, name: str) -> QuantisedKernel:
    """The product that streams a softmax's result."""
    for step in quantised.kernels:
        if isinstance(step.kernel, Product) and step.kernel.streamed.tensor == name:
            return step
    raise HlsError(f"softmax must be streamed by a product, not end the cascade as {name!r}")


def _affine(step: QuantisedKernel, columns: int, prefix: str = "") -> dict[str, Array]:
    multiplier, bias = np.broadcast_to(step.affine.m, (columns,)), np.broadcast_to(step.affine.b, (columns,))
    return {f"{prefix}multiplier": multiplier, f"{prefix}bias": bias}


def _identifier(name: str) -> str:
    """A tensor's name as a kernel's: lower case, other characters as underscores."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return plain if plain[:1].isalpha() else f"kernel_{plain}".rstrip("_")


def _residual(
    reader: _Reader, step: QuantisedKernel, epilogue: Requantise | Normalise
) -> tuple[ResidualSpec | None, dict[str, Array]]:
    kernel = step.kernel
    if epilogue.residual is None:
        return None, {}
    assert isinstance(kernel, Product | Rowwise)
    matrix = reader.matrix(epilogue.residual, kernel, kernel.rows, kernel.cols)
    left = step.residual_left
    shifted = {} if left is None or not left.any() else {"residual_left": left}
    spec = ResidualSpec(multiplier=step.residual_multiplier, shift=step.residual_shift, left=bool(shifted))
    return spec, {"residual": matrix} | shifted


def _stage(
    step: QuantisedKernel, epilogue: Requantise | Normalise, columns: int
) -> tuple[NormStage | None, dict[str, Array]]:
    if not isinstance(epilogue, Normalise):
        return None, {}
    assert step.norm is not None
    scaling = {"norm_multiplier": step.norm.m, "norm_bias": step.norm.b}
    full: dict[str, Array] = {k: np.broadcast_to(v, (columns,)) for k, v in scaling.items()}
    return NormStage(shift=step.norm.shift, centred=epilogue.centred), full


def _linear(reader: _Reader, step: QuantisedKernel) -> QuantisedJob:
    kernel = step.kernel
    assert isinstance(kernel, Product)
    assert not isinstance(kernel.epilogue, Softmax)
    columns = reader.size(kernel.cols)
    residual, residual_tensors = _residual(reader, step, kernel.epilogue)
    norm, norm_tensors = _stage(step, kernel.epilogue, columns)
    spec = LinearSpec(
        name=_identifier(kernel.name),
        m=reader.size(kernel.rows),
        k=reader.size(kernel.inner),
        n=columns,
        shift=step.affine.shift,
        residual=residual,
        table=step.table is not None,
        norm=norm,
    )
    tensors = {
        "x": reader.matrix(kernel.streamed, kernel, kernel.rows, kernel.inner),
        "w": reader.matrix(kernel.stationary, kernel, kernel.inner, kernel.cols),
        "y": reader.matrix(kernel.output, kernel, kernel.rows, kernel.cols),
    }
    table = {} if step.table is None else {"table": step.table}
    return QuantisedJob(spec, tensors | _affine(step, columns) | residual_tensors | table | norm_tensors)


def _norm(reader: _Reader, step: QuantisedKernel) -> QuantisedJob:
    kernel = step.kernel
    assert isinstance(kernel, Rowwise)
    if not isinstance(kernel.epilogue, Normalise):
        raise HlsError(f"kernel without a product must be a normalisation, not the softmax {kernel.name!r}")
    columns = reader.size(kernel.cols)
    residual, residual_tensors = _residual(reader, step, kernel.epilogue)
    norm, norm_tensors = _stage(step, kernel.epilogue, columns)
    assert norm is not None
    spec = NormSpec(
        name=_identifier(kernel.name),
        rows=reader.size(kernel.rows),
        length=columns,
        shift=step.affine.shift,
        residual=residual,
        norm=norm,
    )
    tensors = {
        "x": reader.matrix(kernel.source, kernel, kernel.rows, kernel.cols),
        "y": reader.matrix(kernel.output, kernel, kernel.rows, kernel.cols),
    }
    return QuantisedJob(spec, tensors | _affine(step, columns) | residual_tensors | norm_tensors)


def _attention(reader: _Reader, scores: QuantisedKernel, output: QuantisedKernel) -> QuantisedJob:
    first, second = scores.kernel, output.kernel
    assert isinstance(first, Product)
    assert isinstance(second, Product)
    epilogue = second.epilogue
    if not isinstance(epilogue, Requantise) or epilogue.residual or epilogue.function:
        raise HlsError(f"product behind a softmax must end in an affine alone, not as {second.name!r} does")
    keys, columns = reader.size(first.cols), reader.size(second.cols)
    spec = AttentionSpec(
        name=_identifier(second.name),
        queries=reader.size(first.rows),
        keys=keys,
        e=reader.size(first.inner),
        f=columns,
        score_shift=scores.affine.shift,
        shift=output.affine.shift,
    )
    tensors = {
        "q": reader.matrix(first.streamed, first, first.rows, first.inner),
        "k": reader.matrix(first.stationary, first, first.cols, first.inner),
        "v": reader.matrix(second.stationary, second, second.inner, second.cols),
        "table": exp2_table(),
        "y": reader.matrix(second.output, second, second.rows, second.cols),
    }
    return QuantisedJob(spec, tensors | _affine(scores, keys, "score_") | _affine(output, columns))
