"""Lists what a search can use: moves, spaces, recipes, policies."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args, get_origin, get_type_hints

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from morphs import Move, Preserves, cost, parse_graph
from nas.base.errors import UserError
from nas.base.text import count
from nas.cli.tables import listed
from nas.config.option import Option, options
from nas.config.recipe import read_recipe, recipes
from nas.registry.registry import Registry, SpaceEntry
from search_spaces import Shape, Space

# Input shape and classes of the spaces' default data sets, so that listing needs no data.
SHAPES: MappingProxyType[str, tuple[Shape, int]] = MappingProxyType(
    {"digits": ((1, 8, 8), 10), "mnist": ((1, 28, 28), 10), "cifar10": ((3, 32, 32), 10)}
)

# A network from the middle of a search, for examples of moves that have no site in any seed network.
GROWN = """
    x = input(size=[4, 8, 8]); c1 = conv2d(x, channels=8, kernel=3, padding=1); n1 = batch_norm(c1)
    p1 = p_activation(n1, fn=relu); c2 = conv2d(p1, channels=8, kernel=3, padding=1, groups=2); s1 = add(c2, p1)
    r1 = relu(s1); f = flatten(r1); fc1 = linear(f, features=16); fc2 = linear(fc1, features=10); y = output(fc2)
"""
TOKENS = """
    x = input(size=[16], tokens=100); e1 = embedding(x, count=100, features=32); n1 = layer_norm(e1)
    fc1 = linear(n1, features=100); y = output(fc1)
"""


def moves(registry: Registry) -> RenderableType:
    """Every move: what it does, what it keeps, its fields and an example from one of the spaces."""
    parts: list[RenderableType] = [
        Text("Chained by a semicolon, moves make a child that computes what its parent did.")
    ]
    for kind in registry.moves:
        example = example_of(kind, registry)
        keeps = "depends on the site" if example is None else example.preserves.value
        if kind.preserves is Move.preserves:  # the default, not overridden
            keeps = Preserves.EXACT.value
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold")
        table.add_row("  keeps the function", keeps)
        table.add_row("  fields", Text(", ".join(field_text(kind))))
        table.add_row("  example", Text("–" if example is None else str(example)))
        parts += [Text(), Text.assemble((kind.name, "bold"), f"  {kind.summary}"), table]
    return Group(*parts)


def field_text(kind: type[Move]) -> Iterator[str]:
    """Each field of a move as name: type."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        if get_origin(hint) is Literal:
            yield f"{field.name}: {'|'.join(map(str, get_args(hint)))}"
        else:
            plain = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
            yield f"{field.name}: {plain.replace('NoneType', 'None')}"


def example_of(kind: type[Move], registry: Registry) -> Move | None:
    """A move of this kind at a site of some space's seed network, or else of another network."""
    known = [space for entry in registry.spaces.values() if (space := _listed(entry)) is not None]
    for space in known:
        for allowed, menu in space.moves:
            if allowed is kind:
                found = next(iter(kind.sites(space.seed, None, menu)), None)
                if found is not None:
                    return found
    grown = parse_graph(GROWN)
    graphs = (*(space.seed for space in known), grown, parse_graph(TOKENS))
    found = (move for graph in graphs for move in kind.sites(graph))
    return next(found, None) or next(
        kind.candidates(grown, {}), None
    )  # a legal site, or one with suitable weights


def _inputs(entry: SpaceEntry) -> tuple[Shape, int]:
    """Input shape and classes of a space's default data set, or of its example where that has no known shape."""
    return SHAPES.get(str(entry.defaults.get("data")), (entry.example, 10))


def _listed(entry: SpaceEntry) -> Space | None:
    """The space for the inputs of `_inputs`; None if a user's space refuses them."""
    try:
        return entry(*_inputs(entry), entry.tokens)
    except Exception:  # a user's code may raise anything; a search says it
        return None


def policies(registry: Registry) -> RenderableType:
    """Every policy and move sampler with its settings."""
    table = listed(("policy", "setting", "default", "range"), folded="what it is")
    declared = [(name, entry.settings) for name, entry in registry.policies.items()]
    declared += [(f"{name} (move sampler)", entry.settings) for name, entry in registry.samplers.items()]
    for name, settings in declared:
        rows: list[Option] = [] if settings is None else list(options(settings))
        table.add_row(name, *([""] * 4)) if not rows else None
        for option in rows:
            cells = (option.name, str(option.default), option.range, option.help)
            table.add_row(name if option is rows[0] else "", *(Text(cell) for cell in cells))
    return table


def spaces(registry: Registry) -> RenderableType:
    """Every space with its seed's size on its own data set; below, the recipes."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("space", "data"):
        table.add_column(name, no_wrap=True)
    for name in ("seed's params", "MACs"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("what it is", overflow="fold")
    for name, entry in registry.spaces.items():
        made = _listed(entry)
        spent = None if made is None else cost(made.seed)
        sizes = ("–", "–") if spent is None else (count(spent.params), count(spent.macs))
        about = (inspect.getdoc(entry.function) or "").split("\n")[0]
        table.add_row(name, str(entry.defaults.get("data", "–")), *sizes, about)
    return Group(table, Text(), _recipes(registry))


def _recipes(registry: Registry) -> RenderableType:
    """The recipes, each with its first comment line."""
    table = listed(("recipe", "space", "data"), folded="what it is")
    for path in recipes().values():
        table.add_row(*(Text(cell) for cell in _recipe_row(path, registry)))
    return table


def _recipe_row(path: Path, registry: Registry) -> tuple[str, str, str, str]:
    try:
        text, values = read_recipe(path)
    except UserError as error:
        return path.stem, "–", "–", f"can't be read: {error}"
    first = text.split("\n", 1)[0]
    about = first.lstrip("# ").strip() if first.startswith("#") else ""
    space = str(values.get("space", "–"))
    entry = registry.spaces.get(space)
    data = values.get("data", entry.defaults.get("data", "–") if entry else "–")
    return path.stem, space, str(data), about
