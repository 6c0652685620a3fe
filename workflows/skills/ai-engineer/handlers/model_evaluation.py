"""Offline evaluation of the model that model_training makes with the same settings."""

from pathlib import Path
from typing import Any, Literal

from _classifier import fit, influence
from _measures import measure
from _training import train


def model_evaluation(
    training_data: Path,
    label: str = "",
    algorithm: Literal["auto", "logistic_regression", "naive_bayes", "decision_stump"] = "auto",
    test_share: float = 0.2,
    seed: int = 7,
    least_gain: float = 0.1,
) -> dict[str, Any]:
    """Evaluate a classifier offline: accuracy, precision, recall, confusion matrix, baseline, verdict.

    Trains exactly what model_training trains with the same table and settings, then measures it on the
    held-out rows. `passed` is true only when the lower end of the 95 % interval beats the baseline and the
    gain reaches `least_gain`.

    Args:
        training_data: CSV table with numeric feature columns and one label column.
        label: Name of the label column; empty means the last one.
        algorithm: As given to model_training.
        test_share: As given to model_training.
        seed: As given to model_training.
        least_gain: Accuracy the model must gain over the majority baseline, 0 to 1.
    """
    result = train(training_data, label, algorithm, test_share, seed)
    found = measure(result.model, result.held_out)
    baseline = measure(fit("majority", result.train), result.held_out)
    gain = found["accuracy"] - baseline["accuracy"]
    reasons = []
    if gain < least_gain:
        reasons.append(f"gain {gain:.3f} is below {least_gain:.3f}")
    if found["accuracy_95"][0] <= baseline["accuracy"]:
        reasons.append("the 95 % interval includes the baseline: more rows or better features are needed")
    unseen = [name for name, entry in found["classes"].items() if entry["recall"] == 0]
    reasons += [f"class '{name}' is never recognised" for name in unseen]
    return {
        "model_id": result.model_id,
        "passed": not reasons,
        "reasons": reasons,
        **found,
        "baseline": {"class": fit("majority", result.train)["class"], "accuracy": baseline["accuracy"]},
        "gain_over_baseline": round(gain, 4),
        "influence": influence(result.model, result.held_out),
        "data_sha256": result.train.sha256,
    }
