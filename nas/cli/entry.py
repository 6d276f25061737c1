"""The console script, from its first moment: Ctrl-C during the imports ends it at once, without a traceback."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the `nas` command on the command line's words, and exit."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in a background job
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from nas.cli.commands import main as command

    command()
