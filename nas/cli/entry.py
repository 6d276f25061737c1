"""The console script, from its first moment: Ctrl-C during the imports ends it at once, without a traceback, and the
signal of ended children arrives."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the `nas` command on the command line's words, and exit."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in a background job
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Ignored or blocked by some parents: then nobody could learn how a child ended.
    if hasattr(signal, "SIGCHLD") and hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    from nas.cli.commands import main as command

    command()
