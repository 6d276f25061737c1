"""Recipes: committed settings of a search, as TOML."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nas.base.errors import UserError
from nas.ledger.files import TOO_DEEP, check_depth

RECIPES = Path("runs/recipes")  # yours
OURS = Path(__file__).parents[1] / "recipes"
MAX_BYTES = 2**20


def find_recipe(name: str, spaces: Iterable[str]) -> Path:
    """The file of a recipe, given as a path or by its name. Raises UserError. spaces: names to suggest."""
    path, named = Path(name), recipes()
    if path.suffix == ".toml" or path.is_file():
        return path
    if name in named:
        return named[name]
    known = [*spaces, *named]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
    raise UserError(f'search: "{name}" is neither a search space nor a recipe; {hint}')


def recipes() -> dict[str, Path]:
    """The recipes that have a name: those in RECIPES, and ours of other names."""
    found = [path for folder in (OURS, RECIPES) for path in folder.glob("*.toml") if path.is_file()]
    return {path.stem: path for path in sorted(found, key=lambda path: (path.stem, path.parent == RECIPES))}


def load_recipe(path: Path) -> dict[str, Any]:
    """The fields that a recipe file sets. Raises UserError if it can't be read or names no space."""
    recipe = read_recipe(path)[1]
    if "space" not in recipe:
        raise UserError(f'recipe: {path} names no space; add a line like space = "digits"')
    return recipe


def read_recipe(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of a recipe file and what it sets. Raises UserError if it can't be read."""
    try:
        if path.exists() and not path.is_file():  # a FIFO would block, a device never end
            raise UserError(f"recipe: {path} is not a file; name a TOML file or a space")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UserError(f"recipe: {path} has more than {MAX_BYTES} bytes; name a TOML file or a space")
        text = data.decode("utf-8").replace("\r\n", "\n")
        recipe = tomllib.loads(text)
        check_depth(recipe)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"recipe: {path} can't be read ({error}); name a TOML file or a space") from None
    except RecursionError:
        raise UserError(f"recipe: {path}: {TOO_DEEP}; write plain settings") from None
    except ValueError as error:
        raise UserError(f"recipe: {path} is not TOML ({error}); fix that line") from None
    return text, recipe
