"""Which folders of an image folder are its splits, and which are its classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.base.errors import DataError
from nas.data.listing import PassedOver, folders

_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_FILLERS = frozenset(("data", "dataset", "folder", "image", "images", "part", "set", "split"))
_DEEPEST = 3  # folders around a data set, such as those of an archive in an archive


@dataclass(frozen=True)
class Layout:
    """An image folder: where its classes are. top: where it begins, below folders that only wrap it.

    splits: folders of the splits by role; "train" alone if the splits are to be held out of it.
    """

    top: Path
    splits: dict[str, Path]
    classes: tuple[str, ...]


def find_layout(path: Path, passed: PassedOver) -> Layout:
    """Find the splits and classes in `path`. Raises DataError where that is not clear."""
    top = _unwrapped(path)
    splits = _splits(top, passed)
    train = splits.get("train", top)
    classes = tuple(sorted(folders(train, passed)))
    if len(classes) < 2:
        raise DataError(
            f"imagefolder: {train} has {len(classes)} class folders; "
            "put each class into its own folder, at least two"
        )
    return Layout(top, splits or {"train": top}, classes)


def _subfolders(top: Path) -> list[str]:
    return folders(top, PassedOver())


def _holds_classes(folder: Path, role: str) -> bool:
    return len(_subfolders(_unwrapped(folder))) >= (2 if role == "train" else 1)


def _unwrapped(path: Path) -> Path:
    """`path`, or the folder in it that holds everything, as archives often have one."""
    for _ in range(_DEEPEST):
        inner = _subfolders(path)
        if len(inner) != 1 or not _subfolders(path / inner[0]):
            break
        path = path / inner[0]
    return path


def role_of(name: str) -> tuple[str, str] | None:
    """("train", "val" or "test", the rest of the name) if a folder's name says that it is a split, as Training or
    seg_test do; else None.
    """
    words = re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    words = [part for word in words for part in _parted(word)]
    roles = [word for word in words if word in _WORDS]
    if len(roles) != 1:
        return None
    rest = [word for word in words if word not in _WORDS and word not in _FILLERS]
    return _WORDS[roles[0]], " ".join(rest)


def _parted(word: str) -> list[str]:
    """ "trainset" in its two words, as "train_set" has them."""
    for role in _WORDS:
        for filler in _FILLERS:
            if word in (role + filler, filler + role):
                return [role, filler]
    return [word]


def _splits(top: Path, passed: PassedOver) -> dict[str, Path]:
    """The folders of the splits by role; empty if the folders in `top` are classes. Raises DataError if unclear."""
    names = _subfolders(top)
    named = {name: role for name in names if (role := role_of(name)) and _holds_classes(top / name, role[0])}
    if not named:
        _check_no_parts(top, names)
        return {}
    families = {rest for role, rest in named.values() if role == "train"}
    family = "" if "" in families else min(families, default=None)
    chosen: dict[str, list[str]] = {}
    for name, (role, rest) in named.items():
        if rest == family:
            chosen.setdefault(role, []).append(name)
    if "train" not in chosen:
        raise DataError(
            f"imagefolder: {top} has {_and(named)}, which looks like a part of a data set, and no "
            "training part; name that one train, or give a class another name"
        )
    if len(families) > 1 and family != "":
        raise DataError(
            f"imagefolder: {top} has several training parts, {_and(named)}; name the right one train"
        )
    for role, found in chosen.items():
        if len(found) > 1:
            raise DataError(f"imagefolder: {top}: {_and(found)} both look like the {role} part; remove one")
    for name in folders(top, passed):
        if [name] not in chosen.values():
            passed.add("a folder beside the splits", top / name)
    return {role: _unwrapped(top / found[0]) for role, found in chosen.items()}


def _check_no_parts(top: Path, names: Sequence[str]) -> None:
    """Raise DataError for two folders that hold the same folders: they look like splits with unusual names."""
    inner = {name: frozenset(_subfolders(top / name)) for name in names}
    for name, parts in inner.items():
        if len(parts) > 1 and all(role_of(part) for part in parts):
            raise DataError(
                f"imagefolder: {top / name} holds {_and(parts)}, which look like parts of a data set; put the parts "
                "outside and the classes inside, as in train/CLASS"
            )
    suspects = [name for name in names if role_of(name) and inner[name]]
    alike = [name for name in names if len(inner[name]) > 1 and list(inner.values()).count(inner[name]) > 1]
    if len(names) == 2 and len(alike) == 2:
        raise DataError(
            f"imagefolder: {top}: {_and(alike)} hold the same folders ({', '.join(sorted(inner[alike[0]])[:3])}, …) "
            "and look like parts, not classes; name them train and test, or put their pictures together"
        )
    if suspects:
        raise DataError(
            f"imagefolder: {top}: {suspects[0]} looks like a part of a data set but holds only one class folder; "
            "put each class into its own folder, at least two"
        )


def _and(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))
