"""A rank for tests of the fork server: it runs the code that it is given, and imports nothing heavy."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

STATE: list[str] = []
"""What `preload` left, which every rank must find as it was."""
BLOCKED = (signal.SIGTERM, signal.SIGUSR2)


def preload(kind: str = "") -> None:
    STATE.append("preloaded")
    if kind == "fails":
        raise ValueError("no such library")
    if kind == "threads":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    if kind == "sleeps":
        time.sleep(60)


def main(arguments: Sequence[str]) -> None:
    code = arguments[0]
    exec(code, {"STATE": STATE, "arguments": arguments, "report": report})


def report() -> None:
    """Print what the test asks of a rank's surroundings."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    facts = {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "group": os.getpgid(0),
        "cores": sorted(os.sched_getaffinity(0)),
        "variables": {name: os.environ.get(name) for name in ("RANK", "OF_ALL", "OF_SERVER")},
        "held": [number in held for number in BLOCKED],
        "input": sys.stdin.read(),
        "umask": os.umask(0o077),
        "threads": threading.active_count(),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1:])
