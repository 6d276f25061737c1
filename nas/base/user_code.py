"""The user's own code, named as `package.module:function` on a command line, never by a file of a run."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from nas.base.errors import UserError
from nas.base.text import clip, one_line


def call_named(spec: str, option: str, kind: type[UserError]) -> object:
    """Call the named function without arguments and return its result.

    option: the option that named it, for the error message. Raises `kind` for any failure, with the place in the
    user's file.
    """
    function = resolve_named(spec, option, kind)
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise kind(f"{spec} failed when called without arguments ({where_raised(error)}); fix it") from error


def resolve_named(spec: str, option: str, kind: type[UserError], *values: type[Any]) -> Any:
    """Return the named function or class, or a value of one of the types `values`.

    Raises `kind` if it does not exist or its module can't be imported.
    """
    module_name, _, function_name = spec.partition(":")
    if module_name == "__main__":
        fact = (
            f"{option} {spec}: worker processes can't import __main__, the script that runs or the notebook"
        )
        raise kind(
            f"{fact}; put {function_name} into a file, such as mine.py, and name it as mine:{function_name}"
        )
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        # An installed command does not have the current folder on its path. It is appended last, so that it hides
        # nothing, and stays, so that spawned processes, which inherit the path, can import the same module.
        sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            if hidden := _hidden(module_name, folder):
                raise kind(f"{option} {spec}: {hidden}") from error
            fact = f"no module {error.name} for {option} {spec}"
            raise kind(f"{fact}; run from the folder that contains it, or install it") from error
        raise kind(f"{spec} cannot be imported ({where_raised(error)}); install what it needs") from error
    except (Exception, SystemExit) as error:
        raise kind(f"{spec} cannot be imported ({where_raised(error)}); fix the module") from error
    function = getattr(module, function_name, None)
    found, hidden = callable(function) or isinstance(function, values), _hidden(module_name, folder)
    if hidden is not None and (not found or Path(folder, f"{module_name}.py").exists()):
        raise kind(f"{option} {spec}: {hidden}")
    if not found:
        raise kind(f"module {module_name} has no callable {function_name!r}; name one as package.module:name")
    return function


def _hidden(module: str, folder: str) -> str | None:
    """Fact and remedy where `folder` has a module or package of that name, and another one was imported."""
    name = module.partition(".")[0]
    mine = next((p for p in (Path(folder, f"{name}.py"), Path(folder, name)) if p.exists()), None)
    other = sys.modules.get(name)
    place = getattr(other, "__file__", None) or (list(getattr(other, "__path__", ())) or ["Python itself"])[0]
    if mine is None or other is None or Path(place).is_relative_to(mine):
        return None
    new = f"my_{mine.name}"
    return f"your {mine.name} is hidden by another module of that name, {place}; rename yours, to {new} for example"


def where_raised(error: BaseException) -> str:
    """Describe an error on one line, with the file and line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = clip(one_line(str(error)), 200) or type(error).__name__
    return f"{type(error).__name__}: {said}, {frame.filename}:{frame.lineno}"
