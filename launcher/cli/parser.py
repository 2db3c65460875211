"""The argument parser, made from the table of verbs."""

import argparse
from collections.abc import Sequence

from launcher import __version__
from launcher.cli.verb import Verb
from launcher.cli.verbs import GROUPS

_EPILOG = """\
exit codes: 0 done, 2 user error, 3 refused by plan, 4 run failed, 75 preempted, 93 no progress,
94 no usable checkpoint, 95 checkpoints cannot be saved

first run:       shardline submit experiment=smoke --follow
options of VERB: shardline VERB --help
tab completion:  eval "$(shardline completion bash)"
"""


class _GroupedHelp(argparse.ArgumentParser):
    """A parser whose help lists the verbs by group, which argparse cannot do for subcommands."""

    def format_help(self) -> str:
        """Return the text of `shardline --help`."""
        parts = [self.format_usage(), f"{self.description}\n"]
        parts += [
            f"{group}:\n" + "".join(f"  {verb.name:<12} {verb.help}\n" for verb in verbs)
            for group, verbs in GROUPS.items()
        ]
        parts.append("options:\n  -h, --help   show this help\n  --version    show the version\n")
        return "\n".join([*parts, _EPILOG])


def all_verbs() -> list[Verb]:
    """Every verb, in the order of the help."""
    return [verb for verbs in GROUPS.values() for verb in verbs]


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command; `verb` in its result is the chosen row of the table."""
    parser = _GroupedHelp(
        prog="shardline",
        usage="shardline VERB [options] ...",
        description="Fine-tune a language model, from a config to a finished, evaluated model.",
    )
    parser.add_argument("--version", action="version", version=f"shardline {__version__}")
    subparsers = parser.add_subparsers(
        title="verbs", required=True, metavar="VERB", parser_class=argparse.ArgumentParser
    )
    for verb in all_verbs():
        subparser = subparsers.add_parser(
            verb.name,
            prog=f"shardline {verb.name}",
            help=verb.help,
            description=f"{verb.help}.",
            epilog=f"example: {verb.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subparser.add_argument("--json", action="store_true", help="print JSON")
        verb.options(subparser)
        subparser.set_defaults(verb=verb)
    return parser


def unknown_verb(arguments: Sequence[str]) -> str | None:
    """A message with the nearest name if the first argument is neither a verb nor an option; else None."""
    names = [verb.name for verb in all_verbs()]
    if not arguments or arguments[0].startswith("-") or arguments[0] in names:
        return None
    from launcher.errors import nearest

    return f"unknown verb {arguments[0]!r}: {nearest(arguments[0], names)}"
