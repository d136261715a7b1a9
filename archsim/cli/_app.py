"""The command's root: its commands, its version, its one way to fail."""

from __future__ import annotations

from collections.abc import Sequence

import click

from archsim.cli._completion import completion_command
from archsim.cli._cosim import cosim_command
from archsim.cli._demo import demo_command
from archsim.cli._errors import guarded
from archsim.cli._estimate import estimate_command
from archsim.cli._hls import hls_command
from archsim.cli._list import list_command
from archsim.cli._map import map_command
from archsim.cli._passes import passes_command
from archsim.cli._quantize import quantize_command
from archsim.cli._regress import regress_command
from archsim.cli._report import report_command
from archsim.cli._reproduce import reproduce_command
from archsim.cli._rtl import rtl_command
from archsim.cli._run import run_command
from archsim.cli._schema import schema_command
from archsim.cli._show import show_command
from archsim.cli._simulate import simulate_command
from archsim.cli._synth import synth_command


class _InOrder(click.Group):
    """Lists its commands in the order in which a person meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="archsim", prog_name="archsim")
def app() -> None:
    """Cycles and energy of a model on an accelerator, and the hardware that proves them.

    MODEL is a zoo name, a config.json, a .onnx or .yaml file, or gemm:MxKxN.
    ARCH is a library name or a .yaml file.

    \b
    Examples:
      archsim list
      archsim estimate bert-base --arch cloud-256x256 --seq 512
      archsim cosim gemm:64x64x64 --arch edge-8x8

    Exit codes: 0 good, 1 a check failed, 2 wrong input.
    """


for _command in (
    list_command,
    show_command,
    passes_command,
    estimate_command,
    map_command,
    simulate_command,
    rtl_command,
    synth_command,
    cosim_command,
    quantize_command,
    run_command,
    regress_command,
    hls_command,
    report_command,
    reproduce_command,
    demo_command,
    schema_command,
    completion_command,
):
    app.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return guarded(lambda: app.main(args=arguments, prog_name="archsim", standalone_mode=False))
