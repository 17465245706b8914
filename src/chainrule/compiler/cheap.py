"""What is cheap is made again where it is read, instead of being stored.

A centered image or half of an activation is a few operations away from something that is in memory in any case. A
kernel that reads the one may as well read the other: it moves no more bytes, and the write is saved, and the memory.
The operations are the same, so the bits are.
"""

from __future__ import annotations

from ..graph.ir import Value
from . import elementwise
from .fusion import FULL, MAX_OPS, MAX_VALUES, Cluster, room_for
from .ops import Op

CHEAP = 6
"""Floating-point operations of an element that are worth less than writing it."""

REPEATED = 2
"""What has so many times fewer elements, as it is repeated, costs little to read."""


def make_again(clusters: list[Cluster], results: set[Value]) -> None:
    """Copy cheap maps into the clusters that read their values, where then nobody reads the values themselves.

    Args:
        clusters: in order; changed in place.
        results: what has to be stored.
    """
    home = {value: cluster for cluster in clusters for value in cluster.members}
    readers: dict[Value, set[Cluster]] = {}
    for cluster in clusters:
        for root in cluster.reads:
            readers.setdefault(root, set()).add(cluster)
    for cluster in clusters:
        for op in list(cluster.ops):
            value = op.outputs[0] if op.kind == "map" else None
            if value is None or value in results or not readers.get(value):
                continue
            if cluster.members[value] != FULL:
                continue
            recipe = _Recipe(value, home, readers, results)
            if recipe.works and all(recipe.fits(reader) for reader in readers[value]):
                for reader in readers.pop(value):
                    recipe.enter(reader)
        _drop_unread(cluster, results.union(v for v in cluster.members if readers.get(v)))


def _drop_unread(cluster: Cluster, needed: set[Value]) -> None:
    """Take out the maps that nobody reads any more, and what they read."""
    read: set[Value] = set()
    for op in reversed(list(cluster.ops)):
        if op.kind == "map" and not needed.intersection(op.outputs) and not read.intersection(op.outputs):
            cluster.ops.remove(op)
            for out in op.outputs:
                del cluster.members[out], cluster.stages[out]
        else:
            read |= {view.root for view in op.inputs}
    for root in set(cluster.reads) - read:
        del cluster.reads[root]


class _Recipe:
    """How a value is made from what is stored.

    Attributes:
        ops: the maps to be run, in order.
        leaves: what they read.
        works: whether that is cheap, and reads at most one thing of the value's size, which is no wider.
        cuts: the boundaries of dims of each reader that has room for it.
    """

    def __init__(
        self, value: Value, home: dict[Value, Cluster], readers: dict[Value, set[Cluster]], results: set[Value]
    ) -> None:
        self.value, self.home, self.readers, self.results = value, home, readers, results
        self.origin = home[value]
        self.cuts: dict[Cluster, set[int]] = {}
        self.ops: list[Op] = []
        self.leaves: set[Value] = set()
        self.makers = {out: op for op in self.origin.ops if op.kind == "map" for out in op.outputs}
        cost = self._add(self.makers[value])
        large = [leaf for leaf in self.leaves if leaf.size * REPEATED > value.size]
        self.works = cost <= CHEAP and len(large) <= 1 and all(self._costs_no_memory(leaf) for leaf in large)

    def _add(self, op: Op) -> float:
        """Take in an operation and what it needs; return the cost of an element."""
        if op in self.ops:
            return 0
        if op.name == "random_bits" or op.target is not None:
            return float("inf")
        cost = float(elementwise.cost(op.name, op.outputs[0].dtype))
        for view in op.inputs:
            root = view.root
            inside = root in self.makers and self.origin.members[root] == FULL and not self._is_stored(root)
            if inside and cost <= CHEAP:
                cost += self._add(self.makers[root])
            elif (not inside and self._is_stored(root)) or root.size * REPEATED <= self.value.size:
                self.leaves.add(root)
            else:
                return float("inf")
        self.ops.append(op)
        return cost

    def _is_stored(self, root: Value) -> bool:
        return root not in self.origin.members or root in self.results or bool(self.readers.get(root))

    def _costs_no_memory(self, leaf: Value) -> bool:
        """Whether keeping the leaf is no more than keeping the value."""
        narrow = leaf.dtype.itemsize <= self.value.dtype.itemsize
        return narrow or self.readers[self.value] <= self.readers.get(leaf, set())

    def fits(self, reader: Cluster) -> bool:
        """Whether the reader can run the operations for each of its elements."""
        if reader.kind not in ("loop", "product") or reader.n != self.value.size:
            return False
        views = [(op, view) for op in reader.ops for view in op.inputs if view.root is self.value]
        if any(op.kind not in ("map", "reduce") or not view.is_whole for op, view in views):
            return False
        if any(op.kind == "map" and reader.members[op.outputs[0]] != FULL for op, _ in views):
            return False
        if len(reader.ops) + len(self.ops) > MAX_OPS or len(reader.reads) + len(reader.members) > MAX_VALUES - 8:
            return False
        cuts = room_for(self.ops, reader)
        if cuts is not None:
            self.cuts[reader] = cuts
        return cuts is not None

    def enter(self, reader: Cluster) -> None:
        """Put the operations before the first that reads the value."""
        reader.cuts = self.cuts[reader]
        del reader.reads[self.value]
        made = {op.outputs[0] for op in self.ops}
        first = next(
            i for i, op in enumerate(reader.ops) if op in self.ops or any(view.root in made for view in op.inputs)
        )
        reader.ops[:] = [*reader.ops[:first], *self.ops, *(op for op in reader.ops[first:] if op not in self.ops)]
        for value in made:
            reader.members[value] = FULL
            reader.stages[value] = 0
        for leaf in self.leaves:
            if leaf not in reader.members:
                reader.reads[leaf] = None
                self.readers.setdefault(leaf, set()).add(reader)
