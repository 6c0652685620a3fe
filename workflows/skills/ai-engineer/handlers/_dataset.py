"""A CSV table as numbers: features, labels and a split that is the same every time."""

import csv
import hashlib
import io
import math
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

MOST_CELLS = 1_000_000
"""Cells of a table, those counted that short rows leave empty."""
LARGEST = 20_000
"""Most rows used; plain Python would take minutes beyond this."""


@dataclass(frozen=True)
class Dataset:
    """Rows of numbers with one label each. `means` and `spreads` are per feature, of all rows."""

    features: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    labels: tuple[str, ...]
    label: str
    left_out: tuple[str, ...]
    filled: int
    sha256: str

    def take(self, indexes: list[int]) -> "Dataset":
        """The same dataset with only these rows."""
        return Dataset(
            self.features,
            tuple(self.rows[i] for i in indexes),
            tuple(self.labels[i] for i in indexes),
            self.label,
            self.left_out,
            self.filled,
            self.sha256,
        )


def read_dataset(path: Path, label: str = "") -> Dataset:
    """The table at `path`; `label` defaults to the last column.

    Columns that are not numeric or only number the rows (name `id`, `*_id`) are left out and listed.
    Empty cells become the column's median. Raises ValueError on what cannot be learnt from.
    """
    body = path.read_bytes()
    records = _csv_rows(body.decode("utf-8-sig"))[:LARGEST]
    if len(records) < 20:
        raise ValueError(
            f"{len(records)} rows are too few to learn from; give a CSV table of 20 rows or more"
        )
    columns = [name for name in records[0] if name]
    target = label or columns[-1]
    if target not in columns:
        raise ValueError(f"no column '{target}'; the table has: {', '.join(columns)}")
    labelled = [r for r in records if (r[target] or "").strip()]
    classes = Counter(r[target].strip() for r in labelled)
    if not 2 <= len(classes) <= 20:
        raise ValueError(f"column '{target}' has {len(classes)} different values; a label needs 2 to 20")
    features, left_out, filled, series = [], [], 0, []
    for name in columns:
        if name == target:
            continue
        numbers = None if _numbers_rows(name) else _numeric([r[name] for r in labelled])
        if numbers is None:
            left_out.append(name)
            continue
        features.append(name)
        series.append(numbers[0])
        filled += numbers[1]
    if not features:
        raise ValueError("no numeric feature column; turn text into numbers first (lengths, counts, 0/1)")
    rows = tuple(zip(*series, strict=True))
    labels = tuple(r[target].strip() for r in labelled)
    digest = hashlib.sha256(body).hexdigest()
    return Dataset(tuple(features), rows, labels, target, tuple(left_out), filled, digest)


def split(data: Dataset, test_share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Training and hold-out rows, the classes in equal shares; the same for the same seed."""
    if not 0.05 <= test_share <= 0.5:
        raise ValueError("test_share lies between 0.05 and 0.5")
    held = [i for fold in stratified(data, round(1 / test_share), seed)[:1] for i in fold]
    chosen = set(held)
    kept = [i for i in range(len(data.rows)) if i not in chosen]
    return data.take(kept), data.take(sorted(held))


def stratified(data: Dataset, folds: int, seed: int) -> list[list[int]]:
    """Row indexes in `folds` groups, each with the classes in about the same shares."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible shuffle, not a secret
    groups: list[list[int]] = [[] for _ in range(folds)]
    place = 0
    for value in sorted(set(data.labels)):
        indexes = [i for i, label in enumerate(data.labels) if label == value]
        rng.shuffle(indexes)
        for index in indexes:
            groups[place % folds].append(index)
            place += 1
    return groups


def _numbers_rows(name: str) -> bool:
    lowered = name.lower()
    return lowered in {"id", "no", "index"} or lowered.endswith("_id")


def _numeric(cells: list[str]) -> tuple[list[float], int] | None:
    """The cells as numbers with gaps filled by the median, and how many gaps; None if not numeric."""
    numbers: list[float | None] = []
    for cell in cells:
        text = (cell or "").strip()
        try:
            number = float(text) if text else None
        except ValueError:
            return None
        if number is not None and not math.isfinite(number):
            return None
        numbers.append(number)
    known = sorted(n for n in numbers if n is not None)
    if len(known) < len(numbers) / 2:
        return None
    middle = known[len(known) // 2]
    return [middle if n is None else n for n in numbers], len(numbers) - len(known)


def _csv_rows(text: str) -> list[dict[str, str]]:
    """The rows of a CSV text. Raises ValueError for one that is none, or too wide and long."""
    rows, cells = [], 0
    try:
        for row in csv.DictReader(io.StringIO(text)):
            cells += len(row)  # those counted that a short row leaves empty
            if cells > MOST_CELLS:
                raise ValueError(f"the table has more than {MOST_CELLS:,} cells; give a part of it")
            rows.append(row)
    except csv.Error as fault:
        raise ValueError(f"this CSV cannot be read: {fault}") from None
    return rows
