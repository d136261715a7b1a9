"""The generated source of each kernel: passes as functions, and a top function that joins them by streams."""

from __future__ import annotations

from typing import assert_never

from archsim._architecture import Architecture
from hls_gen import _cpp as cpp
from hls_gen._errors import HlsError
from hls_gen._kernel import AttentionSpec, KernelSpec, LinearSpec, NormSpec, ports, top_name
from hls_gen._stages import Pass, pass_function, stream, top


def kernel_header(spec: KernelSpec) -> cpp.Source:
    """``src/NAME.hpp``: the top function's prototype."""
    include = cpp.Include("archsim/types.hpp")
    return cpp.Source((cpp.PragmaOnce(), include, top(top_name(spec), ports(spec), None)))


def kernel_source(spec: KernelSpec, architecture: Architecture) -> cpp.Source:
    """``src/NAME.cpp``: tiled for the architecture's array and its on-chip memories.

    Raises HlsError where the architecture's memories do not hold one row of the kernel.
    """
    match spec:
        case LinearSpec():
            return _linear(spec, architecture)
        case AttentionSpec():
            return _attention(spec, architecture)
        case NormSpec():
            return _norm(spec, architecture)
        case _:
            assert_never(spec)


def _linear(spec: LinearSpec, architecture: Architecture) -> cpp.Source:
    rows = min(spec.m, architecture.accumulator_words)
    block = min(rows, _normalised_rows("n", spec.n, architecture)) if spec.norm else rows
    product = _product("Output", architecture, "x", "w", transposed=False)
    passes, ending = _ending(spec, architecture, source="Sums")
    shape = _shape("Output", (spec.m, spec.k, spec.n, block), architecture)
    libraries = ("matmul", "norm") if spec.norm else ("matmul",)
    return _source(spec, libraries, (shape,), passes, (*product, *ending))


def _norm(spec: NormSpec, architecture: Architecture) -> cpp.Source:
    block = min(spec.rows, _normalised_rows("length", spec.length, architecture))
    source = cpp.Name("output_sums")
    load = (
        stream("Output", "Narrow", source.text),
        _call("archsim::load_results", "Output", cpp.Name("x"), source),
    )
    passes, ending = _ending(spec, architecture, source="Narrow")
    # A shape without a product behind it: nothing reads its depth of one.
    shape = _shape("Output", (spec.rows, 1, spec.length, block), architecture)
    return _source(spec, ("norm",), (shape,), passes, (*load, *ending))


def _ending(
    spec: LinearSpec | NormSpec, architecture: Architecture, *, source: str
) -> tuple[tuple[Pass, ...], tuple[cpp.Statement, ...]]:
    """The passes behind ``output_sums``, and the statements that join them up to ``y``."""
    columns, lanes = ports(spec)[-1].shape[1], architecture.array.cols
    table = isinstance(spec, LinearSpec) and spec.table
    first = Pass(
        name="rescale" if spec.norm else "finish",
        shape="Output",
        columns=columns,
        lanes=lanes,
        source=source,
        result="Wide" if spec.norm else "Narrow",
        shift=spec.shift,
        residual=spec.residual,
        table=table,
    )
    residual, residuals = cpp.Name("residual"), cpp.Name("residuals")
    load = _call("archsim::load_results", "Output", residual, residuals)
    before = (stream("Output", "Narrow", "residuals"), load) if spec.residual else ()
    left = (cpp.Name("residual_left"),) if first.left else ()
    extra = (*((residuals,) if spec.residual else ()), *left, *((cpp.Name("table"),) if table else ()))
    if spec.norm is None:
        return (first,), (*before, *_finish("output_sums", "", extra))
    last = Pass(
        name="finish",
        shape="Output",
        columns=columns,
        lanes=lanes,
        source="Wide",
        result="Narrow",
        shift=spec.norm.shift,
    )
    middle = _rescale_and_normalise(extra, centred=spec.norm.centred)
    return (first, last), (*before, *middle, *_finish("normalised", "norm_", ()))


def _rescale_and_normalise(extra: tuple[cpp.Expression, ...], *, centred: bool) -> tuple[cpp.Statement, ...]:
    values, normalised = cpp.Name("values"), cpp.Name("normalised")
    operands = (cpp.Name("output_sums"), cpp.Name("multiplier"), cpp.Name("bias"), *extra, values)
    kinds = (cpp.Type("Output"), cpp.Type("true" if centred else "false"))
    return (
        stream("Output", "Wide", values.text),
        cpp.Call("rescale", operands),
        stream("Output", "Wide", normalised.text),
        cpp.Call("archsim::normalise_rows", (values, normalised), kinds),
    )


def _attention(spec: AttentionSpec, architecture: Architecture) -> cpp.Source:
    lanes = architecture.array.cols
    rows = _normalised_rows("keys", spec.keys, architecture)
    block = min(spec.queries, architecture.accumulator_words, rows)
    shapes = (
        _shape("Scores", (spec.queries, spec.e, spec.keys, block), architecture),
        _shape("Output", (spec.queries, spec.keys, spec.f, block), architecture),
    )
    score = Pass(
        name="scale_scores",
        shape="Scores",
        columns=spec.keys,
        lanes=lanes,
        source="Sums",
        result="Wide",
        shift=spec.score_shift,
    )
    finish = Pass(
        name="finish",
        shape="Output",
        columns=spec.f,
        lanes=lanes,
        source="Sums",
        result="Narrow",
        shift=spec.shift,
    )
    return _source(spec, ("matmul", "softmax"), shapes, (score, finish), _attention_body(architecture))


def _attention_body(architecture: Architecture) -> tuple[cpp.Statement, ...]:
    scaling = map(cpp.Name, ("scores_sums", "score_multiplier", "score_bias", "scores"))
    probabilities = cpp.Name("probabilities")
    softmax = cpp.Call(
        "archsim::softmax",
        (cpp.Name("scores"), cpp.Name("table"), probabilities),
        (cpp.Type("Scores"), cpp.Type("Output")),
    )
    return (
        *_product("Scores", architecture, "q", "k", transposed=True),
        stream("Scores", "Wide", "scores"),
        cpp.Call("scale_scores", tuple(scaling)),
        stream("Output", "Streamed", "probabilities"),
        softmax,
        *_product("Output", architecture, None, "v", transposed=False),
        *_finish("output_sums", "", ()),
    )


def _normalised_rows(name: str, length: int, architecture: Architecture) -> int:
    """Rows that the vector unit normalises at once."""
    return min(architecture.vector.rows, _buffered_rows(name, length, architecture))


def _buffered_rows(name: str, length: int, architecture: Architecture) -> int:
    """Rows of ``length`` elements that the vector buffer holds; HlsError if not one."""
    words, lanes = architecture.vector.buffer_words, architecture.array.cols
    rows = words // -(-length // lanes)
    if rows == 0:
        raise HlsError(
            f"{name} must be at most {words * lanes}, what the vector buffer holds, not {length!r}"
        )
    return rows


def _shape(name: str, extents: tuple[int, int, int, int], architecture: Architecture) -> cpp.Using:
    lanes = (architecture.array.rows, architecture.array.cols)
    return cpp.Using(name, cpp.Type("archsim::Product", (*extents, *lanes)))


def _call(function: str, shape: str, *arguments: cpp.Expression) -> cpp.Call:
    return cpp.Call(function, arguments, (cpp.Type(shape),))


def _product(
    shape: str, architecture: Architecture, streamed: str | None, stationary: str, *, transposed: bool
) -> tuple[cpp.Statement, ...]:
    """Both operands' loaders and the array, by streams named after the shape.

    The streamed operand may come from another stage: then its words are ``probabilities``.
    """
    prefix = shape.lower()
    operand = cpp.Name(f"{prefix}_streamed" if streamed else "probabilities")
    weights, sums = cpp.Name(f"{prefix}_stationary"), cpp.Name(f"{prefix}_sums")
    loader = (
        (
            stream(shape, "Streamed", operand.text),
            _call("archsim::load_streamed", shape, cpp.Name(streamed), operand),
        )
        if streamed
        else ()
    )
    kind = (cpp.Type(shape), cpp.Type("true" if transposed else "false"))
    return (
        *loader,
        stream(shape, "Stationary", weights.text),
        # The next tile's words wait in the stream while the rows of this one go through the array.
        cpp.Pragma("stream", (("variable", weights.text), ("depth", max(2, architecture.array.rows)))),
        cpp.Call("archsim::load_stationary", (cpp.Name(stationary), weights), kind),
        stream(shape, "Sums", sums.text),
        _call("archsim::matmul", shape, operand, weights, sums),
    )


def _finish(source: str, prefix: str, extra: tuple[cpp.Expression, ...]) -> tuple[cpp.Statement, ...]:
    """The last pass, with the parameters of that prefix, and the store of its results."""
    results = cpp.Name("results")
    scaling = (cpp.Name(f"{prefix}multiplier"), cpp.Name(f"{prefix}bias"))
    return (
        stream("Output", "Narrow", "results"),
        cpp.Call("finish", (cpp.Name(source), *scaling, *extra, results)),
        _call("archsim::store_results", "Output", results, cpp.Name("y")),
    )


def _source(
    spec: KernelSpec,
    libraries: tuple[str, ...],
    shapes: tuple[cpp.Using, ...],
    passes: tuple[Pass, ...],
    body: tuple[cpp.Statement, ...],
) -> cpp.Source:
    headers = sorted({"arithmetic", "memory", "types", *libraries})
    return cpp.Source(
        (
            cpp.Include("hls_stream.h", system=True),
            cpp.Include(f"{spec.name}.hpp"),
            *(cpp.Include(f"archsim/{header}.hpp") for header in headers),
            cpp.Namespace("", (*shapes, *map(pass_function, passes))),
            top(top_name(spec), ports(spec), body),
        )
    )
