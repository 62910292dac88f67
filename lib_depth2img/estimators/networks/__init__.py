"""The networks, built without weights. Their state-dict keys are those of the published ``.pt`` files."""
