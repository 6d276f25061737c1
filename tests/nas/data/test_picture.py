"""Pictures of every kind reach the network as people see them, or are refused by name."""

import os
import warnings

import numpy as np
import pytest
from picture_support import classes, levels, loaded, means, notes, picture
from PIL import Image

from nas.base.errors import DataError
from nas.data import picture as pictures
from nas.data.picture import Reading, describe, read_picture

# -- values ------------------------------------------------------------------------------------------


def as_int(scale, kind, suffix):
    return lambda values, file: Image.fromarray((values * scale).astype(kind)).save(file.with_suffix(suffix))


DEEP = {
    "16 bits": as_int(65535, np.uint16, ".png"),
    "12 of 16 bits": as_int(4095, np.uint16, ".png"),
    "10 of 16 bits in a TIFF": as_int(1023, np.uint16, ".tif"),
    "8 of 16 bits": as_int(255, np.uint16, ".png"),
    "floats to 1": as_int(1, np.float32, ".tiff"),
    "32 bits": as_int(65535, np.int32, ".tiff"),
    "grey": as_int(255, np.uint8, ".png"),
}


@pytest.mark.parametrize("kind", DEEP)
def test_brightness_survives_every_depth(kind, tmp_path):
    data = loaded(levels(tmp_path / "set", DEEP[kind]))
    assert data.input_shape == (1, 16, 16)
    assert means(data) == pytest.approx((51, 178.5), abs=4)
    assert data.reading is not None


@pytest.mark.parametrize(
    ("scale", "shift", "kind", "suffix"),
    [(4095, 0, np.float32, ".tiff"), (3000, -1000, np.int32, ".tiff"), (2, -1, np.float32, ".tiff")],
)
def test_other_ranges_are_stretched_and_stated(scale, shift, kind, suffix, tmp_path):
    def save(values, file):
        Image.fromarray((values * scale + shift).astype(kind)).save(file.with_suffix(suffix))

    data = loaded(levels(tmp_path / "set", save))
    dark, light = means(data)
    assert light - dark > 100
    assert data.reading is not None
    assert data.reading.high is not None
    assert f"{data.reading.high:.6g}" in notes(data)


def test_a_range_that_the_user_sets_wins(tmp_path):
    top = levels(tmp_path / "set", DEEP["12 of 16 bits"])
    assert means(loaded(top, "?range=0..8190")) == pytest.approx((25.5, 89), abs=3)


def test_a_deep_picture_beyond_the_training_pictures_is_clipped_not_wrapped(tmp_path):
    file = tmp_path / "x.png"
    Image.fromarray(np.full((4, 4), 5000, np.uint16)).save(file)
    assert read_picture(file, Reading(1, 4, 4, low=0, high=4095)).min() == 255


def break_two_kinds(top):
    DEEP["floats to 1"](np.full((16, 16), 0.5), top / "dark" / "odd")
    return "odd.tiff"


def break_nan(top):
    DEEP["floats to 1"](np.full((16, 16), np.nan), top / "dark" / "odd")
    return "odd.tiff"


@pytest.mark.parametrize(("kind", "damage"), [("12 of 16 bits", break_two_kinds), ("floats to 1", break_nan)])
def test_deep_pictures_without_one_meaning_are_refused_by_name(kind, damage, tmp_path):
    top = levels(tmp_path / "set", DEEP[kind])
    name = damage(top)
    with pytest.raises(DataError, match=name):
        loaded(top, check="all")


def test_sixteen_bit_colour_that_would_be_black_is_refused_by_name(tmp_path):
    """Pillow keeps the upper 8 bits of each 16; it writes no such file, so the bytes are put together here."""
    import struct
    import zlib

    def save(values, file):
        rows = np.repeat((values * 4095).astype(">u2")[..., None], 3, 2).reshape(16, -1)
        raw = b"".join(b"\0" + row.tobytes() for row in rows)
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw))]
        body = b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in [*chunks, (b"IEND", b"")]
        )
        file.with_suffix(".png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)

    with pytest.raises(DataError, match=r"0\.png"):
        loaded(levels(tmp_path / "dark", save))
    whole = levels(tmp_path / "whole", lambda values, file: save(values * 16, file))
    dark, light = means(loaded(whole))
    assert light - dark > 100


# -- alpha -------------------------------------------------------------------------------------------


def shape_of(label):
    alpha = np.zeros((16, 16), np.uint8)
    alpha[(slice(7, 9), slice(2, 14)) if label == 0 else (slice(2, 14), slice(7, 9))] = 255
    return alpha


def rgba(level):
    def save(alpha, file):
        Image.fromarray(np.dstack([np.full_like(alpha, level)] * 3 + [alpha])).save(file)

    return save


def la(alpha, file):
    Image.fromarray(np.dstack([np.zeros_like(alpha), alpha])).save(file)


def palette(alpha, file):
    image = Image.fromarray((alpha > 0).astype(np.uint8)).convert("P")
    image.putpalette([0] * 768)
    image.save(file, transparency=0)


def transparent_colour(alpha, file):
    pixels = np.repeat(np.where(alpha == 0, 7, 0).astype(np.uint8)[..., None], 3, 2)
    Image.fromarray(pixels).save(file, transparency=(7, 7, 7))


def black_and_white(alpha, file):
    rgba(255 if int(file.stem) % 2 else 0)(alpha, file)


@pytest.mark.parametrize(
    "save", [rgba(0), rgba(255), rgba(128), la, palette, transparent_colour, black_and_white]
)
def test_a_shape_in_the_alpha_channel_is_seen(save, tmp_path):
    for label, name in enumerate(("bar", "pole")):
        (tmp_path / name).mkdir()
        for number in range(6):
            save(shape_of(label), tmp_path / name / f"{number}.png")
    data = loaded(tmp_path)
    pixels = data.train.read(range(len(data.train))).float()
    assert float(pixels.flatten(1).std(1).min()) > 20
    assert data.reading is not None
    assert {255: "white", 0: "black", 128: "grey 128"}[data.reading.background] in notes(data)


# -- shape -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photo_is_turned_upright_as_its_camera_says(turn, tmp_path):
    upright = Image.fromarray(np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3) * 3)
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions, each undoing EXIF's
    stored = upright if turn == 1 else upright.transpose(Image.Transpose(inverse[turn]))
    exif = Image.Exif()
    exif[0x0112] = turn
    for name in ("x.png", "x.tif", "x.webp"):
        stored.save(tmp_path / name, exif=exif, **({"lossless": True} if name.endswith("webp") else {}))
        assert np.array_equal(read_picture(tmp_path / name, Reading(3, 6, 4)), np.asarray(upright)), name


def test_rectangles_keep_their_shape_and_the_cut_is_said(tmp_path):
    for number in range(6):
        picture(tmp_path / "wide/a" / f"{number}.png", (800 + 10 * number, 400))
        picture(tmp_path / "wide/b" / f"{number}.png", (800, 400))
    data = loaded(tmp_path / "wide")
    _, h, w = data.input_shape
    assert 1.8 < w / h < 2.2
    assert f"{h} × {w}" in notes(data)
    square = notes(loaded(tmp_path / "wide", "?size=32"))
    assert "cuts off 5" in square
    assert "cuts off" not in notes(loaded(tmp_path / "wide", "?size=32x64&fit=stretch"))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_each_fit_does_what_it_says(fit, tmp_path):
    """A wide picture in three thirds, red, green and blue, becomes a square."""
    thirds = np.zeros((20, 60, 3), np.uint8)
    for third in range(3):
        thirds[:, 20 * third : 20 * third + 20, third] = 255
    Image.fromarray(thirds).save(tmp_path / "x.png")
    seen = read_picture(tmp_path / "x.png", Reading(3, 12, 12, fit))
    assert seen.shape == (12, 12, 3)
    assert (seen[6, 0, 0] > 200, seen[6, 6, 1] > 200) == (fit != "crop", True)
    assert (seen[0].max() == 0) == (fit == "pad")
    assert len({describe(Reading(3, 12, 12, each)) for each in ("crop", "pad", "stretch")}) == 3


# -- files -------------------------------------------------------------------------------------------


def test_a_huge_picture_is_bounded(tmp_path, capfd):
    """A JPEG is decoded small; what can't be is refused in one line; nothing is warned about."""
    huge = Image.new("L", (9000, 9000), 40)
    huge.paste(200, (0, 0, 9000, 4500))
    classes(tmp_path / "set")
    huge.save(tmp_path / "x.jpg", quality=30)
    huge.save(tmp_path / "set/cat/huge.png", compress_level=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = read_picture(tmp_path / "x.jpg", Reading(1, 32, 32))
        with pytest.raises(DataError, match=r"huge\.png.*81000000 pixels"):
            loaded(tmp_path / "set", check="all")
    assert (seen[4].mean(), seen[28].mean()) == pytest.approx((200, 40), abs=2)
    assert capfd.readouterr() == ("", "")


def test_decoding_a_huge_jpeg_takes_little_memory(tmp_path):
    """Measured in a process of its own: its peak, compared with that after reading a small picture."""
    import subprocess
    import sys

    picture(tmp_path / "small.jpg")
    Image.new("RGB", (12000, 12000), (1, 2, 3)).save(tmp_path / "huge.jpg", quality=20)
    code = (
        "import resource, sys\n"
        "from nas.data.picture import Reading, read_picture\n"
        "for file in sys.argv[1:]:\n"
        "    read_picture(file, Reading(3, 64, 64))\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "small.jpg"), str(tmp_path / "huge.jpg")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    before, after = map(int, done.stdout.split())
    assert after - before < 100_000  # kB; decoded in full it would be 432 MB
    assert done.stderr == ""


def test_damaged_metadata_do_not_stop_a_picture(tmp_path):
    file = picture(tmp_path / "x.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + os.urandom(30))
    assert read_picture(file, Reading(3, 8, 10)).shape == (8, 10, 3)


def test_postscript_is_not_run_whatever_its_name(tmp_path):
    file = tmp_path / "x.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(ValueError):
        read_picture(file, Reading(3, 8, 8))
    assert "EPS" not in pictures.FORMATS
