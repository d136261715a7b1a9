"""The Einsum text: ``parse(str(cascade)) == cascade``; ``einsum.lark`` is its grammar."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from typing import TypeVar

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from workloads._analyze import VerificationError, verify
from workloads._einsum import INFIX, Access, Cascade, Einsum, Index, literal, number
from workloads._errors import WorkloadError

MAX_TEXT_CHARACTERS = 1 << 20
"""Longest text that is read."""
MAX_EINSUMS = 10_000
"""Most Einsums of one cascade."""

Node = Tree[Token]
_T = TypeVar("_T")
_MAP_OF_SIGN = {sign: name for name, sign in INFIX.items()}
_SHOWN = {
    "NAME": "a name",
    "INT": "an integer",
    "NUMBER": "a number",
    "TITLE": "a name",
    "_NL": "end of line",
    "INF": "'inf'",
    "CASCADE": "'cascade'",
    "RANKS": "'ranks'",
    "TENSOR": "'tensor'",
    "LSQB": "'['",
    "RSQB": "']'",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "EQUAL": "'='",
    "STAR": "'*'",
    "PLUS": "'+'",
    "MINUS": "'-'",
    "SLASH": "'/'",
}


class ParseError(WorkloadError):
    """The text is not a cascade; carries the place, counted from 1."""

    def __init__(self, message: str, *, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column


def parse(text: str) -> Cascade:
    """The verified cascade that ``text`` spells.

    Raises :class:`ParseError` with line and column where the text breaks the grammar, names an
    unknown rank, or spells a cascade that ``verify`` refuses.
    """
    tree = _tree(text, "start")
    statements = [_child(node) for node in tree.find_data("statement")]
    statements.sort(key=lambda node: node.meta.line)
    if len(statements) > MAX_EINSUMS:
        message = f"a cascade must have at most {MAX_EINSUMS} Einsums, not {len(statements)}"
        raise ParseError(message, line=statements[MAX_EINSUMS].meta.line, column=1)
    ranks = _unique((_size(node) for node in _nodes(tree, "size")), "rank")
    shapes = _unique((_shape(node) for node in _nodes(tree, "shape")), "tensor")
    for node in statements:
        _check_ranks(node, ranks)
    einsums = tuple(_einsum(node) for node in statements)
    title = next(tree.find_data("title"))
    cascade = _located(title, lambda: Cascade(str(title.children[0]), ranks, einsums, shapes))
    try:
        verify(cascade)
    except VerificationError as error:
        node = title if error.einsum is None else statements[error.einsum]
        raise ParseError(str(error), line=node.meta.line, column=node.meta.column) from None
    return cascade


def parse_einsum(text: str) -> Einsum:
    """The Einsum of one statement; its ranks are not checked against any size.

    >>> parse_einsum("Z[m,n] = A[m,k] * B[k,n]").reduced_ranks
    ('k',)
    """
    return _einsum(_tree(text, "einsum"))


@functools.cache
def _grammar() -> Lark:
    source = files("workloads").joinpath("einsum.lark").read_text(encoding="utf-8")
    return Lark(
        source, parser="lalr", start=["start", "einsum"], propagate_positions=True, maybe_placeholders=False
    )


def _tree(text: str, start: str) -> Node:
    if len(text) > MAX_TEXT_CHARACTERS:
        message = f"a cascade's text must have at most {MAX_TEXT_CHARACTERS} characters, not {len(text)}"
        raise ParseError(message, line=1, column=1)
    try:
        return _grammar().parse(text + "\n" if start == "start" else text, start=start)
    except UnexpectedInput as error:
        raise _syntax_error(error, text) from None


def _syntax_error(error: UnexpectedInput, text: str) -> ParseError:
    lines = text.split("\n")
    line, column = error.line, error.column
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        line, column = len(lines), len(lines[-1]) + 1
    expected: Iterable[str] = ()
    if isinstance(error, UnexpectedToken):
        expected = error.accepts or error.expected
    elif isinstance(error, UnexpectedCharacters):
        expected = error.allowed or ()
    wanted = sorted(
        {_SHOWN.get(name, "end of text") for name in expected if name != "COMMENT" and name != "WS_INLINE"}
    )
    rest = lines[line - 1][column - 1 :] if 1 <= line <= len(lines) else ""
    found = re.match(r"\s*(\w{1,20}|\S)", rest)
    shown = repr(found[1]) if found else "end of line"
    return ParseError(
        f"the text must go on with {' or '.join(wanted)}, not {shown}", line=line, column=column
    )


def _located(node: Node, build: Callable[[], _T]) -> _T:
    try:
        return build()
    except ParseError:
        raise
    except WorkloadError as error:
        raise ParseError(str(error), line=node.meta.line, column=node.meta.column) from None


def _refusal(message: str, token: Token) -> ParseError:
    return ParseError(message, line=token.line or 1, column=token.column or 1)


def _tokens(node: Node) -> list[Token]:
    return [child for child in node.children if isinstance(child, Token)]


def _child(node: Node) -> Node:
    child = node.children[0]
    assert isinstance(child, Tree)
    return child


def _nodes(tree: Node, rule: str) -> list[Node]:
    return sorted(tree.find_data(rule), key=lambda node: (node.meta.line, node.meta.column))


def _unique(entries: Iterable[tuple[Token, _T]], what: str) -> dict[str, _T]:
    result: dict[str, _T] = {}
    for token, value in entries:
        if str(token) in result:
            raise _refusal(f"a {what} must be declared once, not again: '{token}'", token)
        result[str(token)] = value
    return result


def _size(node: Node) -> tuple[Token, int]:
    name, size = _tokens(node)
    return name, int(size)


def _shape(node: Node) -> tuple[Token, tuple[int, ...]]:
    name, *sizes = _tokens(node)
    return name, tuple(int(size) for size in sizes)


def _check_ranks(node: Node, ranks: Mapping[str, int]) -> None:
    for term in _nodes(node, "term"):
        token = _tokens(term)[-1]
        if token.type == "NAME" and str(token) not in ranks:
            raise _refusal(
                f"a rank must be one of {', '.join(ranks) or 'none declared'}, not '{token}'", token
            )


def _einsum(node: Node) -> Einsum:
    target, expression = node.children
    assert isinstance(target, Tree)
    assert isinstance(expression, Tree)
    output = _access(target)
    if expression.data == "constant":
        text = "".join(_tokens(expression))
        return _located(expression, lambda: Einsum(output, (), literal(number(text))))
    unary: str | None = None
    if expression.data == "wrapped":
        unary, body = str(_tokens(expression)[0]), expression.children[1]
        assert isinstance(body, Tree)
        expression = body
    elif expression.data == "call" and len(expression.children) == 2:
        unary, expression = str(_tokens(expression)[0]), _accesses(expression)[0]
    return _located(node, lambda: _assembled(output, expression, unary))


def _assembled(output: Access, body: Node, unary: str | None) -> Einsum:
    prefix: Node | None = None
    if body.data == "reduced":
        head, inner = body.children
        assert isinstance(head, Tree)
        assert isinstance(inner, Tree)
        prefix, body = head, inner
    inputs = (_access(body),) if body.data == "access" else tuple(_access(node) for node in _accesses(body))
    kept = set(output.ranks)
    missing = list(dict.fromkeys(rank for item in inputs for rank in item.ranks if rank not in kept))
    reduce = "add" if missing else None
    if prefix is not None:
        reduce = _reduction(prefix, missing)
    return Einsum(output, inputs, _map(body), reduce, unary)


def _accesses(body: Node) -> list[Node]:
    return [child for child in body.children if isinstance(child, Tree)]


def _map(body: Node) -> str:
    if body.data == "access":
        return "identity"
    names = _tokens(body)
    for name in names[1:]:
        if str(name) != str(names[0]):
            raise _refusal(f"the operators of one Einsum must be all '{names[0]}', not '{name}'", name)
    return _MAP_OF_SIGN.get(str(names[0]), str(names[0]))


def _reduction(prefix: Node, missing: list[str]) -> str:
    name = _tokens(prefix)[0]
    listed = [str(index) for index in _access(prefix).indices]
    if sorted(listed) != sorted(missing):
        raise _refusal(f"reduced ranks must be those that the output lacks, {missing}, not {listed}", name)
    return str(name)


def _access(node: Node) -> Access:
    indices = tuple(_index(child) for child in _accesses(node))
    return _located(node, lambda: Access(str(_tokens(node)[0]), indices))


def _index(node: Node) -> Index:
    coefficients: dict[str, int] = {}
    offset = 0
    sign = 1
    for child in node.children:
        if isinstance(child, Token):
            sign = -1 if child.type == "MINUS" else 1
            continue
        tokens = [token for token in _tokens(child) if token.type != "STAR"]
        if tokens[-1].type == "INT":
            offset += sign * int(tokens[-1])
        else:
            rank, factor = str(tokens[-1]), int(tokens[0]) if len(tokens) == 2 else 1
            coefficients[rank] = coefficients.get(rank, 0) + sign * factor
    terms = tuple((rank, coefficient) for rank, coefficient in coefficients.items() if coefficient)
    return _located(node, lambda: Index(terms, offset))
