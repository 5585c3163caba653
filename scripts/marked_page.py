# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Documentation pages with tables that a program generates. Marks with the table's name enclose each table."""


def table(head, rows):
    """Formats a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def put(page, name, text):
    """Returns the page with this text between the marks of that name."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    assert begin in page and end in page, f"the page has no place for {name}"
    before, rest = page.split(begin, 1)
    return before + begin + "\n" + text + "\n" + end + rest.split(end, 1)[1]
