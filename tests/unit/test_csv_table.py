"""Tables as CSV: what is read, what is refused, and where it is wrong."""

from __future__ import annotations

import pytest

from workflows.core.text.csv_table import CsvTable, UnreadableTable, read_csv


def test_rows_are_texts_by_column() -> None:
    table = read_csv('id,text\r\n1,"a, ""b""\nc"\r\n\r\n2,\n')
    assert table.columns == ("id", "text")
    assert table.rows == ({"id": "1", "text": 'a, "b"\nc'}, {"id": "2", "text": ""})
    assert (table.short, table.note) == ((), "")


@pytest.mark.parametrize("text", ["", "id,text", "id,text\n\n"])
def test_a_table_without_rows(text: str) -> None:
    assert read_csv(text).rows == ()


def test_what_a_short_row_lacks_is_empty_and_noted() -> None:
    table = read_csv("a,b,c\n1\n1,2,3\n1,2\n")
    assert [list(row.values()) for row in table.rows] == [["1", "", ""], ["1", "2", "3"], ["1", "2", ""]]
    assert table.note == "lines 2, 4 have fewer cells than the header; what is missing is taken as empty"
    assert read_csv("a,b\n1\n").note.startswith("line 2 has fewer cells")
    assert "6, ... have" in CsvTable(("a",), (), tuple(range(2, 99))).note


@pytest.mark.parametrize(
    ("text", "line", "message", "cure"),
    [
        ("a,b\n1,2\n1,2,3\n", 3, "it has 3 cells, and the header names 2 columns", "double quotes"),
        ("a\n1,2\n", 2, "the header names 1 column", "first line"),
        ("a;b\n1,5;2\n", 2, "it has 2 cells", "by commas, not by ';'"),
        ("a\tb\n1,5\t2\n", 2, "it has 2 cells", r"not by '\t'"),
        ('a,b\n1,2\n3,"open\nand on\n', 3, "a quote is never closed", "close it"),
        ('a,b\n1,"x" y\n', 2, "goes on behind its closing quote", "as two"),
        ("\n1,2\n", 1, "no header line", "name the columns"),
        ("a\n" + "x" * 140_000, 2, "field larger than field limit", "mend"),
    ],
)
def test_where_a_text_is_no_table(text: str, line: int, message: str, cure: str) -> None:
    with pytest.raises(UnreadableTable) as caught:
        read_csv(text)
    assert caught.value.line == line
    assert message in str(caught.value)
    assert cure in caught.value.cure
