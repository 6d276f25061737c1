"""The published data sets, in torchvision's files and folders, read without importing it (2 s).

A search opens the files of the training part only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nas.base.errors import DataError
from nas.data.augment import Augment
from nas.data.download import DownloadError, Remote, fetch
from nas.data.readers import Contents, read_cifar, read_idx, read_mat, read_names
from nas.data.types import Split

TEN = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class StandardSet:
    """One published set.

    folder:      path under the data root.
    train, test: file names with their MD5 (None if only the compressed file has a published MD5).
    read:        files of a part, in order -> Split; raises an error for another format.
    names:       class names, or the file that contains them, its MD5 and the key.
    remotes:     the downloads.
    """

    name: str
    folder: str
    train: tuple[tuple[str, str | None], ...]
    test: tuple[tuple[str, str | None], ...]
    read: Callable[[Contents], Split]
    names: tuple[str, ...] | tuple[str, str, str]
    count: int
    augment: Augment
    remotes: Callable[[], tuple[Remote, ...]]

    def load(self, part: str, root: Path) -> Split:
        """Load the "train" or "test" part, downloading it if needed. Raises DataError if it is absent or damaged."""
        self._make_sure(root)
        files = self.train if part == "train" else self.test
        md5 = dict(files)
        contents = Contents(
            tuple(md5), lambda name: _contents(self.name, root / self.folder / name, md5[name])
        )
        try:
            split = self.read(contents)
        except DataError:
            raise
        except Exception as error:
            raise DataError(damaged(self.name, root / self.folder, str(error))) from error
        if len(split) == 0 or int(split.labels.min()) < 0 or int(split.labels.max()) >= self.count:
            raise DataError(damaged(self.name, root / self.folder, f"labels are not 0 … {self.count - 1}"))
        return split

    def classes(self, root: Path) -> tuple[str, ...]:
        """The class names."""
        if len(self.names) == self.count:
            return self.names
        name, md5, key = self.names
        path = root / self.folder / name
        return read_names(_contents(self.name, path, md5), key)

    def _make_sure(self, root: Path) -> None:
        files = [name for name, _ in self.train + self.test]
        files += [self.names[0]] if len(self.names) != self.count else []
        folder = root / self.folder
        absent = [name for name in files if not _present(folder / name)]
        if not absent:
            return
        remotes = self.remotes()
        archives = ", ".join(remote.name for remote in remotes)
        try:
            fetch(remotes, root)
        except DownloadError as error:
            raise DataError(
                f"{self.name}: no file {absent[0]} in {folder}, and downloading failed ({error}); "
                f"put the contents of {archives} there, or name the folder that contains "
                f"{Path(self.folder, absent[0])} with --data-root or NAS_DATA"
            ) from error


def damaged(name: str, place: Path, reason: str) -> str:
    """Return the message for files that exist but are wrong."""
    why = " ".join(reason.split())
    return f"{name}: {place} is damaged ({why}); remove it and run again, or put a good copy there"


def _present(path: Path) -> bool:
    return path.is_file() or path.with_name(path.name + ".gz").is_file()


def _contents(name: str, path: Path, md5: str | None) -> bytes:
    """Read the file (the compressed one if only the .gz exists). A file with an MD5 is then safe to unpickle."""
    path = path if path.is_file() else path.with_name(path.name + ".gz")
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{name}: {path} cannot be read ({error.strerror}); make it a readable file"
        ) from error
    if md5 is not None and (found := hashlib.md5(contents, usedforsecurity=False).hexdigest()) != md5:
        raise DataError(damaged(name, path, f"MD5 {found} instead of {md5}"))
    return contents


def _mnist_remotes(kind: str) -> tuple[Remote, ...]:
    source: Any = getattr(_torchvision(), kind)
    return tuple(
        Remote(
            tuple(mirror + name for mirror in source.mirrors),
            name,
            md5,
            ((name[:-3], f"{kind}/raw/{name[:-3]}"),),
        )
        for name, md5 in source.resources
    )


def _cifar_remotes(kind: str) -> tuple[Remote, ...]:
    source: Any = getattr(_torchvision(), kind)
    names = [name for name, _ in source.train_list + source.test_list] + [source.meta["filename"]]
    paths = [f"{source.base_folder}/{name}" for name in names]
    members = tuple(zip(paths, paths, strict=True))
    return (Remote((source.url,), source.filename, source.tgz_md5, members),)


def _svhn_remotes() -> tuple[Remote, ...]:
    parts: Any = _torchvision().SVHN.split_list
    return tuple(
        Remote((url,), name, md5, ((name, name),)) for url, name, md5 in (parts["train"], parts["test"])
    )


def _torchvision() -> Any:
    # Imported only for its tables of URLs, and only if something has to be downloaded.
    from torchvision import datasets

    return datasets


_IDX: dict[str, Any] = {
    "train": (("train-images-idx3-ubyte", None), ("train-labels-idx1-ubyte", None)),
    "test": (("t10k-images-idx3-ubyte", None), ("t10k-labels-idx1-ubyte", None)),
    "read": read_idx,
    "count": 10,
}
_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

STANDARD: tuple[StandardSet, ...] = (
    StandardSet(
        name="mnist", folder="MNIST/raw", names=TEN, augment=Augment(flip=False, crop=2),
        remotes=partial(_mnist_remotes, "MNIST"), **_IDX,
    ),
    StandardSet(
        name="fashion-mnist", folder="FashionMNIST/raw", names=_FASHION, augment=Augment(flip=True, crop=2),
        remotes=partial(_mnist_remotes, "FashionMNIST"), **_IDX,
    ),
    StandardSet(
        name="cifar10",
        folder="cifar-10-batches-py",
        train=(
            ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
            ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
            ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
            ("data_batch_4", "634d18415352ddfa80567beed471001a"),
            ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
        ),
        test=(("test_batch", "40351d587109b95175f43aff81a1287e"),),
        read=partial(read_cifar, "labels"),
        names=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888", "label_names"),
        count=10,
        augment=Augment(flip=True, crop=4),
        remotes=partial(_cifar_remotes, "CIFAR10"),
    ),
    StandardSet(
        name="cifar100",
        folder="cifar-100-python",
        train=(("train", "16019d7e3df5f24257cddd939b257f8d"),),
        test=(("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),),
        read=partial(read_cifar, "fine_labels"),
        names=("meta", "7973b15100ade9c7d40fb424638fde48", "fine_label_names"),
        count=100,
        augment=Augment(flip=True, crop=4),
        remotes=partial(_cifar_remotes, "CIFAR100"),
    ),
    StandardSet(
        name="svhn",
        folder="",
        train=(("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),),
        test=(("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),),
        read=read_mat,
        names=TEN,
        count=10,
        augment=Augment(flip=False, crop=4),
        remotes=_svhn_remotes,
    ),
)  # fmt: skip
