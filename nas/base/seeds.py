"""Seeds derived from (run seed, generation, slot, purpose): no trial numbers, no global generator."""

import hashlib


def derive(seed: int, *path: int | str) -> int:
    """Return the seed in [0, 2^63) for `path` below `seed`; the same on every machine and in every version."""
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
