"""The page in a real browser: headless Chromium, without a network."""

import re
import shutil
import subprocess
import threading
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_support import FACTS, example_view, standing_of, with_running

import morphs
from nas.ledger import Ledger, LedgerView
from nas.report import serve
from nas.report.page import render
from nas.report.serve import Live, Server

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


DARK = "--blink-settings=preferredColorScheme=0"


def browse(page: Path | str, *flags: str, profile: Path | None = None) -> str:
    """What Chromium prints for `page`, a file or an address."""
    profile = profile or Path(page).parent / "profile"
    address = page if isinstance(page, str) else page.as_uri()
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, address]
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
      const head = [...table.tHead.rows[0].cells].find(cell => cell.textContent === "validation accuracy");
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


def test_every_trial_can_be_looked_at(tmp_path: Path) -> None:
    """By keyboard too: the details come from the page itself, with what changed marked."""
    view = example_view()
    child = next(record for record in view.complete if record.job.kind == "child")
    page = written(tmp_path, view)
    act = f"""<script>(async () => {{
      const root = document.documentElement.dataset, body = document.getElementById("trial-body");
      document.querySelector('.tree [data-trial="{child.key}"]')
        .dispatchEvent(new KeyboardEvent("keydown", {{ key: "Enter", bubbles: true }}));
      for (let turn = 0; turn < 100 && !body.innerHTML; turn++) await new Promise(done => setTimeout(done, 50));
      root.titled = document.getElementById("trial-title").textContent;
      root.marked = body.querySelectorAll(".mg-new, .mg-changed").length;
      root.opened = dialog.open;
      body.querySelector("[data-trial]").click();
      await new Promise(done => setTimeout(done, 500));
      root.parent = document.getElementById("trial-title").textContent;
      dialog.close();
      root.closed = !dialog.open;
      const all = [...document.querySelectorAll("button, [role=button], [role=region], img, svg.tree, progress")];
      root.unnamed = all
        .filter(each => !each.getAttribute("aria-label") && !each.getAttribute("alt"))
        .filter(each => !each.textContent.trim()).length;
    }})();</script></body>"""
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", act), encoding="utf-8")
    tag = opening(browse(page, "--dump-dom"))
    assert f'data-titled="Trial {child.key} ' in tag, tag
    assert re.findall(r'data-marked="[1-9]\d*"', tag), tag
    assert f'data-parent="Trial {child.job.parent} ' in tag, tag
    for fact in ('data-opened="true"', 'data-closed="true"', 'data-unnamed="0"'):
        assert fact in tag, tag
    assert "data-error" not in tag, tag


class Growing(Live):
    """A run that gains a trial whenever the page asks for news."""

    def grow(self, ledger: Ledger, view: LedgerView) -> None:
        self.ledger, self.left = ledger, list(view.trials)

    def news(self, since: str) -> dict[str, Any]:
        if self.left:
            record = self.left.pop(0)
            number = self.ledger.ask(record.job)
            self.ledger.curve({number: [(1, 2.0), (60, 1.0), (100, 0.5)]})
            assert record.result is not None
            network = morphs.init(morphs.graph_from_json(record.job.graph), record.job.seed)
            self.ledger.tell(number, replace(record.result, weights=self.ledger.store.put(network)))
        return super().news(since)


def test_a_live_page_grows_while_the_search_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "LEAST_WAIT", 0.1)
    monkeypatch.setattr(serve, "SHARE", 1e9)
    view = example_view(1, 3, final=False)
    server = Server([tmp_path / "run"])
    server.live = Growing(server.live.runs)
    with Ledger.create(tmp_path / "run", FACTS) as ledger:
        server.live.grow(ledger, view)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            dom = browse(server.url, "--dump-dom", profile=tmp_path / "profile")
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
    tag = opening(dom)
    assert not server.live.left
    assert int(re.findall(r'data-updates="(\d+)"', tag)[0]) >= len(view.trials), tag
    assert "data-error" not in tag, tag
    assert "data-blocked" not in tag, tag
    for record in view.trials:
        assert f'data-trial="{record.key}"' in dom
    assert re.findall(r'data-charts="[45]"', tag), tag
    assert re.search(r'<p id="said"[^>]*>[^<]*best so far', dom)


@pytest.mark.parametrize("flags", [(), (DARK,)], ids=["light", "dark"])
def test_light_and_dark_differ_and_are_narrow_enough(flags: tuple[str, ...], tmp_path: Path) -> None:
    """Nothing is wider than a phone's screen."""
    page = written(tmp_path, example_view())
    measure = """<script>
      const root = document.documentElement.dataset;
      root.wide = document.body.scrollWidth; root.ground = getComputedStyle(document.body).backgroundColor;
    </script></body>"""
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", measure), encoding="utf-8")
    tag = opening(browse(page, "--window-size=420,900", *flags, "--dump-dom"))
    red = int(re.findall(r'data-ground="rgb\((\d+)', tag)[0])
    assert red < 60 if flags else red > 200
    assert int(re.findall(r'data-wide="(\d+)"', tag)[0]) <= 500, tag


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
