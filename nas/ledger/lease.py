"""A lease: only one driver for a run in a shared database, wherever copies of its folder are.

The holder increments a counter in its row every few seconds, its heartbeat. Another driver that sees no heartbeat for
`patience` seconds, by its own clock, takes the lease over; so hosts need no common time. The fence makes that safe:
each transaction of the holder also increments the counter, just before its commit, and is rolled back if the row has
another holder by then. So a driver that was stopped for an hour can't write anything when it continues.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Column, MetaData, String, Table, Text, create_engine, event, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from nas.base.errors import RunError
from nas.ledger.driver_lock import in_words
from nas.ledger.shared import Shared, explain

BEAT_SECONDS = 5.0
PATIENCE_SECONDS = 30.0  # how long a holder may be silent: longer than the usual pauses of a database
FREE = ""
FAILURES = (SQLAlchemyError, OSError)  # of a connection; some libraries don't wrap the errors of a socket
LEASES = Table(
    "nas_leases",
    MetaData(),
    Column("study", String(255), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("beat", BigInteger, nullable=False),
)


class Lease:
    """The right to write to one study, acquired on construction. Raises RunError, with the holder's name, if held."""

    def __init__(
        self, place: Shared, lock: Path, beat: float = BEAT_SECONDS, patience: float = PATIENCE_SECONDS
    ) -> None:
        """lock: the file of the run's kernel lock, which this process holds: so its previous holder is dead.

        beat: seconds between heartbeats. patience: seconds without one after which the lease is taken over.
        """
        self.place = place
        self._lock = kernel_lock(lock)
        self._name = json.dumps({**_here(lock), "token": os.urandom(8).hex()})
        self._ended = threading.Event()
        self._engine = create_engine(place.url, **place.engine_settings())
        with suppress(*FAILURES):  # another driver may be creating it; any other error appears again below
            LEASES.create(self._engine, checkfirst=True)
        try:
            self._take(beat, patience)
        except FAILURES as error:
            raise explain(place, error) from error
        self._thread = threading.Thread(target=self._keep, args=(beat,), daemon=True)
        self._thread.start()

    def fence(self, engine: Engine) -> None:
        """Let each transaction of `engine` commit only while this process holds the lease."""
        event.listen(engine, "commit", self._renew)

    def close(self) -> None:
        """Release the lease. Further calls do nothing."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        ours = (LEASES.c.study == self.place.study) & (LEASES.c.holder == self._name)
        with suppress(*FAILURES), self._engine.begin() as connection:
            connection.execute(LEASES.update().where(ours).values(holder=FREE))

    def _renew(self, connection: Connection) -> None:
        ours = (LEASES.c.study == self.place.study) & (LEASES.c.holder == self._name)
        found = connection.execute(LEASES.update().where(ours).values(beat=LEASES.c.beat + 1))
        if found.rowcount != 1:
            raise RunError(
                f"{self.place}: another driver took it over, since this one sent no heartbeat for too long; its "
                "results are kept, leave the run to the other driver"
            )

    def _keep(self, beat: float) -> None:
        while not self._ended.wait(beat):
            try:
                with self._engine.begin() as connection:
                    self._renew(connection)
            except FAILURES:
                continue  # tried again at the next beat; if the lease is lost, the fence raises the error
            except RunError:
                return

    def _take(self, beat: float, patience: float) -> None:
        seen, since = self._look(), time.monotonic()
        while True:
            silent = time.monotonic() - since > patience
            if seen is None or seen[0] == FREE or silent or lock_of(seen[0]) == self._lock:
                if self._swap(seen):
                    return
            else:
                time.sleep(min(beat, patience) / 5)
            now = self._look()
            if seen is not None and now is not None and now[0] == seen[0] != FREE and now[1] != seen[1]:
                raise RunError(f"{self.place} is in use by {in_words(now[0])}; wait for it or stop it first")
            if now != seen:
                seen, since = now, time.monotonic()

    def _look(self) -> tuple[str, int] | None:
        return row_of(self._engine, self.place)

    def _swap(self, seen: tuple[str, int] | None) -> bool:
        """Make this process the holder if the row is still as `seen`; return whether that succeeded."""
        try:
            with self._engine.begin() as connection:
                if seen is None:
                    row = {"study": self.place.study, "holder": self._name, "beat": 0}
                    connection.execute(LEASES.insert().values(**row))
                    return True
                same = (LEASES.c.study == self.place.study) & (LEASES.c.holder == seen[0])
                known = same & (LEASES.c.beat == seen[1])
                mine = {"holder": self._name, "beat": seen[1] + 1}
                return connection.execute(LEASES.update().where(known).values(**mine)).rowcount == 1
        except IntegrityError:
            return False  # another was first


def row_of(engine: Engine, place: Shared) -> tuple[str, int] | None:
    """Return (holder, beat) of the lease; None if it was never held."""
    query = select(LEASES.c.holder, LEASES.c.beat).where(LEASES.c.study == place.study)
    with engine.connect() as connection:
        row = connection.execute(query).first()
    return None if row is None else (str(row[0]), int(row[1]))


def _here(lock: Path) -> Mapping[str, Any]:
    """Describe this process. lock: the kernel lock that it holds besides the lease."""
    since = clock(time.time())
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "lock": kernel_lock(lock)}


def kernel_lock(lock: Path) -> str:
    """Identify a lock file by the boot of the kernel, the device and the inode; "" if that is not known."""
    with suppress(OSError):
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        file = lock.stat()
        return f"{kernel} {file.st_dev} {file.st_ino}"
    return ""


def clock(seconds: float) -> str:
    """Format seconds since the epoch as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def lock_of(holder: str) -> str | None:
    """Return the kernel lock that a holder had when it took the lease; None if it is not recorded."""
    try:
        return str(json.loads(holder)["lock"] or "") or None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
