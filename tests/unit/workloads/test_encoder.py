"""A whole encoder in one cascade is its blocks one after another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.workloads.tiny_checkpoints import BERT, VIT, random_tensors, save_checkpoint
from workloads import (
    WorkloadError,
    bind_block,
    bind_encoder,
    encoder_cascade,
    encoder_result,
    evaluate,
    inputs,
    layer_name,
    layer_of,
    load_model,
    load_weights,
    macs,
)


@pytest.mark.parametrize("config", [BERT, VIT], ids=["bert", "vit"])
def test_the_chain_is_its_blocks_one_after_another(config: dict[str, object], tmp_path: Path) -> None:
    checkpoint = load_weights(save_checkpoint(tmp_path, config, random_tensors(config)))
    model = load_model(str(tmp_path), seq=7 if config is BERT else None)
    x = np.random.default_rng(2).normal(size=(model.seq, 16))
    chained = evaluate(encoder_cascade(model), {**bind_encoder(model, checkpoint), "X": x})
    np.testing.assert_array_equal(chained["X"], x)
    for layer in range(2):
        weights = bind_block(model, checkpoint, layer)
        block = evaluate(model.part("block").cascade, {**weights, "X": x})
        for name in ("QB", "AV", "G", "Z"):
            np.testing.assert_array_equal(chained[layer_name(name, layer)], block[name])
        x = block["Z"]
    np.testing.assert_array_equal(chained[encoder_result(model)], x)


def test_constants_are_shared_and_weights_are_not(tmp_path: Path) -> None:
    checkpoint = load_weights(save_checkpoint(tmp_path, BERT, random_tensors(BERT)))
    model = load_model(str(tmp_path), seq=3)
    cascade = encoder_cascade(model)
    bound = bind_encoder(model, checkpoint)
    assert bound.keys() | {"X"} == set(inputs(cascade))
    assert {name for name in bound if layer_of(name) is None} == {"SCALE", "INV", "EPS"}
    assert macs(cascade) == model.part("block").macs
    assert not np.array_equal(bound["WQ.0"], bound["WQ.1"])


def test_names_and_layers() -> None:
    assert layer_of(layer_name("Z", 11)) == 11
    assert [layer_of(name) for name in ("X", "SCALE", "Z.x", ".", "Z.")] == [None] * 5


def test_more_than_one_sequence_is_refused() -> None:
    with pytest.raises(WorkloadError, match=r"^batch must be 1 for an encoder of one sequence, not 2$"):
        encoder_cascade(load_model("bert-base", seq=3, batch=2))
    with pytest.raises(WorkloadError, match=r"^part must be one of .*, not 'block'$"):
        encoder_cascade(load_model("gemm:2x3x4"))
