import pytest

from nas.base.text import clip, count, one_line, percent, plural, size, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0s"),
        (4.23, "4.2s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1:00"),
        (151, "2:31"),
        (3599.7, "1:00:00"),
        (3751, "1:02:31"),
        (90000, "25:00:00"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_400, "99.4 kB"),
        (99_600, "100 kB"),
        (999_499, "999 kB"),
        (999_600, "1.0 MB"),
        (3_400_000, "3.4 MB"),
        (2 * 10**12, "2.0 TB"),
        (2 * 10**16, "20000.0 TB"),
    ],
)
def test_size(bytes_: int, text: str) -> None:
    assert size(bytes_) == text


def test_shares_counts_and_plurals() -> None:
    assert (percent(0.97312), percent(1.0, 0), percent(None)) == ("97.31 %", "100 %", "–")
    assert (count(1234567), count(None)) == ("1,234,567", "–")
    assert (plural(1, "child"), plural(2, "child"), plural(0, "trial")) == (
        "1 child",
        "2 children",
        "0 trials",
    )


def test_clip() -> None:
    assert clip("abcdef", 6) == "abcdef"
    assert clip("abcdefg", 6) == "abcde…"
    assert clip("abc", 0) == "…"


def test_of_a_traceback_only_what_went_wrong_is_kept() -> None:
    trace = "it raised an exception: Traceback (most recent call last):\n  File x\n    f()\nValueError: no\n"
    assert one_line(trace) == "it raised an exception: ValueError: no"
    assert one_line("two\n  lines") == "two lines"
    assert one_line("Traceback (most recent call last):") == ""
