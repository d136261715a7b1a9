"""Writing text: how tokens are chosen, and that a seed is a text."""

from __future__ import annotations

import numpy as np
import pytest

from workloads import (
    HgrnSizes,
    WorkloadError,
    bits_per_token,
    most_likely,
    own_text,
    quantise_hgrn,
    random_hgrn,
    sampled,
    write,
)

FLOATS = random_hgrn(HgrnSizes(vocab=13, hidden=16, layers=2, inner=24), 2)
MODEL = quantise_hgrn(FLOATS, own_text(FLOATS, sequences=4, length=16))


def test_writing_is_reading_what_was_written() -> None:
    made = write(MODEL, [1, 2], 6, most_likely)
    state, tokens = MODEL.start(), [1, 2, *made]
    for position, token in enumerate(tokens[:-1]):
        state, logits = MODEL.step(state, [token])
        if position >= 1:
            assert int(np.argmax(logits[0])) == tokens[position + 1]
    assert len(made) == 6


def test_a_seed_is_a_text() -> None:
    texts = [write(MODEL, [3], 20, sampled(1.0, seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_cold_draw_is_the_most_likely() -> None:
    assert write(MODEL, [3], 12, sampled(1e-6, 5)) == write(MODEL, [3], 12, most_likely)


def test_draws_have_the_logits_probabilities() -> None:
    choose = sampled(2.0, 7)
    logits = np.array([0.0, 2 * np.log(3.0), -1e9])  # 1 to 3 at temperature 2
    drawn = [choose(logits) for _ in range(4000)]
    assert drawn.count(2) == 0
    # Four standard deviations of 4000 draws.
    assert abs(drawn.count(1) / 4000 - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 4000)


def test_a_uniform_model_has_the_logarithm_of_its_vocabulary() -> None:
    flat = quantise_hgrn(FLOATS, [[1, 2]])
    even = type(flat)(**{name: getattr(flat, name) for name in type(flat).__slots__} | {"logit_unit": 0.0})
    assert bits_per_token(even, [[1, 2, 3]]) == pytest.approx(np.log2(13))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_is_above_zero(temperature: float) -> None:
    with pytest.raises(WorkloadError, match=r"^temperature must be above 0 to draw tokens, not"):
        sampled(temperature, 1)


def test_a_prompt_has_a_token() -> None:
    with pytest.raises(WorkloadError, match=r"^a prompt must have at least one token, not none$"):
        write(MODEL, [], 3, most_likely)
