"""What a terminal shows of what was written to it."""

import re

_CODE = re.compile(r"\x1b\[(\?25[hl]|\d*[AKm]|\d+(?:;\d+)*m)|(\r)|(\n)|([^\x1b\r\n]+)")


def show(written: str, width: int) -> list[str]:
    """Return the lines of a terminal; the codes that this package's view sends are understood, others are an error.

    Args:
        written: What was written, in order.
        width: Columns: what goes beyond them goes on in the next line.
    """
    lines, row, column, at = [""], 0, 0, 0
    while at < len(written):
        code = _CODE.match(written, at)
        assert code, f"unknown code {written[at : at + 8]!r}"
        at = code.end()
        if code[2] or code[3]:
            column, row = 0, row + bool(code[3])
            lines += [""] * (row + 1 - len(lines))
        elif code[4]:
            for character in code[4]:
                if column == width:
                    row, column = row + 1, 0
                    lines += [""] * (row + 1 - len(lines))
                lines[row] = f"{lines[row][:column]:<{column}}{character}{lines[row][column + 1 :]}"
                column += 1
        elif code[1].endswith("A"):
            row = max(0, row - int(code[1][:-1] or 1))
        elif code[1].endswith("K"):
            lines[row] = ""
    return [line.rstrip() for line in lines]
