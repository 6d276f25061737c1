"""The contents of the pictures of a folder: hashed once, noticed where they change."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from data_support import one_line
from PIL import Image

from nas.base.errors import DataError
from nas.data import load_search_data
from nas.data.folder import ImageFiles, hashes_of
from nas.data.hashes import NONE, YOUNG, hash_of, hashed, keep_known, read_known
from nas.data.types import SearchData

MANY = 700  # more than a sample


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose files all have the same size, old enough to be kept."""
    folder = tmp_path_factory.mktemp("pictures") / "set"
    for label, name in enumerate("ab"):
        (folder / name).mkdir(parents=True)
        for number in range(MANY):
            Image.fromarray(np.full((8, 8), 100 * label + number % 100, np.uint8)).save(
                folder / name / f"{number}.pgm"
            )
    return folder


@pytest.fixture
def pictures(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "set"))


def loaded(folder: Path, **more: object) -> SearchData:
    return load_search_data(f"imagefolder:{folder}", None, 0, **more)  # type: ignore[arg-type]


def rewrite(file: Path) -> None:
    """Another picture with the same size and time."""
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_every_picture_counts_whatever_its_size_and_time_say(pictures: Path) -> None:
    data = loaded(pictures)
    assert isinstance(data.train.items, ImageFiles)  # type: ignore[union-attr]
    assert len(data.train) > 512
    for index in (3, 101, len(data.train) - 2):  # not all of them in an even sample
        file = Path(data.train.items.files[index])  # type: ignore[union-attr]
        whole = file.read_bytes()
        rewrite(file)
        assert loaded(pictures).digest != data.digest
        file.write_bytes(whole)
    assert loaded(pictures).digest == data.digest


def test_the_digest_of_former_versions_is_still_made(pictures: Path) -> None:
    before = loaded(pictures)
    assert before.former != before.digest
    rewrite(Path(before.train.items.files[1]))  # type: ignore[union-attr]  # not in the sample that it covers
    assert loaded(pictures).former == before.former


def test_known_files_are_not_read_again(pictures: Path, tmp_path: Path) -> None:
    file = str(next(pictures.rglob("*.pgm")))
    stamp = hash_of(file)[0]
    assert hash_of(file, {stamp: b"known"}) == (stamp, b"known")
    rewrite(Path(file))
    assert hash_of(file, {stamp: b"known"})[1] != b"known"
    data = loaded(pictures)
    known = hashes_of(data.train, data.val)
    assert len(known) == len(data.train) + len(data.val)
    assert loaded(pictures, known=known).digest == data.digest
    forged = dict.fromkeys(known, bytes(32))
    assert loaded(pictures, known=forged).digest != data.digest


def test_they_are_kept_in_a_run_unless_the_file_has_just_changed(pictures: Path, tmp_path: Path) -> None:
    files = sorted(map(str, pictures.rglob("*.pgm")))[:100]
    keep_known(tmp_path, dict(hashed(files)))
    assert read_known(tmp_path) == NONE
    time.sleep(YOUNG / 1e9 + 0.1)
    rewrite(Path(files[0]))
    known = dict(hashed(files))
    keep_known(tmp_path, known)
    assert read_known(tmp_path) == dict(list(known.items())[1:])
    for content in (b"", b"nonsense", b"\0" * 1000):
        (tmp_path / "hashes.safetensors").write_bytes(content)
        assert read_known(tmp_path) == NONE


def test_a_picture_that_is_changed_under_a_search_is_named_with_the_right_remedy(pictures: Path) -> None:
    data = loaded(pictures)
    file = Path(data.train.items.files[7])  # type: ignore[union-attr]
    whole = file.read_bytes()
    before = data.train.read([7])  # type: ignore[union-attr]
    for change in (lambda: file.write_bytes(whole[:20]), lambda: rewrite(file), file.unlink):
        change()
        with pytest.raises(DataError) as caught:
            data.train.read([7])  # type: ignore[union-attr]
        assert str(file) in one_line(caught)
        assert "start a new search" not in str(caught.value)  # with other data the run can't go on
        file.write_bytes(whole)
        os.utime(file)
        assert torch.equal(data.train.read([7]), before)  # type: ignore[union-attr]


def test_what_is_not_a_file_is_refused(pictures: Path) -> None:
    os.mkfifo(pictures / "a" / "pipe.png")
    with pytest.raises(ValueError, match="regular"):
        hash_of(str(pictures / "a" / "pipe.png"))
    passed = [note for note in loaded(pictures).notes if "pipe.png" in note]
    assert len(passed) == 1  # a search says that it leaves it out


def test_the_test_part_is_not_compared_since_nothing_depends_on_it(tmp_path: Path) -> None:
    for part, number in (("train", 20), ("test", 4)):
        for label, name in enumerate("ab"):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(number):
                picture = np.full((8, 8), 100 * label + index, np.uint8)
                Image.fromarray(picture).save(tmp_path / part / name / f"{index}.pgm")
    before = loaded(tmp_path).digest
    rewrite(tmp_path / "test" / "a" / "0.pgm")
    assert loaded(tmp_path).digest == before
    rewrite(tmp_path / "train" / "a" / "0.pgm")
    assert loaded(tmp_path).digest != before
