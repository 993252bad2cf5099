"""Download a dataset version from Roboflow. The key comes from the environment and appears in no message.

This module uses `get_version_export(api_key, workspace_url, project_url, version, format)` of
`roboflow.adapters.rfapi`, as in version 1.7.3 of the `roboflow` package. It starts an export if there is none, and
returns `{"ready": False, "progress": fraction}` until the export is complete. Then it returns the response of the
server, with the URL of the zip under `["export"]["link"]`. `Version.download` unpacks that file without limits, so this
module takes only the link. The interface is undocumented: if it is missing, the message says so.
"""

import importlib
import os
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rfdetr_hwd.curation.archive import Unpacked
from rfdetr_hwd.curation.fetch import fetch_and_unpack
from rfdetr_hwd.data.findings import DatasetError

KEY_VARIABLE = "ROBOFLOW_API_KEY"
_FORMAT = "coco"
_POLL_S = 2.0
_MAX_WAIT_S = 1800.0


def download(workspace: str, project: str, version: str, target: Path) -> Unpacked:
    """Download a version in COCO format into a new directory.

    Args:
        workspace: Name of the workspace, as in the URL of the project.
        project: Name of the project, as in its URL.
        version: Number of the version.
        target: Directory that does not exist yet. It appears when the dataset is complete.

    Raises:
        DatasetError: There is no key or no `roboflow` package, Roboflow refuses or does not answer, or the archive or
            the target is refused; see `rfdetr_hwd.curation.archive.unpack`.
    """
    # Check everything that needs no network.
    for what, value in (("workspace", workspace), ("project", project), ("version", version)):
        if not re.fullmatch(r"\d+" if what == "version" else r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
            raise DatasetError(f"{value!r} is not the {what} of a Roboflow dataset: give WORKSPACE/PROJECT/VERSION")
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise DatasetError(f"{KEY_VARIABLE} is not set: export the key of your Roboflow account in it")
    if os.path.lexists(target):
        raise DatasetError(f"{target} already exists: choose a new directory")
    # Ask for the link, and download it within the limits of `fetch`.
    where = f"{workspace}/{project}/{version}"
    try:
        link = _export_link(_import_api(), key, workspace, project, version)
    except DatasetError:
        raise
    except Exception as error:  # the package raises its own kinds and those of requests, with the key in their URL
        raise DatasetError(f"cannot download {where} from Roboflow: {_scrub(str(error), key)}") from None
    return fetch_and_unpack(link, target)


def _import_api() -> Any:
    try:
        api = importlib.import_module("roboflow.adapters.rfapi")
    except ImportError:
        raise DatasetError("the package roboflow is missing: pip install 'rfdetr-hwd[roboflow]'") from None
    if not hasattr(api, "get_version_export"):
        raise DatasetError("this version of the package roboflow is not supported: pip install 'roboflow>=1.2.7'")
    return api


def _export_link(api: Any, key: str, workspace: str, project: str, version: str) -> str:
    # Wait for the export, which the first question starts.
    deadline = time.monotonic() + _MAX_WAIT_S
    answer = api.get_version_export(key, workspace, project, version, _FORMAT)
    while answer.get("ready") is False:
        if time.monotonic() > deadline:
            raise DatasetError(f"Roboflow has not finished the export within {_MAX_WAIT_S / 60:.0f} minutes: try again")
        time.sleep(_POLL_S)
        answer = api.get_version_export(key, workspace, project, version, _FORMAT)
    # The answer of an undocumented interface is not trusted.
    link = answer["export"]["link"]
    if not isinstance(link, str) or not link.startswith("https://"):
        raise DatasetError("Roboflow's answer has no https link to the export")
    return link


def _scrub(text: str, key: str) -> str:
    """Return one line of at most 500 characters without the key, plain or as quoted in a URL."""
    for form in (key, quote(key, safe="")):
        text = text.replace(form, "***")
    return " ".join(re.sub(r"(api_key=)[^&\s'\"]+", r"\1***", text).split())[:500]
