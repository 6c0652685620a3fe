"""Is the component graph sound: cycles, build order, single points of failure."""

from collections import Counter
from typing import Any

from _graph import as_graph, cycles, layers, reached


def check_dependencies(components: dict[str, list[str]], crowded: int = 4) -> dict[str, Any]:
    """Check a component graph: cycles, build order, what breaks when one component fails.

    Args:
        components: Each component mapped to the list of components it needs, such as
            {"gateway": ["orchestrator"], "orchestrator": ["redis", "postgres"]}.
        crowded: From how many direct users or needs a component is listed as crowded.
    """
    graph = as_graph(components)
    if not graph:
        raise ValueError("no components given")
    loops = cycles(graph)
    users = Counter(name for needs in graph.values() for name in needs)
    affected = Counter(name for other in graph for name in reached(graph, other) - {other})
    return {
        "components": len(graph),
        "edges": sum(map(len, graph.values())),
        "sound": not loops,
        "cycles": loops,
        "build_order": layers(graph),
        "blast_radius": [
            {"component": name, "breaks": affected[name]}
            for name in sorted(affected, key=lambda n: (-affected[n], n))
            if affected[name]
        ][:10],
        "crowded": sorted(n for n in graph if users[n] >= crowded or len(graph[n]) >= crowded),
        "alone": sorted(n for n in graph if not users[n] and not graph[n]),
        "not_described": sorted(n for n in graph if n not in components),
    }
