"""Data loader workers are ended by what nothing ignores, whichever way the system makes them."""

import signal
import sys

import pytest

from rfdetr_hwd.data.worker_process import undisturbed_context


@pytest.mark.parametrize(("platform", "method"), [("linux", "fork"), ("darwin", "spawn")])
def test_a_loader_process_is_ended_by_sigkill(monkeypatch: pytest.MonkeyPatch, platform: str, method: str) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", platform)
        context = undisturbed_context()
    assert context.get_start_method() == method
    process = context.Process(target=signal.pause)
    process.start()
    process.terminate()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
