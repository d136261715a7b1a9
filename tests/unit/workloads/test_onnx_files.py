"""ONNX files as users bring them: sizes, host work, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.unit.workloads.onnx_graphs import (
    encoder_nodes,
    encoder_weights,
    ints,
    noise,
    op,
    save,
)
from workloads._errors import WorkloadError
from workloads._onnx import load_onnx


def test_a_chain_keeps_its_ranks_and_folds_its_norm(tmp_path: Path) -> None:
    """Convolution, norm and activation have the same ranks, and the norm is a scale and an offset."""
    nodes = [
        op("Conv", "x w", "c"),
        op("BatchNormalization", "c s b m v", "n"),
        op("Relu", "n"),
    ]
    weights = {"w": noise(1, 4, 3, 1, 1)} | {name: np.abs(noise(2, 4)) for name in "sbmv"}
    save(tmp_path / "m.onnx", nodes, {"x": noise(3, 1, 3, 5, 6)}, weights=weights)
    assert [str(einsum) for einsum in load_onnx(tmp_path / "m.onnx").parts[0].cascade.einsums] == [
        "c[n1, k4, p5, q6] = x[n1, c3, p5, q6] * w[k4, c3, 0, 0]",
        "n_scaled[n1, k4, p5, q6] = c[n1, k4, p5, q6] * n_gain[k4]",
        "n[n1, k4, p5, q6] = n_scaled[n1, k4, p5, q6] + n_offset[k4]",
        "y[n1, k4, p5, q6] = relu(n[n1, k4, p5, q6])",
    ]


def test_symbolic_sizes_come_from_the_caller(tmp_path: Path) -> None:
    model = save(
        tmp_path / "m.onnx",
        encoder_nodes(),
        {"x": noise(33, 1, 5, 12)},
        weights=encoder_weights(12, 3, 20),
        opset=14,
    )
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_param, dims[1].dim_param = "batch", "sequence_length"
    onnx.save(model, tmp_path / "m.onnx")
    expected = 2 * (4 * 7 * 12**2 + 2 * 7**2 * 12 + 2 * 7 * 12 * 20)
    assert load_onnx(tmp_path / "m.onnx", batch=2, seq=7).macs == expected
    assert load_onnx(tmp_path / "m.onnx", shapes={"x": (2, 7, 12)}).macs == expected
    with pytest.raises(WorkloadError, match=r"input 'x' must be given: its dimension 1 is 'sequence_length'"):
        load_onnx(tmp_path / "m.onnx")
    with pytest.raises(
        WorkloadError, match=r"shape of input 'x' must be \['any', 'any', 12\], not \[2, 7, 13\]"
    ):
        load_onnx(tmp_path / "m.onnx", shapes={"x": (2, 7, 13)})
    with pytest.raises(WorkloadError, match="shapes must be of the inputs x, not z"):
        load_onnx(tmp_path / "m.onnx", shapes={"z": (1,)})
    with pytest.raises(
        WorkloadError, match="seq must be left out, not 7: no input without a shape has a free"
    ):
        load_onnx(tmp_path / "m.onnx", shapes={"x": (2, 7, 12)}, seq=7)
    with pytest.raises(WorkloadError, match=r"batch must be left out, not 3, where all inputs have shapes$"):
        load_onnx(tmp_path / "m.onnx", shapes={"x": (2, 7, 12)}, batch=3)


def test_a_length_that_no_input_has_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "m.onnx", [op("Relu", "x", "y")], {"x": noise(35, 3, 4)})
    with pytest.raises(WorkloadError, match="seq must be left out, not 128: no input"):
        load_onnx(tmp_path / "m.onnx", seq=128)


def test_embedding_look_up_is_host_work(tmp_path: Path) -> None:
    feeds = {"ids": np.zeros((1, 6), np.int64)}
    save(
        tmp_path / "m.onnx",
        [op("Gather", "table ids", "v"), op("Relu", "v")],
        feeds,
        weights={"table": noise(34, 9, 4)},
    )
    model = load_onnx(tmp_path / "m.onnx")
    assert [(work.name, work.elements) for work in model.host] == [("Gather", 24)]
    assert model.macs == 0


def test_unsupported_operators_are_listed_together_or_left_to_the_host(tmp_path: Path) -> None:
    nodes = [
        op("NonZero", "x", "n", name="where_it_is"),
        op("Hardmax", "x", "h", name="hard"),
        op("Hardmax", "h", "k"),
        op("Relu", "k"),
    ]
    save(tmp_path / "m.onnx", nodes, {"x": noise(35, 3, 4)})
    found = r"Hardmax \(hard, #2\); NonZero \(where_it_is\)$"
    message = f"operators must be supported or named as host work, not {found}"
    with pytest.raises(WorkloadError, match=message):
        load_onnx(tmp_path / "m.onnx")
    message = r"host operators must be of the graph \(Hardmax, NonZero, Relu\), not Hardmaxx, Loop$"
    with pytest.raises(WorkloadError, match=message):
        load_onnx(tmp_path / "m.onnx", host=("Hardmax", "NonZero", "Loop", "Hardmaxx"))
    model = load_onnx(tmp_path / "m.onnx", host=("Hardmax", "NonZero"))
    assert [(work.name, work.elements) for work in model.host] == [("Hardmax", 12), ("Hardmax", 12)]


def test_external_data_is_neither_read_nor_let_out_of_the_folder(tmp_path: Path) -> None:
    model = save(
        tmp_path / "m.onnx",
        [op("MatMul", "x w")],
        {"x": noise(36, 3, 4)},
        weights={"w": noise(37, 4, 5)},
    )
    (weight,) = model.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    place = weight.external_data.add()
    place.key, place.value = "location", "absent.bin"
    onnx.save(model, tmp_path / "m.onnx")
    loaded = load_onnx(tmp_path / "m.onnx")
    assert loaded.macs == 60
    assert loaded.parts[0].weights == {"w"}
    for outside in ("../w.bin", "/etc/hostname"):
        place.value = outside
        onnx.save(model, tmp_path / "m.onnx")
        with pytest.raises(WorkloadError, match="external data of 'w' must be a file in the model's folder"):
            load_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a graph must have 1 to 20000 nodes, not 0"),
        (b"not a model", "the file must be an ONNX model, and cannot be decoded"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(WorkloadError, match=message):
        load_onnx(tmp_path / "m.onnx")


def test_missing_file_and_old_opset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="must be a readable file"):
        load_onnx(tmp_path / "none.onnx")
    save(tmp_path / "m.onnx", [op("Relu", "x")], {"x": noise(38, 3)}, opset=6)
    with pytest.raises(WorkloadError, match=r"the opset must be 7 to \d+, not \[6\]"):
        load_onnx(tmp_path / "m.onnx")


def test_indices_outside_are_refused(tmp_path: Path) -> None:
    save(
        tmp_path / "m.onnx",
        [op("Gather", "x i", "y")],
        {"x": noise(39, 3)},
        weights={"i": ints(1, 3)},
    )
    with pytest.raises(WorkloadError, match=r"node #0 \(Gather\): indices must be -3 to 2, not \[1, 3\]$"):
        load_onnx(tmp_path / "m.onnx")


def test_names_that_are_not_text_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "m.onnx", [op("Hardmax", "x", name="sesame")], {"x": noise(40, 3, 3)})
    content = (tmp_path / "m.onnx").read_bytes().replace(b"sesame", b"s\xff\xfeame")
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(WorkloadError, match=r"(a name must be UTF-8 text|cannot be decoded)"):
        load_onnx(tmp_path / "m.onnx")


def test_shape_arithmetic_on_computed_values_is_refused(tmp_path: Path) -> None:
    save(
        tmp_path / "m.onnx",
        [op("Equal", "x z", "e"), op("Cast", "e", to=1)],
        {n: noise(41, 3) for n in "xz"},
    )
    with pytest.raises(WorkloadError, match=r"\(Equal\): the inputs must be small constants$"):
        load_onnx(tmp_path / "m.onnx")


def test_huge_folded_constants_take_no_memory(tmp_path: Path) -> None:
    """A shape of 2**40 elements is a shape; nothing of that size is made."""
    nodes = [op("ConstantOfShape", "s", "z"), op("MatMul", "x z")]
    weights = {"s": ints(1 << 20, 1 << 20)}
    save(tmp_path / "m.onnx", nodes, {"x": np.zeros((1, 1 << 20), np.float32)}, weights=weights)
    assert load_onnx(tmp_path / "m.onnx").macs == 1 << 40
