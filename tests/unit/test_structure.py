"""Imports go one way, one file names autocast, one file imports rfdetr."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rfdetr_hwd

PACKAGE = Path(rfdetr_hwd.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

GROUND_FLOOR = {"console", "errors", "files"}  # every room may use it
ROOMS = {
    "api": {"cli", "comparison", "config", "checkpoint", "detector", "evaluation", "report", "runtime", "training"},
    "cli": {
        *("", "checkpoint", "comparison", "config", "curation", "data", "detector", "evaluation", "export", "layers"),
        *("model", "prediction", "report", "runtime", "training"),
    },
    "prediction": {"curation", "data", "detector", "evaluation", "report"},
    "comparison": {
        *(
            "analysis",
            "amp",
            "checkpoint",
            "config",
            "data",
            "detector",
            "evaluation",
            "layers",
            "model",
            "report",
            "runtime",
        ),
    },
    "export": {"amp", "checkpoint", "config", "data", "detector", "evaluation", "layers", "model", "runtime"},
    "detector": {"amp", "checkpoint", "config", "data", "model"},
    "training": {"amp", "checkpoint", "config", "data", "evaluation", "layers", "model", "report", "runtime"},
    "curation": {"data"},
    "report": {"analysis", "config", "data", "evaluation"},
    "analysis": {"evaluation"},
    "evaluation": {"amp", "config", "data", "layers", "model", "runtime"},
    "checkpoint": {"config", "data", "runtime"},
    "runtime": {""},  # the version
    "data": {"config"},
    "model": {"amp", "config", "layers"},
    "layers": {"amp"},
    "config": set(),
    "amp": set(),
}
"""What each room imports, from the top of the house to its ground floor: no more and no less."""


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_imported(path: Path) -> set[str]:
    found = set()
    for name in imported_modules(path):
        if name.split(".")[0] == "rfdetr_hwd":
            head = name.split(".")[1]
            found.add(head if head in ROOMS or head in GROUND_FLOOR else "")  # the package itself, for its version
    return found


@pytest.mark.parametrize("name", ROOMS)
def test_imports_go_one_way(name: str) -> None:
    found = set().union(*(rooms_imported(path) for path in FILES if room(path) == name))
    assert found - GROUND_FLOOR - {name} == ROOMS[name]
    floors = [*ROOMS, *GROUND_FLOOR]
    assert all(floors.index(other) > floors.index(name) for other in ROOMS[name] - {""})


def test_every_file_is_in_a_room() -> None:
    assert {room(path) for path in FILES} == {*ROOMS, *GROUND_FLOOR, "__init__", "__main__"}
    for path in FILES:
        if room(path) in GROUND_FLOOR:
            assert rooms_imported(path) <= GROUND_FLOOR


def test_files_are_short() -> None:
    assert [path.name for path in FILES if len(path.read_text().splitlines()) > 300] == []


def test_the_trainer_is_short() -> None:
    """What it reads is configured, what it calls is its attributes: it decides when, and that fits on a few screens."""
    assert len((PACKAGE / "training" / "trainer.py").read_text().splitlines()) <= 250


HANDED_IN = {"HasAmp"}
"""Protocols of what users may hand in, which need no second implementation here."""


def test_a_protocol_has_two_implementations() -> None:
    """One with a single implementation is another name for it."""
    classes = [
        node for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
    ]
    protocols = [node for node in classes if any(ast.unparse(base).split("[")[0] == "Protocol" for base in node.bases)]
    members = {node: {child.name for child in node.body if isinstance(child, ast.FunctionDef)} for node in classes}
    for node in classes:  # attributes
        members[node] |= {ast.unparse(child.target) for child in node.body if isinstance(child, ast.AnnAssign)}
    others = [members[node] for node in classes if node not in protocols]
    assert "Tracker" in [node.name for node in protocols], "protocols are no longer recognised"
    assert {node.name for node in protocols if sum(members[node] <= other for other in others) < 2} <= HANDED_IN


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


def test_the_command_line_and_the_configuration_need_no_torch() -> None:
    """Each verb loads it when it is called, so that `--help` answers at once."""
    verbs = [path for path in FILES if room(path) == "cli"]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in verbs]
    code = f"import sys, rfdetr_hwd.config.load, rfdetr_hwd.config.changes, {', '.join(names)}; "
    code += "print(*{'torch', 'torchvision', 'rfdetr', 'numpy', 'PIL', 'jinja2', 'rich.console'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_nothing_unpickles_freely() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called = ast.unparse(node.func)
                assert called not in {"pickle.load", "pickle.loads"}, path
                if called == "torch.load":
                    assert {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only") == "True", path
