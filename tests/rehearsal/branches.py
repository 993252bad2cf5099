"""Find every place in a source tree that is another one on a CUDA device, and note which of them run."""

import ast
import fnmatch
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

_WORDS = {"is_cuda", "pin_memory", "non_blocking", "autocast", "GradScaler", "record_stream", "synchronize"}
_OWNERS = ("torch.cuda", "torch.backends.cuda", "torch.backends.cudnn", "torch.amp", "torch.accelerator")


@dataclass(frozen=True)
class Site:
    """A place that depends on the device.

    Attributes:
        path: The file, from the folder above the package.
        line: Its line, from 1.
        function: The function it is in, with its classes; empty at the top of a module.
        kind: What was found.
        text: The line's text.
    """

    path: str
    line: int
    function: str
    kind: str
    text: str


def find_sites(files: Iterable[Path], root: Path) -> list[Site]:
    """Return the places of files below a folder, in order of files and lines, one a line."""
    return [site for file in files for site in _sites_of(file, root)]


def _sites_of(file: Path, root: Path) -> Iterator[Site]:
    source = file.read_text(encoding="utf-8")
    lines, seen = source.splitlines(), set()
    for node, function in _walk(ast.parse(source), ""):
        kind = _kind(node)
        if kind and node.lineno not in seen:
            seen.add(node.lineno)
            yield Site(file.relative_to(root).as_posix(), node.lineno, function, kind, lines[node.lineno - 1].strip())


def _walk(node: ast.AST, function: str) -> Iterator[tuple[Any, str]]:
    """Yield nodes with the function they are in; docstrings, other lone strings and annotations are skipped."""
    annotations = {getattr(node, "annotation", None), getattr(node, "returns", None)}
    for child in ast.iter_child_nodes(node):
        is_lone = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if is_lone or child in annotations:
            continue
        name = function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{function}.{child.name}".lstrip(".")
        yield child, name
        yield from _walk(child, name)


def _kind(node: ast.AST) -> str:
    """Return what makes a node depend on the device; empty: nothing."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        value = node.value
        return "cuda" if value == "cuda" or value.startswith("cuda:") else "nccl" if "nccl" in value else ""
    if isinstance(node, ast.Compare) and any(_is_type(side) for side in (node.left, *node.comparators)):
        return "device.type"
    if isinstance(node, ast.keyword):
        return node.arg if node.arg in _WORDS else ""
    if isinstance(node, ast.Attribute):
        chain = ast.unparse(node)
        owner = next((owner for owner in _OWNERS if f"{chain}.".startswith(f"{owner}.")), "")
        return owner or (node.attr if node.attr in _WORDS else "")
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return ".cuda()" if is_call and node.func.attr == "cuda" else ""


def _is_type(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "type" and "device" in ast.unparse(node.value)


@dataclass
class Trace:
    """Which lines of some files ran, and which functions were called at all.

    Attributes:
        roots: Folders of the packages.
        files: Paths of the files whose lines are noted.
        lines: Part of the rehearsal by (path, line): the first in which it ran.
        called: (path, function) of every function that was called.
    """

    roots: tuple[Path, ...]
    files: set[str]
    lines: dict[tuple[str, int], str] = field(default_factory=dict)
    called: set[tuple[str, str]] = field(default_factory=set)
    _paths: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Note what runs meanwhile as a part of the rehearsal."""
        previous = sys.gettrace()
        sys.settrace(self._tracer(part))
        try:
            yield
        finally:
            sys.settrace(previous)

    def _tracer(self, part: str) -> Callable[[FrameType, str, Any], Any]:
        """Return a trace function; it is called for every call of any code, so it looks at the file's name alone."""

        def on_line(frame: FrameType, event: str, _: Any) -> Any:
            if event == "line":
                self.lines.setdefault((self._paths[frame.f_code.co_filename], frame.f_lineno), part)
            return on_line

        def on_call(frame: FrameType, event: str, _: Any) -> Any:
            code = frame.f_code
            path = self._paths.get(code.co_filename)
            if path is None:
                path = self._paths[code.co_filename] = self._place(code.co_filename)
            if not path:
                return None
            self.called.add((path, code.co_qualname.replace(".<locals>", "")))
            return on_line if path in self.files else None

        return on_call

    def _place(self, file: str) -> str:
        """Return the path of a file, from the folder above its package; empty: it is of no package."""
        roots = (root for root in self.roots if file.startswith(f"{root}/"))
        return next((Path(file).relative_to(root.parent).as_posix() for root in roots), "")


def reason_for(site: Site, reasons: dict[str, str]) -> str:
    """Return why a place is not rehearsed: the reason of the first pattern of `path:function:text` that fits."""
    named = f"{site.path}:{site.function}:{site.text}"
    return next((reason for pattern, reason in reasons.items() if fnmatch.fnmatchcase(named, pattern)), "")
