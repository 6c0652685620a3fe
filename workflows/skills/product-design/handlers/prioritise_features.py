"""RICE: what to build first, and how sure the order is."""

from typing import Any

MOST = 1_000
"""Features; what depends on others is looked at once more for each of them that is taken."""
_NEEDED = ("reach", "impact", "confidence", "effort")


def prioritise_features(features: list[dict[str, Any]], capacity: float = 0.0) -> dict[str, Any]:
    """Rank features by RICE = reach x impact x confidence / effort, and mark shaky ranks.

    A rank is `shaky` when halving the confidence would put the feature behind the next one.

    Args:
        features: Objects with name, reach (users per quarter), impact (0.25, 0.5, 1, 2 or 3), confidence
            (0 to 1), effort (person-weeks), and optionally depends_on (names that come first).
        capacity: Person-weeks there are; 0 means no limit. Features are taken in order while they fit.
    """
    entries = [_checked(number, feature) for number, feature in enumerate(features, 1)]
    if not entries:
        raise ValueError("no features given")
    if len(entries) > MOST:
        raise ValueError(f"{len(entries)} features are too many to choose from; give {MOST:,} at most")
    names = {entry["name"] for entry in entries}
    if len(names) < len(entries):
        raise ValueError("two features have one name")
    entries.sort(key=lambda entry: (-entry["rice"], entry["name"]))
    for entry, following in zip(entries, [*entries[1:], None], strict=True):
        entry["shaky"] = following is not None and entry["rice"] / 2 < following["rice"]
    chosen, left = _choose(entries, capacity)
    return {
        "ranked": [{"rank": rank, **entry} for rank, entry in enumerate(entries, 1)],
        "chosen": chosen,
        "effort_chosen": round(sum(e["effort"] for e in entries if e["name"] in chosen), 2),
        "capacity_left": round(left, 2) if capacity else None,
        "unknown_dependencies": sorted({d for e in entries for d in e["depends_on"] if d not in names}),
    }


def _checked(number: int, feature: Any) -> dict[str, Any]:
    if not isinstance(feature, dict) or not str(feature.get("name", "")).strip():
        raise ValueError(f"feature {number} needs a name and the numbers {', '.join(_NEEDED)}")
    name = str(feature["name"]).strip()
    try:
        numbers = {key: float(feature[key]) for key in _NEEDED}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{name}' needs the numbers {', '.join(_NEEDED)}") from error
    if not 0 <= numbers["confidence"] <= 1:
        raise ValueError(f"'{name}': confidence lies between 0 and 1 (80 % is 0.8)")
    if numbers["effort"] <= 0 or numbers["reach"] < 0 or numbers["impact"] < 0:
        raise ValueError(f"'{name}': effort must be more than zero, reach and impact not negative")
    rice = numbers["reach"] * numbers["impact"] * numbers["confidence"] / numbers["effort"]
    depends = feature.get("depends_on") or []
    depends = [depends] if isinstance(depends, str) else [str(d) for d in depends]
    return {"name": name, "rice": round(rice, 2), **numbers, "depends_on": depends}


def _choose(entries: list[dict[str, Any]], capacity: float) -> tuple[list[str], float]:
    """Names taken in order while they fit; a feature waits until what it depends on is taken."""
    if not capacity:
        return [entry["name"] for entry in entries], 0.0
    known = {entry["name"] for entry in entries}
    chosen: list[str] = []
    left, moved = capacity, True
    while moved:
        moved = False
        for entry in entries:
            ready = all(d in chosen for d in entry["depends_on"] if d in known)
            if entry["name"] not in chosen and ready and entry["effort"] <= left:
                chosen.append(entry["name"])
                left -= entry["effort"]
                moved = True
    return chosen, left
