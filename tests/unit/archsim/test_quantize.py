"""``archsim quantize``: from folders to files, what it prints, and one message for each wrong input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from archsim import ArchsimError
from archsim.cli import main
from archsim.cli._samples import SENTENCES, smooth_noise, text_samples
from archsim.cli._text import token_ids
from tests.unit.workloads.tiny_checkpoints import BERT, VIT, Tensors, random_tensors, save_checkpoint
from workloads import embed, load_calibrated, load_weights, minilm_directory

WORDS = ("[UNK]", "[CLS]", "[SEP]", "a", "cat", "sleeps", "dog")


def save_tokenizer(folder: Path) -> None:
    """One id a word, between [CLS] and [SEP]."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    # What the file says of padding and cutting must not matter.
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    folder = save_checkpoint(tmp_path / "bert", BERT, random_tensors(BERT))
    save_tokenizer(folder)
    return folder


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "vit", VIT, random_tensors(VIT))


def text_file(folder: Path, *lines: str) -> str:
    path = folder / "sentences.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def npy_file(folder: Path, values: Any) -> str:
    path = folder / "images.npy"
    np.save(path, values)
    return str(path)


def quantised(*arguments: str | Path | int) -> int:
    return main(["quantize", *(str(argument) for argument in arguments)])


def test_token_ids_are_whole_with_special_tokens(bert: Path) -> None:
    assert token_ids(bert, ["a cat sleeps a dog", "", "a mouse"]) == [
        [1, 3, 4, 5, 3, 6, 2],
        [1, 2],
        [1, 3, 0, 2],
    ]
    assert token_ids(minilm_directory(), ["hello world"]) == [[101, 7592, 2088, 102]]


def test_texts_and_tokenisers_that_do_not_work_are_refused(bert: Path) -> None:
    with pytest.raises(
        ArchsimError, match=r"^a text must have at most 12 tokens, .*, not 13: 'a a a a a a a a a"
    ):
        token_ids(bert, ["a", "a " * 11])
    with pytest.raises(ArchsimError, match=r"^a text must be valid Unicode, not 'a\\udc80'"):
        token_ids(bert, ["a\udc80"])
    (bert / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArchsimError, match=r"tokenizer\.json must be a tokeniser of the tokenizers library"):
        token_ids(bert, ["a"])
    (bert / "tokenizer.json").unlink()
    with pytest.raises(ArchsimError, match=r"tokenizer\.json must be a readable file: No such file"):
        token_ids(bert, ["a"])


def test_our_sentences_are_a_dozen_and_fit_minilm() -> None:
    tokens = token_ids(minilm_directory(), SENTENCES)
    assert len(set(SENTENCES)) == 12
    assert len({len(ids) for ids in tokens}) >= 6


def test_a_bert_is_calibrated_on_a_file_of_text(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, output = text_file(tmp_path, "a cat sleeps", "", "  a dog  "), tmp_path / "m"
    assert quantised(bert, "-o", output, "--calibration", text, "--json", tmp_path / "j") == 0
    captured = capsys.readouterr()
    model = load_calibrated(output)
    document = json.loads((tmp_path / "j").read_text(encoding="utf-8"))
    assert model.samples == 2
    # Weights and biases of two layers of 16 channels, 24 of them hidden, in four bytes each.
    floats = 4 * 2 * (4 * 16 * 16 + 2 * 16 * 24 + 4 * 16 + 24 + 16 + 4 * 16)
    size = output.stat().st_size
    assert {key: document[key] for key in ("bytes", "float32_bytes", "layers", "samples", "model_type")} == {
        "bytes": size,
        "float32_bytes": floats,
        "layers": 2,
        "samples": 2,
        "model_type": "bert",
    }
    assert document["compression"] == pytest.approx(floats / size)
    assert document["calibration"] == f"2 sentences, {text}"
    assert [(s["tensor"], s["total_db"]) for s in document["signals"]] == [
        (s.tensor, s.total_db) for s in model.signals
    ]
    assert "random" not in captured.err
    assert "quantising" in captured.err


def test_the_table_marks_the_step_that_loses_most(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m"
    assert quantised(bert, "-o", path, "--json", tmp_path / "j") == 0
    rows = json.loads((tmp_path / "j").read_text(encoding="utf-8"))["signals"]
    total = {row["tensor"]: row["total_db"] for row in rows}
    lost = {row["tensor"]: row["lost_db"] for row in rows}
    # By hand, from what bert's steps read.
    assert lost["QB.0"] is None
    assert lost["A.0"] == pytest.approx(min(total["QB.0"], total["KB.0"]) - total["A.0"])
    assert lost["AV.1"] == pytest.approx(min(total["A.1"], total["VB.1"]) - total["AV.1"])
    assert lost["Y.1"] == pytest.approx(min(total["AV.1"], total["Z.0"]) - total["Y.1"])
    assert lost["Z.0"] == pytest.approx(min(total["G.0"], total["Y.0"]) - total["Z.0"])
    worst = max((value, name) for name, value in lost.items() if value is not None)[1]
    (marked,) = (line for line in capsys.readouterr().out.splitlines() if "<- largest" in line)
    name, layer = worst.split(".")
    assert marked.split()[:2] == [layer, name]
    assert marked.split()[3] == f"{total[worst]:.1f}"


def test_inspect_prints_what_making_it_printed(
    vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m"
    assert quantised(vit, "-o", path, "--json", tmp_path / "one") == 0
    made = capsys.readouterr()
    assert "archsim: no --samples: calibrating on smooth noise" in made.err
    assert quantised("--inspect", path, "--json", tmp_path / "other") == 0
    found = capsys.readouterr()
    assert (
        found.out.replace("8 samples", "").split() == made.out.replace("8 images of smooth noise", "").split()
    )
    one, other = (json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("one", "other"))
    assert one.pop("calibration") == "8 images of smooth noise"
    assert one == other
    assert "decibels" not in found.err


def test_the_same_command_gives_the_same_bytes(vit: Path, tmp_path: Path) -> None:
    images = npy_file(tmp_path, np.random.default_rng(1).normal(size=(3, 3, 12, 12)).astype(np.float32))
    for name in ("one", "other"):
        assert quantised(vit, "-o", tmp_path / name, "--samples", images) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert load_calibrated(tmp_path / "one").samples == 3


def test_without_a_tokeniser_tokens_are_random_and_it_says_so(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bert / "tokenizer.json").unlink()
    assert quantised(bert, "-o", tmp_path / "m", "--length", "5") == 0
    captured = capsys.readouterr()
    assert f"archsim: no tokenizer.json in {bert}: calibrating on random tokens" in captured.err
    assert "8 sequences of random tokens" in captured.out


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, [1]),
        (2, [1, 2]),
        (4, [1, 3, 4, 2]),
        (5, [1, 3, 4, 5, 2]),
        (9, [1, 3, 4, 5, 3, 4, 5, 3, 2]),
    ],
)
def test_sentences_are_repeated_or_cut_to_a_length(
    bert: Path, tmp_path: Path, length: int, expected: list[int]
) -> None:
    checkpoint, text = load_weights(bert), Path(text_file(tmp_path, "a cat sleeps"))
    found = text_samples(checkpoint, bert, file=text, length=length)
    np.testing.assert_array_equal(found.inputs[0], embed(checkpoint, expected))


def test_own_sentences_are_cut_to_a_small_model(bert: Path) -> None:
    checkpoint = load_weights(bert)
    assert {len(x) for x in text_samples(checkpoint, bert, file=None, length=None).inputs} <= set(
        range(3, 13)
    )


def test_minilm_by_name_is_read_from_its_package(
    monkeypatch: pytest.MonkeyPatch, vit: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("workloads.minilm_directory", lambda: vit)
    assert quantised("minilm", "-o", tmp_path / "m") == 0
    assert load_calibrated(tmp_path / "m").config.text("model_type") == "vit"


KEY = "encoder.layer.1.intermediate.dense.weight"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop(KEY), f"tensor {KEY} must be in the file, not missing"),
        (lambda t: t.update({KEY: t[KEY][:5]}), f"tensor {KEY} must have shape (24, 16), not (5, 16)"),
        (lambda t: t.update({KEY: t[KEY] * np.float32(np.nan)}), f"tensor {KEY} must be finite"),
    ],
)
@pytest.mark.parametrize("config", [BERT, VIT], ids=["bert", "vit"])
def test_a_damaged_checkpoint_is_one_message_and_no_file(
    config: dict[str, Any],
    edit: Callable[[Tensors], object],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tensors = random_tensors(config)
    edit(tensors)
    folder = save_checkpoint(tmp_path / "model", config, tensors)
    assert quantised(folder, "-o", tmp_path / "m", "--json", tmp_path / "j") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = (line for line in captured.err.splitlines() if line.startswith("archsim: /"))
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("config", "field", "value", "message"),
    [
        (
            BERT,
            "num_hidden_layers",
            1 << 24,
            "num_hidden_layers must be at most the 37 tensors of model.safetensors",
        ),
        (VIT, "num_hidden_layers", 3, "tensor encoder.layer.2.layernorm_before.weight must be in the file"),
        (VIT, "patch_size", 16, "image_size must be a multiple of patch_size (16), not 12"),
        (VIT, "image_size", 1 << 24, "an image must have at most 16777216 values, not 844424930131968"),
        (
            VIT,
            "image_size",
            16,
            "tensor embeddings.position_embeddings must have shape (1, 17, 16), not (1, 10, 16)",
        ),
        (BERT, "num_attention_heads", 3, "hidden_size must be a multiple of num_attention_heads (3), not 16"),
        (BERT, "hidden_act", "sine", "hidden_act must be one of"),
        (BERT, "model_type", "t5", "model_type must be one of bert, vit, not 't5'"),
    ],
)
def test_a_configuration_that_contradicts_its_checkpoint_is_refused(
    config: dict[str, Any],
    field: str,
    value: object,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = save_checkpoint(tmp_path / "model", config | {field: value}, random_tensors(config))
    assert message in refused(capsys, folder, "-o", tmp_path / "m")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What is said of ``arguments``, which must be refused with exit code 2."""
    assert quantised(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_wrong_options_are_refused(
    bert: Path, vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, output = text_file(tmp_path, "a"), tmp_path / "m"
    images = npy_file(tmp_path, np.zeros((1, 3, 12, 12)))
    for arguments, message in (
        ((), "DIR must be given, unless --inspect is"),
        ((bert,), "--output must be given, unless --inspect is"),
        (("none", "-o", output), "DIR must be minilm or a folder with a checkpoint, not 'none'"),
        ((tmp_path, "-o", output), "config.json must be a readable file: No such file"),
        ((bert, "-o", tmp_path / "none" / "m"), "the file must be in a folder that exists"),
        ((bert, "-o", output, "--samples", images), "--samples must be left out for a bert"),
        ((vit, "-o", output, "--calibration", text), "--calibration must be left out for a vit"),
        ((vit, "-o", output, "--length", "4"), "--length must be left out for a vit"),
        ((bert, "-o", output, "--length", 13), "token_ids must be 1 to 12, not 13"),
        (("--inspect", text, bert), "--inspect must be given without DIR"),
        (("--inspect", text, "--length", "3"), "--inspect must be given without --length"),
        (("--inspect", text), "sentences.txt must be a readable safetensors file"),
        (("--inspect", "none"), "none must be a file, not missing"),
        ((bert, "-o", output, "--calibration", "none"), "none: No such file or directory"),
        ((vit, "-o", output, "--samples", "none"), "none: No such file or directory"),
    ):
        assert message in refused(capsys, *arguments)
    assert not output.exists()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "must have 1 to 1024 lines of text, not 0"),
        (b"\n \n", "must have 1 to 1024 lines of text, not 0"),
        (b"a\n" * 1025, "must have 1 to 1024 lines of text, not 1025"),
        (b"a\xff\n", "must be text in UTF-8"),
        (b"a " * 40, "a text must have at most 12 tokens"),
        (b"a" * (1 << 22) + b"a", "must be at most 4194304 bytes, not larger"),
    ],
)
def test_wrong_calibration_text_is_refused(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], raw: bytes, message: str
) -> None:
    (tmp_path / "t").write_bytes(raw)
    assert message in refused(capsys, bert, "-o", tmp_path / "m", "--calibration", tmp_path / "t")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 3, 12, 12), np.uint8), "must be a .npy file of floating-point numbers [n, 3, 12, 12]"),
        (np.zeros((2, 12, 12, 3)), "must have shape [n, 3, 12, 12], n 1 to 1024, not (2, 12, 12, 3)"),
        (np.zeros((0, 3, 12, 12)), "must have shape [n, 3, 12, 12], n 1 to 1024, not (0, 3, 12, 12)"),
        (np.zeros(3), "must have shape [n, 3, 12, 12], n 1 to 1024, not (3,)"),
        (np.full((1, 3, 12, 12), np.nan), "pixels must be finite, not NaN or infinite"),
        (np.array([{}]), "must be a .npy file"),
    ],
)
def test_wrong_images_are_refused(
    vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], values: Any, message: str
) -> None:
    assert message in refused(capsys, vit, "-o", tmp_path / "m", "--samples", npy_file(tmp_path, values))


@pytest.mark.parametrize("raw", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{", b"PK\x03\x04", b"text"])
def test_files_that_are_no_images_are_refused(
    vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], raw: bytes
) -> None:
    (tmp_path / "x.npy").write_bytes(raw)
    assert "x.npy must be a .npy file" in refused(
        capsys, vit, "-o", tmp_path / "m", "--samples", tmp_path / "x.npy"
    )


@given(st.integers(1, 3), st.integers(2, 40), st.integers(2, 40))
def test_smooth_noise_has_deviation_one_and_neighbours_alike(channels: int, height: int, width: int) -> None:
    images = smooth_noise((channels, height, width), count=2)
    assert images.shape == (2, channels, height, width)
    assert math.isclose(images.std(), 1)
    if min(height, width) >= 32:
        steps = np.diff(images, axis=2).std()
        # White noise has a deviation of the square root of two from pixel to pixel.
        assert steps < 0.5 * math.sqrt(2)


def test_a_checkpoint_is_not_written_over(bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = bert / "model.safetensors"
    before = source.read_bytes()
    assert main(["quantize", str(bert), "-o", str(source)]) == 2
    assert "--output must not be a file of the checkpoint" in capsys.readouterr().err
    assert source.read_bytes() == before
