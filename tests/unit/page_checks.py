"""Checks of Markdown pages: commands, overrides, YAML and Python blocks, links. Each returns what is wrong, as text."""

import ast
import importlib
import inspect
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from rfdetr_hwd.cli.app import app
from rfdetr_hwd.config.experiment import load_experiment
from rfdetr_hwd.config.load import known_keys, load_config, parse_config
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.layers.registry import check_downsample

ROOT = Path(__file__).parents[2]
LEAST = {"data": {"root": "data"}, "output": {"dir": "run"}}
"""The keys that a configuration must set."""
INCOMPLETE = ("MissingParameter", "NoArgsIsHelpError")
PROGRAMS = ("sbatch", "pip", "make", "torchrun", "rfdetr-hwd", "python")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"(configs|scripts|benchmarks|docs|tests)/[\w./-]*")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*=.*")
_TABLE = typer.main.get_command(app)


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return [text for name, text in _BLOCK.findall(page) if name == language]


def inline_code(page: str) -> list[str]:
    """Return what stands between backticks outside blocks."""
    return _CODE.findall(_BLOCK.sub("", page))


def commands(page: str) -> Iterator[tuple[list[str], bool]]:
    """Yield the words of each shell command, and whether it is complete: inline code may be a part of one."""
    lines = [(line, True) for text in blocks(page, "bash") for line in text.replace("\\\n", " ").splitlines()]
    lines += [(code, False) for code in inline_code(page) if code.partition(" ")[0] in PROGRAMS]
    for line, is_complete in lines:
        words = shlex.split(line, comments=True)
        while words and _VARIABLE.fullmatch(words[0]):
            words.pop(0)
        if words:
            yield words, is_complete


def command_problems(page: str) -> list[str]:
    """Return what the program, the Makefile or the repository would not accept of a page's commands."""
    return [
        f"{shlex.join(words)}: {problem}"
        for words, is_complete in commands(page)
        for problem in _problems(words)
        if is_complete or not problem.startswith(INCOMPLETE)
    ]


def _problems(words: Sequence[str]) -> Iterator[str]:
    program, *rest = words
    if "-m" in rest and program in ("torchrun", "python"):
        module, *arguments = rest[rest.index("-m") + 1 :]
        yield from verb_problems(arguments) if module == "rfdetr_hwd" else [f"unknown module {module}"]
    elif program == "rfdetr-hwd":
        yield from verb_problems(rest)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        yield from (f"no target {word}" for word in rest if "=" not in word and word not in targets)
    elif program in ("python", "sbatch"):
        script = next(word for word in rest if not word.startswith("-"))
        yield from [] if (ROOT / script).is_file() else [f"no file {script}"]
        yield from verb_problems(["train", *rest[rest.index(script) + 1 :]]) if program == "sbatch" else []
    elif program not in PROGRAMS:
        yield f"unknown program {program}"


def verb_problems(words: Sequence[str]) -> Iterator[str]:
    """Yield what the command table does not accept; the overrides of a command are validated with its configuration."""
    if not words or words == ["doctor"]:
        return
    command, context = _TABLE, None
    rest = list(words)
    try:
        while True:
            context = command.make_context(command.name or "rfdetr-hwd", rest, parent=context)
            if not hasattr(command, "resolve_command"):
                break
            _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    except Exception as error:  # usage errors of the library that typer carries within itself
        yield f"{type(error).__name__}: {getattr(error, 'message', '') or error}"
        return
    accepted = context.params.get("accept") or []
    yield from (f"--accept {key}: unknown key" for key in accepted if key not in {*known_keys(), "annotations"})
    yield from override_problems(context.params.get("overrides") or [], context.params.get("config"))


def override_problems(overrides: Sequence[str], file: Path | None = None) -> Iterator[str]:
    """Yield what the configuration does not accept."""
    try:
        config = load_config(ROOT / file, overrides) if file else parse_config(LEAST, overrides)
        if any(text.startswith("downsample.name=") for text in overrides) and ":" not in config.downsample.name:
            check_downsample(config.downsample.name, **config.downsample.options)
    except UserError as error:
        yield str(error)


def key_problems(page: str) -> list[str]:
    """Return what is wrong with overrides and dotted keys in inline code."""
    problems = []
    for code in inline_code(page):
        key, is_override, _ = code.partition("=")
        section, dot, _ = key.partition(".")
        if not dot or not re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", key) or section not in Config.model_fields:
            continue
        is_section = any(known.startswith(f"{key}.") for known in known_keys())
        if is_override:
            problems += override_problems(shlex.split(code) if "'" in code else [code])
        elif key not in known_keys() and not is_section and Path(key).suffix not in (".yaml", ".pt"):
            problems.append(f"{key}: unknown key")
    return problems


def option_problems(page: str) -> list[str]:
    """Return the options in inline code that neither the program nor torchrun and docker as named here have."""
    known = {"--help", "--signals-to-handle", "--max-restarts", "--nproc-per-node", "--ipc", "--strict"}
    waiting = [_TABLE]
    while waiting:
        command = waiting.pop()
        known |= {text for parameter in command.params for text in (*parameter.opts, *parameter.secondary_opts)}
        waiting += getattr(command, "commands", {}).values()
    named = {code.partition(" ")[0].partition("=")[0] for code in inline_code(page) if code.startswith("--")}
    return [f"no option {option}" for option in sorted(named - known)]


def yaml_problems(page: str) -> list[str]:
    """Return what the configuration does not accept of a page's YAML blocks; required keys may be missing."""
    problems = []
    for text in blocks(page, "yaml"):
        values: Mapping[str, Any] = yaml.safe_load(text)
        if "arms" in values:
            problems += _experiment_problems(values)
            continue
        sections = {key: {**LEAST.get(key, {}), **(values.get(key) or {})} for key in {**LEAST, **values}}
        try:
            parse_config(sections)
        except UserError as error:
            problems.append(str(error))
    return problems


def _experiment_problems(values: Mapping[str, Any]) -> list[str]:
    """Return what an experiment does not accept. Its base is a shipped configuration."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "experiment.yaml"
        base = (ROOT / "configs" / "experiments" / str(values["base"])).resolve()
        file.write_text(yaml.safe_dump({**values, "base": str(base)}))
        try:
            load_experiment(file)
        except UserError as error:
            return [str(error)]
    return []


def python_problems(page: str) -> list[str]:
    """Return what is missing of the imports and attributes of a page's Python blocks, and syntax errors."""
    problems = []
    for text in blocks(page, "python"):
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            problems.append(f"{error.msg}: {error.text}")
            continue
        known, missing = _imported(tree)
        problems += missing + _missing_attributes(tree, known)
    return problems


def _imported(tree: ast.Module) -> tuple[dict[str, Any], list[str]]:
    """Return the objects of the imports by name, and the imports that fail."""
    known: dict[str, Any] = {}
    missing = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                try:
                    known[alias.asname or alias.name] = getattr(importlib.import_module(str(node.module)), alias.name)
                except (ImportError, AttributeError):
                    missing.append(f"no {alias.name} in {node.module}")
        elif isinstance(node, ast.Import):
            known |= {alias.asname or alias.name: importlib.import_module(alias.name) for alias in node.names}
    return known, missing


def _missing_attributes(tree: ast.Module, known: dict[str, Any]) -> list[str]:
    """Return attributes that imported objects, and instances made of imported classes, do not have."""
    problems = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            function = node.value.func
            owner = function.value if isinstance(function, ast.Attribute) else function
            made = known.get(owner.id) if isinstance(owner, ast.Name) else None
            if inspect.isclass(made):  # Class(...), or an alternative constructor Class.load(...)
                known.setdefault(node.targets[0].id, made)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            owner = known[node.value.id]
            if not hasattr(owner, node.attr) and not re.search(rf"\bself\.{node.attr}\b", inspect.getsource(owner)):
                problems.append(f"{node.value.id} has no {node.attr}")
    return problems


def link_problems(page: str, folder: Path) -> list[str]:
    """Return relative links and paths of the repository that lead nowhere, and anchors that no heading has."""
    problems = []
    for link in _LINK.findall(_BLOCK.sub("", page)):
        name, _, anchor = link.partition("#")
        path = folder / name
        if "://" in link:
            continue
        if name and not path.exists():
            problems.append(f"no file {link}")
        elif anchor and anchor not in headings(path.read_text() if name else page):
            problems.append(f"no heading {link}")
    paths = [code for code in inline_code(page) if _PATH.fullmatch(code)]
    return problems + [f"no file {code}" for code in paths if not (ROOT / code).exists()]


def headings(page: str) -> set[str]:
    """Return the anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", _BLOCK.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
