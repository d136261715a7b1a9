"""Multiply-accumulates of the zoo against layer tables by hand and a walker over ONNX's own shapes."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import onnx
import pytest
from onnx import helper, shape_inference

from workloads._analyze import verify
from workloads._errors import WorkloadError
from workloads._zoo import ZOO, load_model, minilm_directory

NETWORKS = {
    "resnet50": "resnet50",
    "densenet121": "densenet121",
    "vgg19": "vgg19",
    "inception-v1": "inception_v1",
    "inception-v2": "inception_v2",
    "shufflenet": "shufflenet",
    "squeezenet": "squeezenet",
    "alexnet": "bvlc_alexnet",
    "zfnet512": "zfnet512",
}


def conv(outs: int, ins: int, kernel: int, size: int) -> int:
    """A square convolution with ``size`` x ``size`` outputs; ``ins`` are those of one group."""
    return outs * ins * kernel**2 * size**2


def vgg19() -> int:
    """Simonyan and Zisserman (2015), table 1, column E."""
    total, ins, size = 0, 3, 224
    for outs, layers in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(layers):
            total += conv(outs, ins, 3, size)
            ins = outs
        size //= 2
    return total + 512 * 7 * 7 * 4096 + 4096 * 4096 + 4096 * 1000


def alexnet() -> int:
    """Krizhevsky et al. (2012), two groups, the first layer's outputs 54 x 54, as Caffe publishes it."""
    layers = conv(96, 3, 11, 54) + conv(256, 48, 5, 26) + conv(384, 256, 3, 12)
    layers += conv(384, 192, 3, 12) + conv(256, 192, 3, 12)
    return layers + 256 * 6 * 6 * 4096 + 4096 * 4096 + 4096 * 1000


def zfnet512() -> int:
    """Zeiler and Fergus (2014) 512 maps in each of the last three convolutions, as in Caffe2."""
    layers = conv(96, 3, 7, 109) + conv(256, 96, 5, 25) + conv(512, 256, 3, 12) + 2 * conv(512, 512, 3, 12)
    return layers + 512 * 6 * 6 * 4096 + 4096 * 1024 + 1024 * 1000


def resnet50() -> int:
    """He et al. (2016), table 1, with the stride in the middle convolution of a block."""
    total, ins = conv(64, 3, 7, 112), 64
    for width, blocks, size in ((64, 3, 56), (128, 4, 28), (256, 6, 14), (512, 3, 7)):
        for block in range(blocks):
            before = size * 2 if block == 0 and width > 64 else size
            total += (
                conv(width, ins, 1, before) + conv(width, width, 3, size) + conv(4 * width, width, 1, size)
            )
            if block == 0:
                total += conv(4 * width, ins, 1, size)
            ins = 4 * width
    return total + 2048 * 1000


def densenet121() -> int:
    """Huang et al. (2017), table 1, growth 32; the classifier is a 1 x 1 convolution."""
    total, channels = conv(64, 3, 7, 112), 64
    for layers, size in ((6, 56), (12, 28), (24, 14), (16, 7)):
        for _ in range(layers):
            total += conv(128, channels, 1, size) + conv(32, 128, 3, size)
            channels += 32
        if size > 7:
            total += conv(channels // 2, channels, 1, size)
            channels //= 2
    return total + channels * 1000


def squeezenet() -> int:
    """Iandola et al. (2016), release 1.1: squeeze s, expand e and e."""
    total, ins = conv(64, 3, 3, 111), 64
    for squeeze, expand, size in (
        (16, 64, 55),
        (16, 64, 55),
        (32, 128, 27),
        (32, 128, 27),
        (48, 192, 13),
        (48, 192, 13),
        (64, 256, 13),
        (64, 256, 13),
    ):
        total += conv(squeeze, ins, 1, size) + conv(expand, squeeze, 1, size) + conv(expand, squeeze, 3, size)
        ins = 2 * expand
    return total + conv(1000, 512, 1, 13)


def inception_v1() -> int:
    """Szegedy et al. (2015), table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.

    Caffe2 rounds the pools' sizes down: 55, 27, 13 and 6 instead of 56, 28, 14 and 7.
    """
    total, ins = conv(64, 3, 7, 112) + conv(64, 64, 1, 55) + conv(192, 64, 3, 55), 192
    for size, one, reduce3, three, reduce5, five, pool in (
        (27, 64, 96, 128, 16, 32, 32),
        (27, 128, 128, 192, 32, 96, 64),
        (13, 192, 96, 208, 16, 48, 64),
        (13, 160, 112, 224, 24, 64, 64),
        (13, 128, 128, 256, 24, 64, 64),
        (13, 112, 144, 288, 32, 64, 64),
        (13, 256, 160, 320, 32, 128, 128),
        (6, 256, 160, 320, 32, 128, 128),
        (6, 384, 192, 384, 48, 128, 128),
    ):
        total += conv(one + reduce3 + reduce5 + pool, ins, 1, size)
        total += conv(three, reduce3, 3, size) + conv(five, reduce5, 5, size)
        ins = one + three + five + pool
    return total + 1024 * 1000


def shufflenet() -> int:
    """Zhang et al. (2018), table 1, four groups at half width, the bottleneck as wide as its result."""
    groups = 4
    total, ins = conv(24, 3, 3, 112), 24
    for outs, repeat, size in ((136, 3, 28), (272, 7, 14), (544, 3, 7)):
        for unit in range(repeat + 1):
            made = outs - ins if unit == 0 else outs
            before = size * 2 if unit == 0 else size
            total += conv(made, ins // groups, 1, before)
            total += conv(made, 1, 3, size) + conv(made, made // groups, 1, size)
            ins = outs
    return total + 544 * 1000


TABLES = {
    "vgg19": vgg19,
    "alexnet": alexnet,
    "zfnet512": zfnet512,
    "resnet50": resnet50,
    "densenet121": densenet121,
    "squeezenet": squeezenet,
    "inception-v1": inception_v1,
    "shufflenet": shufflenet,
}


@pytest.mark.parametrize("name", TABLES)
def test_macs_equal_the_published_layer_table(name: str) -> None:
    assert load_model(name).macs == TABLES[name]()


def _light(name: str) -> Path:
    found = importlib.util.find_spec("onnx")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "backend/test/data/light" / f"light_{NETWORKS[name]}.onnx"


def _walked(path: Path) -> int:
    """Convolutions and Gemms of the graph: output elements times weight elements behind each."""
    graph = shape_inference.infer_shapes(onnx.load(path)).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Conv":
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in {"Gemm", "MatMul"}:
            inner = shapes[node.input[0]][0 if attributes.get("transA") else -1]
            total += math.prod(shapes[node.output[0]]) * inner
    return total


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_equal_a_walk_over_inferred_shapes(name: str) -> None:
    model = load_model(name)
    assert model.macs == _walked(_light(name))
    assert not model.host
    assert (model.name, model.phase, model.batch) == (name, "prefill", 1)


@pytest.mark.parametrize("name", ["alexnet", "shufflenet", "inception-v1"])
def test_networks_are_well_formed_cascades(name: str) -> None:
    (part,) = load_model(name).parts
    verify(part.cascade)
    assert len(part.inputs) == 1


def test_batch_multiplies_a_network_that_allows_it() -> None:
    assert load_model("squeezenet", batch=4).macs == 4 * squeezenet()


def test_matrix_product() -> None:
    model = load_model("gemm:8x24x5", batch=3)
    assert model.macs == 3 * 8 * 24 * 5
    (part,) = model.parts
    assert [str(einsum) for einsum in part.cascade.einsums] == ["Y[b, m, n] = X[b, m, k] * W[k, n]"]
    assert (set(part.inputs), set(part.weights)) == ({"X"}, {"W"})


def test_minilm_is_read_from_its_package() -> None:
    assert (minilm_directory() / "model.safetensors").is_file()
    seq, d, ffn = 16, 384, 1536
    expected = 6 * (4 * seq * d**2 + 2 * seq**2 * d + 2 * seq * d * ffn)
    assert load_model("minilm", seq=seq).macs == expected
    assert load_model(str(minilm_directory()), seq=seq).macs == expected


def test_every_name_loads_and_bears_it() -> None:
    for name in ZOO.keys() - NETWORKS.keys():
        model = load_model(name)
        assert model.name == name
        assert model.macs > 0
        for part in model.parts:
            verify(part.cascade)


def test_cascade_by_hand_loads(tmp_path: Path) -> None:
    text = "name: mine\nranks: {m: 4, k: 5, n: 6}\neinsums:\n  - Y[m, n] = X[m, k] * W[k, n]\n"
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    model = load_model(str(tmp_path / "c.yaml"))
    assert (model.name, model.macs) == ("mine", 4 * 5 * 6)
    assert (set(model.parts[0].inputs), set(model.parts[0].weights)) == ({"X"}, {"W"})
    with pytest.raises(WorkloadError, match="seq, batch and phase must be left out for"):
        load_model(str(tmp_path / "c.yaml"), seq=4)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("bert-bas", {}, "not 'bert-bas'; close names are bert-base"),
        ("zzz", {}, "a model must be a file, gemm:MxKxN or a name of the zoo, not 'zzz'; names are minilm, "),
        ("gemm:1x2", {}, "a matrix product must be gemm:MxKxN with sizes 1 to 16777216, not 'gemm:1x2'$"),
        ("gemm:0x2x3", {}, "not 'gemm:0x2x3'$"),
        ("gemm:1x2x3", {"seq": 4}, "seq and phase must be left out for gemm:1x2x3, which has no tokens"),
        ("resnet50", {"phase": "decode"}, "phase must be prefill for an ONNX graph, not 'decode'"),
        ("bert-base", {"phase": "decode"}, "phase must be prefill for bert, an encoder, not 'decode'"),
        ("gpt2", {"phase": "train"}, "phase must be prefill or decode, not 'train'"),
        ("gpt2", {"seq": 0}, "seq and batch must be at least 1, not 0 and 1"),
        ("gpt2", {"host": ("Relu",)}, "shapes and host operators must be left out for"),
        ("vit-base", {"seq": 5}, "seq must be 197, the image's patches and the class token, not 5"),
    ],
)
def test_wrong_requests_are_refused(spec: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        load_model(spec, **options)  # type: ignore[arg-type]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("", encoding="utf-8")
    with pytest.raises(WorkloadError, match=r"a model file must end in \.json, \.onnx or \.yaml, not"):
        load_model(str(tmp_path / "m.txt"))
