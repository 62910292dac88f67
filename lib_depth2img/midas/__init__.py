"""The name that yaml files say, the packaged one and its copies in models folders; the runner is in ``estimators/``."""
