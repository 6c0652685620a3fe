"""Choosing and training one model the same way for training, evaluation and deployment."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _classifier import ALGORITHMS, Model, accuracy, fit
from _dataset import Dataset, read_dataset, split, stratified

FOLDS = 4


@dataclass(frozen=True)
class Trained:
    """A model with the rows it saw, the rows it did not see, and what it was compared with."""

    model: Model
    model_id: str
    train: Dataset
    held_out: Dataset
    candidates: list[dict[str, Any]]


def train(path: Path, label: str, algorithm: str, test_share: float, seed: int) -> Trained:
    """Read, split, compare by cross-validation on the training rows only, and fit the winner.

    The same file and settings always give the same `model_id`; the hold-out rows choose nothing.
    """
    data = read_dataset(path, label)
    known, held_out = split(data, test_share, seed)
    names = ALGORITHMS if algorithm == "auto" else (algorithm,)
    candidates = [_compare(name, known, seed) for name in ("majority", *names)]
    best = max(candidates[1:], key=lambda entry: entry["cv_accuracy"])["algorithm"]
    model = fit(best, known)
    spelled = json.dumps(model, sort_keys=True, ensure_ascii=False)
    model_id = f"{best}-{hashlib.sha256(spelled.encode()).hexdigest()[:12]}"
    return Trained(model, model_id, known, held_out, candidates)


def _compare(name: str, data: Dataset, seed: int) -> dict[str, Any]:
    scores = []
    for fold in stratified(data, FOLDS, seed + 1):
        chosen = set(fold)
        rest = [i for i in range(len(data.rows)) if i not in chosen]
        scores.append(accuracy(fit(name, data.take(rest)), data.take(fold)))
    mean = sum(scores) / len(scores)
    return {
        "algorithm": name,
        "cv_accuracy": round(mean, 4),
        "cv_lowest": round(min(scores), 4),
        "cv_highest": round(max(scores), 4),
    }
