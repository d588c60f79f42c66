"""What is fitted, as canonical bytes, and read back strictly: a head of names, then arrays in a fixed order.

Arrays are little-endian and as long as the head says, to the byte; nothing is executed and nothing is
allocated before lengths add up.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from allod.domain.errors import Integrity
from allod.routing.features import BUCKETS
from allod.routing.learn import CLUSTERS, TREE_COLUMNS, Fitted
from allod.routing.trees import Forest

MAGIC: Final = b"allod-fitted-1\n"
_MOST_NAMES: Final = 4096
_MOST_NODES: Final = 1 << 24
_MOST_BYTES: Final = 1 << 30
_LONGEST_NAME: Final = 256


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    deployments: tuple[str, ...]
    tasks: tuple[str, ...]
    trees: int
    nodes: int
    leaves: int


def _layout(head: _Head) -> dict[str, tuple[str, tuple[int, ...]]]:
    m, t = len(head.deployments), len(head.tasks)
    return {
        "base": ("<f8", (m,)),
        "table": ("<f8", (t + 1, m)),
        "code": ("<f4", (t + 1, 2)),
        "idf": ("<f4", (BUCKETS,)),
        "weights": ("i1", (BUCKETS, m)),
        "scale": ("<f8", (m,)),
        "hints": ("i1", (BUCKETS, 2)),
        "hint_scale": ("<f8", (2,)),
        "hint_table": ("<f8", (t + 1, 2)),
        "calibration": ("<f8", (m, 3)),
        "edges": ("<f8", (m, CLUSTERS - 1)),
        "cells": ("<f8", (t + 1, CLUSTERS, m, 2)),
        "lengths": ("<f8", (m, 2)),
        "known": ("<f8", (m,)),
        "feature": ("<i2", (head.nodes,)),
        "threshold": ("<f4", (head.nodes,)),
        "left": ("<i4", (head.nodes,)),
        "roots": ("<i4", (head.trees,)),
        "leaves": ("u1", (head.leaves, 2 * m)),
    }


def write_fitted(fitted: Fitted) -> bytes:
    """Write as canonical bytes."""
    import numpy as np  # noqa: PLC0415 (heavy)

    forest = fitted.forest
    head = _Head(
        deployments=fitted.deployments, tasks=fitted.tasks, trees=len(forest.roots),
        nodes=len(forest.feature), leaves=len(forest.leaves),
    )  # fmt: skip
    written = msgspec.json.encode(head)
    parts = [MAGIC, len(written).to_bytes(4, "big"), written]
    for name, (kind, shape) in _layout(head).items():
        array = getattr(forest if name in Forest.__struct_fields__ else fitted, name)
        parts.append(np.ascontiguousarray(array, dtype=kind).reshape(shape).tobytes())
    return b"".join(parts)


def read_fitted(body: bytes) -> Fitted:
    """Read back.

    Raises:
        Integrity: these are not canonical bytes of what is fitted, or say what cannot be.

    """
    import numpy as np  # noqa: PLC0415 (heavy)

    head, at = _head(body)
    layout = _layout(head)
    if len(body) - at != sum(np.dtype(kind).itemsize * math.prod(shape) for kind, shape in layout.values()):
        raise _broken("its length is not what its head says")
    arrays: dict[str, Any] = {}
    for name, (kind, shape) in layout.items():
        arrays[name] = np.frombuffer(body, dtype=kind, count=math.prod(shape), offset=at).reshape(shape)
        at += arrays[name].nbytes
        if np.dtype(kind).kind == "f" and not np.isfinite(arrays[name]).all():
            raise _broken(f"{name} is not finite")
    if (
        (arrays["scale"] < 0).any()
        or (arrays["calibration"][:, :2] < 0).any()
        or (arrays["cells"][..., 0] < 0).any()
    ):
        raise _broken("a scale, a slope or a count is negative")
    forest = Forest(**{name: arrays.pop(name) for name in Forest.__struct_fields__})
    _check_forest(np, forest, head)
    return Fitted(deployments=head.deployments, tasks=head.tasks, forest=forest, **arrays)


def _head(body: bytes) -> tuple[_Head, int]:
    start = len(MAGIC) + 4
    if not body.startswith(MAGIC) or not start <= len(body) <= _MOST_BYTES:
        raise _broken("it does not begin as one, or is too large")
    size = int.from_bytes(body[len(MAGIC) : start], "big")
    written = body[start : start + size]
    try:
        head = msgspec.json.decode(written, type=_Head)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as fault:
        raise _broken(str(fault)) from fault
    names = (head.deployments, head.tasks)
    sorted_names = all(list(one) == sorted(set(one)) and len(one) <= _MOST_NAMES for one in names)
    short = all(len(name) <= _LONGEST_NAME for one in names for name in one)
    sized = 0 < head.trees <= head.nodes <= _MOST_NODES and 0 < head.leaves <= head.nodes
    if not (sorted_names and short and sized and head.deployments) or msgspec.json.encode(head) != written:
        raise _broken("its head is not canonical")
    return head, start + size


def _check_forest(np: Any, forest: Forest, head: _Head) -> None:
    """Refuse trees that lead nowhere or in circles: children come after their node, leaves are there."""
    leaf = forest.feature < 0
    numbers = np.arange(head.nodes)
    left = forest.left.astype(np.int64)
    inner_fits = (left > numbers) & (left + 1 < head.nodes) & (forest.feature < TREE_COLUMNS)
    leaf_fits = (left >= 0) & (left < head.leaves) & (forest.feature == -1)
    roots_fit = (forest.roots >= 0) & (forest.roots < head.nodes)
    if not np.where(leaf, leaf_fits, inner_fits).all() or not roots_fit.all():
        raise _broken("a tree leads nowhere")


def _broken(why: str) -> Integrity:
    return Integrity("what was fitted cannot be read", why, "restore it, or fit it again from the log")
