"""Layers of transactions by the objects they use, without Rust: by a dict, networkx and graphlib."""

from collections.abc import Sequence
from graphlib import TopologicalSorter

import networkx

ObjectSets = list[tuple[list[bytes], list[bytes]]]
ID_BYTES = 32


def object_sets(frames: Sequence[bytes]) -> ObjectSets:
    """Frames of (reads, writes), ids one after another, as `resolve_object_deps` takes them."""

    def ids(frame: bytes) -> list[bytes]:
        return [frame[at : at + ID_BYTES] for at in range(0, len(frame), ID_BYTES)]

    return [(ids(frames[at]), ids(frames[at + 1])) for at in range(0, len(frames), 2)]


def layers_by_dict(items: ObjectSets) -> list[list[int]]:
    """The same rule as `rust_core`'s: last writers and readers since, in two dicts."""
    written: dict[bytes, int] = {}
    read: dict[bytes, int] = {}
    layers: list[list[int]] = []
    for index, (reads, writes) in enumerate(items):
        layer = 0
        for object_id in reads:
            layer = max(layer, written.get(object_id, 0))
        for object_id in writes:
            layer = max(layer, written.get(object_id, 0), read.get(object_id, 0))
        if layer == len(layers):
            layers.append([])
        layers[layer].append(index)
        for object_id in reads:
            read[object_id] = max(read.get(object_id, 0), layer + 1)
        for object_id in writes:
            written[object_id] = layer + 1
            read[object_id] = 0
    return layers


def layers_by_networkx(items: ObjectSets) -> list[list[int]]:
    """Generations of a directed graph of conflicts."""
    graph: networkx.DiGraph[int] = networkx.DiGraph()
    for index, before in enumerate(_predecessors(items)):
        graph.add_node(index)
        graph.add_edges_from((one, index) for one in before)
    return [sorted(layer) for layer in networkx.topological_generations(graph)]


def layers_by_graphlib(items: ObjectSets) -> list[list[int]]:
    """What the standard library's sorter calls ready at once."""
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for index, before in enumerate(_predecessors(items)):
        sorter.add(index, *before)
    sorter.prepare()
    layers = []
    while sorter.is_active():
        ready = sorter.get_ready()
        layers.append(sorted(ready))
        sorter.done(*ready)
    return layers


def _predecessors(items: ObjectSets) -> list[set[int]]:
    """For each item those it has to wait for: last writers, and readers since for what it writes."""
    writer: dict[bytes, int] = {}
    readers: dict[bytes, list[int]] = {}
    found = []
    for index, (reads, writes) in enumerate(items):
        before = {writer[object_id] for object_id in (*reads, *writes) if object_id in writer}
        for object_id in writes:
            before.update(readers.pop(object_id, ()))
        found.append(before)
        for object_id in reads:
            readers.setdefault(object_id, []).append(index)
        for object_id in writes:
            writer[object_id] = index
            readers.pop(object_id, None)
    return found
