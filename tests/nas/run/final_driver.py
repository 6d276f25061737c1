"""A driver whose final training pauses after each epoch and lingers there: to be killed.

final_driver.py RUN
"""

import sys
import time
from pathlib import Path
from typing import Any

from engine_support import Inline
from test_final_training import config

from nas.run import final_training as final
from nas.run.events import Silent
from nas.run.lifecycle import resume, search


class Slow(Inline):
    """Takes its time before each part, so that the kill comes while there is something left to do."""

    def poll(self, timeout: float) -> Any:
        if self.queue[0][1].kind == "final":
            time.sleep(0.3)
        return super().poll(timeout)


if __name__ == "__main__":
    final.PART_SECONDS = 0.0
    run = Path(sys.argv[1])
    if (run / "ledger.db").exists():
        resume(run, Silent(), executor=Slow)
    else:
        search(config(), run, Silent(), "", Slow)
