"""Text of strangers on a terminal: shown, never acted on; and nothing is printed but by the one module for it."""

import ast
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nas.base.errors import NasError, RunError
from nas.base.printing import console, say, warn, warn_of_bug
from nas.base.text import nas_command, printable

NAS = Path(__file__).parents[3] / "nas"
CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x07"  # writes the clipboard
ATTACKS = [
    CLIPBOARD, "\x1b]0;title\x07", "\x1b[2J", "\x9b2J", "\x1b[8mhidden", "\rover", "\b\b", "\x00", "\x7f",
    "\u202egpj.exe", "\u2066", "\u200b", "\ufeff", "\u2028", "\x0b", "\x0c", "\x85", "\udce9", "\U000e0041",
]  # fmt: skip


def harmless(text: str) -> bool:
    return all(sign.isprintable() or sign in "\n\t" for sign in text)


@pytest.mark.parametrize("text", ATTACKS, ids=ascii)
def test_what_a_terminal_acts_on_is_shown_as_an_escape(text: str) -> None:
    shown = printable(f"a{text}b")
    assert harmless(shown)
    assert shown.startswith("a\\" if not text[0].isalpha() else "a")
    assert shown.encode().decode("unicode_escape") == f"a{text}b"
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["", "café naïve", "漢字　間", "a\u00a0b", "line\n\tline", "✓ – …", "🙂"])
def test_what_people_write_stays(text: str) -> None:
    assert printable(text) == text


def test_whatever_is_printed_goes_through_it(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ATTACKS:
        say(text)
        warn(text)
        try:
            raise ValueError(text)
        except ValueError as error:
            warn_of_bug(type(error), error, error.__traceback__)
        assert harmless(str(NasError(f"run {text}")))
    out, err = capsys.readouterr()
    assert harmless(out)
    assert harmless(err)
    assert err.count("\nValueError") == len(ATTACKS)


@pytest.mark.parametrize("text", ATTACKS, ids=ascii)
def test_a_terminal_gets_colours_of_ours_and_no_codes_of_theirs(text: str) -> None:
    def drawn(text: str) -> str:
        text = f"some {text} text"
        table = Table(title=text)
        table.add_column(text)
        table.add_row(Text(text, "red"))
        out = StringIO()
        screen = console(out, force_terminal=True, color_system="truecolor", width=60)
        screen.print(table, text)
        with Live(Text(text, "green"), console=screen, auto_refresh=False):
            screen.print(Text(text))
        return out.getvalue()

    def codes(shown: str) -> set[str]:
        return {sign for sign in shown if not harmless(sign)}

    assert "\x1b[31m" in drawn(text)
    assert codes(drawn(text)) == codes(drawn("x")) == {"\x1b", "\r"} | ({"\r"} & set(text))
    assert "\x1b]" not in drawn(text)
    assert "\x1b[8m" not in drawn(text)


def prints(node: ast.AST) -> bool:
    """Whether a call may write to the terminal: print, a console, or the write of a stream, unless of a constant."""
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    if name in ("sys.stdout.write", "sys.stderr.write"):
        return not isinstance(node.args[0], ast.Constant)
    return name in ("print", "Console", "rich.print", "os.write") or name.endswith(
        (".echo", ".secho", "warnings.warn")
    )


def test_nothing_is_printed_elsewhere() -> None:
    found = {
        path.relative_to(NAS).as_posix()
        for path in NAS.rglob("*.py")
        if any(prints(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == {"base/printing.py", "ledger/driver_lock.py"}  # the latter writes its own file


def test_an_error_of_a_stranger_is_printable() -> None:
    assert str(RunError(f"runs/{CLIPBOARD}")) == "runs/\\x1b]52;c;cm0gLXJmIH4=\\x07"


@pytest.mark.parametrize(
    "run", ["runs/x", "a b", "$(touch pwned)", "a;touch pwned", "it's", "-rf", "a\nb", "*", "~", "`id`", "é"]
)
def test_a_command_to_paste_is_one_for_the_shell_too(run: str, tmp_path: Path) -> None:
    import subprocess

    tool = tmp_path / "nas"
    tool.write_text(
        f"#!{sys.executable}\nimport sys; sys.stdout.buffer.write('\\0'.join(sys.argv[1:]).encode())\n"
    )
    tool.chmod(0o700)
    done = subprocess.run(
        ["/bin/sh", "-c", nas_command("export", Path(run), "--to", "DIR")],
        cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=True,
    )  # fmt: skip
    verb, path, *rest = done.stdout.decode().split("\0")
    assert (verb, rest) == ("export", ["--to", "DIR"])
    assert path == (f"./{run}" if run.startswith("-") else run)
    assert [entry.name for entry in tmp_path.iterdir()] == ["nas"]
