"""``python -m lib_depth2img``: the command line of the library."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
