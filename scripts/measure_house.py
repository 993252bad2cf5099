"""Measure the structure of the package: names, lines, comments, `try`, protocols; how long files and functions are.

usage: python scripts/measure_house.py [PACKAGE]

Lines of code are lines that hold a token other than a comment or a docstring. Each number has its aim beside it.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes:
        name: Path below the package.
        lines: All lines.
        code_lines: Numbers of the lines that hold code.
        comment_lines: Numbers of the lines that hold a comment and nothing else.
        tree: Its syntax tree.
    """

    name: str
    lines: int
    code_lines: frozenset[int]
    comment_lines: frozenset[int]
    tree: ast.Module


def read_source(path: Path, package: Path) -> Source:
    """Read and measure one file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    docstrings = set(chain.from_iterable(_docstring_lines(tree)))
    code: set[int] = set()
    comments: set[int] = set()
    layout = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        lines = range(token.start[0], token.end[0] + 1)
        if token.type == tokenize.COMMENT:
            comments.update(lines)
        elif token.type not in layout:
            code.update(lines)
    code -= docstrings
    name = path.relative_to(package).as_posix()
    return Source(name, text.count("\n"), frozenset(code), frozenset(comments - code), tree)


def _docstring_lines(tree: ast.Module) -> Iterator[range]:
    """Yield the lines of every docstring, those beneath attributes included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield range(node.lineno, (node.end_lineno or node.lineno) + 1)


def functions(source: Source) -> Iterator[tuple[str, int]]:
    """Yield (name, lines of code) of every function."""
    for node in ast.walk(source.tree):
        if isinstance(node, Function):
            inside = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            yield f"{source.name}:{node.name}", len(source.code_lines & set(inside))


def protocols(sources: list[Source]) -> list[str]:
    """Return the names of the protocols."""
    return [
        node.name
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).startswith("Protocol") for base in node.bases)
    ]


def measure(package: Path) -> list[tuple[str, str, str]]:
    """Return rows of (what, measured, aim)."""
    sources = [read_source(path, package) for path in sorted(package.rglob("*.py"))]
    code = sum(len(source.code_lines) for source in sources)
    comments = sum(len(source.comment_lines) for source in sources)
    tries = sum(isinstance(node, ast.Try) for source in sources for node in ast.walk(source.tree))
    longest_file = max(sources, key=lambda source: source.lines)
    longest_function, length = max(chain.from_iterable(map(functions, sources)), key=lambda pair: pair[1])
    names = sorted(path.name for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
    found = protocols(sources)
    return [
        ("names at the top level", f"{len(names)}", "17"),
        ("protocols", f"{len(found)} ({', '.join(found)})", "each with two implementations or more"),
        ("`try` per 1,000 code lines", f"{1000 * tries / code:.1f}", "9"),
        ("own-line comments per 100 code lines", f"{100 * comments / code:.1f}", "2 to 6"),
        ("longest file", f"{longest_file.lines} ({longest_file.name})", "300"),
        ("longest function, code lines", f"{length} ({longest_function})", "60"),
        ("lines", f"{sum(source.lines for source in sources)}", "12,000"),
        ("code lines", f"{code}", "-"),
    ]


def main() -> None:
    """Print the table."""
    default = Path(__file__).resolve().parent.parent / "rfdetr_hwd"
    rows = [("", "measured", "aim"), *measure(Path(sys.argv[1]) if len(sys.argv) > 1 else default)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for what, measured, aim in rows:
        print(f"{what:<{widths[0]}}  {measured:<{widths[1]}}  {aim}")


if __name__ == "__main__":
    main()
