"""The `edgedistill` command, and `python -m edgedistill`."""

import signal

from edgedistill.cli import main
from edgedistill.provenance import disable_telemetry


def start() -> None:
    """Run the command line; SIGTERM counts as Ctrl-C: both say what is kept, and exit with 130."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    disable_telemetry()
    main()


if __name__ == "__main__":
    start()
