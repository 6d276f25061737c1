from hypothesis import given
from hypothesis import strategies as st

from nas.base.seeds import derive

PATHS = st.lists(st.integers(0, 99) | st.sampled_from(["train", "init"]), max_size=4)


@given(st.integers(0, 2**31), PATHS)
def test_seeds_are_the_same_every_time_and_fit_torch(seed: int, path: list[int | str]) -> None:
    assert derive(seed, *path) == derive(seed, *path)
    assert 0 <= derive(seed, *path) < 2**63


def test_seeds_differ_wherever_the_path_does() -> None:
    paths = [(), (1,), (1, 2), (12,), (2, 1), (1, 2, "train"), (1, 2, "init"), (1, 2, "train", 0)]
    assert len({derive(seed, *path) for seed in (0, 1) for path in paths}) == 2 * len(paths)


def test_seeds_stay_as_they_are() -> None:
    """Old runs go on only as long as they do."""
    assert derive(0) == 3456079177858693020
    assert derive(3, 1, 2, "child") == 2505469558059995627
