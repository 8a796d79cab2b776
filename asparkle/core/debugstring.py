"""An RDD's lineage as text: a line for each RDD, what it comes from below it, further in behind each shuffle.

The form is Spark's: ``(2)`` before the first RDD of a stage is its number of partitions, ``|`` leads down within the
stage, ``+-`` over a shuffle, and in brackets stands the storage level.
"""

from __future__ import annotations

from asparkle.core.lineage import Node, Shuffle, step_name


def debug_string(final: Node) -> str:
    """The lineage of ``final``, which is prepared."""
    lines: list[str] = []
    head = f"({final.num_partitions})"
    # What is still to be written: a node, what goes before it, what goes before those below it.
    stack = [(final, f"{head} ", _below(head, ""))]
    while stack:
        node, before, prefix = stack.pop()
        lines.append(f"{before}{_described(node)}")
        below = []
        for i, dependency in enumerate(node.dependencies):
            is_last = i == len(node.dependencies) - 1
            parent = dependency.parent
            if isinstance(dependency, Shuffle):
                head = f"({parent.num_partitions})"
                stem = prefix.rstrip(" ").removesuffix("|")
                below.append((parent, f"{stem}+-{head} ", _below(head, stem + ("  " if is_last else "| "))))
            else:
                below.append((parent, f"{prefix} ", prefix))
        stack += reversed(below)
    return "\n".join(lines)


def _below(head: str, stem: str) -> str:
    """What goes before the lines below one that begins with ``head``: a bar beneath its middle."""
    left = (len(head) - 1) // 2
    return f"{stem}{' ' * left}|{' ' * (len(head) - left - 1)}"


def _described(node: Node) -> str:
    level = str(node.storage_level) if node.cached is not None else ""
    name = f"{node.name} " if node.name else ""
    return f"{name}{step_name(node)}[{node.id}] [{level}]"
