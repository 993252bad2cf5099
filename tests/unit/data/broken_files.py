"""Read a dataset of broken files: it ends with data, findings or one message."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from rfdetr_hwd.curation.check import check_dataset
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError
from tests.unit.data.yolo_files import write_tree


def read_everything(root: Path, files: Mapping[str, bytes], former: Iterable[str]) -> None:
    """Write the files in place of the former ones and check the dataset; every message has a sound length."""
    for name in former:
        (root / name).unlink(missing_ok=True)
    write_tree(root, files)
    messages = []
    try:
        report = check_dataset(find_layout(root), decode=False, num_queries=300)
        messages = [str(finding) for kind in report.findings.examples.values() for finding in kind]
    except DatasetError as error:
        messages.append(str(error))
    assert all(len(str(root)) < len(message) < 20_000 for message in messages)
