"""The training text: markup, splits and refusals; no package is fetched here."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from scripts import web_text
from scripts.web_text import TextError, checked, fetch, load, plain, split


def test_markup_becomes_lines() -> None:
    osis = (
        '<title>The Book of</title> a preface <chapter n="1" sID="Ruth.1"/><w lemma="x">In</w>\nthe days,'
        '<div sID="a" type="x-p"/>Naomi’s<note>or: <reference>1:2 </reference>their</note><w>kin</w>'
        '<note>a</note>; “yes”—no [it] <l level="1" sID="b"/>nor stand<l eID="b" level="1"/>'
        '<div type="x-milestone" sID="c"/> on<div type="glossary"/>Abba: father'
    )
    assert plain(osis) == 'In the days,\nNaomi\'s kin; "yes"-no (it)\nnor stand\non\n'


def whole() -> dict[str, str]:
    names = ("Gen", *web_text.VALIDATION, *web_text.HELD_BACK, *web_text.LEFT_OUT)
    return {name: f"{name} a book.\n" * 10 for name in names}


def test_books_are_parted_and_second_editions_left_out() -> None:
    parts = split(whole())
    assert parts.train == "Gen a book.\n" * 10
    assert parts.validation == "".join(f"{name} a book.\n" * 10 for name in ("Esth", "Nah", "1Pet"))
    assert parts.held_back.startswith("Ruth a book.\n")
    assert parts.held_back.count("\n") == 60
    assert "Gr" not in parts.train + parts.validation + parts.held_back


def test_lines_with_rare_characters_are_dropped() -> None:
    books = whole()
    books["Gen"] += "a % sign.\n" * 9 + "b + sign.\n" * 10
    parts = split(books)
    assert parts.train == "Gen a book.\n" * 10 + "b + sign.\n" * 10
    assert "%" not in parts.alphabet()
    assert parts.alphabet() == "".join(sorted(set(parts.alphabet())))


def test_pages_are_inflated_by_the_index(tmp_path: Path) -> None:
    pages = [zlib.compress(text) for text in (b"first", b"second")]
    (tmp_path / "ot.bzz").write_bytes(b"".join(pages))
    rows = [(0, 0, 0), (0, len(pages[0]), 5), (len(pages[0]), len(pages[1]), 6)]
    (tmp_path / "ot.bzs").write_bytes(b"".join(struct.pack("<III", *row) for row in rows))
    assert list(web_text._pages(tmp_path / "ot")) == ["first", "second"]


def test_another_version_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.deb"
    other.write_bytes(b"")
    with pytest.raises(
        TextError, match=r"^sword-text-web must be version 426\.0-1 with SHA-256 \w{64}, not 'e3b0"
    ):
        checked(other)


def test_a_computer_without_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        TextError, match=r"^the text must be had from Debian's package sword-text-web with apt"
    ):
        fetch(tmp_path)


def test_texts_already_there_are_read(tmp_path: Path) -> None:
    for name in web_text.SPLITS:
        (tmp_path / f"{name}.txt").write_text(name)
    assert load(tmp_path).held_back == "held_back"
