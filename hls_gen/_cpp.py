"""The C++ that is generated, as a closed union of immutable syntax nodes.

Only what the glue around the header library needs is here; ``_print.print_source`` is the one
place that turns it into text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Type:
    """A type: ``const name<arguments>&``."""

    name: str
    arguments: tuple[Type | int, ...] = ()
    const: bool = False
    reference: bool = False


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, constant or (qualified) function name."""

    text: str


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer literal."""

    value: int


@dataclass(frozen=True, slots=True)
class Text:
    """A string literal."""

    value: str


@dataclass(frozen=True, slots=True)
class Binary:
    """``left operator right``; a nested Binary prints in parentheses."""

    left: Expression
    operator: str
    right: Expression


@dataclass(frozen=True, slots=True)
class Subscript:
    """``base[index]``."""

    base: Expression
    index: Expression


@dataclass(frozen=True, slots=True)
class Call:
    """``function<template>(arguments)``; also a statement."""

    function: str
    arguments: tuple[Expression, ...] = ()
    template: tuple[Type | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """``base.name(arguments)``; also a statement."""

    base: Expression
    name: str
    arguments: tuple[Expression, ...] = ()


Expression: TypeAlias = Name | Integer | Text | Binary | Subscript | Call | Method


@dataclass(frozen=True, slots=True)
class Comment:
    """``// text``, one line."""

    text: str


@dataclass(frozen=True, slots=True)
class Pragma:
    """``#pragma HLS directive options``; an option is a (key, value), or a (key, None) flag."""

    directive: str
    options: tuple[tuple[str, str | int | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Declaration:
    """A variable: ``type name[dimensions]``, with an initial value or constructor arguments."""

    type: Type
    name: str
    dimensions: tuple[int | Name, ...] = ()
    value: Expression | None = None
    arguments: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class Assign:
    """``target = value;``."""

    target: Expression
    value: Expression


@dataclass(frozen=True, slots=True)
class For:
    """``for (int variable = 0; variable < bound; ++variable)``, its pragmas first in the body."""

    variable: str
    bound: Expression
    body: tuple[Statement, ...]
    pragmas: tuple[Pragma, ...] = ()


@dataclass(frozen=True, slots=True)
class Return:
    """``return value;``."""

    value: Expression


Statement: TypeAlias = Comment | Pragma | Declaration | Assign | For | Return | Call | Method


@dataclass(frozen=True, slots=True)
class Include:
    """``#include <path>``, or with quotes for the project's own files."""

    path: str
    system: bool = False


@dataclass(frozen=True, slots=True)
class PragmaOnce:
    """``#pragma once``."""


@dataclass(frozen=True, slots=True)
class Using:
    """``using name = type;``."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Parameter:
    """A function's parameter, an array if it has dimensions."""

    type: Type
    name: str
    dimensions: tuple[int | Name, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    """A function: a prototype if ``body`` is None."""

    result: Type
    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...] | None = None


@dataclass(frozen=True, slots=True)
class Namespace:
    """``namespace name { items }``, without a name for what other files must not see."""

    name: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Linkage:
    """``extern "C" { items }``, as the vendor's linker wants its kernels."""

    items: tuple[Item, ...]


Item: TypeAlias = Comment | Include | PragmaOnce | Using | Declaration | Function | Namespace | Linkage


@dataclass(frozen=True, slots=True)
class Source:
    """A file: its items in order."""

    items: tuple[Item, ...]
