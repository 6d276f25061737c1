"""A low `ulimit -v` is one line, not an abort in C++."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NAS = Path(sys.executable).with_name("nas")


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("bash") is None, reason="needs ulimit -v")
@pytest.mark.parametrize("kilobytes", [900_000, 600_000])
@pytest.mark.parametrize("command", ["search digits --generations 1", "moves"])
def test_too_little_address_space_is_one_line(kilobytes: int, command: str, tmp_path: Path) -> None:
    line = f'ulimit -v {kilobytes}; exec "$0" {command}'
    done = subprocess.run(["bash", "-c", line, str(NAS)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "ulimit -v" in done.stderr
    assert list(tmp_path.iterdir()) == []
