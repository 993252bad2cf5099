"""Shared by the scripts that write pages: the path of docs/, and generated text between two markers of a page."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def markers(name: str) -> tuple[str, str]:
    """Return the two lines that enclose generated text."""
    return f"<!-- {name}: written by `make pages` -->", f"<!-- end of {name} -->"


def with_text(page: str, name: str, text: str) -> str:
    """Return the page with generated text between the markers of a name.

    Raises:
        ValueError: The page has no such markers.
    """
    begin, end = markers(name)
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"the page has no {begin} ... {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def update(path: Path, name: str, text: str) -> None:
    """Put generated text into a page."""
    path.write_text(with_text(path.read_text(encoding="utf-8"), name, text), encoding="utf-8")
    print(path)
