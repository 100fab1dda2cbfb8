"""Tables of text for a terminal, Markdown and HTML, and counted nouns."""

from collections.abc import Sequence
from html import escape
from typing import Literal

Style = Literal["text", "markdown", "html"]


def format_table(heads: Sequence[str], rows: Sequence[Sequence[str]], style: Style = "text") -> str:
    """Render a table: the first column aligned left, the others right; HTML leaves that to its style sheet."""
    lines = [[str(cell) for cell in line] for line in (heads, *rows)]
    if style == "html":
        tagged = [[f"<{tag}>{escape(cell)}</{tag}>" for cell in line]
                  for tag, line in zip(["th", *["td"] * len(rows)], lines, strict=True)]
        return "\n".join(["<table>", *(f"<tr>{''.join(line)}</tr>" for line in tagged), "</table>"])
    if style == "markdown":
        rule = ["---", *["---:"] * (len(heads) - 1)]
        lines = [lines[0], rule, *lines[1:]]
        return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
                     for line in lines)


def count_of(number: int, noun: str) -> str:
    """Name a number of things: "1 face", "2 faces"."""
    return f"{number} {noun}{'s' * (number != 1)}"
