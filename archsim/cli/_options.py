"""The arguments that every command about a model takes, declared once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click
from click.shell_completion import CompletionItem

from archsim.cli._job import Job, Objective, Phase

Command = TypeVar("Command", bound=Callable[..., Any])
MAX_SEQ = 1 << 24
MAX_BATCH = 1 << 16


class ArchitectureParameter(click.ParamType[str]):
    """A library name or a ``.yaml`` file; the name is looked up when it is loaded."""

    name = "architecture"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as given; refuses a hierarchy's where hardware is needed."""
        from archsim._hierarchy_file import hierarchy_names
        from archsim._spatial_file import spatial_names

        if value in spatial_names():
            self.fail(
                f"ARCH must be an architecture, not {value!r}: spatial machines are for archsim reproduce",
                param,
                ctx,
            )
        if ctx is not None and ctx.command.name != "map" and value in hierarchy_names():
            self.fail(
                f"ARCH must be an architecture, not {value!r}: hierarchies are for archsim map", param, ctx
            )
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The library's names, then files; hierarchies where mappings are asked for."""
        from archsim._architecture_file import architecture_names
        from archsim._hierarchy_file import hierarchy_names

        hierarchies = hierarchy_names() if ctx.command.name == "map" else ()
        return _complete((*architecture_names(), *hierarchies), incomplete)


class ModelParameter(click.ParamType[str]):
    """A zoo name, a file, or ``gemm:MxKxN``."""

    name = "model"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The zoo's names, then files."""
        from workloads import ZOO

        return _complete(tuple(ZOO), incomplete)


class ShapeParameter(click.ParamType[tuple[str, tuple[int, ...]]]):
    """An ONNX input's shape, as ``tokens=1x128``."""

    name = "shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """The input's name and its sizes."""
        if isinstance(value, tuple):
            return value
        name, _, sizes = str(value).rpartition("=")
        if not name or not re.fullmatch(r"[0-9]{1,12}(x[0-9]{1,12})*", sizes, re.ASCII):
            self.fail(f"a shape must be as tokens=1x128, not {value!r}", param, ctx)
        return name, tuple(int(size) for size in sizes.split("x"))


def _complete(names: tuple[str, ...], incomplete: str) -> list[CompletionItem]:
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


_MODEL_SUFFIXES = (".json", ".onnx", ".yaml", ".yml")


def _require_file(model: str) -> None:
    """Refuse a model that is named as a file or folder and is none, so that no name is guessed for it."""
    path = Path(model)
    if path.is_dir() and not (path / "config.json").is_file():
        raise click.UsageError(f"MODEL must be a folder with a config.json, not {model!r}")
    if not path.exists() and (path.suffix in _MODEL_SUFFIXES or "/" in model):
        raise click.UsageError(f"MODEL must be a file that exists, not {model!r}")


def _in_folder(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file that could not be written before any work is done for it."""
    if path is not None and not path.name:
        raise click.BadParameter("the file must have a name", ctx, param)
    if path is not None and str(path) == "-":
        raise click.BadParameter(
            "the file must have a name, not '-': standard output has the tables", ctx, param
        )
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"the file must be in a folder that exists, not {str(path)!r}", ctx, param)
    if path is not None and not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.BadParameter(f"the file must be one that can be written, not {str(path)!r}", ctx, param)
    return path


def file_option(*names: str, help: str, default: Path | None = None) -> Callable[[Command], Command]:  # noqa: A002
    """An option for a file that the command writes, and that no other of its files may be."""
    option = click.option(
        *names,
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        callback=_in_folder,
        default=default,
        show_default=default is not None,
        help=help,
    )

    def decorate(command: Command) -> Command:
        @wraps(command)
        def checked(*arguments: Any, **rest: Any) -> Any:
            _require_apart(click.get_current_context())
            return command(*arguments, **rest)

        return option(cast("Command", checked))

    return decorate


def _require_apart(ctx: click.Context) -> None:
    """Refuse to write a file over another one that the command writes or reads."""
    written: dict[Path, str] = {}
    for option in ctx.command.params:
        path = ctx.params.get(option.name or "")
        if option.callback is _in_folder and isinstance(path, Path) and (path.is_file() or not path.exists()):
            name, file = option.opts[0], path.resolve()
            if file in written:
                raise click.UsageError(f"{name} must be another file than {written[file]}, not {str(path)!r}")
            written[file] = name
    for option in ctx.command.params:
        value = ctx.params.get(option.name or "")
        if option.callback is not _in_folder and isinstance(value, str | Path) and Path(value).is_file():
            name = option.human_readable_name if isinstance(option, click.Argument) else option.opts[0]
            if writer := written.get(Path(value).resolve()):
                raise click.UsageError(f"{writer} must be another file than {name}, not {str(value)!r}")


def folder_option(default: str) -> Callable[[Command], Command]:
    """``--output``: a folder that the command writes, made where it is missing."""
    return click.option(
        "--output",
        "-o",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(default),
        show_default=True,
        help="Folder for the files.",
    )


all_option = click.option(
    "--all", "every", is_flag=True, help="Show every kernel and every stall in the tables."
)
json_option = file_option("--json", "json_path", help="Write the result as JSON.")
arch_option = click.option(
    "--arch",
    metavar="ARCH",
    required=True,
    type=ArchitectureParameter(),
    help="Architecture: a library name (see `archsim list`) or a .yaml file.",
)


def model_options(command: Command) -> Command:
    """MODEL, --arch and the options that say what to run but --objective, given to ``command`` as one Job."""

    @click.argument("model", type=ModelParameter())
    @arch_option
    @click.option(
        "--phase",
        type=click.Choice(get_args(Phase)),
        default="prefill",
        show_default=True,
        help="Prefill of a whole sequence, or decode of one token with a cache.",
    )
    @click.option(
        "--seq",
        type=click.IntRange(1, MAX_SEQ),
        metavar="N",
        help="Sequence length of a prefill, position of a decode.  [default: the model's]",
    )
    @click.option(
        "--batch",
        type=click.IntRange(1, MAX_BATCH),
        default=1,
        show_default=True,
        metavar="N",
        help="Sequences or images at once.",
    )
    @click.option(
        "--host",
        multiple=True,
        metavar="OP",
        help="Price this operator as host work instead of refusing it; may be given again.",
    )
    @click.option(
        "--shape",
        "shapes",
        type=ShapeParameter(),
        multiple=True,
        metavar="INPUT=AxB",
        help="Shape of an ONNX graph's input, as tokens=1x128; may be given again.",
    )
    @wraps(command)
    def wrapped(*, model: str, arch: str, **rest: Any) -> Any:
        _require_file(model)
        names = ("phase", "seq", "batch", "host", "shapes")
        job = Job(model=model, arch=arch, **{name: rest.pop(name) for name in names})
        return command(job=job, **rest)

    return cast("Command", wrapped)


def job_options(command: Command) -> Command:
    """``model_options`` and --objective, given to ``command`` as one Job."""

    @click.option(
        "--objective",
        type=click.Choice(get_args(Objective)),
        default="latency",
        show_default=True,
        help="What the mapping is chosen for; edp is energy times latency.",
    )
    @wraps(command)
    def wrapped(*, job: Job, objective: Objective, **rest: Any) -> Any:
        return command(job=replace(job, objective=objective), **rest)

    return model_options(cast("Command", wrapped))
