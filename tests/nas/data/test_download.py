"""Downloads from a real server on this machine: whole, damaged, silent, absent."""

import contextlib
import gzip
import hashlib
import io
import socket
import tarfile
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nas.base.errors import DataError
from nas.data import load_search_data
from nas.data.download import ANSWER_SECONDS, DownloadError, Remote, fetch
from nas.data.published import STANDARD

BOTH = (("set/one", "set/one"), ("set/two", "set/two"))


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """(folder that is served, its address)."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.contextmanager
def silent_server():
    """Accepts connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def packed_tar(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, contents in files.items():
            info = tarfile.TarInfo("set/" + name)
            info.size = len(contents)
            tar.addfile(info, io.BytesIO(contents))
    return buffer.getvalue()


def remote(served, name, contents, members, first=()):
    folder, address = served
    (folder / name).write_bytes(contents)
    digest = hashlib.md5(contents, usedforsecurity=False).hexdigest()
    return Remote((*first, address + name), name, digest, members)


def test_files_of_each_kind_arrive_under_the_root(served, tmp_path):
    root = tmp_path / "new/root"
    fetch(
        [
            remote(served, "a.gz", gzip.compress(b"A"), (("a", "x/raw/a"),)),
            remote(served, "b.mat", b"B", (("b.mat", "b.mat"),)),
            remote(
                served,
                "c.tar.gz",
                packed_tar(one=b"1", two=b"2"),
                (("set/one", "set/one"), ("set/two", "set/two")),
            ),
        ],
        root,
    )
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert found == {"x/raw/a": b"A", "b.mat": b"B", "set/one": b"1", "set/two": b"2"}


def test_a_file_already_there_is_left_alone(served, tmp_path):
    (tmp_path / "root/set").mkdir(parents=True)
    (tmp_path / "root/set/one").write_bytes(b"mine")
    packed = packed_tar(one=b"1", two=b"2")
    fetch(
        [remote(served, "c.tar.gz", packed, BOTH)],
        tmp_path / "root",
    )
    assert (tmp_path / "root/set/one").read_bytes() == b"mine"
    assert (tmp_path / "root/set/two").read_bytes() == b"2"


def test_the_mirror_that_answers_is_used(served, tmp_path):
    fetch([remote(served, "b", b"B", (("b", "b"),), first=(closed_port() + "b",))], tmp_path / "root")
    assert (tmp_path / "root/b").read_bytes() == b"B"


@pytest.mark.parametrize("case", ["md5", "absent", "no member", "not gzip"])
def test_a_failed_download_leaves_nothing_behind(served, tmp_path, case):
    good = remote(served, "good", b"G", (("good", "good"),))
    bad = remote(served, "c.tar.gz", packed_tar(one=b"1"), (("set/one", "set/one"),))
    if case == "md5":
        bad = replace(bad, md5="0" * 32)
    elif case == "absent":
        bad = replace(bad, urls=(served[1] + "nowhere",))
    elif case == "no member":
        bad = replace(bad, members=(("set/one", "set/one"), ("set/other", "set/other")))
    else:
        bad = remote(served, "d.gz", b"not gzip", (("d", "d"),))
    with pytest.raises(DownloadError) as error:
        fetch([good, bad], tmp_path / "root")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "root").exists()


def test_a_silent_server_is_given_up_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with silent_server() as address:
        started = time.monotonic()
        with pytest.raises(DownloadError, match=r"no answer|timed out"):
            fetch([Remote((address + "a", address + "b"), "a", "0", (("a", "a"),))], tmp_path / "root")
    assert time.monotonic() - started < ANSWER_SECONDS + 2
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("name", [known.name for known in STANDARD])
def test_a_missing_set_without_network_is_one_line(name, tmp_path, monkeypatch):
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, closed_port())
    for variable in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    started = time.monotonic()
    with pytest.raises(DataError) as error:
        load_search_data(name, tmp_path / "root", 0)
    assert time.monotonic() - started < 30  # most of it is the first import of torchvision
    text = str(error.value)
    assert "\n" not in text
    for part in (name, "no file", str(tmp_path / "root"), "--data-root", "NAS_DATA", "refused"):
        assert part in text
    assert not (tmp_path / "root").exists()
