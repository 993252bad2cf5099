"""The rooms of the package and the arrows between them, read from its imports.

A room is a name at the top level of the package: a file or a directory. An arrow leads from a room to a room that it
imports.
"""

import ast
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pages import DOCS, ROOT

PACKAGE = ROOT / "rfdetr_hwd"
PAGE = DOCS / "architecture.md"
PICTURE = "architecture.png"
NAME = "rooms"

Arrows = dict[str, set[str]]


def find_arrows(package: Path = PACKAGE) -> Arrows:
    """Return for each room the rooms that it imports, in functions too; the package's own two entry files are none."""
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    arrows: Arrows = {room: set() for room in sorted(rooms - {"__init__", "__main__"})}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).with_suffix("").parts[0]
        if room in arrows:
            heads = {name.split(".")[1] for name in imported(path) if name.startswith(f"{package.name}.")}
            arrows[room] |= heads & arrows.keys() - {room}
    return arrows


def imported(path: Path) -> Iterable[str]:
    """Yield the dotted names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def about(room: str, package: Path = PACKAGE) -> str:
    """Return the first sentence of a room's docstring."""
    path = package / room / "__init__.py"
    text = ast.get_docstring(ast.parse((path if path.exists() else package / f"{room}.py").read_text(encoding="utf-8")))
    return " ".join((text or "").split("\n\n")[0].split()).split(". ")[0].rstrip(".").replace("|", "\\|")


def levels(arrows: Arrows) -> dict[str, int]:
    """Return the row of each room: 0 imports nothing, and each room is above all that it imports.

    Raises:
        ValueError: Rooms import each other in a circle.
    """
    found: dict[str, int] = {}

    def level(room: str, above: tuple[str, ...]) -> int:
        if room in above:
            raise ValueError(f"rooms import each other: {' -> '.join((*above, room))}")
        if room not in found:
            found[room] = 1 + max((level(below, (*above, room)) for below in sorted(arrows[room])), default=-1)
        return found[room]

    for room in arrows:
        level(room, ())
    return found


def write_table(arrows: Arrows) -> str:
    """Return the table of rooms, highest first."""
    rows = levels(arrows)
    lines = ["| room | purpose | imports |", "|---|---|---|"]
    for room in sorted(arrows, key=lambda room: (-rows[room], room)):
        lines.append(f"| `{room}` | {about(room)} | {', '.join(f'`{name}`' for name in sorted(arrows[room]))} |")
    return "\n".join(lines)


def describe(arrows: Mapping[str, Iterable[str]]) -> str:
    """Return every arrow as text that the picture file carries."""
    return json.dumps({room: sorted(targets) for room, targets in arrows.items()})
