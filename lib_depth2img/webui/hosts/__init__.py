"""The hosts: the only files that import ``modules.*``."""
