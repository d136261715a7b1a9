"""The training text of the small ternary model: English prose and verse out of one Debian package.

``python -m scripts.web_text FOLDER`` fetches the package ``sword-text-web`` (public domain) by its name
with apt, checks it, and writes ``train.txt``, ``validation.txt`` and ``held_back.txt``. Whole books are
kept back, so that nothing of them was seen in training; the two Greek editions that repeat another book
of the package almost word for word are left out altogether.
"""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

PACKAGE = "sword-text-web"
VERSION = "426.0-1"
DEB_SHA256 = "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1"
LICENCE = "public domain"
LEFT_OUT = ("EsthGr", "DanGr")
"""Second editions of Esther and Daniel: kept, they would show the model what it is measured on."""
VALIDATION = ("Esth", "Nah", "1Pet")
HELD_BACK = ("Ruth", "Jdt", "Eccl", "Jonah", "Rom", "Jas")
RARE = 10
SPLITS = ("train", "validation", "held_back")
MODULE = "usr/share/sword/modules/texts/ztext/engWEB2015eb"
PLAIN = str.maketrans(
    {
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
        "—": "-",
        "–": "-",
        "‐": "-",
        "\u00a0": " ",
        "…": "...",
        "[": "(",
        "]": ")",
    }
)
"""Typographic marks become those of a keyboard, so that a prompt can be typed."""
HIDDEN = re.compile(r"<(note|title|speaker|reference)\b[^>]*(?<!/)>.*?</\1>", re.DOTALL)
BREAK = re.compile(r'<(?:lb|l|lg|item|chapter)\b[^>]*>|</(?:l|lg|item)>|<div\b[^>]*type="x-p"[^>]*>')
BOOK = re.compile(r'<div\b[^>]*osisID="(\w+)"[^>]*sID="[^>]*type="book"/>')
GLOSSARY = re.compile(r'<div\b[^>]*type="glossary"[^>]*>.*', re.DOTALL)
SWALLOWED = re.compile(r"(?<=[\w.,;:!?’”])\0+(?=[\w“‘])")
"""A note between two words stands for the space that the package leaves out there."""
TAG = re.compile(r"<[^>]*>")


class TextError(click.ClickException):
    """The text cannot be fetched, or is not the one that was trained on: one line, exit code 2."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The three texts, all of one alphabet."""

    train: str
    """What a model learns from."""
    validation: str
    """What choices between models are made on."""
    held_back: str
    """What the published figures are measured on."""

    def alphabet(self) -> str:
        """Return the characters of all three in code order: 0 is the newline."""
        return "".join(sorted(set(self.train + self.validation + self.held_back)))


def fetch(folder: Path) -> Path:
    """Download the package into ``folder`` with apt, by its name alone.

    Raises:
        TextError: apt is missing or fails, or the file is not the one that was trained on.
    """
    try:
        subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise TextError(
            f"the text must be had from Debian's package {PACKAGE} with apt, not {error}"
        ) from None
    found = sorted(folder.glob(f"{PACKAGE}_*.deb"))
    if not found:
        raise TextError(f"apt-get download {PACKAGE} must leave a .deb file, not nothing")
    return found[0]


def checked(deb: Path) -> Path:
    """Return the package's path if its bytes are those that the published model was trained on."""
    seen = hashlib.sha256(deb.read_bytes()).hexdigest()
    if seen != DEB_SHA256:
        raise TextError(f"{PACKAGE} must be version {VERSION} with SHA-256 {DEB_SHA256}, not {seen!r}")
    return deb


def books(deb: Path) -> dict[str, str]:
    """Return each book's text by its OSIS name, in the package's order."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            subprocess.run(["dpkg-deb", "-x", str(deb), scratch], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise TextError(f"{deb} must be a Debian package that dpkg-deb unpacks, not {error}") from None
        pages = [page for part in ("ot", "nt") for page in _pages(Path(scratch) / MODULE / part)]
    whole = BOOK.split("".join(pages))  # a book may span several pages, and a page hold the end of another
    return {name: plain(osis) for name, osis in zip(whole[1::2], whole[2::2], strict=True)}


def _pages(stem: Path) -> Iterator[str]:
    """Inflate a testament's books; the index holds (offset, compressed size, size), 32 bits each."""
    index, packed = stem.with_suffix(".bzs").read_bytes(), stem.with_suffix(".bzz").read_bytes()
    for offset, size, _ in struct.iter_unpack("<III", index):
        if size:
            yield zlib.decompress(packed[offset : offset + size]).decode()


def plain(osis: str) -> str:
    r"""Strip the markup: one line a paragraph or verse; no notes, headings, prefaces or glossary.

    >>> plain('<div sID="a" type="x-p"/><w>In</w> the <note>or: a</note>“days”<l eID="b"/> of')
    'In the "days"\nof\n'
    """
    osis = " ".join(osis[osis.index("<chapter ") :].split()) if "<chapter " in osis else osis
    text = TAG.sub("", BREAK.sub("\n", HIDDEN.sub("\0", GLOSSARY.sub("", osis))))
    text = SWALLOWED.sub(" ", text).replace("\0", "")
    lines = (" ".join(line.translate(PLAIN).split()) for line in text.split("\n"))
    return "".join(f"{line}\n" for line in lines if line)


def split(whole: dict[str, str]) -> Split:
    """Part the books; a line with a character that the package has fewer than RARE times is dropped."""
    counts: dict[str, int] = {}
    for text in whole.values():
        for character in set(text):
            counts[character] = counts.get(character, 0) + text.count(character)
    common = {character for character, count in counts.items() if count >= RARE}
    kept = {name: _of(text, common) for name, text in whole.items() if name not in LEFT_OUT}
    parts = {"validation": VALIDATION, "held_back": HELD_BACK}
    train = "".join(text for name, text in kept.items() if name not in VALIDATION + HELD_BACK)
    rest = {part: "".join(kept[name] for name in names) for part, names in parts.items()}
    return Split(train=train, **rest)


def _of(text: str, alphabet: set[str]) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if alphabet.issuperset(line))


def load(folder: Path) -> Split:
    """Read the three texts from ``folder``, or make them there first."""
    paths = {name: folder / f"{name}.txt" for name in SPLITS}
    if not all(path.is_file() for path in paths.values()):
        write(folder)
    return Split(**{name: path.read_text(encoding="ascii") for name, path in paths.items()})


def write(folder: Path) -> Split:
    """Fetch, check, clean and split; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        texts = split(books(checked(fetch(Path(scratch)))))
    for name in SPLITS:
        (folder / f"{name}.txt").write_text(getattr(texts, name), encoding="ascii")
    return texts


def digest(text: str) -> str:
    """SHA-256 of a text's bytes."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write the three texts into FOLDER."""
    texts = write(folder)
    for name in SPLITS:
        text = getattr(texts, name)
        click.echo(f"{name}.txt: {len(text)} characters, SHA-256 {digest(text)}")
    click.echo(f"{len(texts.alphabet())} different characters: {texts.alphabet()!r}")


if __name__ == "__main__":
    main()
