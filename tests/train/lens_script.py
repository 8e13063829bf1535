"""Run by test_tuned_lens: trains lenses until the process is killed, after its first checkpoint."""

import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from test_tuned_lens import interrupt_at, start

FOLDER = Path(sys.argv[1])


def die():
    while not (FOLDER / "4").exists():  # it is written in the background
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


start(FOLDER, progress=interrupt_at(7, die))
