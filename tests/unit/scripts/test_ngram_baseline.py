"""Kneser-Ney against a second implementation with dictionaries, and against its own total."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from scripts.ngram_baseline import bits_per_character, discounts, fit, ngrams

SYMBOLS = 5


def text(seed: int, length: int) -> list[int]:
    """A text with habits: most characters follow from the two before."""
    random, codes = np.random.default_rng(seed), [0, 1]
    while len(codes) < length:
        codes.append(
            int((codes[-1] * 2 + codes[-2] + (random.random() < 0.3) * random.integers(5)) % SYMBOLS)
        )
    return codes


class Plain:
    """Interpolated modified Kneser-Ney, one definition after the other (Chen and Goodman, 4.3)."""

    def __init__(self, codes: list[int], order: int) -> None:
        self.order = order
        grams = {n: [tuple(codes[i : i + n]) for i in range(len(codes) - n + 1)] for n in range(1, order + 1)}
        self.counts = {order: Counter(grams[order])}
        for n in range(order - 1, 0, -1):
            # Distinct left neighbours, among the n-grams that the order above has counted.
            self.counts[n] = Counter(gram[1:] for gram in self.counts[n + 1])
        self.followers: dict[tuple[int, ...], dict[int, int]] = defaultdict(dict)
        for counts in self.counts.values():
            for gram, count in counts.items():
                self.followers[gram[:-1]][gram[-1]] = count

    def discount(self, n: int, count: int) -> float:
        times = Counter(self.counts[n].values())
        if not all(times[k] for k in (1, 2, 3, 4)):
            return 0.5
        k = min(count, 3)
        y = times[1] / (times[1] + 2 * times[2])
        return min(max(k - (k + 1) * y * times[k + 1] / times[k], 0.01), k)

    def probability(self, context: tuple[int, ...], code: int) -> float:
        n = len(context) + 1
        lower = self.probability(context[1:], code) if context else 1 / SYMBOLS
        followers = self.followers.get(context)
        if not followers:
            return lower
        taken = {c: self.discount(n, count) for c, count in followers.items()}
        own = followers[code] - taken[code] if code in followers else 0.0
        return (own + sum(taken.values()) * lower) / sum(followers.values())


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [40, 600])
def test_probabilities_are_the_definitions(order: int, length: int) -> None:
    read, asked = text(1, length), text(2, 80)
    plain = Plain(read, order)
    wanted = [
        plain.probability(tuple(asked[max(i - order + 1, 0) : i]), asked[i]) for i in range(1, len(asked))
    ]
    found = fit(np.array(read), order, SYMBOLS).probabilities(np.array(asked))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_probabilities_of_all_characters_make_one() -> None:
    model = fit(np.array(text(3, 500)), 4, SYMBOLS)
    for context in ([0, 1, 2], [4, 4, 4], [1]):
        ends = [model.probabilities(np.array([*context, code]))[-1] for code in range(SYMBOLS)]
        assert sum(ends) == pytest.approx(1, abs=1e-12)


def test_discounts_of_known_counts_of_counts() -> None:
    # n1..n4 = 8, 4, 2, 1: Y = 1/2, so D1 = 1 - 2*Y*4/8, D2 = 2 - 3*Y*2/4, D3 = 3 - 4*Y*1/2.
    counts = np.repeat([1, 2, 3, 4], [8, 4, 2, 1])
    assert discounts(counts).tolist() == [0.0, 0.5, 1.25, 2.0]


def test_an_unseen_context_falls_back_to_the_shorter_one() -> None:
    model, shorter = (fit(np.array([0, 1, 0, 1, 0, 1, 2]), order, SYMBOLS) for order in (3, 2))
    asked = np.array([2, 2, 1])
    assert model.probabilities(asked)[-1] == shorter.probabilities(asked)[-1]


def test_keys_hold_ten_characters_and_no_more() -> None:
    assert ngrams(np.full(10, 63), 10).tolist() == [2**60 - 1]
    with pytest.raises(ValueError, match=r"^order must be 1 to 10 and symbols at most 64, not 11 and 5$"):
        fit(np.array([0, 1]), 11, SYMBOLS)


def test_a_periodic_text_costs_next_to_nothing() -> None:
    assert bits_per_character("abc" * 2000, "abc" * 20, 4, "abc") < 0.02
