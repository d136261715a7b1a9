"""A calibrated model's file: the same integers come back, and anything else is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.unit.workloads.tiny_checkpoints import BERT, VIT, Tensors, random_tensors, save_checkpoint
from workloads import (
    CalibratedModel,
    Quantised,
    WorkloadError,
    calibrate_encoder,
    embed,
    embed_image,
    load_calibrated,
    load_weights,
    save_calibrated,
)

Document = dict[str, Any]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> CalibratedModel:
    """Smoothed tensors, split channels and two lengths."""
    tensors = random_tensors(BERT)
    tensors["embeddings.LayerNorm.weight"][3] *= 30
    tensors["encoder.layer.0.intermediate.dense.weight"][5] *= 30
    checkpoint = load_weights(save_checkpoint(tmp_path_factory.mktemp("bert"), BERT, tensors))
    return calibrate_encoder(checkpoint, [embed(checkpoint, range(5)), embed(checkpoint, range(9, 1, -1))])


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> CalibratedModel:
    checkpoint = load_weights(save_checkpoint(tmp_path_factory.mktemp("vit"), VIT, random_tensors(VIT)))
    images = np.random.default_rng(0).normal(size=(2, 3, 12, 12))
    return calibrate_encoder(checkpoint, [embed_image(checkpoint, image) for image in images])


@pytest.fixture(scope="module")
def file(bert: CalibratedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "m.safetensors"
    save_calibrated(bert, path)
    return path


def assert_equal(one: object, other: object) -> None:
    """Equality in every field, arrays in shape and dtype as well."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray)
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, tuple):
        assert isinstance(other, tuple)
        assert len(one) == len(other)
        for mine, its in zip(one, other, strict=True):
            assert_equal(mine, its)
    elif fields := getattr(one, "__dataclass_fields__", None):
        for name in fields:
            assert_equal(getattr(one, name), getattr(other, name))
    else:
        assert one == other


def test_the_comparison_sees_one_bit(bert: CalibratedModel) -> None:
    quantised = bert.quantised(4)
    name, values = next(iter(quantised.weights.items()))
    changed = values.copy()
    changed.flat[0] ^= 1
    with pytest.raises(AssertionError):
        assert_equal(quantised, replace(quantised, weights={**quantised.weights, name: changed}))


@pytest.mark.parametrize(("family", "seq"), [("bert", 4), ("bert", 11), ("vit", None)])
def test_the_same_integers_come_back(
    family: str, seq: int | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model: CalibratedModel = request.getfixturevalue(family)
    size = save_calibrated(model, tmp_path / "m")
    found = load_calibrated(tmp_path / "m")
    expected: Quantised = model.quantised(seq)
    assert_equal(found.quantised(seq), expected)
    assert (found.signals, found.samples, dict(found.config.fields)) == (
        model.signals,
        model.samples,
        dict(model.config.fields),
    )
    assert (tmp_path / "m").stat().st_size == size


def test_the_fixture_has_all_that_a_file_can_hold(bert: CalibratedModel) -> None:
    assert bert.calibrated.factors
    assert any((channels[24:] >= 0).any() for channels in bert.channels.values())


def test_a_tensor_without_noise_has_no_number(bert: CalibratedModel, tmp_path: Path) -> None:
    exact = replace(bert.signals[0], rounding_db=float("inf"))
    save_calibrated(replace(bert, signals=(exact,)), tmp_path / "m")
    assert load_calibrated(tmp_path / "m").signals == (exact,)


def test_the_same_model_gives_the_same_bytes(bert: CalibratedModel, file: Path, tmp_path: Path) -> None:
    save_calibrated(bert, tmp_path / "again")
    save_calibrated(load_calibrated(file), tmp_path / "thrice")
    assert (tmp_path / "again").read_bytes() == file.read_bytes() == (tmp_path / "thrice").read_bytes()


def test_nothing_is_left_where_it_could_not_be_written(bert: CalibratedModel, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        save_calibrated(bert, tmp_path / "none" / "m")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        save_calibrated(bert, tmp_path / "folder")
    wrong = replace(bert, samples=0)
    with pytest.raises(WorkloadError, match="samples must be an integer from 1"):
        save_calibrated(wrong, tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def damaged(
    file: Path,
    target: Path,
    *,
    document: Callable[[Document], object] = lambda _: None,
    tensors: Callable[[Tensors], object] = lambda _: None,
) -> Path:
    """A copy of ``file`` after both edits."""
    with safe_open(file, "np") as opened:
        found = json.loads(opened.metadata()["archsim"])
    held = load_file(file)
    document(found)
    tensors(held)
    save_file(held, target, metadata={"archsim": json.dumps(found)})
    return target


def put(**entries: Any) -> Callable[[Document], object]:
    return lambda document: document.update(entries)


def put_peak(value: object) -> Callable[[Document], object]:
    return lambda document: document["peaks"].update({"Y.0": value})


def put_config(**entries: Any) -> Callable[[Document], object]:
    return lambda document: document.update(config=json.dumps(json.loads(document["config"]) | entries))


def put_signal(**entries: Any) -> Callable[[Document], object]:
    return lambda document: document["signals"][0].update(entries)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put(format="other"), r"format must be 'archsim calibrated model', not 'other'$"),
        (put(version=2), r"version must be 1, not 2$"),
        (put(version=True), r"version must be 1, not True$"),
        (put(config=7), r"config must be the text of a config\.json"),
        (put(config="[]"), r"config must be a JSON object, not list$"),
        (put(config="{"), r"config must be JSON"),
        (put_config(model_type="gpt2"), r"config: model_type must be one of bert, vit, not 'gpt2'$"),
        (put_config(num_hidden_layers=1 << 20), r"num_hidden_layers must be at most \d+, not 1048576$"),
        (
            put_config(num_hidden_layers=3),
            r"tensors channel/ must be of G\.0, G\.1, G\.2, not of G\.0, G\.1$",
        ),
        (put_config(hidden_size=32), r"tensor weight/WQ\.0 must be I8 of shape \(32, 2, 16\), not I8 of "),
        (put_config(intermediate_size=40), r"tensor channel/G\.0 must have 40 to 4136 elements, not shape"),
        (put(samples=0), r"samples must be an integer from 1 to 16777216, not 0$"),
        (put(samples=1.5), r"samples must be an integer"),
        (put(peaks=[]), r"peaks must be an object, not list$"),
        (put(peaks={}), r"peaks must have [A-Z0-9.]+, not lack it$"),
        (put_peak(0), r"peaks: Y\.0 must be from 1e-60 to 1e\+60, not 0$"),
        (put_peak(-1.0), r"peaks: Y\.0 must be from 1e-60 to 1e\+60, not -1\.0$"),
        (put_peak(float("inf")), r"peaks: Y\.0 must be from 1e-60 to 1e\+60, not inf$"),
        (put_peak(float("nan")), r"peaks: Y\.0 must be from 1e-60 to 1e\+60, not nan$"),
        (put_peak("1"), r"peaks: Y\.0 must be from 1e-60 to 1e\+60, not '1'$"),
        (lambda d: d["peaks"].update(other=1), r"peaks must be of the model's tensors, not of 'other'$"),
        (put(signals=3), r"signals must be a list of at most 16 objects$"),
        (put(signals=[3]), r"a signal must be of a tensor that the model makes, not 3$"),
        (put_signal(tensor=["A.0"]), r"a signal must be of a tensor that the model makes"),
        (put_signal(layer=1), r"signals: QB\.0 must be of layer 0, not 1$"),
        (put_signal(total_db="1"), r"signals: QB\.0 must have decibels or null, not '1'$"),
    ],
)
def test_a_wrong_document_is_refused(
    file: Path, tmp_path: Path, edit: Callable[[Document], object], message: str
) -> None:
    path = damaged(file, tmp_path / "m", document=edit)
    with pytest.raises(WorkloadError, match=rf"^{path}: .*{message}"):
        load_calibrated(path)


def change(name: str, edit: Callable[[Any], Any]) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: np.asarray(edit(tensors[name]))})


def fill(name: str, value: float) -> Callable[[Tensors], object]:
    def edit(tensors: Tensors) -> None:
        tensors[name].flat[0] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("weight/WK.1"), r"tensor weight/WK\.1 must be in the file, not missing$"),
        (lambda t: t.pop("scale/WK.1"), r"tensor scale/WK\.1 must be in the file, not missing$"),
        (lambda t: t.pop("vector/SCALE"), r"tensor vector/SCALE must be in the file, not missing$"),
        (
            change("weight/WQ.0", lambda v: v[:5]),
            r"weight/WQ\.0 must be I8 of shape \(16, 2, 8\), not I8 of \(5,",
        ),
        (change("weight/W1.0", lambda v: v.astype(np.int16)), r"weight/W1\.0 must be I8 .*, not I16 of"),
        (change("scale/W1.0", lambda v: v.astype(np.float32)), r"scale/W1\.0 must be F64 .*, not F32 of"),
        (change("scale/WO.0", lambda v: v.T), r"scale/WO\.0 must be F64 of shape \(1, 1, 16\), not F64 of"),
        (fill("scale/WO.0", 0), r"scale/WO\.0 must be of numbers from 1e-60 to 1e\+60$"),
        (fill("scale/WO.0", -1), r"scale/WO\.0 must be of numbers from"),
        (fill("scale/WO.0", np.nan), r"scale/WO\.0 must be of numbers from"),
        (fill("vector/B1.0", np.inf), r"vector/B1\.0 must be of numbers from -1e\+60 to 1e\+60$"),
        (fill("vector/GZ.0", np.nan), r"vector/GZ\.0 must be of numbers from"),
        (fill("factor/X", 4), r"tensor factor/X must be of integers from 0 to 3$"),
        (fill("factor/X", -1), r"tensor factor/X must be of integers from 0 to 3$"),
        (
            lambda t: t.update({"factor/A.0": np.zeros(4, np.int8)}),
            r"tensor factor/A\.0 must be of a tensor that can be smoothed$",
        ),
        (
            fill("channel/G.0", 3),
            r"tensor channel/G\.0 must be 0 to 23 in order, then channels of these or -1$",
        ),
        (lambda t: t.pop("channel/G.0"), r"tensors channel/ must be of G\.0, G\.1, not of G\.1$"),
        (
            change("channel/G.1", lambda v: v[:-1]),
            r"tensor channel/G\.1 must be I32 of shape \(32,\), not I32 of \(31,\)$",
        ),
        (
            lambda t: t.update({"other": np.zeros(1)}),
            r"tensor 'other' must be one of the model's, not another$",
        ),
    ],
)
def test_a_wrong_tensor_is_refused(
    file: Path, tmp_path: Path, edit: Callable[[Tensors], object], message: str
) -> None:
    path = damaged(file, tmp_path / "m", tensors=edit)
    with pytest.raises(WorkloadError, match=rf"^{path}: .*{message}"):
        load_calibrated(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"none must be a file, not missing$"):
        load_calibrated(tmp_path / "none")
    with pytest.raises(WorkloadError, match=r"must be a file, not a folder$"):
        load_calibrated(tmp_path)
    path = tmp_path / "m"
    path.write_bytes(b"")
    with pytest.raises(WorkloadError, match=r"m must be a readable safetensors file"):
        load_calibrated(path)
    save_file({"weight": np.zeros(3, np.int8)}, path)
    with pytest.raises(WorkloadError, match=r"m: metadata must have the entry archsim, .* not lack it$"):
        load_calibrated(path)
    for text, message in (("{", "metadata must be JSON"), ("3", "must be a JSON object, not int$")):
        save_file({"weight": np.zeros(3, np.int8)}, path, metadata={"archsim": text})
        with pytest.raises(WorkloadError, match=message):
            load_calibrated(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_bytes_end_in_a_traceback(file: Path, tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Flipped bytes, most of them in the header, and cut files: a model, or one clean refusal."""
    raw = bytearray(file.read_bytes())
    header = 8 + int.from_bytes(raw[:8], "little")
    where = st.one_of(st.integers(0, header - 1), st.integers(0, len(raw) - 1))
    for at, value in data.draw(st.lists(st.tuples(where, st.integers(0, 255)), max_size=4)):
        raw[at] = value
    end = data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))))
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(raw[:end])
    with suppress(WorkloadError):
        load_calibrated(path).quantised(3)
