"""Imports go one way, one file names autocast, one file imports rfdetr."""

import ast
from pathlib import Path

import pytest

import rfdetr_hwd

PACKAGE = Path(rfdetr_hwd.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

EVERYWHERE = {"console", "errors", "safe_write", "untrusted", "yaml_file"}
ALLOWED = {
    "": {"amp", "config", "detector", "layers"},
    "__main__": {"cli"},
    "amp": set(),
    "checkpoint": {"config", "data", "lock", "runtime"},
    "cli": {
        "",
        "amp",
        "checkpoint",
        "config",
        "curation",
        "data",
        "detector",
        "evaluation",
        "layers",
        "model",
        "report",
        "runtime",
        "training",
    },
    "config": set(),
    "console": set(),
    "curation": {"data"},
    "data": {"curation"},
    "detector": {"amp", "checkpoint", "config", "data", "model"},
    "errors": set(),
    "evaluation": {"amp", "config", "data", "model", "runtime", "training"},
    "layers": {"amp"},
    "lock": set(),
    "model": {"amp", "config", "layers"},
    "report": set(),
    "runtime": {""},
    "safe_write": set(),
    "training": {"amp", "checkpoint", "cli", "config", "data", "model", "runtime"},
    "untrusted": set(),
    "yaml_file": set(),
}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    here = room(path)
    modules = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    targets = set()
    for name in imported_modules(path):
        if name.split(".")[0] == "rfdetr_hwd":
            head = name.split(".")[1] if "." in name else ""
            targets.add(head if head in modules else "")  # the package itself, for its version
    assert targets <= ALLOWED[here] | EVERYWHERE | {here}


def test_only_one_file_names_autocast() -> None:
    naming = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            # attributes, names, imported names, and strings, as in getattr
            words = [getattr(node, field, None) for field in ("attr", "id", "name", "value")]
            if any(isinstance(word, str) and "autocast" in word for word in words):
                naming.add(path.relative_to(PACKAGE).as_posix())
    assert naming == {"amp.py"}


def test_only_one_file_switches_tf32() -> None:
    switches = {"allow_tf32", "fp32_precision", "set_float32_matmul_precision"}
    naming = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if getattr(node, "attr", getattr(node, "value", None)) in switches
    }
    assert naming == {"amp.py"}


def test_only_one_file_opens_consoles() -> None:
    """Left to itself, rich takes files for terminals where the environment asks it to."""
    naming = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if any(name.startswith(("rich.console", "rich.get_console", "rich.print")) for name in imported_modules(path))
    }
    assert naming == {"console.py"}


def test_only_one_file_imports_the_engine() -> None:
    importing = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if any(name.split(".")[0] == "rfdetr" for name in imported_modules(path))
    }
    assert importing == {"model/rfdetr.py"}


def test_configuration_and_command_line_import_no_torch() -> None:
    for name in (
        "config/schema.py",
        "yaml_file.py",
        "cli/app.py",
        "cli/call.py",
        "cli/data_app.py",
        "errors.py",
        "__init__.py",
    ):
        assert not {"torch", "rfdetr", "torchvision"} & {m.split(".")[0] for m in imported_modules(PACKAGE / name)}


def test_nothing_unpickles_freely() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called = ast.unparse(node.func)
                assert called not in {"pickle.load", "pickle.loads"}, path
                if called == "torch.load":
                    assert {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only") == "True", path
