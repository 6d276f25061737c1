"""The commands where the modules and calls of Unix are missing: simulated, by taking them away."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_architecture import FILES, ROOT

# Run by every process that has this folder on PYTHONPATH, before anything else. torch itself asks for register_at_fork
# unless it runs on Windows. The lock of Windows is played by a kernel lock, which is freed in the same way.
SITE = """
import os, subprocess, multiprocessing.connection, multiprocessing.util, sys, types
import fcntl as real
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
for name in {missing}:
    sys.modules.pop(name, None)
for name in {names}:
    delattr(os, name)
def locking(descriptor, mode, count):
    try:
        real.flock(descriptor, real.LOCK_EX | real.LOCK_NB)
    except BlockingIOError as error:
        raise PermissionError(13, "Permission denied") from error
if {locks}:
    sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
"""
MODULES = ("fcntl", "resource", "pwd", "grp", "termios")
NAMES = (
    "fork", "forkpty", "setsid", "setpgid", "getpgid", "killpg", "pread", "pwrite", "O_DIRECTORY", "O_CLOEXEC",
    "O_NOFOLLOW", "O_NONBLOCK", "sched_getaffinity", "sysconf", "getuid", "geteuid", "getloadavg", "WNOHANG",
    "set_blocking", "mkfifo",
)  # fmt: skip
SEARCH = "search digits --generations 1 --children 1 --epochs 1 --workers 1"
# What only Unix has, besides NAMES. A use needs hasattr or getattr, or a place in a file that Windows never runs.
UNIX = {
    *NAMES, "waitid", "wait", "chown", "fchmod", "fchown", "statvfs", "sendfile", "uname", "SIGKILL", "SIGCHLD",
    "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGSTOP", "SIGCONT", "SIGQUIT", "alarm", "setitimer",
    "pthread_sigmask", "AF_UNIX",
}  # fmt: skip
FORKS = "nas/execute/fork_server.py"


def system(folder: Path, locks: bool = True) -> dict[str, str]:
    """An environment in which Python runs as on a system without Unix."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITE.format(missing=MODULES, names=NAMES, locks=locks))
    path = f"{folder}{os.pathsep}{ROOT}"
    # torch's export locks files by a library that tells what this system lacks.
    quiet = "ignore:only soft file lock is available"
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "100", "PYTHONWARNINGS": quiet}


# Several commands in one process, which imports torch once. Prints the exit code of each.
COMMANDS = """
import shlex, sys
from nas.cli.commands import app
for line in sys.argv[1:]:
    try:
        app(shlex.split(line), prog_name="nas")
    except SystemExit as error:
        print(f"exit {error.code}")
"""


def nas(*lines: str, cwd: Path, env: dict[str, str]) -> tuple[list[str], list[str]]:
    """The exit codes of commands, and all that they wrote to standard error, line by line."""
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *lines], cwd=cwd, env=env, capture_output=True, text=True
    )
    ends = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("exit ")]
    return ends, done.stderr.splitlines()


def test_every_command_works_without_unix(tmp_path: Path) -> None:
    env = system(tmp_path / "site")
    assert nas(f"{SEARCH} --run r", cwd=tmp_path, env=env) == (["0"], [])
    others = (
        "status r", "resume r", "report r", "fsck r", "runs .", "export r --to x", "moves", "spaces", "policies",
        "morph x 'widen(node=c1, to=12)' --to y",
    )  # fmt: skip
    ends, errors = nas(*others, cwd=tmp_path, env=env)
    assert (ends, errors) == (["0"] * len(others), [])
    assert (tmp_path / "r" / "workers.log").read_text() == ""
    assert (tmp_path / "x" / "model.py").exists()


def test_a_system_without_file_locks_is_refused_in_a_line_and_can_still_read(tmp_path: Path) -> None:
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert nas(f"{SEARCH} --run r", cwd=tmp_path, env=here)[0] == ["0"]
    env = system(tmp_path / "site", locks=False)
    commands = ("status r", "report r", "export r --to x", "moves", "spaces", f"{SEARCH} --run new")
    ends, errors = nas(*commands, cwd=tmp_path, env=env)
    assert ends == ["0", "0", "0", "0", "0", "2"]
    assert len(errors) == 1
    assert "Linux" in errors[0]


def test_morphs_works_without_unix(tmp_path: Path) -> None:
    code = """
import morphs
graph = "x = input(size=[1, 8, 8]); c = conv2d(x, channels=4, kernel=3, padding=1); f = flatten(c); " \\
    "l = linear(f, features=2); y = output(l)"
child = morphs.apply(morphs.init(morphs.parse_graph(graph)), "widen(node=c, to=6)", seed=0)
morphs.save(child.network, "saved")
assert morphs.load("saved").digest == child.network.digest
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=system(tmp_path / "site"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_only_unix_has_is_asked_for_first(path: Path) -> None:
    """`os.X` of Unix alone stands in the fork server, or in a file that looks whether there is an X."""
    if path.relative_to(ROOT).as_posix() == FORKS:
        return
    text = path.read_text(encoding="utf-8")
    used = {
        node.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("os", "signal", "socket")
        and node.attr in UNIX
    }
    asked = {name for name in used if f'(os, "{name}")' in text or f'(signal, "{name}")' in text}
    assert used - asked - ({"SIGKILL"} if "killpg" in asked else set()) == set()
