"""Kubernetes' own OpenAPI documents, cut down to the kinds that this repository writes, as strict JSON schemas.

    python tests/manifests/schemas/generate.py      # needs Go: 105 MB of modules for six versions, seconds

The usual public collection of schemas for kubeconform is a Git repository of several GiB, looked up
over the network at each run. The Go module k8s.io/kubernetes holds the source of the same for each
release, and 100 KiB a version is all that is used of it here. Strict: an unknown key is an error,
as with `kubectl apply --validate=strict`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

VERSIONS = ["v1.31.14", "v1.32.13", "v1.33.13", "v1.34.4", "v1.35.4", "v1.36.3"]
KINDS = {
    "": ["ConfigMap", "Namespace", "PersistentVolumeClaim", "Pod", "ServiceAccount"],
    "batch": ["Job"],
    "networking": ["NetworkPolicy"],
    "rbac": ["Role", "RoleBinding"],
    "resource": ["ResourceClaimTemplate"],  # v1: since 1.34
}
PREFIX = {
    "": "core",
    "batch": "batch",
    "networking": "networking",
    "rbac": "rbac",
    "resource": "resource",
}
HERE = Path(__file__).parent


def swagger(version: str) -> dict[str, Any]:
    """The definitions of one release, from the Go module k8s.io/kubernetes."""
    command = ["go", "mod", "download", "-json", f"k8s.io/kubernetes@{version}"]
    folder = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)[
        "Dir"
    ]
    definitions: dict[str, Any] = json.loads(
        (Path(folder) / "api/openapi-spec/swagger.json").read_text()
    )["definitions"]
    return definitions


def strict(node: Any) -> Any:
    """A definition without its prose, closed to unknown keys; int-or-string as the API server takes it."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {
        key: {name: strict(child) for name, child in value.items()}
        if key == "properties"
        else strict(value)
        for key, value in node.items()
        if key in ("properties", "description") or not key.startswith("x-")
        if key not in ("description", "default", "format")
    }
    if node.get("format") == "int-or-string":
        return {"type": ["string", "integer"]}
    if "properties" in out:
        out["additionalProperties"] = False
    return out


def closure(definitions: dict[str, Any], roots: list[str]) -> dict[str, Any]:
    """The roots and every definition that they reach."""
    found: dict[str, Any] = {}
    stack = list(roots)
    while stack:
        name = stack.pop()
        if name in found:
            continue
        found[name] = strict(definitions[name])
        stack += [
            part.split('"')[0] for part in json.dumps(found[name]).split("#/definitions/")[1:]
        ]
    quantity = "io.k8s.apimachinery.pkg.api.resource.Quantity"
    if quantity in found:
        found[quantity] = {"type": ["string", "number"]}
    return found


def write(version: str) -> None:
    definitions = swagger(version)
    names = {
        f"{kind}{'-' + group if group else ''}-v1": f"io.k8s.api.{PREFIX[group]}.v1.{kind}"
        for group, kinds in KINDS.items()
        for kind in kinds
    }
    names = {file: name for file, name in names.items() if name in definitions}
    found = closure(definitions, list(names.values()))
    for file, name in names.items():
        group = (
            ""
            if name.startswith("io.k8s.api.core")
            else definitions[name]["x-kubernetes-group-version-kind"][0]["group"]
        )
        found[name]["properties"] |= {
            "apiVersion": {"const": f"{group}/v1" if group else "v1"},
            "kind": {"const": name.rsplit(".", 1)[1]},
        }
        found[name]["required"] = sorted(
            {*found[name].get("required", []), "apiVersion", "kind", "metadata"}
        )
        target = HERE / version.rsplit(".", 1)[0] / f"{file.lower()}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps({"$ref": f"definitions.json#/definitions/{name}"}) + "\n")
    text = json.dumps({"definitions": found}, sort_keys=True, separators=(",", ":"))
    (HERE / version.rsplit(".", 1)[0] / "definitions.json").write_text(text + "\n")


if __name__ == "__main__":
    for release in VERSIONS:
        write(release)
        print(release, file=sys.stderr)
