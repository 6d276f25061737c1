"""Says how to continue when Ray ends this process without a word, as its C++ part does when the raylet has died.

No code of this process runs then. So a small process outlives it: it reads from a pipe that the driver holds, and when
that is closed without a farewell, it prints the line.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nas.base.text import nas_command

FAREWELL = b"."
_MAIN = "import sys; sys.stdin.buffer.read() or print(sys.argv[1], file=sys.stderr, flush=True)"
WAIT_SECONDS = 5.0


@dataclass(frozen=True, eq=False)
class LastWord:
    """The process that speaks if this one can't; None where it could not be started."""

    process: subprocess.Popen[bytes] | None

    @classmethod
    def start(cls, run: Path) -> LastWord:
        """Start the process. It gets no Ctrl-C, imports nothing and shares nothing but standard error."""
        line = (
            "nas: search: Ray's daemon on this machine died, as it seems, since Ray ended this process; no result is "
            f"lost, continue with: {nas_command('resume', run)}"
        )
        command = [sys.executable, "-I", "-S", "-c", _MAIN, line]
        with suppress(OSError):
            return cls(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
                )
            )
        return cls(None)

    def close(self) -> None:
        """End the process, since this one can speak for itself. A second call does nothing."""
        if self.process is None or self.process.stdin is None or self.process.stdin.closed:
            return
        with suppress(OSError):
            self.process.stdin.write(FAREWELL)
            self.process.stdin.close()
        try:
            self.process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
