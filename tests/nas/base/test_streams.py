"""Output that is closed, full, or of a terminal that shows ASCII only."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from nas.base.printing import say
from nas.base.streams import encodable

ODD = "generation 1 … 97 % – caf\udce9 猫"


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_text_can_be_said_on_any_terminal(encoding: str) -> None:
    out = stream(encoding)
    say(ODD, out)
    out.seek(0)
    said = out.read()
    assert said.startswith("generation 1 ")
    assert "\\udce9" in said


def test_our_own_signs_are_words_in_ascii() -> None:
    assert encodable("a … b – c", stream("ascii")) == "a ... b - c"


CLOSED = """
import os, sys
from pathlib import Path
from nas.base.streams import prepare_streams
prepare_streams()
print("lost"); print("lost", file=sys.stderr)
with open(sys.argv[1], "w") as file:
    file.write(f"{file.fileno() > 2} {all(os.get_inheritable(number) for number in range(3))}")
"""


def test_no_file_becomes_standard_output_where_that_is_closed(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -c "$0" "$1" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", command, CLOSED, str(tmp_path / "said")], timeout=120)
    assert done.returncode == 0
    assert (tmp_path / "said").read_text() == "True True"
