"""Products apart from the functions that their Einsums apply: the form that calibration needs."""

from __future__ import annotations

from dataclasses import replace

from workloads._einsum import Access, Cascade, Einsum


def split_functions(cascade: Cascade) -> Cascade:
    """``cascade`` with each product and its unary operator in Einsums of their own.

    ``Y[m, n] = relu(X[m, k] * W[k, n])`` becomes ``Y_product[m, n] = X[m, k] * W[k, n]`` and
    ``Y[m, n] = relu(Y_product[m, n])``.
    """
    if not any(einsum.is_product and einsum.unary for einsum in cascade.einsums):
        return cascade
    taken = {access.tensor for e in cascade.einsums for access in (e.output, *e.inputs)}
    split = tuple(part for einsum in cascade.einsums for part in _split(einsum, taken))
    return replace(cascade, einsums=split)


def _split(einsum: Einsum, taken: set[str]) -> tuple[Einsum, ...]:
    if not (einsum.is_product and einsum.unary):
        return (einsum,)
    name = f"{einsum.output.tensor}_product"
    while name in taken:
        name += "_"
    taken.add(name)
    value = Access(name, einsum.output.indices)
    return (
        replace(einsum, output=value, unary=None),
        Einsum(einsum.output, (value,), "identity", unary=einsum.unary),
    )
