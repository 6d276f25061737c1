"""How a command ends: with an exit code and, for an error that the user can fix, one line that says how."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from typing import Any

from typer.core import TyperGroup

from nas.api.interrupts import interrupts
from nas.base.address_space import check_address_space
from nas.base.errors import NasError, UserError
from nas.base.printing import warn
from nas.base.text import one_line
from nas.base.user_code import where_raised

# Errors of a full or read-only disk: facts about the machine, not bugs in the program.
_DISK = (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG)


class OneLine(TyperGroup):
    """Prints one line for an expected error, `nas: fact; remedy`; an unexpected error keeps its traceback."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Any:
        """Run the command in `args` (default: the command line), and exit."""
        given = list(sys.argv[1:] if args is None else args)
        named |= {"standalone_mode": False, "obj": given}
        try:
            if given and given[0] in self.commands and not {"-h", "--help"} & set(given):
                _check_surroundings()
                check_address_space()
            code = super().main(given or ["--help"], *more, **named)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of our output has gone, as head does
            _leave_output()
            code = 1
        except SystemExit as error:
            code = 1
            if isinstance(error.__context__, OSError):  # the parser's own, for the same cause
                _leave_output()
            else:
                fact = f"code that the command ran called sys.exit ({where_raised(error)})"
                warn(f"nas: {fact}; remove that call")
        except Exception as error:
            line, code = _explained(error, given, self.commands)
            if line is None:
                raise
            if isinstance(error, OSError):
                _leave_output()
            warn(f"nas: {line}")
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def stoppable() -> Generator[None]:
    """Have Ctrl-C raise KeyboardInterrupt inside, so that unfinished files are removed; elsewhere it ends the command
    at once.
    """
    with interrupts() if signal.getsignal(signal.SIGINT) is signal.SIG_DFL else nullcontext():
        yield


def _check_surroundings() -> None:
    """Raise UserError where libraries would fail, or abort the process, for reasons outside of what they are given."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the current folder can't be used ({error.strerror}); change to another one"
        ) from None
    try:
        datetime.now().astimezone()  # as Optuna does for every trial
    except (ValueError, OverflowError):
        raise UserError(f"TZ={os.environ.get('TZ')} is not a time zone; set another one") from None


def _leave_output() -> None:
    """Keep Python from writing what is left to an output that fails, at its exit, with a traceback."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _explained(error: Exception, given: Sequence[str], commands: Collection[str]) -> tuple[str | None, int]:
    """The line and exit code for an error; (None, 1) for an unexpected one."""
    if isinstance(error, NasError):
        return one_line(str(error)), 2 if isinstance(error, UserError) else 1
    if any(
        kind.__module__ == "morphs.errors" for kind in type(error).__mro__
    ):  # without importing torch to check the class
        return one_line(str(error)), 1
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"{error.filename or 'a file'}: {error.strerror}; free space or choose another place", 1
    if hasattr(error, "format_message"):  # the parser's own errors, whichever package they come from
        return _usage(error, given, commands), 2
    return None, 1


def _usage(error: Any, given: Sequence[str], commands: Collection[str]) -> str:
    """An error of the option parser as fact and remedy."""
    text = (
        one_line(error.format_message()).rstrip(".").replace("Value error, ", "").replace(": Input", ": it")
    )
    fact, _, near = text.partition(" Did you mean ")
    path = f"nas {given[0]}" if given and given[0] in commands else "nas"
    remedy = f"did you mean {near}" if near else f"see {path} --help"
    return f"{fact[:1].lower()}{fact[1:].rstrip('.')}; {remedy}"
