"""Three small classifiers in plain Python. A model is a JSON value, so that it can be stored and read."""

import math
from collections import Counter
from itertools import pairwise
from typing import Any

from _dataset import Dataset

ALGORITHMS = ("logistic_regression", "naive_bayes", "decision_stump")
Model = dict[str, Any]


def fit(algorithm: str, data: Dataset) -> Model:
    """A model of `algorithm` trained on all rows of `data`."""
    if algorithm == "majority":
        return {"algorithm": "majority", "class": Counter(data.labels).most_common(1)[0][0]}
    train = {
        "logistic_regression": _logistic,
        "naive_bayes": _bayes,
        "decision_stump": _stump,
    }[algorithm]
    return {"algorithm": algorithm, "features": list(data.features), "label": data.label, **train(data)}


def predict(model: Model, row: tuple[float, ...]) -> tuple[str, float]:
    """The most likely class and its probability (for `majority` always 1)."""
    kind = model["algorithm"]
    if kind == "majority":
        return model["class"], 1.0
    if kind == "decision_stump":
        side = "above" if row[model["feature"]] > model["threshold"] else "below"
        return model[side], model[f"{side}_share"]
    scores = _logistic_scores(model, row) if kind == "logistic_regression" else _bayes_scores(model, row)
    top = max(scores.values())
    weights = {value: math.exp(score - top) for value, score in scores.items()}
    best = max(weights, key=lambda value: (weights[value], value))
    return best, weights[best] / sum(weights.values())


def accuracy(model: Model, data: Dataset) -> float:
    """Share of rows predicted right."""
    right = sum(predict(model, row)[0] == label for row, label in zip(data.rows, data.labels, strict=True))
    return right / len(data.rows)


def influence(model: Model, data: Dataset) -> list[dict[str, Any]]:
    """How much accuracy is lost when one feature is replaced by its mean, largest loss first."""
    base = accuracy(model, data)
    losses = []
    for place, name in enumerate(data.features):
        mean = sum(row[place] for row in data.rows) / len(data.rows)
        blunted = tuple((*row[:place], mean, *row[place + 1 :]) for row in data.rows)
        changed = Dataset(data.features, blunted, data.labels, data.label, (), 0, "")
        losses.append({"feature": name, "accuracy_loss": round(base - accuracy(model, changed), 4)})
    return sorted(losses, key=lambda entry: (-entry["accuracy_loss"], entry["feature"]))


def _scaling(data: Dataset) -> tuple[list[float], list[float]]:
    count = len(data.rows)
    means = [sum(column) / count for column in zip(*data.rows, strict=True)]
    spreads = [
        math.sqrt(sum((x - mean) ** 2 for x in column) / count) or 1.0
        for column, mean in zip(zip(*data.rows, strict=True), means, strict=True)
    ]
    return means, spreads


def _logistic(data: Dataset) -> Model:
    """One-against-the-rest logistic regression: gradient descent on standardised features, L2 0.01."""
    means, spreads = _scaling(data)
    scaled = [[(x - m) / s for x, m, s in zip(row, means, spreads, strict=True)] + [1.0] for row in data.rows]
    classes = sorted(set(data.labels))
    targets = classes[1:] if len(classes) == 2 else classes
    weights = {value: _descend(scaled, [label == value for label in data.labels]) for value in targets}
    return {
        "classes": classes,
        "means": [round(m, 6) for m in means],
        "spreads": [round(s, 6) for s in spreads],
        "weights": {value: [round(w, 6) for w in line] for value, line in weights.items()},
    }


def _descend(rows: list[list[float]], hits: list[bool], rounds: int = 150, rate: float = 0.8) -> list[float]:
    width, count = len(rows[0]), len(rows)
    weights = [0.0] * width
    for _ in range(rounds):
        gradient = [0.0] * width
        for row, hit in zip(rows, hits, strict=True):
            error = _sigmoid(sum(w * x for w, x in zip(weights, row, strict=True))) - hit
            for place, x in enumerate(row):
                gradient[place] += error * x
        weights = [
            w - rate * (g / count + (0.01 * w if place < width - 1 else 0.0))
            for place, (w, g) in enumerate(zip(weights, gradient, strict=True))
        ]
    return weights


def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def _logistic_scores(model: Model, row: tuple[float, ...]) -> dict[str, float]:
    scaled = [(x - m) / s for x, m, s in zip(row, model["means"], model["spreads"], strict=True)] + [1.0]
    scores = {
        value: sum(w * x for w, x in zip(line, scaled, strict=True))
        for value, line in model["weights"].items()
    }
    if len(model["classes"]) == 2:
        scores[model["classes"][0]] = 0.0
    return scores


def _bayes(data: Dataset) -> Model:
    """Gaussian naive Bayes; spreads have a floor so that a constant feature does no harm."""
    classes = {}
    _, spreads = _scaling(data)
    for value in sorted(set(data.labels)):
        rows = [row for row, label in zip(data.rows, data.labels, strict=True) if label == value]
        means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        variances = [
            max(sum((x - mean) ** 2 for x in column) / len(rows), (0.05 * spread) ** 2)
            for column, mean, spread in zip(zip(*rows, strict=True), means, spreads, strict=True)
        ]
        classes[value] = {
            "share": round(len(rows) / len(data.rows), 6),
            "means": [round(m, 6) for m in means],
            "variances": [round(v, 8) for v in variances],
        }
    return {"classes": classes}


def _bayes_scores(model: Model, row: tuple[float, ...]) -> dict[str, float]:
    scores = {}
    for value, entry in model["classes"].items():
        score = math.log(entry["share"])
        for x, mean, variance in zip(row, entry["means"], entry["variances"], strict=True):
            score -= 0.5 * math.log(2 * math.pi * variance) + (x - mean) ** 2 / (2 * variance)
        scores[value] = score
    return scores


def _stump(data: Dataset) -> Model:
    """The one threshold on one feature that gets most rows right: the simplest rule a person can check."""
    totals = Counter(data.labels)
    best: tuple[int, int, float, Counter[str]] | None = None
    for place in range(len(data.features)):
        order = sorted(zip((row[place] for row in data.rows), data.labels, strict=True))
        below: Counter[str] = Counter()
        for (x, label), (following, _) in pairwise(order):
            below[label] += 1
            if x == following:
                continue
            right = max(below.values()) + max((totals - below).values())
            if best is None or right > best[0]:
                best = (right, place, (x + following) / 2, below.copy())
    if best is None:
        raise ValueError("every feature has one value only; nothing can be learnt")
    _, place, threshold, below = best
    above = totals - below
    (low, low_count), (high, high_count) = below.most_common(1)[0], above.most_common(1)[0]
    return {
        "feature": place,
        "threshold": round(threshold, 6),
        "below": low,
        "above": high,
        "below_share": round(low_count / below.total(), 4),
        "above_share": round(high_count / above.total(), 4),
    }
