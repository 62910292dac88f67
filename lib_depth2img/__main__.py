"""``depth2img`` or ``python -m lib_depth2img``: the command line of the library."""

import os
import sys

__all__ = ["run"]


def run() -> int:
    """Run the command line; a Python that lacks a package is most likely the wrong one, and one line says so."""
    # torch's threads wait for one another by spinning, thousands of times a second. Where another program has one of
    # the cores, they spin away the time of those they wait for; where none has, going to sleep costs more than that.
    # GNU's OpenMP, which torch brings on Linux, reads this when torch is imported, later. Figures: docs/numbers.md.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A file's name may be no text, and a console of Windows may know few letters: neither is worth a traceback.
            stream.reconfigure(errors="backslashreplace")
    try:
        from .cli import main

        return main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(__package__):
            raise
        right = "Run this with .venv/bin/python, which `make demo` builds, or with the WebUI's own Python."
        print(f"error: {sys.executable} has no {error.name}. {right}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(run())
