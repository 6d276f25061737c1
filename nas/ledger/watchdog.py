"""Ends a connection to a database server that is open for too long: the server may have frozen while it is asked.

The library that talks to PostgreSQL waits for an answer without a limit, and the system sees nothing wrong with the
connection, since the kernel of a frozen server still acknowledges what it gets.
"""

from __future__ import annotations

import os
import socket
import threading
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy.engine import URL


def connect(url: URL, limits: dict[str, Any], seconds: float) -> Any:
    """Return a connection of the database's library, whose socket is shut down when it is still open after `seconds`.

    limits: more arguments of the library's own `connect`. Raises what that raises, and TimeoutError.
    """
    made: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_connect, args=(url, limits, made), daemon=True).start()
    try:
        connection = made.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"the server did not answer within {seconds:g} s") from None
    if isinstance(connection, BaseException):
        raise connection
    timer = threading.Timer(seconds, _end, (weakref.ref(connection),))
    timer.daemon = True
    timer.start()
    weakref.finalize(connection, timer.cancel).atexit = False
    return connection


def _connect(url: URL, limits: dict[str, Any], made: SimpleQueue[Any]) -> None:
    """Connect, in a thread that can be left: `connect` may ask a server as well, before there is a socket to end."""
    try:
        kind: Any = url.get_dialect()
        dialect = kind(dbapi=kind.import_dbapi())
        places, options = dialect.create_connect_args(url)
        made.put(dialect.connect(*places, **{**options, **limits}))
    except BaseException as error:
        made.put(error)


def _end(connection: weakref.ref[Any]) -> None:
    """Have whoever waits for the server read an end instead. The connection itself is used by another thread."""
    watched = connection()
    if watched is None or watched.closed:
        return
    with suppress(OSError), socket.socket(fileno=os.dup(watched.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)
