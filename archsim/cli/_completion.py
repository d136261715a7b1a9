"""``archsim completion``: the shell's script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion", short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      archsim completion bash >> ~/.bashrc
      archsim completion fish > ~/.config/fish/completions/archsim.fish
    """
    completer = get_completion_class(shell)
    assert completer is not None
    script = completer(ctx.find_root().command, {}, "archsim", "_ARCHSIM_COMPLETE")
    click.echo(script.source())
