"""Content-addressed checkpoints.

    checkpoints/<Network.digest>/graph.json           canonical JSON
                                 weights.safetensors
                                 manifest.json        name, bytes and SHA-256 of the files

A folder gets its name by one rename, after everything in it is durable: it is complete or does not exist.
The SHA-256s detect damage, not forgery; nothing is ever unpickled, so that neither can run code.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints
from pydantic.dataclasses import dataclass

from nas.base.errors import LedgerDamaged, RunError
from nas.base.text import nas_command
from nas.ledger.files import (
    canonical_json,
    fsync_file,
    fsync_folder,
    parse_json,
    read_bounded,
    sha256_file,
)
from nas.ledger.leftovers import TEMPORARY, temporary_name
from nas.ledger.run_files import discard, is_file, is_folder
from nas.ledger.types import RECORD, Count, Digest, is_digest, validated

if TYPE_CHECKING:
    from morphs import Network

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 2**16
MOST_BYTES = 2**36  # of a file: a sparse one takes no space, and hours to hash


@dataclass(frozen=True, config=RECORD)
class _File:
    bytes: Annotated[Count, Field(le=MOST_BYTES)]
    sha256: Digest


@dataclass(frozen=True, config=RECORD)
class _Manifest:
    """A checkpoint's manifest.json. files: by name."""

    format: Literal[1]
    digest: Digest
    files: dict[Annotated[str, StringConstraints(pattern="^[a-z]+[.][a-z]+$")], _File]


class Store:
    """A folder of checkpoints. Any number of processes may use `put` and `get` at the same time.

    Neither the folder nor anything in it is followed if it is a link: every method raises RunError for a folder that is
    one, and treats a checkpoint that is one, or has one in it, as damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Create the folder if it is missing. Raises RunError."""
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.folder} can't be created ({error.strerror}); fix that and resume"
            ) from None

    def path(self, digest: str) -> Path:
        """Return the folder of one checkpoint. Raises RunError for an invalid digest, which so never becomes a path."""
        if not is_digest(digest):
            raise RunError(
                f"checkpoint {digest!r:.80}: not a SHA-256 in hexadecimal; give a digest from the ledger"
            )
        is_folder(self.folder)
        return self.folder / digest

    def put(self, network: Network) -> str:
        """Store `network` and return its digest; the checkpoint is durable when this returns.

        An existing intact checkpoint is not changed; a damaged one is replaced.
        Raises RunError if it can't be written; then nothing is stored.
        """
        digest = network.digest
        if self.has(digest):
            try:
                self.verify(digest)
                return digest
            except LedgerDamaged:
                self.remove(digest)
        temporary = temporary_name(self.path(digest))
        try:
            _write(network, temporary, digest)
            self._publish(temporary, digest)
        except OSError as error:
            fact = f"checkpoint {digest[:12]}: it can't be written to {self.folder} ({error.strerror})"
            if not self.folder.is_dir():
                raise RunError(
                    f"{fact}: the run was moved or deleted while it was used; resume it where it is now"
                ) from None
            raise RunError(f"{fact}; free space there and resume") from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return digest

    def _publish(self, temporary: Path, digest: str) -> None:
        try:
            temporary.rename(self.path(digest))
        except OSError:
            if not self.has(digest):
                raise
            self.verify(digest)  # another process was first with the same content
        fsync_folder(self.folder)

    def get(self, digest: str) -> Network:
        """Return the network stored under `digest`, after checking every byte.

        Raises RunError if it does not exist, LedgerDamaged if it differs from what was stored.
        """
        import morphs
        from morphs.errors import MorphError

        self.verify(digest)
        try:
            network = morphs.load(self.path(digest))
        except (MorphError, OSError) as error:
            raise damaged(digest, f"it can't be read ({error})") from None
        if network.digest != digest:
            raise damaged(digest, "its content has another digest")
        return network

    def has(self, digest: str) -> bool:
        """Return whether a checkpoint of that name exists; `verify` checks whether it is intact."""
        path = self.path(digest) / MANIFEST
        with _readable(path):
            return path.exists() or path.is_symlink() or path.parent.is_symlink()

    def verify(self, digest: str) -> None:
        """Check a checkpoint's files against its manifest.

        Raises RunError if it does not exist, LedgerDamaged with the first difference.
        """
        folder = self.path(digest)
        if folder.is_symlink():
            raise damaged(digest, "it is a symbolic link")
        with _readable(folder):
            present = {entry.name for entry in folder.iterdir()} - {MANIFEST} if folder.is_dir() else None
        if present is None:
            again = nas_command("fsck", self.folder.parent, "--repair")
            raise RunError(
                f"checkpoint {digest[:12]}: not in {self.folder}: lost, removed (--keep), or never in this copy; "
                f"make it again with: {again}, and --trial N if it was removed"
            )
        files = _manifest(folder, digest)
        if present != files.keys():
            raise damaged(
                digest, f"files differ from the manifest: {', '.join(sorted(present ^ files.keys()))[:200]}"
            )
        for name, known in files.items():
            path = folder / name
            try:
                intact = is_file(path) and os.path.getsize(path) == known.bytes and _entry(path) == known
            except RunError as error:
                raise damaged(digest, str(error)) from None
            except OSError as error:
                raise damaged(digest, f"{name} can't be read ({error.strerror})") from None
            if not intact:
                raise damaged(digest, f"{name} differs from what was written")

    def digests(self) -> tuple[str, ...]:
        """Return the names of all checkpoints, sorted."""
        with _readable(self.folder):
            there = list(self.folder.iterdir()) if is_folder(self.folder) else []
            return tuple(sorted(entry.name for entry in there if is_digest(entry.name) and _is_real(entry)))

    def size_bytes(self, digest: str | None = None) -> int:
        """Return the size in bytes of one checkpoint, or of all."""
        names = self.digests() if digest is None else (digest,)
        return sum(file.lstat().st_size for name in names for file in self.path(name).glob("*"))

    def remove(self, digest: str) -> None:
        """Remove a checkpoint atomically; it need not exist. Raises RunError."""
        temporary = temporary_name(self.path(digest))
        try:
            self.path(digest).rename(temporary)
        except FileNotFoundError:
            return
        except OSError as error:
            raise RunError(
                f"{self.path(digest)} can't be removed ({error.strerror}); fix that and resume"
            ) from None
        discard(temporary)

    def sweep(self) -> None:
        """Delete the unfinished files of killed processes. Only the holder of the run's lock may call this."""
        with _readable(self.folder):
            there = list(self.folder.iterdir()) if is_folder(self.folder) else []
        for entry in there:
            if entry.name.startswith(TEMPORARY):
                discard(entry)


@contextmanager
def _readable(path: Path) -> Generator[None]:
    """Turn an OSError on reading `path` into RunError."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} can't be read ({error.strerror}); fix that and resume") from None


def _is_real(entry: Path) -> bool:
    return entry.is_dir() and not entry.is_symlink()


def damaged(digest: str, fact: str) -> LedgerDamaged:
    """Return the error for a checkpoint that differs from what was stored."""
    return LedgerDamaged(
        f"checkpoint {digest[:12]}: {fact}; make it again with nas fsck RUN --repair, or "
        f"restore checkpoints/{digest} from a copy"
    )


def _write(network: Network, folder: Path, digest: str) -> None:
    """Write all of a checkpoint's files, durably, into a new folder."""
    import morphs

    with suppress(FileNotFoundError):  # of the run: if that was moved away, it isn't made again here
        folder.parent.mkdir(exist_ok=True)
    folder.mkdir()
    morphs.save(network, folder)
    files = {path.name: asdict(_entry(path)) for path in sorted(folder.iterdir())}
    document = {"format": FORMAT, "digest": digest, "files": files}
    (folder / MANIFEST).write_text(canonical_json(document), encoding="ascii")
    for name in (*files, MANIFEST):
        fsync_file(folder / name)
    fsync_folder(folder)


def _entry(path: Path) -> _File:
    return _File(os.path.getsize(path), sha256_file(path))


def _manifest(folder: Path, digest: str) -> dict[str, _File]:
    """Return the files of a checkpoint. Raises LedgerDamaged for a manifest that `put` did not write."""
    try:
        data = read_bounded(folder / MANIFEST, MAX_MANIFEST_BYTES)
        document = parse_json(data)
        if canonical_json(document).encode() != data:
            raise ValueError("it is not in canonical form")
        known = validated(_Manifest, document)
    except FileNotFoundError:
        raise damaged(digest, f"{MANIFEST} is missing") from None
    except OSError as error:
        raise damaged(digest, f"{MANIFEST} can't be read ({error.strerror})") from None
    except (ValueError, RunError) as error:
        raise damaged(digest, f"{MANIFEST} can't be read ({error})") from None
    if known.digest != digest:
        raise damaged(digest, f"{MANIFEST} belongs to another checkpoint")
    return known.files
