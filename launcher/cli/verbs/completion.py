"""`shardline completion`."""

import argparse

from launcher.cli.verb import Verb

SHELLS = ("bash", "zsh", "fish")


def completion(options: argparse.Namespace) -> int:
    """Print the script that a shell evaluates to complete `shardline` commands."""
    from argcomplete.shell_integration import shellcode

    from launcher.cli.output import print_json, print_text

    script = shellcode(["shardline"], shell=options.shell)
    if options.json:
        print_json({"shell": options.shell, "script": script})
    else:
        print_text(script)
    return 0


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell that evaluates the script")


VERB = Verb(
    name="completion",
    help="Print the script for tab completion in bash, zsh or fish",
    example='eval "$(shardline completion bash)"  (fish: shardline completion fish | source)',
    options=_options,
    run=completion,
)
