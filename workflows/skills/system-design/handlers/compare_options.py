"""A weighted decision matrix that also says how sure its winner is."""

from typing import Any

Scores = dict[str, dict[str, float]]


def compare_options(
    criteria: dict[str, float], options: dict[str, dict[str, float]], swing: float = 0.3
) -> dict[str, Any]:
    """Compare options by weighted criteria, and test whether the winner survives other weights.

    Args:
        criteria: Each criterion mapped to its weight, such as {"cost": 3, "risk": 2}; any scale.
        options: Each option mapped to its score per criterion, 1 (bad) to 5 (good).
        swing: Each weight is raised and lowered by this share to see whether the winner changes.
    """
    weights = {str(name): _number(weight, f"weight of '{name}'") for name, weight in criteria.items()}
    if not weights or min(weights.values()) < 0 or not any(weights.values()):
        raise ValueError("criteria need weights of zero or more, at least one above zero")
    scores = {str(name): _scores(str(name), row, weights) for name, row in options.items()}
    if len(scores) < 2:
        raise ValueError("at least two options are needed; doing nothing is one")
    totals = _totals(weights, scores)
    order = sorted(totals, key=lambda name: (-totals[name], name))
    flips = _flips(weights, scores, order[0], swing)
    return {
        "winner": order[0],
        "margin": round(totals[order[0]] - totals[order[1]], 4),
        "robust": not flips,
        "flips": flips,
        "ranking": [
            {"rank": rank, "option": name, "total": round(totals[name], 4), "scores": scores[name]}
            for rank, name in enumerate(order, 1)
        ],
        "dominated": _dominated(scores),
        "no_difference": [c for c in weights if len({row[c] for row in scores.values()}) == 1],
    }


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be a number, not {value!r}") from error


def _scores(name: str, row: Any, weights: dict[str, float]) -> dict[str, float]:
    if not isinstance(row, dict) or set(map(str, row)) != set(weights):
        raise ValueError(f"option '{name}' needs exactly one score for each of: {', '.join(weights)}")
    found = {str(c): _number(score, f"score of '{name}' for '{c}'") for c, score in row.items()}
    if not all(1 <= score <= 5 for score in found.values()):
        raise ValueError(f"option '{name}': scores lie between 1 and 5")
    return found


def _totals(weights: dict[str, float], scores: Scores) -> dict[str, float]:
    whole = sum(weights.values())
    return {name: sum(weights[c] * row[c] for c in weights) / whole for name, row in scores.items()}


def _flips(weights: dict[str, float], scores: Scores, winner: str, swing: float) -> list[dict[str, Any]]:
    found = []
    for criterion in weights:
        for factor in (1 + swing, 1 - swing):
            totals = _totals({**weights, criterion: weights[criterion] * factor}, scores)
            best = max(totals, key=lambda name: (totals[name], name == winner))
            if best != winner:
                found.append({"criterion": criterion, "weight_times": round(factor, 2), "winner": best})
    return found


def _dominated(scores: Scores) -> list[dict[str, str]]:
    return [
        {"option": worse, "by": better}
        for worse, low in scores.items()
        for better, high in scores.items()
        if worse != better and low != high and all(high[c] >= low[c] for c in low)
    ]
