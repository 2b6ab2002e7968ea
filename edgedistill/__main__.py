"""The `edgedistill` command, and `python -m edgedistill`."""

import io
import os
import signal
import sys

INTERRUPTED = 130


def start() -> None:
    """Run the command line; SIGTERM counts as Ctrl-C: both say what is kept, and exit with 130."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to end
    try:
        from edgedistill.cli import main
        from edgedistill.provenance import disable_telemetry

        disable_telemetry()
        main()
    except KeyboardInterrupt:  # before the command line could take it; afterwards it tells more
        sys.stderr.write("error: interrupted; nothing was lost, and the same command goes on from there\n")
        _end(INTERRUPTED)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            _end(INTERRUPTED)
        raise


def _end(code: int) -> None:
    """End with this code for certain: Python, interrupted in the middle of `exec`, would end by the signal instead."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    start()
