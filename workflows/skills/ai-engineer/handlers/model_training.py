"""Train a small classifier on a table, always beside a baseline."""

from pathlib import Path
from typing import Any, Literal

from _classifier import accuracy, fit
from _training import train


def model_training(
    training_data: Path,
    label: str = "",
    algorithm: Literal["auto", "logistic_regression", "naive_bayes", "decision_stump"] = "auto",
    test_share: float = 0.2,
    seed: int = 7,
) -> dict[str, Any]:
    """Train a classifier on a CSV table and compare it with the majority baseline.

    Candidates are compared by 4-fold cross-validation on the training rows; the winner is fitted and
    tried once on rows nobody saw. The same table and settings give the same model and `model_id`.

    Args:
        training_data: CSV table with numeric feature columns and one label column.
        label: Name of the label column; empty means the last one.
        algorithm: auto compares all three and keeps the best.
        test_share: Share of rows held out for the final measure, 0.05 to 0.5.
        seed: Decides which rows are held out.
    """
    result = train(training_data, label, algorithm, test_share, seed)
    baseline = accuracy(fit("majority", result.train), result.held_out)
    reached = accuracy(result.model, result.held_out)
    return {
        "model_id": result.model_id,
        "model": result.model,
        "label": result.train.label,
        "features": list(result.train.features),
        "columns_left_out": list(result.train.left_out),
        "cells_filled": result.train.filled,
        "rows": {"training": len(result.train.rows), "held_out": len(result.held_out.rows)},
        "candidates": result.candidates,
        "baseline_accuracy": round(baseline, 4),
        "held_out_accuracy": round(reached, 4),
        "gain_over_baseline": round(reached - baseline, 4),
        "data_sha256": result.train.sha256,
        "settings": {"algorithm": algorithm, "test_share": test_share, "seed": seed},
    }
