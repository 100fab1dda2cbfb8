"""Tables: the same cells for a terminal, Markdown and HTML."""

from pipeline.common.tables import count_of, format_table

HEADS, ROWS = ["model", "MAE"], [["resnet", "2.5"], ["a|<b>", "12.25"]]


def test_format_table_as_text_aligns_the_first_column_left_and_others_right() -> None:
    assert format_table(HEADS, ROWS).split("\n") == ["model     MAE", "resnet    2.5", "a|<b>   12.25"]


def test_format_table_as_markdown_keeps_pipes_out_of_cells() -> None:
    assert format_table(HEADS, ROWS, "markdown").split("\n") == [
        "| model | MAE |", "| --- | ---: |", "| resnet | 2.5 |", "| a/<b> | 12.25 |"]


def test_format_table_as_html_escapes_cells() -> None:
    assert format_table(HEADS, ROWS, "html").split("\n") == [
        "<table>", "<tr><th>model</th><th>MAE</th></tr>", "<tr><td>resnet</td><td>2.5</td></tr>",
        "<tr><td>a|&lt;b&gt;</td><td>12.25</td></tr>", "</table>"]


def test_format_table_without_rows_is_its_heads() -> None:
    assert format_table(HEADS, []) == "model  MAE"


def test_count_of_one_has_no_s() -> None:
    assert [count_of(number, "face") for number in (0, 1, 2)] == ["0 faces", "1 face", "2 faces"]
