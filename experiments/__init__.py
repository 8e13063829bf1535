"""The experiments, one file each; `python -m experiments.NAME` runs one."""

import sys

from jaxanatomy import host, interrupts

if sys.argv[0] == "-m":  # a program starts, and its module is still being located
    interrupts.listen()
    host.keep_freed_memory()  # before libraries start threads
