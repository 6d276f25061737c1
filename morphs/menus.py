"""What the finite menu of each move may hold, and the one place that checks a menu."""

from collections.abc import Iterable, Mapping
from types import EllipsisType, MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast

from morphs.errors import ParseError
from morphs.graph.ops import OPS, Pair
from morphs.typed import conform, field_types

if TYPE_CHECKING:
    from morphs.move import Move

Menu = Mapping[str, Any]
KIND = cast(Any, Literal)[tuple(op.kind for op in OPS)]
# Of each move the choices, with the type of one value; … for that of the move's field of this name.
CHOICES: Mapping[str, Mapping[str, Any | EllipsisType]] = MappingProxyType({
    "deepen": {
        "how": ..., "activation": ..., "norm": ..., "kernels": Pair, "groups": int | Literal["depthwise"] | None,
        "factors": tuple[Pair, Pair], "ratio": float, "min_channels": int,
    },
    "widen": {"how": ..., "factor": float},
    "grow_kernel": {"by": Pair, "max_kernel": int},
    "add_skip": {"reach": int, "how": ..., "project": ...},
    "insert_norm": {},
    "insert_activation": {"activation": ...},
    "insert_dropout": {"p": ...},
    "merge_groups": {},
    "split_groups": {},
    "retire": {},
    "narrow": {"how": ..., "factor": float},
    "remove_layer": {"kinds": KIND},
    "subnet": {"template": ..., "activation": ...},
    "squeeze_excite": {"ratio": float, "min_channels": int, "activation": ...},
    "reparameterise": {},
    "compact": {
        "how": ..., "activation": ..., "kernels": Pair, "keep": float, "ratio": float, "min_channels": int, "rows": ...,
    },
})  # fmt: skip
POSITIVE = frozenset(("factor", "ratio"))


def check_menu(move: "type[Move]", options: Any) -> Menu:
    """The menu `options` of `move`, each choice's values as a tuple of values of the right type.

    A move that isn't in CHOICES, one of your own, may have any choices; those that are fields have their types.
    Raises ParseError for what is no mapping, an unknown choice, values that are no list, none, or of another type.
    """
    if not isinstance(options, Mapping):
        fact = f"options is of type {type(options).__name__}"
        raise ParseError(f'{move.name}: {fact}; give a mapping such as {{"how": ("zero",)}}')
    own = field_types(move)
    known = CHOICES.get(move.name)
    return {
        key: _values(move, key, values, own.get(key, Any) if known is None else _hint(move, known, key, own))
        for key, values in cast(Menu, options).items()
    }


def _hint(move: "type[Move]", known: Menu, key: Any, own: Menu) -> Any:
    if key not in known:
        listed = f"choose from {', '.join(known)}" if known else "leave out options, it has none"
        raise ParseError(f"{move.name}: its menu has no choice {key!r:.80}; {listed}")
    return own[key] if known[key] is ... else known[key]


def _values(move: "type[Move]", key: str, values: Any, hint: Any) -> tuple[Any, ...]:
    place = f"{move.name}: choice {key}"
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ParseError(f"{place}: {values!r:.80} is no list of values; write ({values!r:.80},)")
    given = tuple(cast(Iterable[Any], values))
    if not given:
        raise ParseError(f"{place}: it has no values; give one or more, or leave it out for the default")
    try:
        checked = given if hint is Any else tuple(conform(value, hint) for value in given)
    except TypeError as error:
        raise ParseError(f"{place}: {error}") from None
    if key in POSITIVE and min(checked) <= 0:
        raise ParseError(f"{place}: {min(checked)} is not positive; give positive numbers")
    return checked
