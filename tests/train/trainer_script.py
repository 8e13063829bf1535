"""Trains the small growing model: `FOLDER [STEP to be killed at]`; prints losses and scores."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import growing_run

if __name__ == "__main__":
    folder, *stop = sys.argv[1:]
    stop_after = int(stop[0]) if stop else None
    _, points, losses = growing_run.train(folder, stop_after=stop_after)
    print(json.dumps({"losses": losses, "scores": [point.eval_nll for point in points]}))
