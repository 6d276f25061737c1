"""A driver that asks and tells as fast as it can, and says so in a log after each: to be killed at any instant.

torture_driver.py RUN LOG FINGERPRINT WEIGHTS
"""

import os
import sys
import time
from pathlib import Path

import morphs  # noqa: F401 — the first trial would wait for it, seconds in which there is nothing to kill
from nas.ledger import Job, Ledger, Result


def main(run: Path, log: Path, fingerprint: str, weights: str) -> None:
    """Go on with the run for ever: three trials in flight at a time, every fifth fails."""
    told = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    started = time.perf_counter()
    with Ledger.open(run) as ledger:
        os.write(told, f"open {time.perf_counter() - started}\n".encode())
        flight = list(ledger.interrupted())
        slot = len(ledger.view().trials)
        while True:
            while len(flight) < 3:
                job = Job("child", slot // 9, slot % 9, None, "", slot, 1, "{" + "x" * 5000 + "}")
                flight.append((ledger.ask(job), job))
                slot += 1
            number, job = flight.pop(0)
            if job.seed % 5 == 4:
                ledger.fail(number, f"reason {job.key}")
                os.write(told, f"failed {job.key} {number}\n".encode())
            else:
                scores = {"val_accuracy": job.seed / 7, "val_loss": 1.0}
                ledger.tell(number, Result(fingerprint, weights, scores, 1, 1))
                os.write(told, f"complete {job.key} {number}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
