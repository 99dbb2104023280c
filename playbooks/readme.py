"""Write the table of variables in each role's README, out of the role's interface.

    python -m playbooks.readme            write them
    python -m playbooks.readme --check    exit 1 and name each one that differs

`meta/argument_specs.yml` is the one home of a variable's name, type, default and meaning. Ansible
wants defaults a second time, in `defaults/main.yml`; that the two agree is checked here too.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent / "roles"
BEGIN = "<!-- generated from meta/argument_specs.yml by `python -m playbooks.readme` -->"
END = "<!-- end of what is generated -->"


def main(arguments: list[str]) -> int:
    """Write the tables, or say what differs."""
    found = []
    for role in roles():
        found += [f"{role.name}: {says}" for says in disagreements(role)]
        page = role / "README.md"
        written = with_table(page.read_text(), table(role))
        if written == page.read_text():
            continue
        if "--check" in arguments:
            found.append(f"{role.name}: README.md differs; next: python -m playbooks.readme")
        else:
            page.write_text(written)
            print(f"written: {page.relative_to(ROLES.parent.parent)}")
    for line in found:
        print(line)
    return 1 if found else 0


def roles() -> list[Path]:
    """Every role's folder, by name."""
    return sorted(path for path in ROLES.iterdir() if path.is_dir())


def options(role: Path) -> dict[str, dict[str, Any]]:
    """The variables of a role as its interface has them."""
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())
    return dict(specs["argument_specs"]["main"]["options"])


def disagreements(role: Path) -> Iterator[str]:
    """What `defaults/main.yml` and the interface say differently, one sentence each."""
    declared = {name: o["default"] for name, o in options(role).items() if "default" in o}
    written = yaml.safe_load((role / "defaults/main.yml").read_text()) or {}
    for name in sorted(declared.keys() | written.keys()):
        if name not in declared:
            yield f"defaults/main.yml sets {name}, which the interface gives no default"
        elif name not in written:
            yield f"the interface gives {name} a default that defaults/main.yml lacks"
        elif declared[name] != written[name]:
            yield f"{name} is {declared[name]!r} in the interface and {written[name]!r} in defaults"


def table(role: Path) -> str:
    """The variables as a table; nested ones stand below the list they are of."""
    rows = list(_rows(options(role), ""))
    if not rows:
        return "None."
    return "\n".join(["| name | type | default | meaning |", "|---|---|---|---|", *rows])


def _rows(declared: dict[str, dict[str, Any]], prefix: str) -> Iterator[str]:
    for name, option in declared.items():
        kind = str(option["type"])
        if "elements" in option:
            kind += f" of {option['elements']}"
        default = "required" if option.get("required") else f"`{_shown(option.get('default'))}`"
        meaning = " ".join(str(option["description"]).split())
        if "choices" in option:
            meaning += f" One of: {', '.join(map(str, option['choices']))}."
        yield f"| `{prefix}{name}` | {kind} | {default} | {meaning} |"
        yield from _rows(option.get("options", {}), f"{prefix}{name}[].")


def _shown(default: Any) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def with_table(page: str, made: str) -> str:
    """The page with what stands between the two marks replaced."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"a README has these two lines, with the table between:\n{BEGIN}\n{END}")
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
