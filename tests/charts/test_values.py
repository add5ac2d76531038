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
        here = (
            [path] if "properties" in node and node.get("additionalProperties") is not False else []
        )
        return here + [
            found for key, child in node.items() for found in opened(child, f"{path}/{key}")
        ]

    assert opened(schema, "") == []
    for path in leaves(values()):
        broken = values()
        *parents, last = path.split(".")
        node = broken
        for key in parents:
            node = node[key]
        node[last + "x"] = node.pop(last)
        # names of Katib's own; the chart's checks know them
        if parents and parents[-1] == "settings":
            continue
        assert list(validator.iter_errors(broken)), path


def test_schema_refuses_undocumented_values() -> None:
    text = (CHART / "values.yaml").read_text()
    named = set(re.findall(r"[A-Za-z]+", " ".join(re.findall(r"#.*", text))))

    def unknown(schema: dict[str, Any], held: Any, path: str) -> list[str]:
        held = held if isinstance(held, dict) else {}
        inner = schema.get("additionalProperties")
        found = (
            []
            if not isinstance(inner, dict)
            else unknown(inner, next(iter(held.values()), None), f"{path}.*")
        )
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


class Rendering:
    """`helm template` of everything that the chart can render."""

    def __init__(self, helm: str, folder: Path) -> None:
        more = {
            "namespace": {"create": True, "name": "lab"},
            "client": {"experiment": "own"},  # so that it follows something without bayes
            "experiments": {"own": values()["experiments"]["bayes"]},
        }
        (folder / "more.yaml").write_text(json.dumps(more))
        files = [
            "-f",
            str(CHART / "ci" / "everything-values.yaml"),
            "-f",
            str(folder / "more.yaml"),
        ]
        self.command = [
            k8s.tool(helm),
            "template",
            "gan",
            str(CHART),
            "-n=gan-tuner",
            "--kube-version=1.36.0",
            *files,
        ]

    def __call__(self, *options: str) -> tuple[int, str]:
        ran = subprocess.run([*self.command, *options], check=False, capture_output=True, text=True)
        return ran.returncode, ran.stderr if ran.returncode else ran.stdout

    def with_null(self, *paths: str) -> tuple[int, str]:
        return self(*(f"--set={path}=null" for path in paths))


@pytest.fixture(params=HELMS)
def rendering(request: pytest.FixtureRequest, tmp_path: Path) -> Rendering:
    return Rendering(request.param, tmp_path)


GIVEN = "experiments.bayes.algorithm.settings"


def test_null_setting_is_removed(rendering: Rendering) -> None:
    own = set(values()["experiments"]["bayes"]["algorithm"]["settings"])
    for path, left in [(GIVEN, set()), *((f"{GIVEN}.{name}", own - {name}) for name in own)]:
        code, told = rendering.with_null(path)
        assert code == 0, told
        [search] = [
            d
            for d in k8s.documents(told)
            if d["metadata"]["labels"].get("gan-tuner/search") == "bayes"
        ]
        assert {
            one["name"] for one in search["spec"]["algorithm"].get("algorithmSettings", [])
        } == left


def test_null_search_is_disabled(rendering: Rendering) -> None:
    assert rendering.with_null("experiments.bayes") == rendering(
        "--set=experiments.bayes.enabled=false"
    )


def nullable() -> dict[str, Any]:
    """The values that may be null, each with the empty value that means the same."""
    found = {
        path: held
        for path, held in keys(values())
        if held in ("", [], {}, None) and not path.startswith(GIVEN)
    }
    off = ("runFirstTrials", "stopTrials")
    return (
        found
        | {"experiments.bayes.firstTrials": []}
        | {f"experiments.bayes.{name}": False for name in off}
    )


def test_null_equals_an_empty_value(rendering: Rendering) -> None:
    empty = nullable()
    assert len(empty) > 10
    del empty["namespace.name"]  # refused together with namespace.create
    assert rendering.with_null("namespace.name") == rendering('--set-json=namespace.name=""')
    code, told = rendering.with_null(*empty)
    assert code == 0, told
    assert (
        told
        == rendering(*(f"--set-json={path}={json.dumps(held)}" for path, held in empty.items()))[1]
    )


def test_null_is_refused_elsewhere(rendering: Rendering) -> None:
    """Helm reports all missing values at once: one call for each depth, since a section hides what it contains."""
    others = {"experiments.bayes", *nullable()}
    needed = [
        path for path, _ in keys(values()) if path not in others and not path.startswith(GIVEN)
    ]
    refused = set()
    for depth in {path.count(".") for path in needed}:
        code, told = rendering.with_null(*(path for path in needed if path.count(".") == depth))
        assert code != 0
        for place, names in re.findall(
            r"at '/?([^']*)': missing propert(?:y|ies) ('[^\n]*')", told
        ):
            refused |= {
                ".".join([*place.split("/"), name]).lstrip(".")
                for name in re.findall(r"'([^']+)'", names)
            }
    assert set(needed) - refused == set()


@pytest.mark.parametrize("name", ["random", "sobol"])
def test_own_search_needs_all_other_fields(name: str, tmp_path: Path) -> None:
    bayes = values()["experiments"]["bayes"]
    optional = ("firstTrials", "runFirstTrials", "stopFactors", "stopTrials")
    unset = ("goal", "seedNoise", "costMetric")
    own = {k: v for k, v in bayes.items() if k not in optional} | {
        "algorithm": {"name": name},
        "objective": {k: v for k, v in bayes["objective"].items() if k not in unset},
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
    lines = [
        line.strip()
        for path in (CHART / "tests").glob("*_test.yaml")
        for line in path.read_text().splitlines()
    ]
    tested = {line.split(":")[0] for line in lines}
    settings_map = "experiments.bayes.algorithm.settings"  # tested as a whole
    missing = {
        p for p in leaves(values()) if p not in tested and p.rsplit(".", 1)[0] != settings_map
    }
    assert missing == set()
    assert settings_map in tested
