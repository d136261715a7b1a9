"""A calibrated model as one safetensors file: written whole, read with every size and value checked.

Tensors are named by what they are: ``weight/W`` (int8) with ``scale/W`` (float64), ``vector/B``
(float64), ``factor/T`` and ``channel/H`` (small integers). The one metadata entry ``archsim`` is a
JSON object of all that is no tensor. Which tensors there must be, and of which shapes, follows from
the configuration that it holds: nothing in the file is taken on trust.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from workloads._analyze import inputs, tensor_shapes
from workloads._calibrated_model import CalibratedModel, Signal, widened
from workloads._config_file import MAX_CONFIG_BYTES, Config
from workloads._einsum import Cascade
from workloads._encoder import SOURCE, encoder_cascade, layer_of
from workloads._errors import WorkloadError
from workloads._huggingface import from_config
from workloads._kernel import Elementwise, Kernel, Product, Requantise, Rowwise, kernels, ranks_of
from workloads._model import Model
from workloads._quantise import Calibrated, Weight, vector_names
from workloads._smooth import MAX_FACTOR, smoothable

FORMAT = "archsim calibrated model"
VERSION = 1
MAX_FILE_BYTES = 1 << 33
MAX_DOCUMENT_BYTES = 1 << 25
MAX_SAMPLES = 1 << 24
MAX_LAYERS = 256
MAX_SPLIT_COLUMNS = 1 << 12
"""Columns more than a hidden layer's channels."""
LARGEST, SMALLEST = 1e60, 1e-60
"""Magnitudes of scales, peaks and vectors: their products and quotients stay numbers."""

_KEY = "archsim"
_FAMILIES = {"bert": "bert", "vit": "vit"}
_WEIGHT, _SCALE, _VECTOR, _FACTOR, _CHANNEL = "weight", "scale", "vector", "factor", "channel"
_DTYPES = {_WEIGHT: "I8", _SCALE: "F64", _VECTOR: "F64", _FACTOR: "I8", _CHANNEL: "I32"}

Kernels = tuple[Product | Rowwise, ...]
Array = NDArray[Any]


def save_calibrated(model: CalibratedModel, path: Path) -> int:
    """Write ``model`` to ``path`` under a temporary name, then rename it; returns the bytes written.

    The same model gives the same bytes. Raises WorkloadError for a model that :func:`load_calibrated`
    would refuse.
    """
    document = _document(model)
    tensors = _tensors(model)
    _Reader(path, document, {name: (_dtype(t), t.shape) for name, t in tensors.items()}, tensors).model()
    # One entry only: the library writes several in no fixed order.
    text = json.dumps(document, sort_keys=True, allow_nan=False)
    raw = save(tensors, metadata={_KEY: text})
    _write(path, raw)
    return len(raw)


def load_calibrated(path: Path) -> CalibratedModel:
    """The model in ``path``. Raises WorkloadError that names the file and what in it is wrong."""
    try:
        if not path.is_file():
            raise WorkloadError(f"{path} must be a file, not {'a folder' if path.is_dir() else 'missing'}")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise WorkloadError(f"{path} must be at most {MAX_FILE_BYTES} bytes, not {size}")
        with safe_open(path, "np") as file:
            document = _parsed(path, (file.metadata() or {}).get(_KEY))
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            kinds = {name: (str(s.get_dtype()), tuple(s.get_shape())) for name, s in slices.items()}
            return _Reader(path, document, kinds, _Tensors(file)).model()
    except (OSError, SafetensorError) as error:
        raise WorkloadError(f"{path} must be a readable safetensors file: {error}") from error


@dataclass(frozen=True, slots=True)
class _Tensors:
    """Tensors of an open file by name, read when they are asked for."""

    file: Any

    def __getitem__(self, name: str) -> Array:
        return np.asarray(self.file.get_tensor(name))


def _document(model: CalibratedModel) -> dict[str, Any]:
    signals = [
        asdict(replace(one, rounding_db=_finite(one.rounding_db), total_db=_finite(one.total_db)))
        for one in model.signals
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        "config": json.dumps(dict(model.config.fields), sort_keys=True),
        "peaks": {name: float(peak) for name, peak in model.calibrated.peaks.items()},
        "samples": model.samples,
        "signals": signals,
    }


def _finite(decibels: float) -> Any:
    """JSON has no infinity: a tensor without noise has null."""
    return decibels if math.isfinite(decibels) else None


def _tensors(model: CalibratedModel) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name, weight in model.calibrated.weights.items():
        found[f"{_WEIGHT}/{name}"] = weight.values
        found[f"{_SCALE}/{name}"] = weight.scale.astype(np.float64)
    found |= {f"{_VECTOR}/{name}": values for name, values in model.calibrated.vectors.items()}
    found |= {
        f"{_FACTOR}/{name}": values.astype(np.int8) for name, values in model.calibrated.factors.items()
    }
    found |= {f"{_CHANNEL}/{name}": values.astype(np.int32) for name, values in model.channels.items()}
    # asarray(order="C") keeps what has no dimensions so, which ascontiguousarray does not.
    return {name: np.asarray(found[name], order="C") for name in sorted(found)}


def _dtype(tensor: Array) -> str:
    return f"{tensor.dtype.kind.upper()}{8 * tensor.dtype.itemsize}"


def _parsed(path: Path, text: str | None) -> dict[str, Any]:
    """The JSON object of all that is no tensor."""
    if text is None:
        raise WorkloadError(f"{path}: metadata must have the entry {_KEY}, as an {FORMAT} has, not lack it")
    if len(text) > MAX_DOCUMENT_BYTES:
        raise WorkloadError(f"{path}: metadata must be at most {MAX_DOCUMENT_BYTES} bytes, not {len(text)}")
    return _object(path, "metadata", text)


def _object(path: Path, what: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{path}: {what} must be JSON: {error}") from error
    if not isinstance(found, dict):
        raise WorkloadError(f"{path}: {what} must be a JSON object, not {type(found).__name__}")
    return found


@dataclass(frozen=True, slots=True)
class _Reader:
    """A file's document and tensors, checked against the cascade that its configuration gives."""

    path: Path
    document: Mapping[str, Any]
    kinds: Mapping[str, tuple[str, tuple[int, ...]]]
    tensors: Any
    """Tensor by name."""

    def model(self) -> CalibratedModel:
        self._require("format", FORMAT)
        self._require("version", VERSION)
        config = self._config()
        model = from_config(config, phase="prefill", seq=None, batch=1)
        narrow = encoder_cascade(model)
        channels = self._channels(narrow)
        cascade = widened(narrow, channels)
        found = tuple(kernel for kernel in kernels(cascade) if not isinstance(kernel, Elementwise))
        weights, vectors = self._weights(model, cascade, found), self._vectors(cascade, found)
        factors = self._factors(cascade, found, weights)
        self._nothing_else(weights, vectors, factors, channels)
        return CalibratedModel(
            config=config,
            calibrated=Calibrated(
                peaks=self._peaks(cascade, found, weights), factors=factors, weights=weights, vectors=vectors
            ),
            channels=channels,
            samples=self._samples(),
            signals=tuple(self._signals(found)),
        )

    def _error(self, what: str) -> WorkloadError:
        return WorkloadError(f"{self.path}: {what}")

    def _require(self, key: str, wanted: object) -> None:
        value = self.document.get(key)
        if value != wanted or isinstance(value, bool):
            raise self._error(f"{key} must be {wanted!r}, not {value!r:.80}")

    def _config(self) -> Config:
        text = self.document.get("config")
        if not isinstance(text, str) or len(text) > MAX_CONFIG_BYTES:
            raise self._error(
                f"config must be the text of a config.json, of at most {MAX_CONFIG_BYTES} bytes"
            )
        config = Config(_object(self.path, "config", text), f"{self.path}: config")
        config.choice("model_type", _FAMILIES)
        layers = config.size("num_hidden_layers")
        # Before anything is built of it: each layer has tensors of its own.
        if layers > (most := min(MAX_LAYERS, len(self.kinds))):
            raise config.error("num_hidden_layers", f"at most {most}", layers)
        return config

    def _tensor(self, kind: str, name: str, shape: tuple[int, ...]) -> Array:
        """A tensor of the dtype of its kind and of ``shape``."""
        full = f"{kind}/{name}"
        if full not in self.kinds:
            raise self._error(f"tensor {full} must be in the file, not missing")
        wanted, found = (_DTYPES[kind], shape), self.kinds[full]
        if found != wanted:
            raise self._error(
                f"tensor {full} must be {wanted[0]} of shape {shape}, not {found[0]} of {found[1]}"
            )
        values: Array = self.tensors[full]
        return values

    def _floats(self, kind: str, name: str, shape: tuple[int, ...], *, least: float) -> Array:
        values = self._tensor(kind, name, shape)
        # Comparisons with a NaN are false.
        if not np.all((values >= least) & (values <= LARGEST)):
            raise self._error(f"tensor {kind}/{name} must be of numbers from {least:g} to {LARGEST:g}")
        return values

    def _names(self, kind: str) -> tuple[str, ...]:
        return tuple(name.removeprefix(f"{kind}/") for name in self.kinds if name.startswith(f"{kind}/"))

    def _weights(self, model: Model, cascade: Cascade, found: Kernels) -> dict[str, Weight]:
        shapes, given = tensor_shapes(cascade), set(inputs(cascade))
        weights = {}
        for kernel in found:
            if not isinstance(kernel, Product) or kernel.stationary.tensor not in given:
                continue
            name = kernel.stationary.tensor
            shape = shapes[name]
            columns = zip(kernel.stationary.indices, shape, strict=True)
            scales = tuple(size if index.terms[0][0] in kernel.cols else 1 for index, size in columns)
            weights[name] = Weight(
                self._tensor(_WEIGHT, name, shape), self._floats(_SCALE, name, scales, least=SMALLEST)
            )
        return weights

    def _vectors(self, cascade: Cascade, found: Kernels) -> dict[str, Array]:
        shapes = tensor_shapes(cascade)
        names = sorted({name for kernel in found for name in vector_names(kernel)})
        return {name: self._floats(_VECTOR, name, shapes[name], least=-LARGEST) for name in names}

    def _factors(self, cascade: Cascade, found: Kernels, weights: Mapping[str, Weight]) -> dict[str, Array]:
        shapes = tensor_shapes(cascade)
        made = {einsum.output.tensor for einsum in cascade.einsums}
        none = np.zeros(0)
        columns = {name: none for name in self._names(_FACTOR) if len(shapes.get(name, ())) > 1}
        allowed = set(smoothable(found, weights=weights.keys(), columns=columns, made=made))
        factors = {}
        for name in self._names(_FACTOR):
            if name not in allowed:
                raise self._error(f"tensor {_FACTOR}/{name} must be of a tensor that can be smoothed")
            values = self._tensor(_FACTOR, name, shapes[name][-1:]).astype(np.int64)
            if values.min(initial=0) < 0 or values.max(initial=0) > MAX_FACTOR:
                raise self._error(f"tensor {_FACTOR}/{name} must be of integers from 0 to {MAX_FACTOR}")
            factors[name] = values
        return factors

    def _channels(self, cascade: Cascade) -> dict[str, Array]:
        """The channels of every hidden layer's columns, or of none."""
        names = self._names(_CHANNEL)
        if not names:
            return {}
        hidden = {kernel.name: kernel.output for kernel in kernels(cascade) if _has_function(kernel)}
        if set(names) != hidden.keys():
            raise self._error(
                f"tensors {_CHANNEL}/ must be of {', '.join(hidden)}, not of {', '.join(names)}"
            )
        sizes = {name: cascade.ranks[ranks_of(access)[-1]] for name, access in hidden.items()}
        length = self.kinds[f"{_CHANNEL}/{names[0]}"][1]
        return {name: self._channel(name, size, length) for name, size in sizes.items()}

    def _channel(self, name: str, size: int, length: tuple[int, ...]) -> Array:
        if len(length) != 1 or not size <= length[0] <= size + MAX_SPLIT_COLUMNS:
            raise self._error(
                f"tensor {_CHANNEL}/{name} must have {size} to {size + MAX_SPLIT_COLUMNS} elements, "
                f"not shape {length}"
            )
        values = self._tensor(_CHANNEL, name, length).astype(np.int64)
        more = values[size:]
        if not np.array_equal(values[:size], np.arange(size)) or np.any((more < -1) | (more >= size)):
            raise self._error(
                f"tensor {_CHANNEL}/{name} must be 0 to {size - 1} in order, then channels of these or -1"
            )
        return values

    def _nothing_else(
        self,
        weights: Mapping[str, object],
        vectors: Mapping[str, object],
        factors: Mapping[str, object],
        channels: Mapping[str, object],
    ) -> None:
        known = {f"{kind}/{name}" for kind in (_WEIGHT, _SCALE) for name in weights}
        for kind, names in ((_VECTOR, vectors), (_FACTOR, factors), (_CHANNEL, channels)):
            known |= {f"{kind}/{name}" for name in names}
        if others := sorted(self.kinds.keys() - known):
            raise self._error(f"tensor {others[0]!r:.80} must be one of the model's, not another")

    def _peaks(self, cascade: Cascade, found: Kernels, weights: Mapping[str, object]) -> dict[str, float]:
        given = self.document.get("peaks")
        if not isinstance(given, dict):
            raise self._error(f"peaks must be an object, not {type(given).__name__}")
        needed = {SOURCE, *(name for kernel in found for name in _scaled(kernel))}
        for name in sorted(needed - given.keys()):
            raise self._error(f"peaks must have {name}, not lack it")
        for name in sorted(given.keys() - (tensor_shapes(cascade).keys() - weights.keys())):
            raise self._error(f"peaks must be of the model's tensors, not of {name!r:.80}")
        least = dict.fromkeys(needed, SMALLEST)
        return {name: self._peak(name, value, least.get(name, 5e-324)) for name, value in given.items()}

    def _peak(self, name: str, value: object, least: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= LARGEST:
            raise self._error(f"peaks: {name} must be from {least:g} to {LARGEST:g}, not {value!r:.80}")
        return float(value)

    def _samples(self) -> int:
        value = self.document.get("samples")
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SAMPLES:
            raise self._error(f"samples must be an integer from 1 to {MAX_SAMPLES}, not {value!r:.80}")
        return value

    def _signals(self, found: Kernels) -> Iterator[Signal]:
        rows = self.document.get("signals")
        names = {kernel.name for kernel in found}
        if not isinstance(rows, list) or len(rows) > len(names):
            raise self._error(f"signals must be a list of at most {len(names)} objects")
        for row in rows:
            keys = {"tensor", "layer", "rounding_db", "total_db"}
            known = isinstance(row, dict) and row.keys() == keys and isinstance(row["tensor"], str)
            if not known or row["tensor"] not in names:
                raise self._error(f"a signal must be of a tensor that the model makes, not {row!r:.80}")
            tensor = row["tensor"]
            if row["layer"] != (layer := layer_of(tensor)) or layer is None or isinstance(row["layer"], bool):
                raise self._error(f"signals: {tensor} must be of layer {layer}, not {row['layer']!r:.80}")
            rounding, total = (self._decibels(tensor, row[key]) for key in ("rounding_db", "total_db"))
            yield Signal(tensor=tensor, layer=layer, rounding_db=rounding, total_db=total)

    def _decibels(self, tensor: str, value: object) -> float:
        if value is None:
            return math.inf
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise self._error(f"signals: {tensor} must have decibels or null, not {value!r:.80}")
        return float(value)


def _has_function(kernel: Kernel) -> bool:
    if isinstance(kernel, Elementwise) or not isinstance(kernel.epilogue, Requantise):
        return False
    return kernel.epilogue.function is not None


def _scaled(kernel: Product | Rowwise) -> tuple[str, ...]:
    """Tensors whose peaks the kernel's parameters are made of."""
    argument = getattr(kernel.epilogue, "argument", None)
    return (kernel.name, argument) if argument is not None else (kernel.name,)


def _write(path: Path, raw: bytes) -> None:
    """All of ``raw`` or nothing; a link stays a link, and a device or pipe is written to."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        path.write_bytes(raw)
        return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
