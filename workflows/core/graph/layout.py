"""Layered layout of a graph without cycles: where boxes stand and which way lines go.

The classic four steps: a layer for each box (longest path), places held free for lines that pass a layer,
an order within each layer that crosses few lines (barycentres, several sweeps), then positions as near to the
neighbours' as the order allows (isotonic regression). `along` is the direction of the layers, `across` the
other; a drawing from top to bottom and one from left to right differ only in which of them is x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_LINE_GAP = 14.0
_STUB = 14.0
"""The last bit of every line, straight, so that its arrow points into the box."""
_SWEEPS = 10
_LONG = 40
"""Layers a line may pass with a place held free for it; a longer one runs behind the boxes."""


MANY = 6
"""More lines than this into or out of one box are drawn as one trunk with branches."""


@dataclass(frozen=True, slots=True)
class Box:
    """What is to be placed: its size, and the room after it that its outgoing label needs."""

    along: float
    across: float
    room: float = 0.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Corners of the boxes as (along, across), points of each line, and the size of the whole."""

    corners: list[tuple[float, float]]
    lines: list[list[tuple[float, float]]]
    along: float
    across: float


@dataclass(slots=True)
class _Place:
    """A box, or the room a line needs in a layer it passes."""

    box: int | None
    layer: int
    size: float
    before: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    centre: float = 0.0


def layers_of(count: int, edges: Sequence[tuple[int, int]], last: Sequence[int] = ()) -> list[int]:
    """The layer of each box: after everything it comes from, sources directly before what they feed.

    An edge against the order of the boxes is ignored, so that every graph has layers. Boxes in `last` come
    after all others.
    """
    ahead = [(a, b) for a, b in edges if a < b]
    layer = [0] * count
    for a, b in sorted(ahead, key=lambda edge: edge[1]):
        layer[b] = max(layer[b], layer[a] + 1)
    fed = {b for _, b in ahead}
    first: dict[int, int] = {}
    for a, b in ahead:
        first[a] = min(first.get(a, layer[b]), layer[b])
    for box in range(count):
        if box not in fed:
            layer[box] = first.get(box, 1) - 1
    for box in last:
        layer[box] = max([n for b, n in enumerate(layer) if b not in last], default=-1) + 1
    return layer


def arrange(
    boxes: Sequence[Box],
    edges: Sequence[tuple[int, int]],
    gap: float,
    apart: float,
    last: Sequence[int] = (),
) -> Layout:
    """Place the boxes: `gap` between two layers, besides the room for labels; `apart` within a layer."""
    if not boxes:
        return Layout([], [], 0.0, 0.0)
    places, routes = _places(boxes, edges, layers_of(len(boxes), edges, last))
    order = _order_layers(places)
    _settle(places, order, apart)
    starts, ends, total = _bands(boxes, places, order, gap)
    corners = [(0.0, 0.0)] * len(boxes)
    for place in places:
        if place.box is not None:
            box = boxes[place.box]
            middle = (starts[place.layer] + ends[place.layer]) / 2
            corners[place.box] = (middle - box.along / 2, place.centre - box.across / 2)
    lines = _lines(boxes, edges, places, routes, corners, starts, ends)
    across = max(corner[1] + box.across for corner, box in zip(corners, boxes, strict=True))
    widest = max((p.centre + p.size / 2 for p in places), default=across)
    return Layout(corners, lines, total, max(across, widest))


def _places(
    boxes: Sequence[Box], edges: Sequence[tuple[int, int]], layer: list[int]
) -> tuple[list[_Place], list[list[int]]]:
    """Places of boxes and of passing lines, linked; and for each edge the places it passes.

    Lines of one source share their places: they run as one until they part.
    """
    places = [_Place(n, layer[n], box.across) for n, box in enumerate(boxes)]
    shared: dict[tuple[int, int], int] = {}
    routes: list[list[int]] = []
    for a, b in edges:
        route: list[int] = []
        if layer[b] - layer[a] <= _LONG:
            for number in range(layer[a] + 1, layer[b]):
                if (a, number) not in shared:
                    shared[a, number] = len(places)
                    places.append(_Place(None, number, _LINE_GAP))
                route.append(shared[a, number])
        routes.append(route)
        chain = [a, *route, b]
        if layer[b] - layer[a] == len(route) + 1:
            for one, two in pairwise(chain):
                if two not in places[one].after:
                    places[one].after.append(two)
                    places[two].before.append(one)
    return places, routes


# --- order --------------------------------------------------------------------------------------------


def _order_layers(places: list[_Place]) -> list[list[int]]:
    """The places of each layer in an order with few crossings."""
    depth = max(p.layer for p in places) + 1
    order: list[list[int]] = [[] for _ in range(depth)]
    for number in _walk(places):
        order[places[number].layer].append(number)
    best, fewest = [list(row) for row in order], _crossings(places, order)
    for sweep in range(_SWEEPS):
        if fewest == 0:
            break
        down = sweep % 2 == 0
        for row in order if down else order[::-1]:
            _sort_row(places, order, row, down)
        found = _crossings(places, order)
        if found < fewest:
            best, fewest = [list(row) for row in order], found
    return best


def _walk(places: list[_Place]) -> list[int]:
    """Depth first from the sources, so that what belongs together starts together."""
    seen: set[int] = set()
    found: list[int] = []
    roots = sorted((n for n, p in enumerate(places) if not p.before), key=lambda n: places[n].layer)
    pending = [*reversed(roots)]
    while pending:
        number = pending.pop()
        if number not in seen:
            seen.add(number)
            found.append(number)
            pending.extend(reversed(places[number].after))
    return found


def _sort_row(places: list[_Place], order: list[list[int]], row: list[int], down: bool) -> None:
    """Order a layer by where its neighbours in the layer before (or after) stand on average."""
    beside = places[row[0]].layer + (-1 if down else 1) if row else -1
    if not 0 <= beside < len(order):
        return
    at = {number: n for n, number in enumerate(order[beside])}
    own = {number: n for n, number in enumerate(row)}

    def middle(number: int) -> float:
        near = [at[n] for n in (places[number].before if down else places[number].after) if n in at]
        return sum(near) / len(near) if near else float(own[number])

    row.sort(key=middle)


def _crossings(places: list[_Place], order: list[list[int]]) -> int:
    """How many pairs of lines cross."""
    total = 0
    for above, below in pairwise(order):
        at = {number: n for n, number in enumerate(below)}
        ends = [at[t] for s in above for t in sorted(places[s].after, key=lambda t: at.get(t, 0)) if t in at]
        total += _inversions(ends, len(below))
    return total


def _inversions(ends: list[int], size: int) -> int:
    """Pairs out of order, counted with a Fenwick tree."""
    tree, found = [0] * (size + 1), 0
    for seen, end in enumerate(ends):
        n, smaller = end + 1, 0
        while n:
            smaller += tree[n]
            n &= n - 1
        found += seen - smaller
        n = end + 1
        while n <= size:
            tree[n] += 1
            n += n & -n
    return found


# --- positions ----------------------------------------------------------------------------------------


def _settle(places: list[_Place], order: list[list[int]], apart: float) -> None:
    """Give every place its centre across, then shift all so that the smallest edge is at 0."""
    for row in order:
        _fit(places, row, [0.0] * len(row), [1.0] * len(row), apart)
    for sweep in range(_SWEEPS + 2):
        final = sweep >= _SWEEPS
        for row in order if sweep % 2 == 0 else order[::-1]:
            wanted, weights = [], []
            for number in row:
                place = places[number]
                near = place.before if sweep % 2 == 0 else place.after
                near = place.before + place.after if final else near
                centres = [places[n].centre for n in near]
                wanted.append(sum(centres) / len(centres) if centres else place.centre)
                # Passing lines weigh more, so that they run straight; what is unlinked gives way.
                weights.append((4.0 if place.box is None else 1.0) if centres else 0.05)
            _fit(places, row, wanted, weights, apart)
    least = min(p.centre - p.size / 2 for p in places)
    for place in places:
        place.centre -= least


def _fit(
    places: list[_Place], row: list[int], wanted: list[float], weights: list[float], apart: float
) -> None:
    """The centres nearest to `wanted` (least squares) that keep the order and the gaps of the row."""
    offsets, total = [], 0.0
    for n, number in enumerate(row):
        if n:
            one, two = places[row[n - 1]], places[number]
            free = _LINE_GAP if one.box is None or two.box is None else apart
            total += (one.size + two.size) / 2 + free
        offsets.append(total)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many
    for target, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, mass, many = target - offset, weight, 1
        while blocks and blocks[-1][0] > mean:
            other, heavy, more = blocks.pop()
            mean = (mean * mass + other * heavy) / (mass + heavy)
            mass, many = mass + heavy, many + more
        blocks.append((mean, mass, many))
    means = [mean for mean, _, many in blocks for _ in range(many)]
    for number, mean, offset in zip(row, means, offsets, strict=True):
        places[number].centre = mean + offset


def _bands(
    boxes: Sequence[Box], places: list[_Place], order: list[list[int]], gap: float
) -> tuple[list[float], list[float], float]:
    """Where each layer begins and ends, and where the last one ends."""
    starts, ends, at = [], [], 0.0
    for row in order:
        inside = [boxes[b] for n in row if (b := places[n].box) is not None]
        starts.append(at)
        ends.append(at + max((box.along for box in inside), default=0.0))
        room = max((box.room for box in inside), default=0.0)
        # Lines that have far to go across need some distance to do it in.
        at = ends[-1] + gap + room + _STUB + min(60.0, 2.0 * len(row))
    return starts, ends, ends[-1]


def _lines(
    boxes: Sequence[Box],
    edges: Sequence[tuple[int, int]],
    places: list[_Place],
    routes: list[list[int]],
    corners: list[tuple[float, float]],
    starts: list[float],
    ends: list[float],
) -> list[list[tuple[float, float]]]:
    """The points of each line: leave the box, pass the layers, arrive at a point of its own."""
    arrivals = _arrivals(boxes, edges, places, routes)
    lines = []
    for number, (a, b) in enumerate(edges):
        points = [(corners[a][0] + boxes[a].along, places[a].centre)]
        points.append((ends[places[a].layer] + boxes[a].room, places[a].centre))
        for n in routes[number]:
            points.append((starts[places[n].layer], places[n].centre))
            points.append((ends[places[n].layer], places[n].centre))
        points.append((starts[places[b].layer] - _STUB, arrivals[number]))
        points.append((corners[b][0], arrivals[number]))
        lines.append(points)
    return lines


def _arrivals(
    boxes: Sequence[Box], edges: Sequence[tuple[int, int]], places: list[_Place], routes: list[list[int]]
) -> list[float]:
    """Where across each edge arrives: side by side, in the order the lines come in."""
    arrivals = [0.0] * len(edges)
    into: dict[int, list[int]] = {}
    for number, (_, b) in enumerate(edges):
        into.setdefault(b, []).append(number)
    for b, numbers in into.items():
        numbers.sort(key=lambda n: places[routes[n][-1] if routes[n] else edges[n][0]].centre)
        step = 0.0 if len(numbers) > MANY else min(18.0, (boxes[b].across - 24.0) / len(numbers))
        for n, number in enumerate(numbers):
            arrivals[number] = places[b].centre + (n - (len(numbers) - 1) / 2) * step
    return arrivals
