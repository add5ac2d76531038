"""Make tuner/assets/job-fields.json: every field of a batch/v1 Job, with the type that Katib's webhook decodes.

    go mod download k8s.io/api@v0.34.0 k8s.io/apimachinery@v0.34.0     # the version in Katib's go.mod
    python .ci/job_fields.py "$(go env GOMODCACHE)/k8s.io" v0.34.0 > tuner/assets/job-fields.json

A type is written `string`, `int`, `float`, `bool`, `any`, `quantity`, `int-or-string`, the name of another entry, `[]T`
for a list or `{}T` for a map. A trailing `-` says that an empty value is lost when Go writes it again (omitempty on
what is no pointer): the webhook refuses a Job with such a value, because it does not survive the round trip.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

FILES = {"batch": "api@{}/batch/v1", "core": "api@{}/core/v1", "meta": "apimachinery@{}/pkg/apis/meta/v1"}
BASIC = {"string": "string", "bool": "bool", "byte": "string", "float64": "float", "types.UID": "string"}
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
    return {name: (root / where.format(version) / "types.go").read_text() for name, where in FILES.items()}


def main() -> None:
    """Print the table."""
    root, version = Path(sys.argv[1]), sys.argv[2]
    structs: dict[str, tuple[str, str]] = {}
    aliases: dict[str, tuple[str, str]] = {}
    for package, text in sources(root, version).items():
        structs |= {f"{package}.{name}": (package, body) for name, body in STRUCT.findall(text)}
        aliases |= {f"{package}.{name}": (package, target) for name, target in ALIAS.findall(text)}

    def full(package: str, name: str) -> str:
        prefix, _, last = name.rpartition(".")
        where = {"v1": "core", "corev1": "core", "metav1": "meta", "": package}.get(prefix, prefix)
        return f"{where}.{last}"

    def kind(package: str, go: str) -> str:
        go = go.lstrip("*")
        if go.startswith("[]byte"):
            return "string"
        if go.startswith("[]"):
            return "[]" + kind(package, go[2:])
        if go.startswith("map["):
            return "{}" + kind(package, go[go.index("]") + 1 :])
        if go in NAMED:
            return NAMED[go]
        if go in BASIC:
            return BASIC[go]
        if re.fullmatch(r"u?int\d*", go):
            return "int"
        name = full(package, go)
        if name in structs:
            return name
        return kind(*aliases[name])

    table: dict[str, dict[str, str]] = {}

    def add(name: str) -> None:
        if name in table or name not in structs:
            return
        fields = table[name] = {}
        package, body = structs[name]
        for _, go, key, options in FIELD.findall(body):
            what = kind(package, go)
            if "inline" in options or not key:
                inner = what
                add(inner)
                fields |= table.get(inner, {})
                continue
            empty_is_lost = "omitempty" in options and not go.startswith("*") and what not in structs
            if what in ("quantity", "int-or-string"):
                empty_is_lost = False
            fields[key] = what + ("-" if empty_is_lost else "")
            add(what.replace("[]", "").replace("{}", ""))

    add("batch.Job")
    table["batch.Job"]["status"] = "any"
    used: set[str] = set()

    def walk(name: str) -> None:
        if name in table and name not in used:
            used.add(name)
            for what in table[name].values():
                walk(what.strip("[]{}-"))

    walk("batch.Job")
    short = {"version": version, "types": {name: table[name] for name in sorted(used)}}
    json.dump(short, sys.stdout, indent=0, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
