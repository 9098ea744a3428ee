"""Tables of the reference: a cell stays a cell, in every reader of Markdown."""

from memlane.reference.markdown import block, code, page, table


def test_what_would_end_a_cell_is_shown_and_ends_none() -> None:
    made = table(("a", "b"), [(code("int | None"), "x|y `p|q`\nand more")])
    assert made.count("|") == 3 * 3
    assert made.endswith("| <code>int &#124; None</code> | x&#124;y <code>p&#124;q</code> and more |\n")


def test_nothing_leaves_no_heading_behind() -> None:
    assert table(("a",), []) == block("sh") == code("") == ""


def test_parts_of_a_page_stand_apart_by_one_line() -> None:
    assert page("# A\n", "", "b\n\n\n\nc\n") == "# A\n\nb\n\nc\n"
