"""Make tuner/assets/job-fields.json: every field of a batch/v1 Job, with the type that Katib's webhook decodes.

    go mod download k8s.io/api@v0.34.0 k8s.io/apimachinery@v0.34.0     # the version in Katib's go.mod
    python .ci/job_fields.py "$(go env GOMODCACHE)/k8s.io" v0.34.0 > tuner/assets/job-fields.json

A type is written `string`, `int`, `float`, `bool`, `any`, `quantity`, `int-or-string`, the name of
another entry, `[]T` for a list or `{}T` for a map. A trailing `-` says that an empty value is lost
when Go writes it again (omitempty on what is no pointer): the webhook refuses a Job with such a
value, because it does not survive the round trip.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

FILES = {
    "batch": "api@{}/batch/v1",
    "core": "api@{}/core/v1",
    "meta": "apimachinery@{}/pkg/apis/meta/v1",
}
BASIC = {
    "string": "string",
    "bool": "bool",
    "byte": "string",
    "float64": "float",
    "types.UID": "string",
}
NAMED = {
    "resource.Quantity": "quantity",
    "intstr.IntOrString": "int-or-string",
    "metav1.Time": "string",
    "Time": "string",
    "FieldsV1": "any",
    "metav1.FieldsV1": "any",
}
STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.M | re.S)
ALIAS = re.compile(r"^type (\w+) ([\w.\[\]*]+)$", re.M)
FIELD = re.compile(r'^\t(?:(\w+) +)?([\w.\[\]*]+) +`json:"([\w$]*)((?:,\w+)*)"', re.M)


def sources(root: Path, version: str) -> dict[str, str]:
    """The text of the three packages' types.go files."""
    return {
        name: (root / where.format(version) / "types.go").read_text()
        for name, where in FILES.items()
    }


class Types:
    """The structs and aliases of the three packages, and the table of their fields."""

    def __init__(self, root: Path, version: str) -> None:
        self.structs: dict[str, tuple[str, str]] = {}
        self.aliases: dict[str, tuple[str, str]] = {}
        self.table: dict[str, dict[str, str]] = {}
        for package, text in sources(root, version).items():
            self.structs |= {
                f"{package}.{name}": (package, body) for name, body in STRUCT.findall(text)
            }
            self.aliases |= {
                f"{package}.{name}": (package, target) for name, target in ALIAS.findall(text)
            }

    def kind(self, package: str, go: str) -> str:
        """Return how the table writes a type of Go."""
        go = go.lstrip("*")
        if go.startswith("[]byte"):
            return "string"
        if go.startswith("[]"):
            return "[]" + self.kind(package, go[2:])
        if go.startswith("map["):
            return "{}" + self.kind(package, go[go.index("]") + 1 :])
        if go in NAMED or go in BASIC:
            return NAMED.get(go) or BASIC[go]
        if re.fullmatch(r"u?int\d*", go):
            return "int"
        prefix, _, last = go.rpartition(".")
        where = {"v1": "core", "corev1": "core", "metav1": "meta", "": package}.get(prefix, prefix)
        name = f"{where}.{last}"
        return name if name in self.structs else self.kind(*self.aliases[name])

    def add(self, name: str) -> None:
        """Add a struct and all that its fields reach to the table."""
        if name in self.table or name not in self.structs:
            return
        fields = self.table[name] = {}
        package, body = self.structs[name]
        for _, go, key, options in FIELD.findall(body):
            what = self.kind(package, go)
            if "inline" in options or not key:
                self.add(what)
                fields |= self.table.get(what, {})
                continue
            written = what not in ("quantity", "int-or-string") and what not in self.structs
            empty_is_lost = "omitempty" in options and not go.startswith("*") and written
            fields[key] = what + ("-" if empty_is_lost else "")
            self.add(what.replace("[]", "").replace("{}", ""))

    def reached(self, name: str, used: set[str]) -> set[str]:
        """Return `used` with the entries that `name` reaches."""
        if name in self.table and name not in used:
            used.add(name)
            for what in self.table[name].values():
                self.reached(what.strip("[]{}-"), used)
        return used


def main() -> None:
    """Print the table."""
    version = sys.argv[2]
    types = Types(Path(sys.argv[1]), version)
    types.add("batch.Job")
    types.table["batch.Job"]["status"] = "any"
    used = sorted(types.reached("batch.Job", set()))
    short = {"version": version, "types": {name: types.table[name] for name in used}}
    json.dump(short, sys.stdout, indent=0, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
