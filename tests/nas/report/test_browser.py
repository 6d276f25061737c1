"""The page in a real browser: headless Chromium, without a network."""

import re
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from report_support import FACTS, example_view, standing_of, with_running

from nas.ledger import LedgerView
from nas.report.page import render

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--virtual-time-budget=10000",
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"no browser: none of {', '.join(NAMES)} is installed"
)


def browse(page: Path, *flags: str) -> str:
    """What Chromium prints for `page`."""
    profile = page.parent / "profile"
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    shutil.rmtree(profile, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def written(folder: Path, view: LedgerView, state: str = "finished") -> Path:
    path = folder / "report.html"
    path.write_text(render(view, FACTS, standing_of(view, state)), encoding="utf-8")
    return path


def opening(dom: str) -> str:
    """The root element's tag, where the page notes errors and charts."""
    return re.findall(r"<html[^>]*>", dom)[0]


@pytest.mark.parametrize(
    ("view", "charts"),
    [
        (example_view(), 4),
        (with_running(example_view()), 4),
        (example_view(0, final=False), 2),
        (LedgerView(()), 0),
    ],
    ids=["finished", "running", "seed only", "empty"],
)
def test_scripts_run_and_charts_are_drawn(view: LedgerView, charts: int, tmp_path: Path) -> None:
    dom = browse(written(tmp_path, view), "--dump-dom")
    assert f'data-charts="{charts}"' in opening(dom)
    assert "data-error" not in opening(dom), opening(dom)
    assert "data-blocked" not in opening(dom), opening(dom)
    drawn = re.findall(r'<svg class="main-svg"', dom)
    assert len(drawn) >= charts


def test_a_click_sorts_a_table(tmp_path: Path) -> None:
    page = written(tmp_path, example_view())
    click = """<script>
      const table = [...document.querySelectorAll("table.sortable")].at(-1);
      const head = [...table.tHead.rows[0].cells].find(cell => cell.textContent === "validation");
      const shown = () => [...table.tBodies[0].rows].map(row => row.cells[head.cellIndex].textContent).join("|");
      head.click(); document.documentElement.dataset.down = shown();
      head.click(); document.documentElement.dataset.up = shown();
    </script></body>"""
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", click), encoding="utf-8")
    tag = opening(browse(page, "--dump-dom"))
    orders: list[list[float]] = []
    for name in ("down", "up"):
        texts = re.findall(rf'data-{name}="([^"]*)"', tag)[0].split("|")
        assert texts[-3:] == ["–"] * 3  # failed trials stay at the end
        orders.append([float(text.removesuffix(" %")) for text in texts[:-3]])
    assert orders[0] == sorted(orders[0], reverse=True)
    assert orders[1] == sorted(orders[1])


@pytest.mark.parametrize("width", [1280, 420])
def test_the_picture_is_not_blank(width: int, tmp_path: Path) -> None:
    picture = tmp_path / f"report-{width}.png"
    browse(written(tmp_path, example_view()), f"--window-size={width},2400", f"--screenshot={picture}")
    colours = png_colours(picture.read_bytes())
    assert len(colours) > 200
    assert max(colours.values()) < 0.97 * sum(colours.values())


def png_colours(data: bytes) -> dict[bytes, int]:
    """How often each raw pixel value occurs in a picture's filtered rows: enough to tell a blank from a page."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    packed, at, channels, width = b"", 8, 3, 0
    while at < len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, channels = int.from_bytes(body[:4], "big"), {2: 3, 6: 4}[body[9]]
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    raw, found = zlib.decompress(packed), {}
    stride = 1 + width * channels
    for row in range(0, len(raw), stride):
        for x in range(row + 1, row + stride, channels):
            pixel = raw[x : x + channels]
            found[pixel] = found.get(pixel, 0) + 1
    return found
