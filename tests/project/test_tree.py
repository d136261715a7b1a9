"""The shape of the sources: sizes, docstrings, words, and the public surface."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("archsim", "mapper", "rtl", "hls_gen", "workloads")
SKIPPED = re.compile(r"\.git|\.venv|\.cache|\.hypothesis|__pycache__|build|dist|sim_.*|.*_cache|archsim-.*")
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".lock",
    ".lark",
    ".hpp",
    ".cpp",
    ".sv",
    ".v",
    ".tcl",
    ".txt",
    "",
}
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
Function = ast.FunctionDef | ast.AsyncFunctionDef


def tree() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        folders = path.relative_to(ROOT).parts[:-1]
        if path.is_file() and not any(SKIPPED.fullmatch(folder) for folder in folders):
            yield path


SOURCES = [path for path in tree() if path.suffix == ".py"]
MODULES = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in PACKAGES]


def identifier(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_kernel(function: Function) -> bool:
    """Numba kernels may be long: they have a plain twin as their oracle."""
    return any(
        re.search(r"jit\b|\bkernel\b", ast.unparse(decorator)) for decorator in function.decorator_list
    )


@pytest.mark.parametrize("path", SOURCES, ids=identifier)
def test_files_and_functions_fit(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") < MAX_FILE_LINES or path.stem.endswith("_kernel")
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, Function)]
    long = {
        function.name: function.end_lineno - function.lineno + 1
        for function in functions
        if function.end_lineno is not None
        and function.end_lineno - function.lineno >= MAX_FUNCTION_LINES
        and not is_kernel(function)
    }
    assert long == {}


def public_definitions(path: Path) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, (Function, ast.ClassDef)) or node.name.startswith("_"):
            continue
        yield node.name, node
        for member in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(member, Function) and not member.name.startswith("_"):
                yield f"{node.name}.{member.name}", member


# Their contract is that of the library that calls them.
INHERITED = {"elaborate"}


@pytest.mark.parametrize("path", MODULES, ids=identifier)
def test_public_names_have_docstrings(path: Path) -> None:
    silent = [
        name
        for name, node in public_definitions(path)
        if node.name not in INHERITED and not (ast.get_docstring(node) or "").strip()
    ]
    assert silent == []
    assert ast.get_docstring(ast.parse(path.read_text())), "a module says what it is"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_surface_is_there(package: str) -> None:
    module = importlib.import_module(package)
    names = list(module.__all__)
    assert len(names) == len(set(names)) > 0
    for name in names:
        assert hasattr(module, name)
    modules = [path.stem for path in (ROOT / package).glob("*.py") if not path.stem.startswith("_")]
    assert modules == [], "modules are private: the package's __init__ is its surface"


# A letter in brackets keeps a pattern from matching itself.
FORBIDDEN = re.compile(
    "|".join(
        [
            r"/[w]ork/(main|shared)",
            r"/[r]oot/",
            r"/[h]ome/[a-z]",
            r"/[o]pt/(pypi|wheels)",
            r"\b([T]ODO|[F]IXME|[X]XX)\b",
            r"(?i:\b([c]laude|[c]hatgpt|[a]nthropic|[o]penai|[c]opilot)\b)",
            r"(?i:\b[a]s an ai\b)",
            r"(?i:\b[i]ssue #?\d)",
        ]
    )
)


@pytest.mark.parametrize("path", [path for path in tree() if path.suffix in TEXT], ids=identifier)
def test_the_tree_speaks_of_itself_alone(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = [f"{text.count(chr(10), 0, match.start()) + 1}: {match[0]}" for match in FORBIDDEN.finditer(text)]
    assert found == []


@pytest.mark.parametrize("word", [("/wo", "rk/main/x.py"), ("# TO", "DO: later"), ("says, as an a", "i,")])
def test_forbidden_words_are_found(word: tuple[str, str]) -> None:
    assert FORBIDDEN.search("".join(word))
    assert not FORBIDDEN.search(" ".join(word))
