"""Each test that SECURITY.md and the table of fault cases name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(?P<file>\w+/[\w/]+\.py)?(?:::(?P<test>test_\w+)(?P<cut>…?))?`")


@pytest.mark.parametrize("page", ["SECURITY.md", "tests/faults/README.md"])
def test_every_test_that_is_named_exists(page: str) -> None:
    """A name without a file is in the file before it in its row; one that ends with … is cut."""
    rows = [row for row in (ROOT / page).read_text(encoding="utf-8").splitlines() if "::" in row]
    assert len(rows) > 5
    for row in rows:
        file = None
        for found in NAMED.finditer(row):
            if found["file"] is None and found["test"] is None:
                continue
            file = found["file"] or file
            assert file is not None, row
            text = (ROOT / "tests" / file).read_text(encoding="utf-8")
            if found["test"]:
                assert re.search(rf"def {found['test']}{'' if found['cut'] else '[(]'}", text), found[0]
