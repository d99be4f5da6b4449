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
    """Print the script that lets a shell complete our commands, options, targets and passes.

    In ~/.bashrc: eval "$(penstock completion bash)"

    In ~/.zshrc: eval "$(penstock completion zsh)"

    For fish: penstock completion fish > ~/.config/fish/completions/penstock.fish
    """
    script = get_completion_class(shell)
    assert script is not None, "click knows all the shells of our choice"
    click.echo(script(context.find_root().command, {}, "penstock", "_PENSTOCK_COMPLETE").source())
