"""``python -m lib_depth2img``: the command line of the library."""

import sys

from .cli import main

if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        # A file's name may be no text, and a console of Windows may know few letters: neither is worth a traceback.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())
