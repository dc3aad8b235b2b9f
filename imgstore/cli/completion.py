"""`imgstore completion`: how shells come to complete its commands."""

from __future__ import annotations

import itertools
import os
from typing import Any, Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from imgstore.cli.command import Command
from imgstore.cli.output import Terminal

VARIABLE: Final = "_IMGSTORE_COMPLETE"  # how the script asks, by click's rule for the name of a command

# As click's own, but that no blank follows a store's colon, and a blank in a key is quoted.
_BASH: Final = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local response type value

    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1")

    for completion in $response; do
        type=${completion%%%%,*}
        value=${completion#*,}
        if [[ $type == file ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == plain ]]; then
            [[ $value == *: || $value == */ ]] && compopt -o nospace
            printf -v value %%q "$value"
            COMPREPLY+=("$value")
        fi
    done

    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Bash's completion, which takes `STORE:KEY` for three words: at a colon it begins a new one."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        words = split_arg_string(os.environ["COMP_WORDS"])
        at = int(os.environ["COMP_CWORD"])
        words = [*words[:at], words[at] if at < len(words) else ""]
        joined = words[:1]
        for before, word in itertools.pairwise(words):
            if len(joined) > 1 and (word == ":" or before == ":"):
                joined[-1] += word
            else:
                joined.append(word)
        return joined[1:-1], joined[-1]

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        items = super().get_completions(args, incomplete)
        before = incomplete.rpartition(":")[0]
        for item in items if before else ():
            # what Bash replaces is the word behind the colon
            item.value = item.value.removeprefix(f"{before}:")
        return items


def register() -> None:
    """Makes click complete for Bash as above."""
    add_completion_class(Bash)


@click.command(
    cls=Command,
    examples=(
        'eval "$(imgstore completion bash)"',
        "imgstore completion fish > ~/.config/fish/completions/imgstore.fish",
    ),
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, paths, stores and images.

    The images of a store are asked for when STORE: is typed: at most 100 of them, and for 2 seconds at most.
    """
    register()
    terminal: Terminal = ctx.ensure_object(Terminal)
    kind: Any = get_completion_class(shell)
    terminal.print(kind(ctx.find_root().command, {}, "imgstore", VARIABLE).source().rstrip())
