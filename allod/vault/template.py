"""A chat template is code that the engine runs at load: what may be in it.

The linter refuses what can only serve to hang or to swell (long loops, string multiplication, powers), what
reaches outside the render (imports, dunder attributes), and what is too long to be read by a person. It is
not a proof: a template that passes can still be slow, and then the load-time limit of the child ends it. It
also flags, without refusing, comparisons of message content with fixed text, the shape of a hidden trigger
(arXiv 2602.04653): a person should look at these.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension

from allod.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jinja2.parser import Parser

MAX_TEMPLATE_BYTES: Final = 64 * 1024
MAX_LITERAL_INT: Final = 100_000
MAX_ROUNDS: Final = 10_000
"""Over nested loops with fixed bounds, multiplied."""
MAX_LOOP_DEPTH: Final = 8
MAX_NODES: Final = 20_000
MAX_FACTOR: Final = 1_000
"""A literal operand of a multiplication may not exceed it."""
MAX_INDENT: Final = 8
"""Blanks that may be multiplied by a variable, as templates do to indent."""
_MARK: Final = re.compile(r"\s*(?:[<\[|][^\s]*[>\]|])?\s*")
_FORBIDDEN: Final = ("Import", "FromImport", "Include", "Extends", "Pow")
_REMEDY: Final = "use the model with the plain template of its family, after reading both"


def _refuse(why: str) -> NoReturn:
    raise Invalid("the chat template of this model is refused", why, _REMEDY)


class Generation(Extension):
    """The ``{% generation %}`` block that marks the assistant's words in training templates."""

    tags = {"generation"}  # noqa: RUF012 (the base class declares it per instance)

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse the block to its end."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _environment() -> Environment:
    """Build a parser for templates as models carry them; nothing is ever rendered here."""
    return Environment(
        extensions=["jinja2.ext.loopcontrols", Generation],
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )


def parse(text: str) -> nodes.Template:
    """Parse a template as models carry them (raises ``Invalid``); nothing is rendered."""
    try:
        return _environment().parse(text)
    except TemplateError as error:
        _refuse(f"it is not a template: {error.message} (line {getattr(error, 'lineno', '?')})")
    except RecursionError:
        _refuse("its expressions are nested too deeply")
    except (ValueError, OverflowError, MemoryError):
        _refuse("it holds a number beyond reason")


def walk(root: nodes.Node) -> Iterator[nodes.Node]:
    """Visit every node without recursion, bounded by ``MAX_NODES``."""
    waiting, seen = [root], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen > MAX_NODES:
            _refuse(f"it has more than {MAX_NODES} parts")
        yield node
        waiting.extend(node.iter_child_nodes())


def _constant(node: nodes.Node | None) -> int | None:
    """Return a literal integer, or None for anything computed."""
    if isinstance(node, nodes.Neg):
        inner = _constant(node.node)
        return None if inner is None else -inner
    if isinstance(node, nodes.Const) and isinstance(node.value, int):
        return int(node.value)
    return None


def _rounds(loop: nodes.For) -> int:
    """Bound the rounds of one loop from what is literal in it; 1 where it runs over the caller's data."""
    over = loop.iter
    if isinstance(over, nodes.Call) and isinstance(over.node, nodes.Name) and over.node.name == "range":
        fixed = [abs(value) for value in map(_constant, over.args) if value is not None]
        if len(fixed) == len(over.args):
            return max([*fixed, 1])
        return 1
    if isinstance(over, nodes.Const) and isinstance(over.value, str):
        return len(over.value)
    if isinstance(over, nodes.List | nodes.Tuple):
        return max(len(over.items), 1)
    return 1


def _check_loops(root: nodes.Node) -> None:
    """Follow loops inwards: their depth, and the product of their fixed rounds."""
    waiting: list[tuple[nodes.Node, int, int]] = [(root, 0, 1)]
    while waiting:
        node, depth, rounds = waiting.pop()
        if isinstance(node, nodes.For):
            depth, rounds = depth + 1, rounds * _rounds(node)
            if rounds > MAX_ROUNDS:
                _refuse(f"line {node.lineno}: loops run {rounds} rounds, allowed are {MAX_ROUNDS}")
            if depth > MAX_LOOP_DEPTH:
                _refuse(f"line {node.lineno}: loops are nested {depth} deep, allowed are {MAX_LOOP_DEPTH}")
        waiting.extend((child, depth, rounds) for child in node.iter_child_nodes())


def _check_multiplication(node: nodes.Mul) -> None:
    for side, other in ((node.left, node.right), (node.right, node.left)):
        if isinstance(side, nodes.Const) and isinstance(side.value, str):
            indents = side.value.isspace() and len(side.value) <= MAX_INDENT and isinstance(other, nodes.Name)
            if not indents:
                _refuse(f"line {node.lineno}: it multiplies text")
        if isinstance(side, nodes.List | nodes.Tuple):
            _refuse(f"line {node.lineno}: it multiplies a list")
        value = _constant(side)
        if value is not None and abs(value) > MAX_FACTOR:
            _refuse(f"line {node.lineno}: it multiplies by {value}, allowed are {MAX_FACTOR}")


def _check_node(node: nodes.Node) -> None:
    if type(node).__name__ in _FORBIDDEN:
        _refuse(f"line {node.lineno}: {type(node).__name__.lower()} has no place in a chat template")
    if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        _refuse(f"line {node.lineno}: it reaches for the attribute {node.attr!r}")
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        name = node.arg.value
        if isinstance(name, str) and name.startswith("__"):
            _refuse(f"line {node.lineno}: it reaches for the attribute {name!r}")
    if isinstance(node, nodes.Mul):
        _check_multiplication(node)
    value = _constant(node)
    if value is not None and abs(value) > MAX_LITERAL_INT:
        _refuse(f"line {node.lineno}: the number {value} is beyond {MAX_LITERAL_INT}, so is any honest use")
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "range":
        for bound in map(_constant, node.args):
            if bound is not None and abs(bound) > MAX_ROUNDS:
                _refuse(f"line {node.lineno}: range({bound}) is longer than {MAX_ROUNDS}")


def check(text: str) -> tuple[str, ...]:
    """Refuse a dangerous template and return flags for a person to look at.

    Raises:
        Invalid: too long, not a template, or one of the refusals above; ``why`` names the line.

    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_TEMPLATE_BYTES:
        _refuse(f"it is {size} bytes long, allowed are {MAX_TEMPLATE_BYTES}")
    root = parse(text)
    flags: list[str] = []
    for node in walk(root):
        _check_node(node)
        flags.extend(_flag(node))
    _check_loops(root)
    return tuple(sorted(set(flags)))


def _is_content(node: nodes.Node) -> bool:
    """Tell whether an expression is a message's content, or a filtered, called or sliced form of it."""
    while True:
        if isinstance(node, nodes.Filter) and node.node is not None:
            node = node.node
        elif isinstance(node, nodes.Call):
            node = node.node.node if isinstance(node.node, nodes.Getattr) else node.node
        elif isinstance(node, nodes.Getitem) and (
            isinstance(node.arg, nodes.Slice) or _constant(node.arg) is not None
        ):
            node = node.node
        else:
            break
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    return isinstance(node, nodes.Name) and node.name == "content"


def _flag(node: nodes.Node) -> Iterator[str]:
    """Name comparisons of content with fixed text other than a mark like ``</think>``."""
    if not isinstance(node, nodes.Compare):
        return
    sides = [node.expr, *(operand.expr for operand in node.ops)]
    literals = [side.value for side in sides if isinstance(side, nodes.Const) and isinstance(side.value, str)]
    words = [text for text in literals if not _MARK.fullmatch(text)]
    if words and any(_is_content(side) for side in sides):
        yield f"line {node.lineno}: content is compared with {words[0][:60]!r}"
