"""A deployment descriptor with smoke check and fall-back levels; nothing is deployed by this function."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

from _classifier import Model, fit, predict
from _dataset import Dataset
from _measures import measure
from _training import Trained, train


def model_deployment(
    training_data: Path,
    name: str = "model",
    label: str = "",
    algorithm: Literal["auto", "logistic_regression", "naive_bayes", "decision_stump"] = "auto",
    test_share: float = 0.2,
    seed: int = 7,
    least_gain: float = 0.1,
    hand_over_below: float = 0.7,
) -> dict[str, Any]:
    """Build a deployment descriptor: model, gate, smoke check, fall-back levels with their measured quality.

    Changes nothing outside: it prepares what a person or a pipeline then rolls out. `ready` is true only
    when the gate and the smoke check pass.

    Args:
        training_data: CSV table the model is trained on, as given to model_training.
        name: Name of the service.
        label: Name of the label column; empty means the last one.
        algorithm: As given to model_training.
        test_share: As given to model_training.
        seed: As given to model_training.
        least_gain: Accuracy the model must gain over the majority baseline, 0 to 1.
        hand_over_below: Predictions less certain than this go to a person, 0 to 1.
    """
    result = train(training_data, label, algorithm, test_share, seed)
    levels = _levels(result)
    gain = levels[0]["accuracy"] - levels[-1]["accuracy"]
    smoke = _smoke(result.model, result.held_out)
    return {
        "service": name,
        "model_id": result.model_id,
        "model": result.model,
        "ready": gain >= least_gain and all(check["passed"] for check in smoke),
        "gate": {
            "gain_over_baseline": round(gain, 4),
            "least_gain": least_gain,
            "passed": gain >= least_gain,
        },
        "smoke_check": smoke,
        "hand_over": _hand_over(result.model, result.held_out, hand_over_below),
        "degradation": levels,
        "interface": _interface(result),
        "rollout": [
            {
                "stage": "shadow",
                "traffic": 0.0,
                "go_on_when": "predictions logged for 500 rows without an error",
            },
            {"stage": "canary", "traffic": 0.1, "go_on_when": "accuracy within the 95 % interval below"},
            {"stage": "full", "traffic": 1.0, "roll_back_when": "accuracy below the fall-back rule's"},
        ],
        "expected_accuracy_95": measure(result.model, result.held_out)["accuracy_95"],
        "data_sha256": result.train.sha256,
    }


def _levels(result: Trained) -> list[dict[str, Any]]:
    """The model, the simplest rule and the constant answer, each measured on the same unseen rows."""
    rule = fit("decision_stump", result.train)
    feature = result.train.features[rule["feature"]]
    constant = fit("majority", result.train)
    texts = [
        ("model", result.model, "normal operation"),
        (
            f"rule: {feature} > {rule['threshold']} gives {rule['above']}, else {rule['below']}",
            rule,
            "model missing, slow or failing",
        ),
        (
            f"constant: {constant['class']}",
            constant,
            "features missing as well; everything is queued for people",
        ),
    ]
    return [
        {
            "level": level,
            "answer": text,
            "used_when": when,
            "accuracy": measure(m, result.held_out)["accuracy"],
        }
        for level, (text, m, when) in enumerate(texts)
    ]


def _smoke(model: Model, data: Dataset) -> list[dict[str, Any]]:
    """What must hold before anyone is served."""
    answers = [predict(model, row) for row in data.rows]
    again = [predict(model, row) for row in data.rows]
    lows = tuple(min(column) for column in zip(*data.rows, strict=True))
    highs = tuple(max(column) for column in zip(*data.rows, strict=True))
    extremes = [predict(model, row) for row in (lows, highs)]
    return [
        {"check": "answers every row", "passed": len(answers) == len(data.rows)},
        {"check": "same answer twice", "passed": answers == again},
        {"check": "probabilities between 0 and 1", "passed": all(0 <= p <= 1 for _, p in answers + extremes)},
        {"check": "uses more than one class", "passed": len(Counter(a for a, _ in answers)) > 1},
    ]


def _hand_over(model: Model, data: Dataset, threshold: float) -> dict[str, Any]:
    sure = [
        answer == label
        for (answer, certainty), label in zip(
            (predict(model, r) for r in data.rows), data.labels, strict=True
        )
        if certainty >= threshold
    ]
    return {
        "below": threshold,
        "share_to_people": round(1 - len(sure) / len(data.rows), 4),
        "accuracy_of_the_rest": round(sum(sure) / len(sure), 4) if sure else None,
    }


def _interface(result: Trained) -> dict[str, Any]:
    columns = zip(*result.train.rows, strict=True)
    ranges = {
        name: [min(column), max(column)] for name, column in zip(result.train.features, columns, strict=True)
    }
    return {
        "input": {"features_in_order": list(result.train.features), "range_seen_in_training": ranges},
        "output": {"label": result.train.label, "classes": sorted(set(result.train.labels))},
    }
