"""The experiments, one file each; `python -m experiments.NAME` runs one."""

import sys

from jaxanatomy import interrupts

if sys.argv[0] == "-m":  # a program starts, and its module is still being located
    interrupts.listen()

    from jaxanatomy import host  # after it: an import is time in which no signal is heard

    host.keep_freed_memory()  # before libraries start threads
