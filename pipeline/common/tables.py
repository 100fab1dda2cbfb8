"""Tables as text, Markdown or HTML."""

from collections.abc import Sequence
from html import escape


def format_table(heads: Sequence[str], rows: Sequence[Sequence[str]], style: str = "text") -> str:
    """Render a table, the first column left aligned, the others right.

    Args:
        style: "text" (columns padded to one width), "markdown" or "html".
    """
    lines = [list(heads), *map(list, rows)]
    if style == "html":
        cells = [[f"<{tag}>{escape(cell)}</{tag}>" for cell in line]
                 for tag, line in zip(["th"] + ["td"] * len(rows), lines, strict=True)]
        return "<table>\n" + "\n".join(f"<tr>{''.join(line)}</tr>" for line in cells) + "\n</table>"
    if style == "markdown":
        lines.insert(1, ["---"] + ["---:"] * (len(heads) - 1))
        return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)
