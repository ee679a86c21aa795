"""The helper as a program without root: the same code, with the facts that only root could have given.

Arguments: the config file, then the helper's own arguments.
"""

import sys
from pathlib import Path

from hkswitch.serviceswitch.main import run

if __name__ == "__main__":
    config_file, *arguments = sys.argv[1:]
    sys.exit(run(arguments, euid=0, read=lambda _: Path(config_file).read_bytes()))
