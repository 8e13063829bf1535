"""Starts workers and asks them; the parent itself imports nothing heavy."""

import json
import pathlib
import subprocess
import sys

WORKER = pathlib.Path(__file__).with_name("worker.py")


class WorkerError(RuntimeError):
    """A worker ended before it answered; holds the last line that it wrote."""


class Worker:
    """A contender in its own process; see `worker.py`. Closes as a context manager."""

    def __init__(self, contender, folder, threads):
        self._name, self._log = contender, folder / f"{contender}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER), contender, str(folder), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._read()

    def ask(self, command, *arguments):
        """Runs a command of the worker; returns its answer, a dict."""
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self):
        """Ends the process."""
        self._process.communicate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            self.close()
            written = self._log.read_text().strip().splitlines() or ["nothing was written"]
            raise WorkerError(f"{self._name} ended early: {written[-1]}")
        return json.loads(line)
