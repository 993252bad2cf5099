"""The table of the rehearsal: every branch for CUDA, and whether it was run, patched or cannot be run here."""

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal.branches import Site, Trace, find_sites, reason_for
from tests.rehearsal.fake_device import OWN, PACKAGES, UPSTREAM
from tests.rehearsal.parts import Part
from tests.rehearsal.reasons import REASONS


@dataclass(frozen=True)
class Row:
    """A branch and what became of it.

    Attributes:
        site: The branch.
        state: `run`, `patched`, `not called`, `not here`, or `open`: neither run nor explained.
        detail: The part of the rehearsal that ran it, or why none does.
    """

    site: Site
    state: str
    detail: str


def rehearse(
    parts: Sequence[Part], tell: Callable[[Part, str], None] = lambda part, problem: None
) -> tuple[list[Row], dict[str, str]]:
    """Run parts.

    Args:
        parts: Which.
        tell: Told of each part that has run, with what went wrong.

    Returns:
        What became of every branch, and what went wrong by the name of the part: empty where nothing did.
    """
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    sites = [
        *find_sites(sorted(OWN.rglob("*.py")), OWN.parent),
        *find_sites(sorted(file for file in UPSTREAM.rglob("*.py") if str(file) in loaded), UPSTREAM.parent),
    ]
    trace = Trace(tuple(PACKAGES), {site.path for site in sites})
    problems = {}
    for part in parts:
        problems[part.name] = ""
        with trace.of(part.name):
            try:
                part.run()
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                problems[part.name] = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        tell(part, problems[part.name])
    how = {part.name: part.how for part in parts}
    return [_row(site, trace, how) for site in sites], problems


def _row(site: Site, trace: Trace, how: dict[str, str]) -> Row:
    part = trace.lines.get((site.path, site.line))
    if part is not None:
        return Row(site, how[part], part)
    reason = reason_for(site, REASONS)
    if reason:
        return Row(site, "not here", reason)
    is_called = (site.path, site.function) in trace.called
    if site.path.startswith("rfdetr/") and not is_called:
        return Row(site, "not called", "by no step, evaluation or prediction of this package")
    return Row(site, "open", "rehearse it in tests/rehearsal/parts.py, or say why not in tests/rehearsal/reasons.py")


def print_part(part: Part, problem: str) -> None:
    """Print a part with what went wrong."""
    print(f"{'FAILED' if problem else part.how:9}{part.name}{': ' + problem if problem else ''}", flush=True)


def print_rows(rows: Sequence[Row]) -> None:
    """Print the branches with what became of each."""
    for package in PACKAGES.values():
        mine = [row for row in rows if row.site.path.startswith(f"{package}/")]
        counts = {state: sum(row.state == state for row in mine) for state in dict.fromkeys(row.state for row in mine)}
        print(f"\n{package}: " + ", ".join(f"{number} {state}" for state, number in counts.items()))
        for row in mine:
            where = f"{row.site.path.removeprefix(package + '/')}:{row.site.line}"
            print(f"  {row.state:11}{where:44}{row.site.text[:76]:78}{row.detail}")
