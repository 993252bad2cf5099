from pathlib import Path

import pytest

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.export.export import export


def test_a_program_does_not_overwrite_a_file(tmp_path: Path) -> None:
    """It is refused before the detector is touched."""
    out = tmp_path / "stock.pth"
    out.write_text("kept")
    with pytest.raises(ConfigError, match="already exists"):
        export(None, out, None)  # type: ignore[arg-type]
    assert out.read_text() == "kept"


def test_an_engine_without_the_gate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="an engine has to pass the gate"):
        export(None, tmp_path / "model.engine", None, "tensorrt")  # type: ignore[arg-type]
