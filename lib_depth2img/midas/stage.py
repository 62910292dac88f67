"""Where the small checkpoint's yaml looks for its depth stage."""

from ..estimators.stage import DepthStage

__all__ = ["DepthStage"]
