"""A shared ledger on a database server: every wait for it ends, and a server that says nothing is told in one line.

The servers are sockets that answer as far as a test needs.
"""

import gc
import socket
import struct
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import nas.ledger.shared
from nas.base.errors import RunError
from nas.inspect.status import run_status
from nas.ledger import Ledger
from nas.ledger.shared import Shared, point


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A ledger without trials."""
    Ledger.create(tmp_path / "run", {"space": "digits"}, f"sqlite:///{tmp_path}/team.db").close()
    return tmp_path / "run"


URLS = (
    "postgresql://u@host/d", "postgresql+psycopg://u@host/d", "postgresql+pg8000://u@host/d", "mysql://u@host/d",
    "mysql+pymysql://u@host/d", "mysql+mysqlconnector://u@host/d", "mariadb+mariadbconnector://u@host/d",
)  # fmt: skip


def limits_of(url: str) -> dict[str, int]:
    settings = Shared(url, "run").engine_settings()
    return settings["creator"].args[1] if "creator" in settings else settings["connect_args"]


@pytest.mark.parametrize("url", URLS)
def test_no_connection_waits_for_ever(url: str) -> None:
    limits = limits_of(url)
    assert any("timeout" in name and 0 < seconds <= 60 for name, seconds in limits.items())
    assert "connect_timeout" not in limits_of(f"{url}?connect_timeout=3")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "pg8000", "pymysql"])
def test_a_server_that_says_nothing(run: Path, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(driver)
    monkeypatch.setattr(nas.ledger.shared, "CONNECT_SECONDS", 2)
    monkeypatch.setattr(nas.ledger.shared, "ANSWER_SECONDS", 2)
    kind = "mysql" if driver == "pymysql" else "postgresql"
    with socket.create_server(("127.0.0.1", 0)) as server:
        (run / "ledger.db").unlink(missing_ok=True)
        point(run, Shared(f"{kind}+{driver}://u@127.0.0.1:{server.getsockname()[1]}/d", "run"))
        began = time.monotonic()
        with pytest.raises(RunError, match="can't be used"):
            run_status(run)
        assert time.monotonic() - began < 20
    gc.collect()  # the libraries leave their sockets to it


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def greet_as_postgresql(client: socket.socket, style: str = "ISO, MDY") -> None:
    """Answer as a server up to the first query. With another `style` of dates psycopg2 makes it while it connects."""
    while (body := client.recv(struct.unpack("!I", client.recv(4))[0] - 4))[:4] != struct.pack("!I", 3 << 16):
        client.sendall(b"N")  # no encryption
    settings = {"server_version": "15.0", "client_encoding": "UTF8", "DateStyle": style}
    told = [_message(b"S", f"{name}\0{value}\0".encode()) for name, value in settings.items()]
    assert body
    client.sendall(
        b"".join([_message(b"R", bytes(4)), *told, _message(b"K", bytes(8)), _message(b"Z", b"I")])
    )


def greet_as_mysql(client: socket.socket) -> None:
    """As `greet_as_postgresql`."""
    body = (
        b"\x0a8.0.0\0"
        + bytes(4)
        + b"a" * 8
        + b"\0\xff\xf7\x21\x02\0\xff\x81\x15"
        + bytes(10)
        + b"b" * 12
        + b"\0"
    )
    body += b"mysql_native_password\0"
    client.sendall(struct.pack("<I", len(body))[:3] + b"\0" + body)
    client.recv(1000)
    client.sendall(b"\x07\0\0\x02\0\0\0\x02\0\0\0")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("driver", "style"),
    [("psycopg2", ""), ("psycopg2", "German"), ("psycopg", ""), ("pg8000", ""), ("pymysql", "")],
)
def test_a_server_that_freezes_after_it_took_the_connection(
    run: Path, driver: str, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(driver)
    monkeypatch.setattr(nas.ledger.shared, "CONNECT_SECONDS", 5)
    monkeypatch.setattr(nas.ledger.shared, "ANSWER_SECONDS", 2)
    kind, greet = ("mysql", greet_as_mysql) if driver == "pymysql" else ("postgresql", greet_as_postgresql)
    greet = partial(greet, style=style) if style else greet
    asked = threading.Event()

    def serve(server: socket.socket) -> None:
        with suppress(OSError), server.accept()[0] as client:
            greet(client)
            if client.recv(1):
                asked.set()
            while client.recv(1000):  # reads on, and never answers
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        (run / "ledger.db").unlink(missing_ok=True)
        point(run, Shared(f"{kind}+{driver}://u@127.0.0.1:{server.getsockname()[1]}/d", "run"))
        began = time.monotonic()
        with pytest.raises(RunError, match="can't be used") as caught:
            run_status(run)
        assert asked.is_set()
        assert time.monotonic() - began < 20
        assert "\n" not in str(caught.value)
    gc.collect()
