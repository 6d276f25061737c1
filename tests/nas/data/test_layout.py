"""Image folders as people have them: what is a split, a class, a picture; and what is passed over is said."""

import os
import shutil

import pytest
from picture_support import classes, loaded, notes, picture
from PIL import Image

from nas.base.errors import DataError
from nas.data import load_test_split
from nas.data.layout import role_of

NAMES = ("glioma", "healthy", "other")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Train", "Test"),
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("training_set", "test_set"),
        ("train-images", "test-images"),
        ("TrainData", "TestData"),
        ("trainset", "testset"),
        ("seg_train", "seg_test"),
        ("seg_train/seg_train", "seg_test/seg_test"),
    ],
)
@pytest.mark.parametrize("val", [None, "Validation", "valid_set", "val", "dev"])
def test_parts_of_other_names_are_splits(train, test, val, tmp_path):
    parts = {train: 4, test: 2} | ({val if "seg" not in train else f"seg_{val}": 3} if val else {})
    for name, count in parts.items():
        classes(tmp_path / name, NAMES, count)
    data = loaded(tmp_path)
    assert data.classes == NAMES
    assert len(load_test_split(f"imagefolder:{tmp_path}", None, 0)) == 6
    assert (len(data.train), len(data.val)) == ((12, 9) if val else (9, 3))


def test_a_folder_around_it_all_makes_no_difference(tmp_path):
    classes(tmp_path / "archive" / "Animals" / "Train")
    assert loaded(tmp_path).classes == ("cat", "dog")


def layout_parts_of_unknown_names(top):
    classes(top / "learn")
    classes(top / "exam")
    return "exam and learn"


def layout_no_training_part(top):
    classes(top / "Testing")
    classes(top / "rest")
    return "Testing"


def layout_two_training_parts(top):
    classes(top / "train")
    classes(top / "Training")
    return "Training and train"


def layout_several_families(top):
    for name in ("left_train", "left_test", "right_train", "right_test"):
        classes(top / name)
    return "left_train"


def layout_parts_inside_the_classes(top):
    for name in ("cat", "dog", "emu"):
        classes(top / name, ("train", "test"))
    return "cat holds test and train"


def layout_one_class_in_training(top):
    classes(top / "train", ("cat",))
    classes(top / "test", ("cat", "dog"))
    return "train"


def layout_a_class_without_pictures(top):
    classes(top)
    (top / "annotations").mkdir()
    (top / "annotations" / "a.xml").write_text("<a/>")
    return r"annotations.*\.xml"


def layout_a_class_that_training_lacks(top):
    classes(top / "Training")
    classes(top / "Testing", ("cat", "fox"))
    return "fox"


@pytest.mark.parametrize("make", [v for k, v in sorted(globals().items()) if k.startswith("layout_")])
def test_what_cannot_be_told_is_refused_with_its_names(make, tmp_path):
    named = make(tmp_path)
    with pytest.raises(DataError, match=named):
        loaded(tmp_path)


def test_classes_may_be_called_as_parts_are(tmp_path):
    classes(tmp_path / "vehicles", ("train", "car", "plane"))
    classes(tmp_path / "trial", ("test", "control"))
    assert loaded(tmp_path / "vehicles").classes == ("car", "plane", "train")
    assert loaded(tmp_path / "trial").classes == ("control", "test")


@pytest.mark.parametrize("name", ["trainer", "contest", "valley", "train_test", "latest", "testament"])
def test_other_words_are_no_parts(name):
    assert role_of(name) is None


# -- files -------------------------------------------------------------------------------------------


ENDINGS = {
    ".jpg": "JPEG", ".JPG": "JPEG", ".jfif": "JPEG", ".jpe": "JPEG", ".JPEG": "JPEG", "": "JPEG", ".avif": "AVIF",
    ".jp2": "JPEG2000", ".tga": "TGA", ".png": "PNG", ".PNG": "PNG", ".webp": "WEBP", ".TIFF": "TIFF", ".bmp": "BMP",
    ".gif": "GIF", ".ppm": "PPM",
}  # fmt: skip


def test_every_usual_ending_is_read(tmp_path):
    for name in ("a", "b"):
        for number, (ending, kind) in enumerate(ENDINGS.items()):
            picture(tmp_path / name / f"{number}{ending}", format=kind)
    data = loaded(tmp_path, check="all")
    assert len(data.train) + len(data.val) + len(
        load_test_split(f"imagefolder:{tmp_path}", None, 0)
    ) == 2 * len(ENDINGS)
    assert "passed over" not in notes(data)


def test_what_is_passed_over_is_said_with_its_reason(tmp_path):
    classes(tmp_path)
    for number in range(3):
        picture(tmp_path / "cat/@eaDir" / f"{number}.png" / "SYNOPHOTO_THUMB_S.jpg")
        (tmp_path / "dog" / f"scan{number}.heic").write_bytes(b"1")
    (tmp_path / "__MACOSX/cat").mkdir(parents=True)
    (tmp_path / "__MACOSX/cat/._0.png").write_bytes(b"\0" * 100)
    (tmp_path / "cat/._0.png").write_bytes(b"\0" * 100)
    (tmp_path / "labels.csv").write_text("a,b")
    os.mkfifo(tmp_path / "dog/pipe.png")
    data = loaded(tmp_path)
    assert data.classes == ("cat", "dog")
    assert len(data.train) + len(data.val) == 8  # of 10; one of each class is held out as the test split
    said = notes(data)
    for fact in (
        "cat/@eaDir",
        "3 × .heic",
        "dog/scan0.heic",
        "__MACOSX",
        "cat/._0.png",
        "labels.csv",
        "pipe.png",
    ):
        assert fact in said


def test_linked_folders_and_files_are_read_once(tmp_path):
    classes(tmp_path / "elsewhere", count=5)
    for name in ("cat", "dog"):
        classes(tmp_path / "set", (name,), count=5)
        (tmp_path / "set" / name / "more").symlink_to(tmp_path / "elsewhere" / name)
        (tmp_path / "set" / name / "again").symlink_to(tmp_path / "elsewhere" / name)
        (tmp_path / "set" / name / "up").symlink_to(tmp_path / "set")
        (tmp_path / "set" / name / "one.png").symlink_to(tmp_path / "elsewhere" / name / "0.png")
    (tmp_path / "set" / "fox").symlink_to(tmp_path / "elsewhere" / "cat")
    data = loaded(tmp_path / "set")
    spec = f"imagefolder:{tmp_path / 'set'}"
    assert data.classes == ("cat", "dog", "fox")
    assert len(data.train) + len(data.val) + len(load_test_split(spec, None, 0)) == 2 * 11 + 5
    assert "link" in notes(data)


def test_a_link_to_a_class_or_to_the_set_itself_is_not_another_class(tmp_path):
    classes(tmp_path, ("cat", "dog"), count=5)
    (tmp_path / "all").symlink_to(".")
    (tmp_path / "kitten").symlink_to("cat")
    (tmp_path / "above").symlink_to("..")
    data = loaded(tmp_path)
    assert data.classes == ("cat", "dog")
    assert "kitten" in notes(data)


def test_the_numbers_of_pictures_and_classes_are_said(tmp_path):
    classes(tmp_path / "train", count=8)
    classes(tmp_path / "test", count=3)
    said = notes(loaded(tmp_path))
    for fact in ("14 images to train on", "2 for validation", "6 for the test", "cat 8", "dog 8"):
        assert fact in said
    assert "held out" not in said


# -- damaged files -----------------------------------------------------------------------------------


def damage(top):
    """Damage a picture in each part; their names."""
    names = ("train/cat/1.jpg", "val/dog/0.jpg", "test/dog/2.jpg", "test/cat/1.jpg", "train/dog/4.jpg")
    for number, name in enumerate(names):
        file = top / name
        file.write_bytes(file.read_bytes()[: (-60, 0, -60, 20, -60)[number]])
    return names


@pytest.fixture
def parts(tmp_path):
    for part in ("train", "val", "test"):
        classes(tmp_path / part, suffix=".jpg")
    return tmp_path


@pytest.mark.parametrize("check", ["auto", "all"])
def test_every_damaged_picture_of_every_part_is_named_before_the_search(check, parts):
    loaded(parts, check=check)
    names = damage(parts)
    with pytest.raises(DataError) as error:
        loaded(parts, check=check)
    assert [name for name in names if name not in str(error.value)] == []
    assert "5 of 30" in str(error.value)
    for name in names:
        shutil.copy(parts / "train/cat/0.jpg", parts / name)
    assert len(loaded(parts, check=check).train) == 10


def test_the_check_is_left_out_when_it_takes_long_and_that_is_said(parts, monkeypatch):
    monkeypatch.setattr("nas.data.check.SECONDS", 0.0)
    assert "--check-data" in notes(loaded(parts, check="auto"))
    damage(parts)
    with pytest.raises(DataError, match="5 of 30"):
        loaded(parts, check="all")


def test_a_broken_link_is_named(parts):
    (parts / "test/cat/gone.png").symlink_to(parts / "nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png"):
        loaded(parts)


def test_more_damaged_pictures_than_fit_are_counted(parts):
    for number in range(150):
        (parts / "train/cat" / f"bad{number:03}.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"bad099.png.* 50 more"):
        loaded(parts)


def test_pictures_of_one_class_only_damaged_are_named_not_taken_for_missing(tmp_path):
    classes(tmp_path)
    for file in (tmp_path / "dog").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"dog/4\.png"):
        loaded(tmp_path)


def test_a_picture_of_another_format_than_its_ending_is_read(tmp_path):
    classes(tmp_path)
    Image.new("RGB", (10, 8)).save(tmp_path / "cat/0.png", format="JPEG")
    assert loaded(tmp_path, check="all").input_shape == (3, 8, 10)
