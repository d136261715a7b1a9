"""HTML as text that cannot be forgotten to be escaped: a string is content, a Markup is HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Union

from archsim.cli._figures import PALETTE

_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
)
_VOID = frozenset({"meta"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = Union[str, Iterable["Content"]]  # noqa: UP007 - a name that refers to itself


def tag(name: str, /, *content: Content, **attributes: str) -> Markup:
    """An element; plain strings among its content are escaped, as are attributes (``class_``).

    >>> tag("p", "a < b", tag("b", "c"), class_="note")
    '<p class="note">a &lt; b<b>c</b></p>'
    """
    given = "".join(f' {key.strip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{joined(content)}</{name}>")


def joined(content: Iterable[Content]) -> Markup:
    """Pieces of content behind one another."""
    return Markup("".join(_escaped(piece) for piece in content))


def _escaped(piece: Content) -> str:
    if isinstance(piece, Markup):
        return piece
    return html.escape(piece) if isinstance(piece, str) else joined(piece)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A table's column: numbers stand right, text left; prose may wrap."""

    head: str
    cells: Sequence[str]
    kind: Literal["number", "text", "prose"] = "number"


def table(columns: Sequence[Column], *, note: Content, caption: str = "", total: bool = False) -> Markup:
    """A table that scrolls sideways where it is too wide, with a note that says what its numbers are.

    ``total`` sets the last row apart.
    """
    kinds = [column.kind for column in columns]
    heads = [tag("th", c.head, class_=k, scope="col") for c, k in zip(columns, kinds, strict=True)]
    rows = list(zip(*(column.cells for column in columns), strict=True))
    body = [
        tag(
            "tr",
            [tag("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)],
            **({"class_": "total"} if total and place == len(rows) - 1 else {}),
        )
        for place, row in enumerate(rows)
    ]
    title = [tag("caption", caption)] if caption else []
    whole = tag("table", title, tag("thead", tag("tr", heads)), tag("tbody", body))
    return joined([tag("div", whole, class_="scroll"), tag("p", note, class_="note")])


def text_column(head: str, cells: Iterable[str], *, prose: bool = False) -> Column:
    """A column of words, or of sentences."""
    return Column(head=head, cells=tuple(cells), kind="prose" if prose else "text")


def integers(head: str, values: Iterable[int | None]) -> Column:
    """A column of whole numbers; None is a dash."""
    return Column(head=head, cells=tuple("–" if value is None else f"{value:,}" for value in values))


def exact(head: str, values: Iterable[float | None]) -> Column:
    """A column of numbers in full, ten digits at most; None is a dash."""
    return Column(head=head, cells=tuple("–" if value is None else f"{value:,.10g}" for value in values))


def percents(head: str, values: Iterable[float | None]) -> Column:
    """A column of shares in percent."""
    cells = tuple("–" if value is None else f"{100 * value:.1f}" for value in values)
    return Column(head=f"{head} (%)", cells=cells)


def quantities(head: str, values: Iterable[float | None], unit: str) -> Column:
    """A column of quantities, all with one SI prefix, which the head names.

    It suits the largest, or is the next smaller one where others would vanish beside it.
    """
    listed = list(values)
    known = [value for value in listed if value]
    largest = max(known, default=0.0)
    scale, prefix = _prefix(largest / 1000 if min(known, default=0.0) < largest / 1000 else largest)
    places = 1 if largest >= 100 * scale else 2 if largest >= 10 * scale else 3
    return Column(
        head=f"{head} ({prefix}{unit})",
        cells=tuple("–" if value is None else f"{value / scale:,.{places}f}" for value in listed),
    )


def quantity(value: float, unit: str) -> str:
    """A number with its SI prefix and unit: three significant digits or more.

    >>> quantity(0.0124535, "s")
    '12.5 ms'
    """
    scale, prefix = _prefix(value)
    return f"{decimal(value / scale)} {prefix}{unit}".rstrip()


def decimal(value: float) -> str:
    """Thousands separated, with as many decimals as make three significant digits.

    >>> decimal(1234.5), decimal(12.345), decimal(0.01234)
    ('1,234', '12.3', '0.0123')
    """
    size = abs(value)
    if size < 1:
        return f"{value:.3g}"
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2}f}"


def _prefix(value: float) -> tuple[float, str]:
    fits = (pair for pair in _PREFIXES if abs(value) >= pair[0])
    return next(fits, (1.0, "") if value == 0 else _PREFIXES[-1])


def page(title: str, body: Content) -> Markup:
    """A whole document that needs no other file."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(_style())),
    )
    return Markup(f"<!doctype html>\n{tag('html', head, tag('body', tag('main', body)), lang='en')}\n")


def _style() -> str:
    light = "".join(f"--{name}:{values[0]};" for name, values in PALETTE.items())
    dark = "".join(f"--{name}:{values[1]};" for name, values in PALETTE.items())
    night = f"@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return f":root{{color-scheme:light dark;{light}}}\n{night}{_CSS}"


_CSS = """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,"Liberation Sans",sans-serif}
main{max-width:1000px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:27px;line-height:1.2;margin:12px 0 4px}
h2{font-size:20px;margin:52px 0 10px;padding-top:14px;border-top:2px solid var(--ink)}
h3{font-size:16px;margin:32px 0 8px}
p{margin:6px 0 12px;max-width:75ch}
.lead,.note,figcaption,.card span{color:var(--faint)}
.note,figcaption{font-size:12.5px;line-height:1.45}
.note{margin:6px 0 20px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0 26px}
.card{border:1px solid var(--grid);border-radius:8px;padding:11px 13px}
.card b{display:block;font-size:21px;line-height:1.25;font-variant-numeric:tabular-nums}
.card span{font-size:12.5px;line-height:1.35;display:block}
.card.good{border-color:var(--teal)}.card.good b{color:var(--teal)}
.card.bad{border-color:var(--orange)}.card.bad b{color:var(--orange)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13.5px}
caption{text-align:left;font-weight:600;padding:4px 0}
th,td{padding:4px 10px;border-bottom:1px solid var(--grid);vertical-align:top}
th:first-child,td:first-child{padding-left:0}
th{font-size:12.5px;font-weight:600;vertical-align:bottom;border-bottom-color:var(--faint)}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th.number{white-space:normal}
.text,.prose{text-align:left}
.prose{min-width:230px}
.text{max-width:340px;overflow-wrap:break-word}
.total td{font-weight:600;border-top:1px solid var(--faint)}
.pictures{columns:2;column-gap:36px;margin-top:24px}
.pictures figure{break-inside:avoid;padding-bottom:24px}
figure{margin:0 0 6px;min-width:0}
figure h4,.box h4{font-size:14px;margin:0 0 6px}
svg{display:block;width:100%;height:auto}
svg *{stroke-linejoin:round;stroke-linecap:butt}
svg text{font-family:system-ui,"Liberation Sans",sans-serif!important}
.phone{display:none}
details{margin:10px 0;border:1px solid var(--grid);border-radius:6px;padding:6px 12px}
summary{cursor:pointer;font-weight:600;font-size:14px}
pre{font:12.5px/1.45 ui-monospace,"Liberation Mono",monospace;overflow-x:auto;margin:8px 0}
.loop{border:1px solid var(--faint);border-left:4px solid var(--blue);
border-radius:4px 0 0 4px;border-right:0;padding:4px 0 4px 9px;margin:5px 0 0}
.loop.once{border-color:var(--grid);border-left:4px solid var(--grid)}
.loop.once>.head{color:var(--faint)}
.nest{font-size:13px;line-height:1.45}
.hold,.lane{display:inline-block;border-radius:4px;padding:1px 8px;margin:4px 6px 0 0;font-size:12.5px}
.hold{background:color-mix(in srgb,var(--teal) 16%,transparent)}
.lane{background:color-mix(in srgb,var(--orange) 18%,transparent)}
@media(max-width:720px){.pictures{columns:1}.wide{display:none}.phone{display:block}
main{padding:12px 14px 40px}h1{font-size:23px}th,td{padding:4px 7px}}
@media print{details{border:0}.scroll{overflow:visible}}
"""
