"""What an RDD is, in words: for prompts and notebooks, which show it without computing or preparing anything."""

from __future__ import annotations

from asparkle.core.lineage import Mapped, Node, Shuffle, step_name
from asparkle.core.storagelevel import StorageLevel

_MOST = 30  # nodes that are shown: a lineage may have thousands


def text(node: Node) -> str:
    """Number, name, partitions and storage level; below, the lineage, each input indented by the steps to it.

    Where data moves between partitions, ``+-`` stands before the step.
    """
    return "\n".join([_facts(node), *_lineage(node)])


def html(node: Node) -> str:
    """The same, for a notebook."""
    from html import escape

    lineage = escape("\n".join(_lineage(node)))
    return f"<div><b>{escape(_facts(node))}</b><pre>{lineage}</pre></div>"


def _facts(node: Node) -> str:
    name = f" {node.name!r}" if node.name else ""
    count = _partitions(node)
    partitions = "partitions not known yet" if count is None else f"{count} partition{'s' * (count != 1)}"
    return f"RDD {node.id}{name}: {partitions}, {_storage(node)}"


def _storage(node: Node) -> str:
    return "not kept" if node.storage_level == StorageLevel.NONE else f"kept: {node.storage_level}"


def _partitions(node: Node) -> int | None:
    """How many there are, as far as that can be told without looking at files or running jobs."""
    while isinstance(node, Mapped) and not node.prepared:
        node = node.parents[0]
    count: int | None = getattr(node, "num_partitions", None)
    return count


def _lineage(node: Node) -> list[str]:
    lines: list[str] = []
    seen: set[int] = set()
    stack = [(node, "")]
    while stack:
        current, indent = stack.pop()
        if len(lines) == _MOST:
            return [*lines, "..."]
        again = " (see above)" if current.id in seen else ""
        count = _partitions(current)
        kept = f", {_storage(current)}" if current.cached is not None else ""
        moves = "+-" if current.prepared and any(isinstance(d, Shuffle) for d in current.dependencies) else ""
        name = f" {current.name!r}" if current.name else ""
        lines.append(
            f"{indent}{moves}({'?' if count is None else count}) {current.id} {step_name(current)}{name}{kept}{again}"
        )
        if not again:
            seen.add(current.id)
            deeper = indent + "  " if len(current.parents) > 1 or moves else indent
            stack += [(parent, deeper) for parent in reversed(current.parents)]
    return lines
