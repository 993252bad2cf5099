"""What the splits of a dataset are for, and the names that say so."""

import re
from collections.abc import Mapping
from typing import Literal, get_args

Role = Literal["train", "val", "test"]

ROLES: tuple[Role, ...] = get_args(Role)

_ROLE_WORDS: Mapping[str, Role] = {
    **dict.fromkeys(("train", "training", "trainset", "trainval", "trn", "minitrain"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "valset", "minival"), "val"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}


def role_of(name: str) -> Role | None:
    """Return what a split of this name is for, in any case and with anything beside the word: `instances_Train2017`.

    `trainval` and `train_val` are for training. A name that speaks of several roles says nothing.
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    roles = {_ROLE_WORDS[word] for word in words if word in _ROLE_WORDS}
    if roles == {"train", "val"} and "train" in words and words[words.index("train") + 1 :][:1] == ["val"]:
        return "train"
    return roles.pop() if len(roles) == 1 else None
