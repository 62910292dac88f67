"""The extension inside the host: the only room that imports ``modules.*``."""
