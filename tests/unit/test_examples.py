"""The examples of the docstrings run and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import rfdetr_hwd
from rfdetr_hwd.layers import registry

PACKAGE = Path(rfdetr_hwd.__file__).parent
WITH_EXAMPLES = [p for p in sorted(PACKAGE.rglob("*.py")) if ">>>" in p.read_text() and "+SKIP" not in p.read_text()]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_examples(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))  # examples register downsamplers
    relative = path.relative_to(PACKAGE.parent).with_suffix("")
    module = importlib.import_module(".".join(relative.parts))
    names = dict(vars(module))
    if "torch" not in names:
        import torch

        names["torch"] = torch
    result = doctest.testmod(module, extraglobs=names)
    assert result.attempted > 0
    assert result.failed == 0
