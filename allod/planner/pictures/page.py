"""One HTML file of pictures, words and tables, readable from a telephone to a wall; nothing is fetched."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Final

import msgspec

from allod.planner.pictures.canvas import Picture

if TYPE_CHECKING:
    from collections.abc import Sequence

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
WIDTHS: Final = (340, 680, 1080)
"""Px for screens below 700, below 1140, and above."""
_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--rule:#d0d7de;--ground:#fff;--shade:#f6f8fa}
@media(prefers-color-scheme:dark){:root{
--ink:#e6edf3;--soft:#9aa5b1;--rule:#3a424c;--ground:#14181d;--shade:#1c2229}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,"Segoe UI",Roboto,Arial,sans-serif}
main{max-width:1120px;margin:0 auto;padding:16px 10px 48px}
h1{font-size:1.6rem;line-height:1.25;margin:.4em 0}h2{font-size:1.2rem;margin:1.8em 0 .4em}
p{max-width:46em;margin:.5em 0}.lead{font-size:1.1rem}
figure{margin:12px 0}svg{display:block;max-width:100%;height:auto}
.w1,.w2{display:none}
@media(min-width:700px){.w0{display:none}.w1{display:block}}
@media(min-width:1140px){.w1{display:none}.w2{display:block}}
.table{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;min-width:40%}
th,td{padding:6px 10px;border-bottom:1px solid var(--rule);text-align:right;vertical-align:top}
th{background:var(--shade);font-weight:600}th:first-child,td:first-child{text-align:left}td{min-width:5em}
td.t,td:first-child{min-width:8em}
td.t,th.t{text-align:left}td.l{min-width:16em}
footer{margin-top:2.5em;color:var(--soft);font-size:.85rem;border-top:1px solid var(--rule);padding-top:.6em}
"""

MOST_LETTERS: Final = 6
"""Letters of a cell that is still a figure, currency and ``to`` aside."""
_LINKS: Final = re.compile(r"\b(USD|to)\b")
LONG_CELL: Final = 60
"""A cell of more characters gets a wider column: on a telephone a narrow one would be a tower of words."""
_BEGINS: Final = re.compile(r"[-+~<>= $]*(USD )?[0-9]")


class Section(msgspec.Struct, frozen=True):
    """A heading with paragraphs, a picture and a table (first row: its head), all optional."""

    heading: str
    texts: tuple[str, ...] = ()
    picture: Picture | None = None
    table: tuple[tuple[str, ...], ...] = ()


def page(title: str, sections: Sequence[Section], *, lead: str = "", foot: Sequence[str] = ()) -> str:
    """Return a whole HTML document; ``foot`` says where the numbers are from and of when."""
    body = [f"<h1>{escape(title)}</h1>"]
    if lead:
        body.append(f'<p class="lead">{escape(lead)}</p>')
    for n, section in enumerate(sections):
        body += _section(section, n)
    if foot:
        body.append("<footer>" + "".join(f"<p>{escape(text)}</p>" for text in foot) + "</footer>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def _section(section: Section, n: int) -> list[str]:
    out = [f"<h2>{escape(section.heading)}</h2>"]
    out += [f"<p>{escape(text)}</p>" for text in section.texts]
    if section.picture is not None:
        drawn = "".join(
            f'<div class="w{k}">{section.picture.svg(width, name=f"p{n}-{k}")}</div>'
            for k, width in enumerate(WIDTHS)
        )
        out.append(f"<figure>{drawn}</figure>")
    if section.table:
        out.append(_table(section.table))
    return out


def _table(rows: Sequence[Sequence[str]]) -> str:
    words = [_wordy(rows, k) for k in range(len(rows[0]))]
    head = "".join(_tag("th", cell, words, k) for k, cell in enumerate(rows[0]))
    body = "".join(
        "<tr>" + "".join(_tag("td", cell, words, k) for k, cell in enumerate(row)) + "</tr>"
        for row in rows[1:]
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _tag(tag: str, cell: str, words: Sequence[bool], k: int) -> str:
    css = "t" if k < len(words) and words[k] else ""
    css += " l" if css and len(cell) > LONG_CELL else ""
    return f'<{tag} class="{css}">{escape(cell)}</{tag}>' if css else f"<{tag}>{escape(cell)}</{tag}>"


def _wordy(rows: Sequence[Sequence[str]], k: int) -> bool:
    """Tell whether a column holds words: it stands left then."""
    cells = [row[k] for row in rows[1:] if k < len(row) and row[k]]
    return sum(map(_figure, cells)) * 2 < len(cells)


def _figure(cell: str) -> bool:
    """Tell whether a cell is a figure with its unit, and no sentence that begins with one."""
    letters = sum(one.isalpha() for one in _LINKS.sub("", cell))
    return _BEGINS.match(cell) is not None and letters <= MOST_LETTERS
