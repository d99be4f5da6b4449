"""`penstock completion`: the script that teaches a shell to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from penstock.cli.options import global_options


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@global_options
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash   eval "$(penstock completion bash)"              in ~/.bashrc
    zsh    eval "$(penstock completion zsh)"               in ~/.zshrc
    fish   penstock completion fish > ~/.config/fish/completions/penstock.fish
    """
    script = get_completion_class(shell)
    assert script is not None, "click knows all the shells of our choice"
    click.echo(script(context.find_root().command, {}, "penstock", "_PENSTOCK_COMPLETE").source())
