"""values.yaml and its schema: every value is documented, tested and checked."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.charts.test_chart import CHART, HELMS, leaves, searches, values
from tests.manifests import rendering as k8s


def test_every_value_has_a_comment() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = [
        line.strip()
        for before, line in zip(["", *lines], lines, strict=False)
        if re.match(r"^ *[A-Za-z-]+: \S", line) and not before.strip().startswith("#")
    ]
    assert bare == []


def test_schema_lists_exactly_the_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    validator = Draft7Validator(schema)
    Draft7Validator.check_schema(schema)
    assert not list(validator.iter_errors(values()))

    def opened(node: Any, path: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        here = [path] if "properties" in node and node.get("additionalProperties") is not False else []
        return here + [found for key, child in node.items() for found in opened(child, f"{path}/{key}")]

    assert opened(schema, "") == []
    for path in leaves(values()):
        broken = values()
        *parents, last = path.split(".")
        node = broken
        for key in parents:
            node = node[key]
        node[last + "x"] = node.pop(last)
        if parents and parents[-1] == "settings":  # names of Katib's own; the chart's checks know them
            continue
        assert list(validator.iter_errors(broken)), path


def test_schema_refuses_undocumented_values() -> None:
    text = (CHART / "values.yaml").read_text()
    named = set(re.findall(r"[A-Za-z]+", " ".join(re.findall(r"#.*", text))))

    def unknown(schema: dict[str, Any], held: Any, path: str) -> list[str]:
        held = held if isinstance(held, dict) else {}
        inner = schema.get("additionalProperties")
        found = [] if not isinstance(inner, dict) else unknown(inner, next(iter(held.values()), None), f"{path}.*")
        found += unknown(schema["items"], None, f"{path}[]") if "items" in schema else []
        for key, child in schema.get("properties", {}).items():
            found += [] if key in held or key in named else [f"{path}.{key}"]
            found += unknown(child, held.get(key), f"{path}.{key}")
        return found

    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"].pop("global")  # Helm's own
    assert unknown(schema, values(), "") == []


def keys(node: Any, path: str = "") -> list[tuple[str, Any]]:
    """Dotted paths of all values and sections, each with what it holds."""
    if not isinstance(node, dict):
        return []
    here = [(f"{path}.{key}" if path else key, child) for key, child in node.items()]
    return here + [found for name, child in here for found in keys(child, name)]


@pytest.mark.parametrize("helm", HELMS)
def test_null_is_empty_or_refused(helm: str, tmp_path: Path) -> None:
    bayes = values()["experiments"]["bayes"]
    given = "experiments.bayes.algorithm.settings"
    more = {
        "namespace": {"create": True, "name": "lab"},
        "client": {"experiment": "own"},  # so that it follows something without bayes
        "experiments": {"own": bayes},
    }
    (tmp_path / "more.yaml").write_text(json.dumps(more))
    files = ["-f", str(CHART / "ci" / "everything-values.yaml"), "-f", str(tmp_path / "more.yaml")]

    def done(option: str) -> tuple[int, str]:
        command = [k8s.tool(helm), "template", "gan", str(CHART), "-n=gan-tuner", "--kube-version=1.36.0", *files]
        ran = subprocess.run([*command, option], check=False, capture_output=True, text=True)
        return ran.returncode, ran.stderr if ran.returncode else ran.stdout

    def left(rendered: str) -> set[str]:
        [search] = [d for d in k8s.documents(rendered) if d["metadata"]["labels"].get("gan-tuner/search") == "bayes"]
        return {setting["name"] for setting in search["spec"]["algorithm"].get("algorithmSettings", [])}

    odd = []
    for path, held in keys(values()):
        code, told = done(f"--set={path}=null")
        *parents, last = path.split(".")
        if path == "experiments.bayes":
            fine = (code, told) == done("--set=experiments.bayes.enabled=false")
        elif path.startswith(given):
            fine = code == 0 and left(told) == (set() if path == given else {*bayes["algorithm"]["settings"]} - {last})
        elif held in ("", [], {}, None) or last == "firstTrials":
            fine = (code, told) == done(f"--set-json={path}={json.dumps(held and [])}")
        else:
            fine = code != 0 and re.search(rf"at '/?{'/'.join(parents)}': missing property '{last}'", told) is not None
        odd += [] if fine else [f"{path}: {told[-400:]}"]
    assert odd == []


@pytest.mark.parametrize("name", ["random", "sobol"])
def test_own_search_needs_all_other_fields(name: str, tmp_path: Path) -> None:
    bayes = values()["experiments"]["bayes"]
    optional = ("firstTrials", "stopFactors")
    own = {k: v for k, v in bayes.items() if k not in optional} | {
        "algorithm": {"name": name},
        "objective": {k: v for k, v in bayes["objective"].items() if k != "goal"},
    }
    (tmp_path / "values.yaml").write_text(json.dumps({"experiments": {"own": own}}))
    spec = searches("-f", str(tmp_path / "values.yaml"))["own"]["spec"]
    assert spec["algorithm"] == {"algorithmName": name}
    assert "goal" not in spec["objective"]
    schema = json.loads((CHART / "values.schema.json").read_text())
    for path, _ in keys(own):
        broken = json.loads(json.dumps(own))
        *parents, last = path.split(".")
        del functools.reduce(dict.__getitem__, parents, broken)[last]
        [error] = Draft7Validator(schema).iter_errors(values() | {"experiments": {"own": broken}})
        assert f"'{last}' is a required property" in error.message


def test_every_value_is_set_in_a_unit_test() -> None:
    lines = [line.strip() for path in (CHART / "tests").glob("*_test.yaml") for line in path.read_text().splitlines()]
    tested = {line.split(":")[0] for line in lines}
    settings_map = "experiments.bayes.algorithm.settings"  # tested as a whole
    missing = {p for p in leaves(values()) if p not in tested and p.rsplit(".", 1)[0] != settings_map}
    assert missing == set()
    assert settings_map in tested
