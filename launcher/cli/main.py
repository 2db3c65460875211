"""Entry of the `shardline` command: parse, run the verb, show refusals, exit.

Imports wait until a verb needs them, so that `--help` and completion are fast.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from launcher.cli.parser import make_parser, unknown_verb
from launcher.shadow import shadowing_file


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments (default: those of the process)."""
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:
        from launcher.cli.completers import complete

        complete(parser)
    if wrong := unknown_verb(sys.argv[1:] if arguments is None else arguments):
        parser.error(wrong)
    options = parser.parse_args(arguments)
    # Files are private to this user until a run's config says that its group may read them.
    os.umask(0o077)
    if wrong := shadowing_file():
        print(wrong, file=sys.stderr)
        sys.exit(2)
    try:
        code = options.verb.run(options)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader has closed the pipe; nothing may be flushed into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:  # noqa: BLE001 - refusals are shown, everything else is raised again
        code = _refused(error, options)
    sys.exit(code)


def _refused(error: Exception, options: argparse.Namespace) -> int:
    """Show every problem of a refusal and return its exit code; raise any other exception again."""
    from launcher.errors import Refused

    if not isinstance(error, Refused):
        raise error
    if options.json:
        from launcher.cli.output import print_json

        print_json({"ok": False, "problems": error.problems})
    else:
        from rich.console import Console

        from launcher.cli.show.problems import show_problems

        console = Console(stderr=True, highlight=False)
        show_problems(console, error.problems, nothing_created=options.verb.creates_runs)
    return int(error.exit_code)
