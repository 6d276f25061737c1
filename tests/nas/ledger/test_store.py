import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import morphs
from nas.base.errors import LedgerDamaged, RunError
from nas.ledger import Store

Make = Callable[[int], morphs.Network]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "checkpoints")


@pytest.mark.parametrize("ask", [Store.digests, Store.sweep])
def test_a_folder_that_cannot_be_read_is_named_in_one_line(
    ask: Callable[[Store], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Path) -> Iterator[Path]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setattr(Path, "iterdir", failing)
    with pytest.raises(RunError, match=r"checkpoints .*Input/output error"):
        ask(Store(tmp_path / "checkpoints"))


def test_what_is_put_comes_back_bit_for_bit(store: Store, network: Make) -> None:
    put = network(3)
    digest = store.put(put)
    assert digest == put.digest
    assert store.has(digest)
    assert store.get(digest).digest == digest
    assert store.get(digest).graph.fingerprint == put.graph.fingerprint
    assert sorted(path.name for path in store.path(digest).iterdir()) == [
        "graph.json",
        "manifest.json",
        "weights.safetensors",
    ]


def test_putting_again_changes_nothing(store: Store, network: Make) -> None:
    digest = store.put(network(0))
    before = {path.name: path.stat().st_ino for path in store.path(digest).iterdir()}
    assert store.put(network(0)) == digest
    assert {path.name: path.stat().st_ino for path in store.path(digest).iterdir()} == before
    assert [path.name for path in store.folder.iterdir()] == [digest]


def test_putting_again_mends_a_damaged_checkpoint(
    store: Store, network: Make, flip_byte: Callable[..., None]
) -> None:
    digest = store.put(network(0))
    flip_byte(store.path(digest) / "weights.safetensors", -1)
    with pytest.raises(LedgerDamaged):
        store.get(digest)
    store.put(network(0))
    assert store.get(digest).digest == digest


def test_many_writers_of_the_same_content(store: Store, network: Make) -> None:
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: store.put(network(1)), range(32)))
    assert len(digests) == 1
    assert store.digests() == tuple(digests)
    assert [path.name for path in store.folder.iterdir()] == list(digests)


def test_listing_size_and_removal(store: Store, network: Make) -> None:
    assert store.digests() == ()
    assert store.size_bytes() == 0
    first, second = store.put(network(0)), store.put(network(1))
    assert store.digests() == tuple(sorted((first, second)))
    assert store.size_bytes(first) == sum(path.stat().st_size for path in store.path(first).iterdir())
    assert store.size_bytes() == store.size_bytes(first) + store.size_bytes(second)
    store.remove(first)
    store.remove(first)
    assert not store.has(first)
    assert store.digests() == (second,)
    with pytest.raises(RunError, match=rf"^checkpoint {first[:12]}: .*{store.folder}.*--repair") as caught:
        store.get(first)
    assert not isinstance(caught.value, LedgerDamaged)


def test_every_flipped_byte_is_noticed(store: Store, network: Make, flip_byte: Callable[..., None]) -> None:
    digest = store.put(network(0))
    checked = 0
    for path in sorted(store.path(digest).iterdir()):
        for position in range(path.stat().st_size):
            flip_byte(path, position, 1 << position % 8)
            with pytest.raises(
                LedgerDamaged,
                match=rf"^checkpoint {digest[:12]}: .*; make it again with nas fsck RUN --repair, or restore ",
            ):
                store.verify(digest)
            flip_byte(path, position, 1 << position % 8)
            checked += 1
    assert checked > 500
    assert store.get(digest).digest == digest


def test_every_truncation_is_noticed(store: Store, network: Make) -> None:
    digest = store.put(network(0))
    for path in sorted(store.path(digest).iterdir()):
        whole = path.read_bytes()
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            with pytest.raises(LedgerDamaged):
                store.verify(digest)
        path.unlink()
        with pytest.raises(LedgerDamaged, match="manifest"):
            store.get(digest)
        path.write_bytes(whole)


def test_a_file_too_many_is_noticed(store: Store, network: Make) -> None:
    digest = store.put(network(0))
    (store.path(digest) / "extra.pkl").write_bytes(b"x")
    with pytest.raises(LedgerDamaged, match=r"files differ from the manifest: extra\.pkl"):
        store.get(digest)


def test_another_network_under_the_name_is_noticed(store: Store, network: Make) -> None:
    """An attacker, or a script, that also mends the manifest's digest is caught by the network's own."""
    first, second = store.put(network(0)), store.put(network(1))
    manifest = json.loads((store.path(second) / "manifest.json").read_text())
    store.remove(first)
    store.path(second).rename(store.path(first))
    text = json.dumps(manifest | {"digest": first}, sort_keys=True, separators=(",", ":"))
    (store.path(first) / "manifest.json").write_text(text)
    with pytest.raises(LedgerDamaged, match="another digest"):
        store.get(first)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"\x80\x04cos\nsystem\n",
        b"[" * 60_000,
        b"9" * 60_000,
        b'{"a":' * 10_000,
        b" " * 2**17,
        b"null",
        b"[]",
        b'{"files":{"../../x":{"bytes":0,"sha256":""}},"format":1}',
        b'{"digest":NaN,"files":{},"format":1}',
    ],
)
def test_hostile_manifests(store: Store, network: Make, manifest: bytes) -> None:
    digest = store.put(network(0))
    (store.path(digest) / "manifest.json").write_bytes(manifest)
    with pytest.raises(LedgerDamaged):
        store.get(digest)


def test_a_pickle_is_never_run(store: Store, network: Make, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    gadget = f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode()
    digest = store.put(network(0))
    for path in sorted(store.path(digest).iterdir()):
        whole = path.read_bytes()
        path.write_bytes(gadget)
        with pytest.raises(LedgerDamaged):
            store.get(digest)
        path.write_bytes(whole)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["..", "", "/etc", "a" * 63, "A" * 64, "a" * 63 + "/"])
def test_only_digests_are_names(store: Store, name: str) -> None:
    for use in (store.path, store.has, store.get, store.remove):
        with pytest.raises(RunError, match="SHA-256"):
            use(name)


def test_leftovers_never_count_and_are_swept(store: Store, network: Make) -> None:
    digest = store.put(network(0))
    store.path(digest).rename(store.folder / ".tmp-abc")
    assert store.digests() == ()
    assert not store.has(digest)
    store.sweep()
    assert list(store.folder.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import morphs
from nas.base.errors import RunError
from nas.ledger import Store
net = morphs.init(morphs.parse_graph(sys.argv[2]))
store = Store(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in range(0, 700, 20):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        store.put(net)
        break
    except RunError as error:
        assert "free space there and resume" in str(error), error
        assert list(store.folder.iterdir()) == []
else:
    sys.exit("never fitted")
print(limit, store.get(net.digest).digest == net.digest)
"""


def test_a_full_disk_keeps_nothing_by_halves(tmp_path: Path, graph: morphs.ArchGraph) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "c"), graph.text()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    limit, same = done.stdout.split()
    assert int(limit) > 100
    assert same == "True"


PUTTING = """
import sys
from pathlib import Path
import torch
import morphs
from nas.ledger import Store
torch.set_num_threads(1)
graph, store = morphs.parse_graph(sys.argv[2]), Store(Path(sys.argv[1]))
seed = int(sys.argv[3])
while True:
    seed += 1
    print(store.put(morphs.init(graph, seed=seed)), flush=True)
"""


def test_kill_9_while_putting(store: Store, graph: morphs.ArchGraph) -> None:
    acknowledged: list[str] = []
    for attempt in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", PUTTING, str(store.folder), graph.text(), str(1000 * attempt)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        acknowledged.append(process.stdout.readline().strip())
        time.sleep(0.037 * (attempt + 1))
        process.kill()
        acknowledged += [line.strip() for line in process.communicate()[0].splitlines()]
    whole = [digest for digest in acknowledged if len(digest) == 64]
    assert len(whole) >= 3
    assert set(whole) <= set(store.digests())
    for digest in store.digests():
        assert store.get(digest).digest == digest
