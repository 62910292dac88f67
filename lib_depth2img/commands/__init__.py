"""The words after ``python -m lib_depth2img``, a module each: its arguments, and the call into the library."""
