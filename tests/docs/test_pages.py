"""What the pages say of the repository is so."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "morphs/README.md", "runs/README.md", "runs/benchmarks/RESULTS.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_between_files_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if not ((ROOT / page).parent / link.partition("#")[0]).exists()]
    assert not missing


def test_paths_in_backticks_are_there() -> None:
    text = "\n".join(
        (ROOT / page).read_text(encoding="utf-8") for page in ("CONTRIBUTING.md", "morphs/README.md")
    )
    paths = re.findall(r"`((?:morphs|nas|search_spaces|tests|runs|docs)/[\w/.-]*)`", text)
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_ten_questions_are_answered_by_files_that_define_what_they_name() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    answers = re.findall(r"^\| (.+\?) \| `([\w/.]+)`, `(\w+)` \|$", text, re.MULTILINE)
    assert len(answers) == 10
    for question, path, name in answers:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^ *(?:def|class) {name}\b|^{name}\b.* = ", source, re.MULTILINE), question
