"""What a well-smoothed n-gram model makes of the same text: the ternary model's yardstick.

Interpolated modified Kneser-Ney over characters (Chen and Goodman, "An Empirical Study of Smoothing
Techniques for Language Modeling", 1998, section 4.3), in NumPy. ``python -m scripts.ngram_baseline
--text FOLDER`` prints bits per character on the held-back text of ``scripts.web_text``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from scripts.web_text import load

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
BITS = 6
"""A character's share of a 64-bit key, so that ten characters make one."""
PLAIN_DISCOUNT = 0.5
"""Where a text is too small or too regular to estimate a discount: absolute discounting by a half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one order knows: its n-grams and their contexts, as sorted keys."""

    grams: Ints
    discounted: Floats
    """Per n-gram: its count less the discount of such counts."""
    contexts: Ints
    totals: Floats
    """Per context: the sum of its n-grams' counts."""
    kept: Floats
    """Per context: the mass that discounting left for the lower orders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramModel:
    """The orders 1, 2, ... of one model over ``symbols`` characters."""

    symbols: int
    orders: tuple[Order, ...]

    def probabilities(self, codes: Ints) -> Floats:
        """Return p of each character but the first, given up to ``len(orders) - 1`` before it."""
        p = np.full(len(codes) - 1, 1 / self.symbols)
        for length, order in enumerate(self.orders, start=1):
            first = max(length - 2, 0)  # earlier characters have no context of this length
            keys = ngrams(codes, length)[max(2 - length, 0) :]
            p[first:] = _interpolate(order, keys, p[first:])
        return p


def _interpolate(order: Order, keys: Ints, lower: Floats) -> Floats:
    at, known = _find(order.contexts, keys >> BITS)
    gram, seen = _find(order.grams, keys)
    own = np.where(seen, order.discounted[gram], 0.0)
    return np.where(known, (own + order.kept[at] * lower) / order.totals[at], lower)


def _find(table: Ints, keys: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    places = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return places, table[places] == keys


def ngrams(codes: Ints, length: int) -> Ints:
    """Return the key of every run of ``length`` characters, the last one in the lowest bits.

    >>> ngrams(np.array([1, 2, 3]), 2).tolist()
    [66, 131]
    """
    keys = np.zeros(max(len(codes) - length + 1, 0), np.int64)
    for place in range(length):
        keys = keys << BITS | codes[place : place + len(keys)]
    return keys


def fit(codes: Ints, order: int, symbols: int) -> NgramModel:
    """Count a text: whole n-grams at the highest order, distinct left neighbours at the lower ones."""
    if not 1 <= order * BITS <= 60 or symbols > 1 << BITS:
        raise ValueError(f"order must be 1 to 10 and symbols at most 64, not {order} and {symbols}")
    keys, counts = np.unique(ngrams(codes, order), return_counts=True)
    orders = [_order(keys, counts)]
    for length in range(order - 1, 0, -1):
        keys, counts = np.unique(keys & (1 << BITS * length) - 1, return_counts=True)
        orders.append(_order(keys, counts))
    return NgramModel(symbols=symbols, orders=tuple(reversed(orders)))


def _order(keys: Ints, counts: Ints) -> Order:
    taken = discounts(counts)[np.minimum(counts, 3)]
    contexts, first = np.unique(keys >> BITS, return_index=True)
    totals, kept = (np.add.reduceat(values.astype(np.float64), first) for values in (counts, taken))
    return Order(grams=keys, discounted=counts - taken, contexts=contexts, totals=totals, kept=kept)


def discounts(counts: Ints) -> Floats:
    """(0, D1, D2, D3+) from the counts of counts: Chen and Goodman, equation 26."""
    n = [int((counts == times).sum()) for times in range(5)]
    if not all(n[1:]):
        return np.array([0.0] + 3 * [PLAIN_DISCOUNT])
    share = n[1] / (n[1] + 2 * n[2])
    wanted = [times - (times + 1) * share * n[times + 1] / n[times] for times in (1, 2, 3)]
    return np.array([0.0, *(min(max(d, 0.01), t) for t, d in enumerate(wanted, start=1))])


def bits_per_character(train: str, held_back: str, order: int, alphabet: str) -> float:
    """Mean -log2 p of every held-back character but the first."""
    place = {character: code for code, character in enumerate(alphabet)}
    read, asked = (np.array([place[c] for c in text], np.int64) for text in (train, held_back))
    return float(-np.log2(fit(read, order, len(alphabet)).probabilities(asked)).mean())


def _record(path: Path, figures: dict[int, float]) -> None:
    log = json.loads(path.read_text(encoding="utf-8"))
    log["held_back_bits_per_character_of_kneser_ney"] = {str(order): bits for order, bits in figures.items()}
    path.write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")


@click.command()
@click.option("--text", "folder", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--order", "orders", type=click.IntRange(1, 10), multiple=True, default=[5], show_default=True)
@click.option(
    "--record", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A training.json."
)
def main(folder: Path, orders: Sequence[int], record: Path | None) -> None:
    """Print bits per character on the held-back text, for each order."""
    texts, figures = load(folder), {}
    for order in orders:
        bits = bits_per_character(texts.train, texts.held_back, order, texts.alphabet())
        figures[order] = round(bits, 5)
        click.echo(f"order {order}: {figures[order]} bits per character")
    if record is not None:
        _record(record, figures)


if __name__ == "__main__":
    main()
