"""Files flipped, cut and hostile: some by default, all when asked."""

from collections.abc import Iterator

import pytest
from faults.cases import examined, in_memory, sample
from faults.damage import PARTS, Bench
from faults.figures import Report


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.make(tmp_path_factory.mktemp("damage"))


@pytest.mark.parametrize(
    ("part", "stride"),
    [("checkpoint", 50), ("untold", 40), ("ledger", 100), ("config", 20), ("hostile", 25)],
)
def test_damage_is_refused_and_runs_no_code(bench: Bench, part: str, stride: int) -> None:
    assert sample(PARTS[part](bench), stride) == []
    assert not bench.canary.exists()


@pytest.fixture(scope="module")
def whole() -> Iterator[Bench]:
    with in_memory("damage-") as folder:
        yield Bench.make(folder)


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", PARTS)
def test_whole(whole: Bench, part: str, stride: int, report: Report) -> None:
    report(examined(part, PARTS[part](whole), stride, "not refused as it should be"))
    assert not whole.canary.exists(), "code from a file was run"
