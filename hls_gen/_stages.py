"""The generated functions' common parts: streams, ports, and the element-wise pass after a product."""

from __future__ import annotations

from dataclasses import dataclass

from hls_gen import _cpp as cpp
from hls_gen._kernel import TABLE_ENTRIES, Operation, Port, ResidualSpec

VOID = cpp.Type("void")
_INT = cpp.Type("int", const=True)
_I16 = cpp.Type("archsim::i16")
_I45 = cpp.Type("archsim::i45")
_U3 = cpp.Type("archsim::u3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One element-wise pass: affine, then residual, then table, then saturation to the result's type."""

    name: str
    shape: str
    """The Product whose results it takes."""
    columns: int
    lanes: int
    source: str
    """Sums, Wide or Narrow."""
    result: str
    """Wide or Narrow."""
    shift: int
    residual: ResidualSpec | None = None
    table: bool = False

    @property
    def left(self) -> bool:
        """Whether columns of the residual are shifted left."""
        return self.residual is not None and self.residual.left


def stream_type(shape: str, word: str) -> cpp.Type:
    """``hls::stream<shape::word>``."""
    return cpp.Type("hls::stream", (cpp.Type(f"{shape}::{word}"),))


def stream(shape: str, word: str, name: str) -> cpp.Declaration:
    """A named stream of a shape's words."""
    return cpp.Declaration(stream_type(shape, word), name, arguments=(cpp.Text(name),))


def port_parameter(port: Port, *, result: bool) -> cpp.Parameter:
    """A port as the top function's parameter."""
    return cpp.Parameter(cpp.Type(port.element.cpp, const=not result), port.name, (port.size,))


def top(name: str, ports: tuple[Port, ...], body: tuple[cpp.Statement, ...] | None) -> cpp.Linkage:
    """The top function, or its prototype: every port an AXI master of its own."""
    parameters = tuple(port_parameter(port, result=port is ports[-1]) for port in ports)
    if body is None:
        return cpp.Linkage((cpp.Function(VOID, name, parameters),))
    control = cpp.Pragma("interface", (("mode", "s_axilite"), ("port", "return")))
    pragmas = (*map(_interface, ports), control, cpp.Pragma("dataflow"))
    return cpp.Linkage((cpp.Function(VOID, name, parameters, (*pragmas, *body)),))


def pass_function(stage: Pass) -> cpp.Function:
    """The pass as a function between streams, its parameters in local memories, a word a cycle."""
    parameters = (
        _stream_parameter(stage.shape, stage.source, "words"),
        cpp.Parameter(cpp.Type("archsim::i16", const=True), "multiplier", (stage.columns,)),
        cpp.Parameter(cpp.Type("archsim::i64", const=True), "bias", (stage.columns,)),
        *((_stream_parameter(stage.shape, "Narrow", "residuals"),) if stage.residual else ()),
        *((_left_parameter(stage.columns),) if stage.left else ()),
        *((_TABLE_PARAMETER,) if stage.table else ()),
        _stream_parameter(stage.shape, stage.result, "results"),
    )
    return cpp.Function(VOID, stage.name, parameters, (*_local_memories(stage), _pass_loops(stage)))


def _left_parameter(columns: int) -> cpp.Parameter:
    return cpp.Parameter(cpp.Type("archsim::i8", const=True), "residual_left", (columns,))


_TABLE_PARAMETER = cpp.Parameter(cpp.Type("archsim::i16", const=True), "table", (TABLE_ENTRIES,))


def _interface(port: Port) -> cpp.Pragma:
    options = ("mode", "m_axi"), ("port", port.name), ("offset", "slave")
    return cpp.Pragma("interface", (*options, ("bundle", f"gmem_{port.name}"), ("depth", port.size)))


def _stream_parameter(shape: str, word: str, name: str) -> cpp.Parameter:
    inner = stream_type(shape, word)
    return cpp.Parameter(cpp.Type(inner.name, inner.arguments, reference=True), name)


def _local_memories(stage: Pass) -> tuple[cpp.Statement, ...]:
    padded = (cpp.Name(f"{stage.shape}::padded_columns"),)
    statements: list[cpp.Statement] = []
    left = (("lefts", _U3, "residual_left"),) if stage.left else ()
    for local, kind, source in (("multipliers", _I16, "multiplier"), ("biases", _I45, "bias"), *left):
        statements += [
            cpp.Declaration(kind, local, padded),
            _partition(local, ("type", "cyclic"), ("factor", stage.lanes)),
            cpp.Call("archsim::load_parameters", (cpp.Name(source), cpp.Name(local)), (stage.columns,)),
        ]
    if stage.table:
        statements += [
            cpp.Declaration(_I16, "tables", (stage.lanes, TABLE_ENTRIES)),
            _partition("tables", ("type", "complete"), ("dim", 1)),
            cpp.Call("archsim::load_table", (cpp.Name("table"), cpp.Name("tables"))),
        ]
    return tuple(statements)


def _partition(variable: str, *options: tuple[str, str | int]) -> cpp.Pragma:
    return cpp.Pragma("array_partition", (("variable", variable), *options))


def _pass_loops(stage: Pass) -> cpp.For:
    rows = cpp.Call(f"{stage.shape}::rows_of", (cpp.Name("block"),))
    pipeline = cpp.Pragma("pipeline", (("II", 1),))
    row = cpp.For("row", rows, _word_body(stage), (pipeline,))
    panel = cpp.For("panel", cpp.Name(f"{stage.shape}::column_panels"), (row,))
    return cpp.For("block", cpp.Name(f"{stage.shape}::blocks"), (panel,))


def _word_body(stage: Pass) -> tuple[cpp.Statement, ...]:
    residual = (_read(stage.shape, "Narrow", "residual", "residuals"),) if stage.residual else ()
    lanes = cpp.For("lane", cpp.Integer(stage.lanes), _lane_body(stage), (cpp.Pragma("unroll"),))
    return (
        _read(stage.shape, stage.source, "word", "words"),
        *residual,
        cpp.Declaration(cpp.Type(f"{stage.shape}::{stage.result}"), "result"),
        lanes,
        cpp.Method(cpp.Name("results"), "write", (cpp.Name("result"),)),
    )


def _read(shape: str, word: str, name: str, source: str) -> cpp.Declaration:
    kind = cpp.Type(f"{shape}::{word}", const=True)
    return cpp.Declaration(kind, name, value=cpp.Method(cpp.Name(source), "read"))


def _lane_body(stage: Pass) -> tuple[cpp.Statement, ...]:
    lane, value = cpp.Name("lane"), cpp.Name("value")
    column = cpp.Binary(cpp.Binary(cpp.Name("panel"), "*", cpp.Integer(stage.lanes)), "+", lane)
    operands = (
        cpp.Subscript(cpp.Name("word"), lane),
        cpp.Subscript(cpp.Name("multipliers"), cpp.Name("column")),
        cpp.Subscript(cpp.Name("biases"), cpp.Name("column")),
    )
    saturated = cpp.Call("archsim::sat8", (value,)) if stage.result == "Narrow" else value
    return (
        cpp.Declaration(_INT, "column", value=column),
        cpp.Declaration(_I16, "value", value=cpp.Call("archsim::affine", operands, (stage.shift,))),
        *_residual_step(stage.residual),
        *((_table_step(),) if stage.table else ()),
        cpp.Assign(cpp.Subscript(cpp.Name("result"), lane), saturated),
    )


def _residual_step(residual: ResidualSpec | None) -> tuple[cpp.Statement, ...]:
    if residual is None:
        return ()
    other: cpp.Expression = cpp.Subscript(cpp.Name("residual"), cpp.Name("lane"))
    if residual.left:
        amount = cpp.Subscript(cpp.Name("lefts"), cpp.Name("column"))
        other = cpp.Call("archsim::shift_left", (other, amount))
    operands = (cpp.Name("value"), other)
    if residual.operation is Operation.ADD:
        call = cpp.Call("archsim::add_residual", operands, (residual.multiplier, residual.shift))
    else:
        call = cpp.Call("archsim::multiply_residual", operands, (residual.shift,))
    return (cpp.Assign(cpp.Name("value"), call),)


def _table_step() -> cpp.Assign:
    table = cpp.Subscript(cpp.Name("tables"), cpp.Name("lane"))
    return cpp.Assign(cpp.Name("value"), cpp.Call("archsim::lookup", (cpp.Name("value"), table)))
