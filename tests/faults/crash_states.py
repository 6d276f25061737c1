"""From one traced run to the states that a crash can leave: after a kill, with a torn write, after a power cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from faults.traced import Files, Stop

BLOCK = 512  # what a disk writes as one
State = dict[str, bytes | None]  # path below the root → content; None for a folder
DATABASE = "run/ledger.db"
JOURNAL = DATABASE + "-journal"


@dataclass(frozen=True)
class Transaction:
    """before, after: the database's bytes. journal: as it was when the database was first touched. during: the states
    in between, from the journal's making to its removal.
    """

    before: bytes
    after: bytes
    journal: bytes
    during: tuple[State, ...]


def state_of(files: Files) -> State:
    """A snapshot without its inodes."""
    return {path: content for path, (_, content) in files.items()}


def kills(stops: Sequence[Stop]) -> Iterator[State]:
    """What kill −9 leaves, each state once."""
    last: State | None = None
    for stop in stops:
        state = state_of(stop.files)
        if state != last:
            yield state
        last = state


def writes(states: Sequence[State]) -> Iterator[tuple[State, str, bytes, bytes]]:
    """(state before, path, old content, new content) of each write among successive states."""
    for before, after in itertools.pairwise(states):
        for path, new in after.items():
            old = before.get(path)
            if isinstance(old, bytes) and isinstance(new, bytes) and old != new:
                yield before, path, old, new


def torn(old: bytes, new: bytes, step: int = 1) -> Iterator[bytes]:
    """`new` written over `old` as far as each byte of what differs in turn, or each `step`-th."""
    shorter = min(len(old), len(new))
    low = _common(shorter, lambda size: old[:size] == new[:size])
    same = _common(
        shorter - low, lambda size: len(old) == len(new) and old[len(old) - size :] == new[len(new) - size :]
    )
    for cut in range(low + 1, max(len(old), len(new)) - same, step):
        yield new[:cut] + old[cut:]


def _common(most: int, holds: Callable[[int], bool]) -> int:
    """The largest size up to `most` that holds, of sizes that hold up to some point."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def transactions(states: Sequence[State]) -> Iterator[Transaction]:
    """The transactions of the database, in their order."""
    during: list[State] = []
    for state in states:
        if JOURNAL in state:
            during.append(state)
        elif during:
            before, after = during[0].get(DATABASE), state.get(DATABASE)
            assert isinstance(before, bytes)
            assert isinstance(after, bytes)
            journals = [entry[JOURNAL] for entry in during if entry[DATABASE] == before]
            assert isinstance(journals[-1], bytes)
            yield Transaction(before, after, journals[-1], tuple(during))
            during = []


def power_cuts(stops: Sequence[Stop], spared: str, mixtures: int, seed: int = 0) -> Iterator[State]:
    """What a power cut can leave at each stop: nothing that wasn't made durable; all names but no such content; and
    `mixtures` random choices, name by name and block by block. spared: the path of a file on another disk.
    """
    draw = Random(seed)
    durable = _Durable(stops[0].files)
    for stop in stops:
        durable.take(stop)
        yield durable.state(stop.files, spared, lambda: False, lambda: False)
        yield durable.state(stop.files, spared, lambda: True, lambda: False)
        for _ in range(mixtures):
            yield durable.state(stop.files, spared, lambda: draw.random() < 0.5, lambda: draw.random() < 0.5)


class _Durable:
    """What has been made durable so far: contents by inode, names by the inode of their folder."""

    def __init__(self, files: Files) -> None:
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._seen = files
        for path in files:
            self._sync(path, files)

    def take(self, stop: Stop) -> None:
        known = {inode for inode, _ in self._seen.values()}
        for inode, _ in stop.files.values():
            if inode not in known:  # a new file, which may have the inode of one that is gone
                self._contents.pop(inode, None)
                self._names.pop(inode, None)
        self._seen = stop.files
        if stop.synced is not None and stop.synced in stop.files:
            self._sync(stop.synced, stop.files)

    def _sync(self, path: str, files: Files) -> None:
        inode, content = files[path]
        if content is None:
            self._names[inode] = dict(_children(path, files))
        else:
            self._contents[inode] = content

    def state(self, files: Files, spared: str, name: Callable[[], bool], block: Callable[[], bool]) -> State:
        """A state in which what isn't durable is there where `name` and `block` say so."""
        current = dict(files.values())
        state: State = {".": None}
        folders = [(files["."][0], "")]
        while folders:
            inode, prefix = folders.pop()
            own = (
                next(path for path, (number, _) in files.items() if number == inode)
                if inode in current
                else None
            )
            now = dict(_children(own, files)) if own is not None else {}
            then = self._names.get(inode, {})
            for entry in sorted(now.keys() | then.keys()):
                kept = now.get(entry) if now.get(entry) == then.get(entry) or name() else then.get(entry)
                if kept is None:
                    continue
                path = prefix + entry
                if current.get(kept, self._contents.get(kept)) is None:
                    state[path] = None
                    folders.append((kept, path + "/"))
                else:
                    state[path] = _mixed(self._contents.get(kept, b""), current.get(kept), block)
        if spared in files:
            state[spared] = files[spared][1]
        return state


def _children(folder: str, files: Files) -> Iterator[tuple[str, int]]:
    prefix = "" if folder == "." else folder + "/"
    for path, (inode, _) in files.items():
        if path != "." and path.startswith(prefix) and "/" not in path[len(prefix) :]:
            yield path[len(prefix) :], inode


def _mixed(durable: bytes, current: bytes | None, block: Callable[[], bool]) -> bytes:
    """`durable` with some blocks of `current` in it."""
    if current is None or current == durable:
        return durable
    size = len(current) if block() else len(durable)
    parts = [
        (current if block() else durable)[at : at + BLOCK].ljust(BLOCK, b"\0") for at in range(0, size, BLOCK)
    ]
    return b"".join(parts)[:size]


def digest(state: Mapping[str, bytes | None]) -> int:
    """A number that tells states apart; process numbers in the lock's text don't count."""
    return hash(tuple(sorted((path, content) for path, content in state.items() if content is not None)))
