"""Directed graphs of named components: cycles, layers and who depends on whom."""

from collections import deque
from collections.abc import Mapping, Sequence

Graph = dict[str, list[str]]


def as_graph(components: Mapping[str, object]) -> Graph:
    """A graph from `{component: [what it depends on]}`; mentioned components are added as leaves.

    Raises ValueError when a value is neither a name, a list of names nor empty.
    """
    graph: Graph = {}
    for name, needs in components.items():
        listed = [needs] if isinstance(needs, str) and needs else needs or []
        if not isinstance(listed, Sequence) or isinstance(listed, str):
            raise ValueError(f"'{name}' must map to a list of component names")
        graph[str(name)] = list(dict.fromkeys(str(n) for n in listed))
    for needs in list(graph.values()):
        for name in needs:
            graph.setdefault(name, [])
    return graph


def cycles(graph: Graph) -> list[list[str]]:
    """Every group of components that need one another, as one closed path each (Tarjan, no recursion)."""
    return [
        _loop(graph, set(group)) for group in _strong(graph) if len(group) > 1 or group[0] in graph[group[0]]
    ]


def layers(graph: Graph) -> list[list[str]]:
    """Components by build order: each layer only needs earlier ones. Members of cycles are left out."""
    missing = {name: len(needs) for name, needs in graph.items()}
    users: dict[str, list[str]] = {name: [] for name in graph}
    for name, needs in graph.items():
        for needed in needs:
            users[needed].append(name)
    found = []
    ready = sorted(name for name, count in missing.items() if not count)
    while ready:
        found.append(ready)
        freed = []
        for name in ready:
            for user in users[name]:
                missing[user] -= 1
                freed += [user] if not missing[user] else []
        ready = sorted(freed)
    return found


def reached(graph: Graph, start: str) -> set[str]:
    """Everything `start` needs, directly or through others."""
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen


def _strong(graph: Graph) -> list[list[str]]:
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    open_: set[str] = set()
    groups = []
    for root in sorted(graph):
        work = [(root, iter(graph[root]))] if root not in index else []
        if work:
            index[root] = low[root] = len(index)
            stack.append(root)
            open_.add(root)
        while work:
            name, rest = work[-1]
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    cut = stack.index(name)
                    groups.append(stack[cut:])
                    open_.difference_update(stack[cut:])
                    del stack[cut:]
            elif following not in index:
                index[following] = low[following] = len(index)
                stack.append(following)
                open_.add(following)
                work.append((following, iter(graph[following])))
            elif following in open_:
                low[name] = min(low[name], index[following])
    return groups


def _loop(graph: Graph, group: set[str]) -> list[str]:
    """A shortest closed path through the group's first member."""
    start = min(group)
    came_from: dict[str, str] = {}
    waiting = deque([start])
    while start not in came_from:
        here = waiting.popleft()
        for name in sorted(group.intersection(graph[here])):
            if name not in came_from:
                came_from[name] = here
                waiting.append(name)
    path = [start, came_from[start]]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]
