"""The MatMul-free model: published sizes, and its cascade against the model token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads import FloatModel, HgrnSizes, WorkloadError, evaluate, load_model, matmul_free, random_hgrn
from workloads._block import Run
from workloads._config_file import Config
from workloads._hgrn import hgrn_parts, hgrn_sizes, inner_size
from workloads._hgrn_float import FloatBlock, lower_bounds
from workloads._model import Phase, constant_tensors

SMALL = HgrnSizes(vocab=11, hidden=24, layers=3, inner=40)
CONFIG: dict[str, Any] = {
    "model_type": "hgrn_bit",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "vocab_size": 100,
}
NAMES = {"I": "i", "F": "f", "G": "g", "P": "o", "A": "gate", "U": "up", "D": "down"}


@pytest.mark.parametrize(
    ("name", "layers", "hidden", "inner", "billions"),
    [
        # Zhu et al. (2024), table 1; a published count is its first two digits or three.
        ("matmulfree-370m", 24, 1024, 2816, 0.37),
        ("matmulfree-1.3b", 24, 2048, 5632, 1.3),
        ("matmulfree-2.7b", 32, 2560, 6912, 2.7),
    ],
)
def test_published_models_have_their_parameters(
    name: str, layers: int, hidden: int, inner: int, billions: float
) -> None:
    sizes = matmul_free(name)
    assert sizes == HgrnSizes(vocab=32000, hidden=hidden, layers=layers, inner=inner)
    blocks = layers * (4 * hidden**2 + 3 * hidden * inner)
    assert sizes.ternary == blocks + 32000 * hidden
    assert sizes.parameters == sizes.ternary + 32000 * hidden + (4 * layers + 1) * hidden
    assert sizes.parameters / 1e9 == pytest.approx(billions, rel=0.05)
    assert load_model(name, phase="decode").macs == sizes.ternary
    assert load_model(name, seq=5).macs == 5 * sizes.ternary


def test_other_models_are_none() -> None:
    assert matmul_free("bert-base") is None
    assert matmul_free("no-such-model") is None


@pytest.mark.parametrize(("hidden", "inner"), [(128, 512), (96, 256), (97, 512), (1024, 2816), (2560, 6912)])
def test_inner_size_is_two_thirds_in_256s(hidden: int, inner: int) -> None:
    assert inner_size(hidden) == inner


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act must be one of silu, swish, not 'gelu'"),
        ({"expand_ratio": 2}, "expand_ratio must be 1, a state as wide as the model, not 2"),
        ({"use_short_conv": True}, "use_short_conv must be false, not True"),
        ({"hidden_size": None}, "hidden_size must be given, not null"),
    ],
)
def test_variants_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError, match=rf"^c\.json: {message}$"):
        hgrn_sizes(Config(CONFIG | fields, "c.json"))


def test_defaults_are_the_public_codes() -> None:
    assert hgrn_sizes(Config(CONFIG, "c.json")) == HgrnSizes(vocab=100, hidden=64, layers=2, inner=256)


def block_tensors(block: FloatBlock, *, bounded: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"GXN": block.mixer_gain, "GON": block.output_gain, "GYN": block.feed_gain}
    for name, attribute in NAMES.items():
        layer = getattr(block, attribute)
        found[f"W{name}"], found[f"S{name}"] = layer.trits.T.astype(float), np.array(layer.scale)
    return found | ({"LB": block.lower} if bounded else {})


def logits_by_cascade(model: FloatModel, tokens: list[int]) -> Any:
    """All tokens at once, layer by layer, through ``evaluate``."""
    block, head = hgrn_parts(model.sizes, Run(phase="prefill", batch=1, seq=len(tokens)))
    x = model.embeddings[tokens]
    for layer in model.blocks:
        given = block_tensors(layer, bounded=model.sizes.lower_bounds) | constant_tensors(block)
        x = evaluate(block.cascade, {"X": x, **given})["Z"]
    last = {"Z": x, "GZN": model.gain, "WLG": model.head.trits.T.astype(float)}
    last["SLG"] = np.array(model.head.scale)
    return evaluate(head.cascade, last | constant_tensors(head))["LGY"]


@pytest.mark.parametrize("bounded", [True, False])
def test_cascade_is_the_model_token_by_token(bounded: bool) -> None:
    sizes = HgrnSizes(vocab=11, hidden=24, layers=3, inner=40, lower_bounds=bounded)
    model = random_hgrn(sizes, 3)
    tokens = [3, 1, 4, 1, 5, 9, 2]
    wanted = logits_by_cascade(model, tokens)
    state = model.start()
    for position, token in enumerate(tokens):
        state, logits = model.step(state, [token])
        # One part in 10^9, and not less: roundings of the inputs are the same, orders of sums are not.
        np.testing.assert_allclose(logits[0], wanted[position], rtol=1e-9, atol=1e-12)


def test_a_decode_takes_the_state_that_a_prefill_left() -> None:
    model = random_hgrn(SMALL, 5)
    layer, tokens = model.blocks[1], model.embeddings[[7, 2, 9]]
    given = block_tensors(layer, bounded=True)

    def run(phase: Phase, seq: int, **inputs: Any) -> dict[str, Any]:
        block, _ = hgrn_parts(SMALL, Run(phase=phase, batch=1, seq=seq))
        return evaluate(block.cascade, {**inputs, **given} | constant_tensors(block))

    whole = run("prefill", 3, X=tokens)
    step = run("decode", 3, X=tokens[2:], HS=whole["H"][2])
    np.testing.assert_allclose(step["Z"][0], whole["Z"][2], rtol=1e-9)
    np.testing.assert_allclose(step["H"][1], whole["H"][3], rtol=1e-9)


def test_sequences_of_a_batch_do_not_meet() -> None:
    model = random_hgrn(SMALL, 6)
    alone = [model.step(model.start(), [token])[1][0] for token in (3, 8)]
    _, together = model.step(model.start(2), [3, 8])
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_lower_bounds_rise_from_zero_to_below_one() -> None:
    found = lower_bounds(np.random.default_rng(1).normal(size=(5, 7)))
    assert (found[0] == 0).all()
    assert (np.diff(found, axis=0) > 0).all()
    assert (found[-1] < 1).all()


def test_the_small_model_is_in_the_zoo() -> None:
    model = load_model("ternary-lm", phase="decode")
    sizes = matmul_free("ternary-lm")
    assert sizes is not None
    assert model.macs == sizes.ternary
    assert matmul_free(str(Path(__file__).parents[3] / "workloads" / "ternary_lm")) == sizes
