"""An mkdocs hook: pages that are computed when the site is built, so that nothing is written down twice.

Reference pages come from the code; some files of the repository (CONTRIBUTING.md, results, …) are pages as they are;
the notebook becomes a page. `python docs/gen_reference.py` prints the names of all of them.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from inspect import isclass, isfunction
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Files of the repository that are pages: where they are, and where on the site.
INCLUDED = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "morphs/README.md": "guides/morphs.md",
    "runs/README.md": "guides/runs.md",
    "runs/benchmarks/RESULTS.md": "figures/benchmarks.md",
    "runs/papers/RESULTS.md": "figures/papers.md",
}
NOTEBOOK = "tutorials/search-your-data"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the computed pages and the pictures that included pages show."""
    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    for source, page in INCLUDED.items():
        for picture in (ROOT / source).parent.glob("*.svg"):
            place = posixpath.join(posixpath.dirname(page), picture.name)
            files.append(File.generated(config, place, abs_src_path=str(picture)))
    return files


def pages() -> dict[str, str]:
    """Every computed page, by its place on the site."""
    return {
        **{page: included(source, page) for source, page in INCLUDED.items()},
        f"{NOTEBOOK}.md": notebook(ROOT / "docs" / f"{NOTEBOOK}.ipynb"),
        "reference/cli.md": command_line(),
        "reference/recipes.md": recipe_keys(),
        "reference/nas.md": members("nas"),
        "reference/morphs.md": members("morphs"),
        "reference/search_spaces.md": members("search_spaces"),
        "reference/errors.md": errors(),
    }


# -- files of the repository -----------------------------------------------------------------------------


def included(source: str, page: str) -> str:
    """A file of the repository as a page: links between pages hold, a link to any other file becomes its path."""

    def link(found: re.Match[str]) -> str:
        picture, label, target = found.groups()
        path, hash_, anchor = target.partition("#")
        if picture or not path or "://" in target:
            return found[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if there in INCLUDED or there.startswith("docs/"):
            known = INCLUDED.get(there, there.removeprefix("docs/").replace(".ipynb", ".md"))
            return f"[{label}]({posixpath.relpath(known, posixpath.dirname(page) or '.')}{hash_}{anchor})"
        return f"`{there}`" if label.strip("`") in (path, there) else f"{label} (`{there}`)"

    return LINK.sub(link, (ROOT / source).read_text(encoding="utf-8"))


def notebook(path: Path) -> str:
    """A notebook as a page: text as it is, code in blocks."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts: list[str] = []
    for number, cell in enumerate(cells):
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else code(text))
        if number == 0:
            parts.append(f"[This page as a notebook]({path.name})")
    return "\n\n".join(parts) + "\n"


def code(text: str) -> str:
    """A code cell: a shell command, the text of a file, or Python."""
    if text.startswith("%%writefile "):
        name, _, body = text.removeprefix("%%writefile ").partition("\n")
        return f'```python title="{name}"\n{body}\n```'
    if text.startswith("!"):
        lines = "\n".join(f"$ {line.removeprefix('!')}" for line in text.splitlines())
        return f"```console\n{lines}\n```"
    return f"```python\n{text}\n```"


# -- from the code ---------------------------------------------------------------------------------------


def members(package: str) -> str:
    """The public names of a package, each with its docstring: functions and values first, then classes."""
    module = import_module(package)
    names: list[str] = sorted(
        getattr(module, "__all__", ()), key=lambda name: (isclass(getattr(module, name)), name)
    )
    parts = [f"# {package}", module.__doc__ or "", *(f"::: {defined(module, name)}" for name in names)]
    if find_spec(f"{package}.testing"):
        parts += [f"## {package}.testing", f"::: {package}.testing.check_move"]
    return "\n\n".join(parts) + "\n"


def defined(module: ModuleType, name: str) -> str:
    """Where a public name is defined: a package may have a submodule of the same name."""
    value = getattr(module, name)
    return (
        f"{value.__module__}.{name}" if isclass(value) or isfunction(value) else f"{module.__name__}.{name}"
    )


def errors() -> str:
    """Both trees of exceptions, and each exception."""
    parts = [
        "# Errors",
        "Every message is one line: fact, place, remedy. Catch the root of a tree to catch all of it.",
    ]
    for module in ("morphs.errors", "nas.base.errors"):
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
        drawn = re.findall(r"^ {4}.*$", ast.get_docstring(tree) or "", re.MULTILINE)
        parts += [f"## {module}", "```text\n" + "\n".join(line[4:] for line in drawn) + "\n```"]
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                bases = ", ".join(ast.unparse(base) for base in node.bases)
                said = ast.get_docstring(node) or ""
                parts.append(f"### {node.name}\n\n`{module}.{node.name}({bases})`\n\n{said}")
    return "\n\n".join(parts) + "\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Each command of `nas` as the parser knows it, in the order of `nas --help`."""
    from typer.main import get_command

    from nas.cli.commands import app

    group: Any = get_command(app)
    yield from group.commands.items()


def command_line() -> str:
    """What `nas --help` and `nas COMMAND --help` print, without colours and frames."""
    from typer.testing import CliRunner

    from nas.cli.commands import app

    app.rich_markup_mode = None
    runner = CliRunner(env={"COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1"})
    parts = ["# Command line", "Wrong input ends with exit code 2 and one line on standard error."]
    for name in ("", *(name for name, _ in commands())):
        said = runner.invoke(app, [*name.split(), "--help"], prog_name="nas")
        assert said.exit_code == 0, f"nas {name} --help: {said.output}"
        parts += [f"## nas {name}".rstrip(), f"```text\n{said.output.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table; nothing where there are no rows."""
    if not rows:
        return ""
    cells = [[str(cell or "").replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(head), ["---"] * len(head), *cells])


def recipe_keys() -> str:
    """The keys of a recipe: the declared settings of a run, of its training, and of each policy and move sampler."""
    from nas.config.run_config import RunConfig
    from nas.config.training import TrainConfig
    from nas.registry.defaults import REGISTRY

    kinds = {**REGISTRY.policies, **REGISTRY.samplers}
    return (
        "\n\n".join(
            (
                "# Recipe keys",
                "A recipe is a TOML file; `nas search FILE.toml` runs it, and options of the command line win over it. "
                "A space has defaults of its own for some keys. Times are in seconds or text such as `10m`.",
                settings(RunConfig),
                "## Within `[train]`",
                settings(TrainConfig),
                *(
                    f"## Of `{name}`\n\n{settings(kind.settings)}"
                    for name, kind in kinds.items()
                    if kind.settings is not None and settings(kind.settings)
                ),
            )
        )
        + "\n"
    )


def settings(declared: type[Any]) -> str:
    """A table of the settings that a model declares; nothing where there are none."""
    from nas.config.option import Required, options

    said = {name: text for names, text in TERMS.findall(declared.__doc__ or "") for name in names.split(", ")}
    rows = [
        (
            f"`{option.name}`",
            f"`{hint(option.type)}`",
            "required" if option.default is Required else f"`{option.default}`",
            option.range,
            option.help or " ".join(said.get(option.name, "").split()),
        )
        for option in options(declared)
        if option.name not in ("train", "recipe", "policy_settings", "sampler_settings")
    ]
    return table(("key", "type", "default", "range", ""), rows)


TERMS = re.compile(
    r"^ +(\w+(?:, \w+)*): +(\S.*?)(?=^ +\w+(?:, \w+)*: |\Z)", re.MULTILINE | re.DOTALL
)  # in a docstring


def hint(annotation: Any) -> str:
    """A type as it is written."""
    plain = isinstance(annotation, type) and "[" not in str(annotation)
    return annotation.__name__ if plain else str(annotation).replace("typing.", "")


if __name__ == "__main__":
    print("\n".join(pages()))
