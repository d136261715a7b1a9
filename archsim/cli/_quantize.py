"""``archsim quantize``: a checkpoint's encoder in integers, as one file, and where precision is lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli._options import file_option, json_option
from archsim.cli._progress import Steps

if TYPE_CHECKING:
    from archsim.cli._samples import Samples
    from workloads import CalibratedModel, Checkpoint

MAX_LENGTH = 1 << 16
_HEADER = ("layer", "tensor", "rounding dB", "total dB", "lost dB", "")


def _read_option(*names: str, help: str) -> Callable[[Any], Any]:  # noqa: A002
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.option(*names, metavar="FILE", type=kind, help=help)


@click.command("quantize", short_help="Quantise a checkpoint to int8, and say what it costs in precision.")
@click.argument("directory", metavar="[DIR]", required=False)
@file_option("--output", "-o", help="The calibrated model (safetensors).")
@_read_option(
    "--calibration", help="Text to calibrate a bert on, one sentence a line.  [default: a dozen sentences]"
)
@_read_option(
    "--samples", help="Images to calibrate a vit on, .npy [n, c, h, w], normalised.  [default: smooth noise]"
)
@click.option(
    "--length",
    type=click.IntRange(1, MAX_LENGTH),
    metavar="N",
    help="Repeat or cut every sentence to N tokens.  [default: its own length]",
)
@_read_option("--inspect", help="Show an existing calibrated model instead of making one.")
@json_option
def quantize_command(
    directory: str | None,
    *,
    output: Path | None,
    calibration: Path | None,
    samples: Path | None,
    length: int | None,
    inspect: Path | None,
    json_path: Path | None,
) -> None:
    """Quantise the encoder of a bert or vit checkpoint to int8 and write it as one file.

    DIR holds config.json, model.safetensors and, for text, tokenizer.json; minilm is the model that
    comes along. The table says how many decibels of each tensor's signal are left above the noise:
    rounding alone, and in all. lost is what a step loses against the worst of its inputs.

    \b
    Examples:
      archsim quantize minilm -o minilm.safetensors
      archsim quantize bert/ -o bert-int8.safetensors --calibration sentences.txt
      archsim quantize --inspect minilm.safetensors
    """
    if inspect is not None:
        given = {"DIR": directory, "--output": output, "--calibration": calibration, "--samples": samples}
        if extra := [name for name, value in {**given, "--length": length}.items() if value is not None]:
            raise click.UsageError(f"--inspect must be given without {', '.join(extra)}")
        _inspect(inspect, json_path=json_path)
        return
    if directory is None or output is None:
        raise click.UsageError(
            f"{'DIR' if directory is None else '--output'} must be given, unless --inspect is"
        )
    _quantize(directory, output, calibration=calibration, samples=samples, length=length, json_path=json_path)


def _inspect(path: Path, *, json_path: Path | None) -> None:
    from workloads import load_calibrated

    _show(path, load_calibrated(path), path.stat().st_size, source="", json_path=json_path)


def _quantize(
    directory: str,
    output: Path,
    *,
    calibration: Path | None,
    samples: Path | None,
    length: int | None,
    json_path: Path | None,
) -> None:
    """Write the calibrated model and show it."""
    from workloads import calibrate_encoder, load_weights, save_calibrated

    folder = _folder(directory)
    checkpoint = load_weights(folder)
    if output.resolve() in {file.resolve() for file in (*checkpoint.files.values(), folder / "config.json")}:
        raise click.UsageError(f"--output must not be a file of the checkpoint, as {output} is")
    found = _samples(checkpoint, folder, calibration=calibration, samples=samples, length=length)
    if found.notice:
        click.echo(f"archsim: {found.notice}", err=True)
    with Steps()(f"quantising {directory}") as say:
        model = calibrate_encoder(checkpoint, found.inputs, progress=say)
    size = save_calibrated(model, output)
    _show(output, model, size, source=found.source, json_path=json_path)


def _folder(directory: str) -> Path:
    from workloads import minilm_directory

    if directory == "minilm":
        return minilm_directory()
    if not Path(directory).is_dir():
        raise click.UsageError(f"DIR must be minilm or a folder with a checkpoint, not {directory!r}")
    return Path(directory)


def _samples(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    calibration: Path | None,
    samples: Path | None,
    length: int | None,
) -> Samples:
    from archsim.cli._samples import image_samples, text_samples

    if checkpoint.family == "vit":
        _refuse(checkpoint, {"--calibration": calibration, "--length": length})
        return image_samples(checkpoint, file=samples)
    _refuse(checkpoint, {"--samples": samples})
    return text_samples(checkpoint, folder, file=calibration, length=length)


def _refuse(checkpoint: Checkpoint, options: dict[str, object]) -> None:
    for name, value in options.items():
        if value is not None:
            raise click.UsageError(f"{name} must be left out for a {checkpoint.family}")


def _show(path: Path, model: CalibratedModel, size: int, *, source: str, json_path: Path | None) -> None:
    """Print the ``model`` that ``path`` holds in ``size`` bytes."""
    from archsim.cli._tables import print_figures, print_rows
    from archsim.cli._write import write_json

    document = _document(model, size, source)
    if json_path is not None:
        write_json(json_path, document)
    if model.signals:
        print_rows(
            "Signal to noise of each int8 tensor", _HEADER, _rows(document["signals"]), text=("tensor", "")
        )
    print_figures(str(path), _figures(document))


def _document(model: CalibratedModel, size: int, source: str) -> dict[str, Any]:
    floats, lost = _float_bytes(model), _lost(model)
    signals = [
        {
            "layer": signal.layer,
            "tensor": signal.tensor,
            "rounding_db": _number(signal.rounding_db),
            "total_db": _number(signal.total_db),
            "lost_db": lost.get(signal.tensor),
        }
        for signal in model.signals
    ]
    found = {
        "name": model.model().name,
        "model_type": model.config.text("model_type"),
        "layers": model.config.size("num_hidden_layers"),
        "samples": model.samples,
        "bytes": size,
        "float32_bytes": floats,
        "compression": floats / size,
        "smoothed": sorted(model.calibrated.factors),
        "split_columns": {name: int((held >= 0).sum()) for name, held in _split(model).items()},
        "signals": signals,
    }
    return found | ({"calibration": source} if source else {})


def _split(model: CalibratedModel) -> dict[str, Any]:
    """The columns that hidden layers have beside their channels."""
    inner = model.config.size("intermediate_size")
    return {name: channels[inner:] for name, channels in model.channels.items()}


def _float_bytes(model: CalibratedModel) -> int:
    """Bytes in float32 of the tensors that the file replaces: the blocks' weights."""
    from workloads import tensor_shapes

    part = model.model().part("block")
    shapes = tensor_shapes(part.cascade)
    return 4 * part.repeat * sum(math.prod(shapes[name]) for name in part.weights)


def _number(decibels: float) -> float | None:
    return decibels if math.isfinite(decibels) else None


def _lost(model: CalibratedModel) -> dict[str, float]:
    """Decibels that each step loses against the worst of its inputs that are listed."""
    from workloads import Elementwise, kernels, operands

    totals = {signal.tensor: signal.total_db for signal in model.signals}
    lost = {}
    for kernel in kernels(model.cascade()):
        if isinstance(kernel, Elementwise):
            continue
        before = [totals[access.tensor] for access in operands(kernel) if access.tensor in totals]
        loss = min(before) - totals[kernel.name] if before and kernel.name in totals else math.inf
        if math.isfinite(loss):
            lost[kernel.name] = loss
    return lost


def _rows(signals: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    most = max((s["lost_db"] for s in signals if s["lost_db"] is not None), default=math.inf)
    for signal in signals:
        name, _, layer = signal["tensor"].rpartition(".")
        figures = (_decibels(signal[key]) for key in ("rounding_db", "total_db"))
        lost = signal["lost_db"]
        mark = "<- largest" if lost is not None and lost == most else ""
        yield (layer, name, *figures, "" if lost is None else f"{lost:.1f}", mark)


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"


def _figures(document: dict[str, Any]) -> dict[str, str]:
    from archsim.cli._tables import quantity

    columns = document["split_columns"].values()
    figures = {
        "model": f"{document['name']} ({document['model_type']}), {document['layers']} layers",
        "calibrated on": document.get("calibration") or f"{document['samples']} samples",
        "file": quantity(document["bytes"], "B"),
        "the blocks in float32": quantity(document["float32_bytes"], "B"),
        "compression": f"{document['compression']:.2f}",
        "smoothed tensors": str(len(document["smoothed"])),
        "columns of split channels": str(sum(columns)),
    }
    if document["signals"]:
        figures["result's signal to noise"] = f"{_decibels(document['signals'][-1]['total_db'])} dB"
    return figures
