"""What a classifier got right and wrong, with the uncertainty of a small hold-out."""

import math
from collections import Counter
from typing import Any

from _classifier import Model, predict
from _dataset import Dataset


def measure(model: Model, data: Dataset) -> dict[str, Any]:
    """Accuracy with its 95 % interval, confusion matrix, and precision, recall, F1 per class."""
    pairs = Counter(
        (label, predict(model, row)[0]) for row, label in zip(data.rows, data.labels, strict=True)
    )
    classes = sorted({name for pair in pairs for name in pair})
    right = sum(count for (truth, guess), count in pairs.items() if truth == guess)
    low, high = wilson(right, len(data.rows))
    return {
        "rows": len(data.rows),
        "accuracy": round(right / len(data.rows), 4),
        "accuracy_95": [round(low, 4), round(high, 4)],
        "confusion": {truth: {guess: pairs[truth, guess] for guess in classes} for truth in classes},
        "classes": {name: _one_class(name, pairs) for name in classes},
    }


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share."""
    share, z = hits / count, 1.96
    middle = share + z * z / (2 * count)
    margin = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - margin) / (1 + z * z / count), (middle + margin) / (1 + z * z / count)


def _one_class(name: str, pairs: Counter[tuple[str, str]]) -> dict[str, float | int]:
    hit = pairs[name, name]
    said = sum(count for (_, guess), count in pairs.items() if guess == name)
    true = sum(count for (truth, _), count in pairs.items() if truth == name)
    precision, recall = hit / said if said else 0.0, hit / true if true else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"rows": true, "precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}
