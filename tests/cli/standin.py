"""A process of a desk for tests of how such processes are held: it says it is ready, and ends, hangs or refuses as it is told."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys


def main() -> None:
    """Do what the first line of the configuration says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    parser.add_argument("--home")
    given = parser.parse_args()
    with open(given.config, encoding="utf-8") as file:
        what = file.readline().strip()
    if what == "refuse":
        print("something before\nnorthstar standin: port 1 is taken; choose another", file=sys.stderr)
        sys.exit(2)
    if what == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("starting, not JSON", flush=True)
    print(json.dumps({"ready": True, "pid": os.getpid(), "folder": os.getcwd()}), flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
