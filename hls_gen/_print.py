"""The one printer of the C++ syntax tree.

Four blanks an indent, at most 110 columns where a parameter or argument list can be broken, a
blank line around every multi-line item.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from hls_gen import _cpp as cpp

_INDENT = "    "
_WIDTH = 110


def print_source(source: cpp.Source) -> str:
    """The text of a file, ending with a newline."""
    return "\n".join(_items(source.items)) + "\n"


def _items(items: Iterable[cpp.Item]) -> list[str]:
    lines: list[str] = []
    previous: cpp.Item | None = None
    for item in items:
        if previous is not None and _separated(previous, item):
            lines.append("")
        lines += _item(item)
        previous = item
    return lines


def _separated(before: cpp.Item, after: cpp.Item) -> bool:
    """Whether a blank line stands between two items."""
    if isinstance(before, cpp.Comment):
        return isinstance(after, cpp.PragmaOnce | cpp.Include)
    if type(before) is not type(after):
        return True
    if isinstance(before, cpp.Include) and isinstance(after, cpp.Include):
        return before.system != after.system
    return isinstance(after, cpp.Function | cpp.Namespace | cpp.Linkage)


def _item(item: cpp.Item) -> list[str]:
    match item:
        case cpp.Comment():
            return [f"// {item.text}"]
        case cpp.Include():
            return [f"#include <{item.path}>" if item.system else f'#include "{item.path}"']
        case cpp.PragmaOnce():
            return ["#pragma once"]
        case cpp.Using():
            return [f"using {item.name} = {_type(item.type)};"]
        case cpp.Declaration():
            return _declaration(item)
        case cpp.Function():
            return _function(item)
        case cpp.Namespace():
            title = f"namespace {item.name}" if item.name else "namespace"
            return [f"{title} {{", "", *_items(item.items), "", f"}}  // {title}"]
        case cpp.Linkage():
            return ['extern "C" {', *_items(item.items), "}"]
        case _:
            assert_never(item)


def _function(function: cpp.Function) -> list[str]:
    parameters = [_declarator(each.type, each.name, each.dimensions) for each in function.parameters]
    head = f"{_type(function.result)} {function.name}"
    if function.body is None:
        return _list(head, parameters, ");")
    return [*_list(head, parameters, ") {"), *_block(function.body), "}"]


def _list(head: str, entries: list[str], tail: str) -> list[str]:
    """``head(entries tail`` on one line if it fits, else an entry a line."""
    line = f"{head}({', '.join(entries)}{tail}"
    if len(line) <= _WIDTH or not entries:
        return [line]
    return [f"{head}(", *(f"{_INDENT}{entry}," for entry in entries[:-1]), f"{_INDENT}{entries[-1]}{tail}"]


def _block(body: tuple[cpp.Statement, ...]) -> list[str]:
    """Statements, indented; pragmas stand at the margin."""
    lines = [line for statement in body for line in _statement(statement)]
    return [line if line.startswith("#") else _INDENT + line for line in lines]


def _statement(statement: cpp.Statement) -> list[str]:
    match statement:
        case cpp.Comment():
            return [f"// {statement.text}"]
        case cpp.Pragma():
            return [_pragma(statement)]
        case cpp.Declaration():
            return _declaration(statement)
        case cpp.Assign():
            return [f"{_expression(statement.target)} = {_expression(statement.value)};"]
        case cpp.For():
            index = statement.variable
            head = f"for (int {index} = 0; {index} < {_expression(statement.bound)}; ++{index}) {{"
            return [head, *_block((*statement.pragmas, *statement.body)), "}"]
        case cpp.Return():
            return [f"return {_expression(statement.value)};"]
        case cpp.Call():
            return _list(_callee(statement), [_expression(each) for each in statement.arguments], ");")
        case cpp.Method():
            return [f"{_expression(statement)};"]
        case _:
            assert_never(statement)


def _pragma(pragma: cpp.Pragma) -> str:
    options = (key if value is None else f"{key}={value}" for key, value in pragma.options)
    return " ".join(("#pragma HLS", pragma.directive, *options))


def _declaration(declaration: cpp.Declaration) -> list[str]:
    text = _declarator(declaration.type, declaration.name, declaration.dimensions)
    if declaration.arguments:
        return [f"{text}({', '.join(map(_expression, declaration.arguments))});"]
    if declaration.value is None:
        return [f"{text};"]
    line = f"{text} = {_expression(declaration.value)};"
    return [line] if len(line) <= _WIDTH else [f"{text} =", f"{_INDENT}{_expression(declaration.value)};"]


def _declarator(kind: cpp.Type, name: str, dimensions: tuple[int | cpp.Name, ...]) -> str:
    sizes = "".join(f"[{each if isinstance(each, int) else each.text}]" for each in dimensions)
    if kind.reference and dimensions:
        return f"{_type(kind).removesuffix('&')} (&{name}){sizes}"
    return f"{_type(kind)} {name}{sizes}"


def _type(kind: cpp.Type) -> str:
    const = "const " if kind.const else ""
    return f"{const}{kind.name}{_template(kind.arguments)}{'&' if kind.reference else ''}"


def _template(arguments: tuple[cpp.Type | int, ...]) -> str:
    if not arguments:
        return ""
    return f"<{', '.join(_type(each) if isinstance(each, cpp.Type) else str(each) for each in arguments)}>"


def _callee(call: cpp.Call) -> str:
    return call.function + _template(call.template)


def _expression(expression: cpp.Expression) -> str:
    match expression:
        case cpp.Name():
            return expression.text
        case cpp.Integer():
            return str(expression.value)
        case cpp.Text():
            return _quoted(expression.value)
        case cpp.Binary():
            return f"{_operand(expression.left)} {expression.operator} {_operand(expression.right)}"
        case cpp.Subscript():
            return f"{_operand(expression.base)}[{_expression(expression.index)}]"
        case cpp.Call():
            return f"{_callee(expression)}({', '.join(map(_expression, expression.arguments))})"
        case cpp.Method():
            arguments = ", ".join(map(_expression, expression.arguments))
            return f"{_operand(expression.base)}.{expression.name}({arguments})"
        case _:
            assert_never(expression)


def _operand(expression: cpp.Expression) -> str:
    text = _expression(expression)
    return f"({text})" if isinstance(expression, cpp.Binary) else text


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
