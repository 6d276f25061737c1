"""What several tests of nas.data use."""

import gc
import types


def one_line(error):
    """The text of a pytest.raises result, which must be one line of bounded length."""
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 700
    return text


def reachable(root):
    """Every object that can be reached from `root` without going through code or types."""
    seen, waiting = {}, [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(
            value, (type, types.ModuleType, types.FunctionType, types.MethodType)
        ):
            continue
        seen[id(value)] = value
        waiting += gc.get_referents(value)
        if not isinstance(value, (str, bytes, int, float)) and hasattr(value, "__dict__"):
            waiting += vars(value).values()
    return list(seen.values())
