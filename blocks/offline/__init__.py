"""The offline model: answers requests without a model, by fixed rules, and says so."""

from blocks.offline.model import OfflineModel

__all__ = ["OfflineModel"]
