"""The pictures below a folder, also behind links, and what is passed over there and why."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas.base.errors import DataError
from nas.data.types import one_line

SUFFIXES = frozenset(
    (
        ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".pbm",
        ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
    )
)  # fmt: skip
# Folders that systems and storage devices add: thumbnails, deleted files, remains of archives.
_SYSTEM = frozenset(
    (
        "@eadir", "@recycle", "@recently-snapshot", "@tmp", "@__thumb", "__macosx", "#recycle", "#snapshot",
        "$recycle.bin", "system volume information", "lost+found", "__pycache__",
    )
)  # fmt: skip
READ_ALREADY = "a link to a folder that is read already"
EXAMPLES = 3  # paths named for each reason
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"P5", b"P6")


@dataclass
class PassedOver:
    """What is not read: for each reason the paths, each once. Filled while listing."""

    found: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])

    def add(self, reason: str, path: str | Path) -> None:
        """Note a path that is not read."""
        self.found.setdefault(reason, {})[str(path)] = None

    def text(self, top: Path) -> str:
        """All of it on one line, with the first paths; empty if everything is read."""
        said: list[str] = []
        for reason, paths in self.found.items():
            first = ", ".join(within(path, top) for path in list(paths)[:EXAMPLES])
            said.append(f"{len(paths)} × {reason} ({first}{', …' if len(paths) > EXAMPLES else ''})")
        return "; ".join(said)


@dataclass(frozen=True)
class Listed:
    """The pictures of one split. bad: files that can't be read, with the reason; they are in `files` too."""

    files: tuple[str, ...]
    labels: tuple[int, ...]
    sizes: tuple[int, ...]
    bad: dict[str, str]


def within(path: str | Path, top: Path) -> str:
    """A path as it is called below `top`."""
    text = str(path)
    return os.path.relpath(text, top) if text.startswith(f"{top}{os.sep}") else text


def folders(top: Path, passed: PassedOver) -> list[str]:
    """The names of the folders in `top` that may be classes or splits. Raises DataError if it can't be read."""
    found: list[str] = []
    entries = _entries(top)
    seen = {_identity(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)}
    for entry in entries:
        if not entry.is_dir():
            if not entry.name.startswith("."):
                passed.add("a file beside the folders", entry.path)
        elif _is_system(entry.name):
            passed.add("a system's folder", entry.path)
        elif entry.name.startswith("."):
            continue
        elif entry.is_symlink() and (_identity(entry.path) in seen or _is_above(str(top), entry.path)):
            passed.add(READ_ALREADY, entry.path)  # else its pictures would be of two classes
        else:
            seen.add(_identity(entry.path))
            found.append(entry.name)
    return found


def list_pictures(top: Path, classes: Sequence[str], passed: PassedOver) -> Listed:
    """List the pictures of each class in the split `top`. Raises DataError for an unknown or an empty class."""
    unknown = sorted(set(folders(top, passed)) - set(classes))
    if unknown:
        raise DataError(
            f"imagefolder: {top} has class {unknown[0]}, which is not in the training part; remove or rename it"
        )
    files, labels, sizes, bad = list[str](), list[int](), list[int](), dict[str, str]()
    for label, name in enumerate(classes):
        before = len(files)
        for file in _pictures(top / name, passed):
            size = _size_in_bytes(file, bad)
            if size is not None:
                files.append(file)
                labels.append(label)
                sizes.append(size)
        inside = f"{top / name}{os.sep}"
        if (
            len(files) == before
            and (top / name).is_dir()
            and not any(file.startswith(inside) for file in bad)
        ):
            raise DataError(_no_pictures(top / name, passed))
    return Listed(tuple(files), tuple(labels), tuple(sizes), bad)


def _no_pictures(folder: Path, passed: PassedOver) -> str:
    start = f"{folder}{os.sep}"
    inside = {
        reason for reason, paths in passed.found.items() if any(path.startswith(start) for path in paths)
    }
    why = f" (passed over: {', '.join(sorted(inside))})" if inside else ""
    return f"imagefolder: {folder} contains no images{why}; add images or remove the folder"


def _entries(top: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(top) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"imagefolder: {top} cannot be read ({error.strerror}); make it readable") from error


def _is_system(name: str) -> bool:
    return name.lower() in _SYSTEM


def _pictures(folder: Path, passed: PassedOver) -> Iterator[str]:
    """The picture files in a folder and those below it, also behind links, each folder once."""
    if not folder.is_dir():
        return
    seen = {_identity(str(folder))}
    waiting = [str(folder)]
    while waiting:
        here = waiting.pop()
        inside: list[str] = []
        for entry in _entries(Path(here)):
            if entry.name.startswith("."):
                passed.add("hidden", entry.path)
            elif entry.is_dir():
                if _is_system(entry.name):
                    passed.add("a system's folder", entry.path)
                elif (identity := _identity(entry.path)) in seen or _is_above(here, entry.path):
                    passed.add(READ_ALREADY, entry.path)
                else:
                    seen.add(identity)
                    inside.append(entry.path)
            elif (reason := _no_picture(entry)) is None:
                yield entry.path
            else:
                passed.add(reason, entry.path)
        waiting += reversed(inside)


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _is_above(here: str, path: str) -> bool:
    real = os.path.realpath(path)
    return os.path.commonpath([real, os.path.realpath(here)]) == real


def _no_picture(entry: os.DirEntry[str]) -> str | None:
    """Why a file is not read; None for a picture: by its ending or, if it has none, by its first bytes."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if not entry.is_symlink() and not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
        return "not a regular file"
    if entry.is_symlink() and os.path.exists(entry.path) and not os.path.isfile(entry.path):
        return "not a regular file"
    if suffix in SUFFIXES:
        return None
    if suffix:
        return f"{suffix} is not read"
    return None if _begins_as_picture(entry.path) else "no ending and no picture"


def _begins_as_picture(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return False
    return (
        start.startswith(_MAGIC) or start[8:12] == b"WEBP" or start[4:12] in (b"ftypavif", b"jP  \r\n\x87\n")
    )


def _size_in_bytes(file: str, bad: dict[str, str]) -> int | None:
    """The size; None for a file that can't be read, which is noted in `bad`."""
    try:
        size = os.stat(file).st_size
    except OSError as error:
        bad[file] = error.strerror or one_line(error)
        return None
    if size == 0:
        bad[file] = "the file is empty"
        return None
    return size
