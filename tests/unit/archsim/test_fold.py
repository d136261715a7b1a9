"""Folding of repetition: what is unfolded again is what was folded."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from archsim._fold import Folded, Repeat, folded


def unfolded(items: Folded[str]) -> Iterator[str]:
    for item in items:
        if isinstance(item, Repeat):
            for _ in range(item.count):
                yield from unfolded(item.body)
        else:
            yield item


def length(items: Folded[str]) -> int:
    return sum(1 + length(item.body) if isinstance(item, Repeat) else 1 for item in items)


@given(st.lists(st.sampled_from("abc"), max_size=60))
def test_nothing_is_lost(items: list[str]) -> None:
    assert list(unfolded(folded(tuple(items)))) == items


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=12), st.integers(2, 100))
def test_its_length_does_not_depend_on_the_count(items: list[str], count: int) -> None:
    # At worst some items stand before and behind the loop, which takes one more.
    assert length(folded(tuple(items * count))) <= 3 * len(items) + 1


def test_nested_repetition() -> None:
    once = ("a", *"b" * 3)
    assert folded((*once * 5, "c")) == (Repeat(5, ("a", Repeat(3, ("b",)))), "c")
    assert folded(("x", *(*once * 2, "c") * 4)) == (
        "x",
        Repeat(4, (Repeat(2, ("a", Repeat(3, ("b",)))), "c")),
    )


def test_what_does_not_repeat_is_left() -> None:
    assert folded(()) == ()
    assert folded(("a", "b", "c")) == ("a", "b", "c")
