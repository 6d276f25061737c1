"""One driver to a run whose ledger lies in a shared database, wherever copies of its folder are: a lease.

Each holder counts its row up every few seconds. Another driver that sees it stand still for as long as `patience`,
by its own clock, takes it over; so hosts need no common time. What makes that safe is the fence: each transaction of
the holder counts the row up as well, just before it ends, and is undone where the row is another's by now. A
driver that was stopped for an hour and wakes up again can write nothing.
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
from nas.ledger.lock import in_words
from nas.ledger.shared import Shared, explain

BEAT_SECONDS = 5.0
PATIENCE_SECONDS = (
    30.0  # how long a holder may be silent: longer than a database's pause, shorter than a coffee
)
FREE = ""
LEASES = Table(
    "nas_leases",
    MetaData(),
    Column("study", String(255), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("beat", BigInteger, nullable=False),
)


class Lease:
    """The right to write one study. Taken when made; raises RunError, with the holder's name, when another has it."""

    def __init__(
        self, place: Shared, lock: Path, beat: float = BEAT_SECONDS, patience: float = PATIENCE_SECONDS
    ) -> None:
        """lock: the file of the run's kernel lock, which this process holds: so whoever held it before is dead."""
        self.place = place
        self._lock = kernel_lock(lock)
        self._name = json.dumps({**_here(lock), "token": os.urandom(8).hex()})
        self._ended = threading.Event()
        self._engine = create_engine(place.url, **place.engine_settings())
        with suppress(
            SQLAlchemyError
        ):  # another makes it at this moment; whatever else is wrong comes out below
            LEASES.create(self._engine, checkfirst=True)
        try:
            self._take(beat, patience)
        except SQLAlchemyError as error:
            raise explain(place, error) from error
        self._thread = threading.Thread(target=self._keep, args=(beat,), daemon=True)
        self._thread.start()

    def fence(self, engine: Engine) -> None:
        """Have each transaction of `engine` end only while the lease is ours."""
        event.listen(engine, "commit", self._renew)

    def close(self) -> None:
        """Free the lease; again does nothing."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        ours = (LEASES.c.study == self.place.study) & (LEASES.c.holder == self._name)
        with suppress(SQLAlchemyError), self._engine.begin() as connection:
            connection.execute(LEASES.update().where(ours).values(holder=FREE))

    def _renew(self, connection: Connection) -> None:
        ours = (LEASES.c.study == self.place.study) & (LEASES.c.holder == self._name)
        found = connection.execute(LEASES.update().where(ours).values(beat=LEASES.c.beat + 1))
        if found.rowcount != 1:
            raise RunError(
                f"{self.place}: another driver took it over, since this one gave no sign of life for long; what it "
                "told is kept, leave the run to the other"
            )

    def _keep(self, beat: float) -> None:
        while not self._ended.wait(beat):
            try:
                with self._engine.begin() as connection:
                    self._renew(connection)
            except SQLAlchemyError:
                continue  # it is tried again, and where it matters the fence says so
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
        """Put our name in the place of what was seen, if that is still there."""
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
    """(holder, beat) of the lease; None where nobody ever held it."""
    query = select(LEASES.c.holder, LEASES.c.beat).where(LEASES.c.study == place.study)
    with engine.connect() as connection:
        row = connection.execute(query).first()
    return None if row is None else (str(row[0]), int(row[1]))


def _here(lock: Path) -> Mapping[str, Any]:
    """Who we are. lock: which one we hold beside the lease."""
    since = clock(time.time())
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "lock": kernel_lock(lock)}


def kernel_lock(lock: Path) -> str:
    """Which lock of which start of which kernel a file is; "" where that can't be told."""
    with suppress(OSError):
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        file = lock.stat()
        return f"{kernel} {file.st_dev} {file.st_ino}"
    return ""


def clock(seconds: float) -> str:
    """Seconds since the epoch as the time of day here."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def lock_of(holder: str) -> str | None:
    """The kernel lock that a holder of the lease had when it took it; None where it doesn't say."""
    try:
        return str(json.loads(holder)["lock"] or "") or None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
