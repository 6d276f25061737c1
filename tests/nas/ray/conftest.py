"""One embedded Ray for all tests: starting it takes seconds."""

from collections.abc import Iterator

import pytest
from engine_support import tiny

from nas.ray.session import Session, connect


@pytest.fixture(scope="session")
def ray_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    session = connect(tiny(executor="ray", workers=2), tmp_path_factory.mktemp("ray") / "ray.log")
    yield session
    session.close()
