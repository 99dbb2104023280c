"""Policies with access rules of a test's own beside the shipped ones, loaded as any policy is."""

import shutil
from pathlib import Path

from sovereign import policy as policies
from sovereign.policy import Policy
from sovereign.policy.spoken import Principal, Served
from tests.policy.conftest import SHIPPED

MODEL, OTHER = "smollm2-135m-instruct", "tiny-mixtral"
SOMEBODY = Principal("key_1", "acme", "tests", "contract", "personal")
HERE = Served(MODEL, "local-vllm", "vllm", "open", "yes", "this-host", ("chat",))


def with_rules(folder: Path, *rules: str, shipped: bool = True, name: str = "policies") -> Policy:
    """The shipped policy in a folder below this one, with these rules called `own-0` and so on."""
    copy = Path(shutil.copytree(SHIPPED, folder / name))
    if not shipped:
        (copy / "access/rules.cedar").unlink()
    said = [
        f'@id("own-{number}")\n@because("Because of {number}.")\n@source("test")\n{rule}\n'
        for number, rule in enumerate(rules)
    ]
    (copy / "access/own.cedar").write_text("\n".join(said))
    return policies.load(copy)
