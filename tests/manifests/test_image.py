"""The image, and who names it: one version everywhere, built from the trainer alone, and never as root."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from tests.manifests import rendering as k8s

DOCKERFILE = (k8s.ROOT / "Dockerfile").read_text()
STAGES = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]


def test_all_files_name_one_version() -> None:
    version = tomllib.loads((k8s.ROOT / "pyproject.toml").read_text())["project"]["version"]
    [chart] = k8s.documents((k8s.ROOT / "charts" / "gan-tuner" / "Chart.yaml").read_text())
    assert chart["appVersion"] == version
    images = set()
    versions = (k8s.ROOT / "kind" / "versions.env").read_text()
    for rendered in (
        k8s.search("bayes"),
        k8s.overlay("cpu"),
        k8s.overlay("katib-suggestions"),
        versions,
    ):
        images |= set(re.findall(r"ghcr\.io/gan-tuner/[\w.:-]+", rendered))
    tags = {
        f"trainer:{version}-cuda",
        f"trainer:{version}-cpu",
        f"client:{version}",
        f"suggestion:{version}",
    }
    assert images == {f"ghcr.io/gan-tuner/{tag}" for tag in tags}
    assert set(re.findall(r"^ARG VERSION=(.*)$", DOCKERFILE, flags=re.MULTILINE)) == {version}


def test_final_stages_contain_one_package() -> None:
    final = {
        stage.split()[2]: stage for stage in STAGES if not stage.split()[2].startswith("build")
    }
    assert final.keys() == {"trainer", "client", "suggestion"}
    job = k8s.trial(k8s.experiment(k8s.search("bayes")))
    user = job["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    for name, package in (("trainer", "trainer"), ("client", "tuner"), ("suggestion", "tuner")):
        assert re.findall(r"^COPY (\w+)/", final[name], flags=re.MULTILINE) == [package]
        assert f"USER {user}:{user}" in final[name]
        assert "org.opencontainers.image.version" in final[name]
    assert STAGES[-1] == final["trainer"], "docker build without --target makes the last stage"


def test_base_image_is_pinned() -> None:
    assert all(stage.startswith(("${BASE} AS ", "build AS ")) for stage in STAGES)
    assert ":latest" not in DOCKERFILE
    assert re.search(r"^ARG BASE=\S+:\d+\.\d+\.\d+", DOCKERFILE, flags=re.MULTILINE)
    wanted = re.findall(r'^.*pip install (.*(?:\\\n.*")*)', DOCKERFILE, flags=re.MULTILINE)
    packages = [package for line in wanted for package in re.findall(r'"([a-z][^"$]*[^"]*)"', line)]
    assert len(packages) > 10
    assert [
        package
        for package in packages
        if not re.fullmatch(r"[\w.-]+==(\d[\w.]*|\$\{[A-Z]+\})", package)
    ] == []
    torch = re.findall(r"^ARG (TORCH|TORCHVISION)=\d+\.\d+\.\d+$", DOCKERFILE, flags=re.MULTILINE)
    assert torch == ["TORCH", "TORCHVISION"]  # only the trainer needs them


@pytest.mark.parametrize(
    ("package", "stages", "others"),
    [
        # only remakes the bundled digits
        ("trainer", ("build", "build-trainer"), {"scikit-learn"}),
        (
            "tuner",
            ("build-client",),
            # others need them
            {"numpy", "urllib3", "websocket-client", "grpcio", "protobuf", "sqlalchemy"}
            # extras for a person at a desk
            | {"pandas", "starlette", "uvicorn", "tensorboard"},
        ),
    ],
)
def test_images_contain_imported_packages(
    package: str, stages: tuple[str, ...], others: set[str]
) -> None:
    held = {stage.split()[2]: stage for stage in STAGES}
    installed = {name for stage in stages for name in re.findall(r'"([\w.-]+)==', held[stage])}
    homes, missing = metadata.packages_distributions(), set()
    for file in (k8s.ROOT / package).rglob("*.py"):
        for module in _imported(file) - sys.stdlib_module_names - {package}:
            names = {name.lower().replace("_", "-") for name in homes.get(module, [module])}
            missing |= set() if names & installed else names
    assert missing - {"mlflow-skinny", "mlflow"} == others


def test_suggestion_image_contains_its_imports() -> None:
    import grimp

    graph = grimp.build_graph("tuner", include_external_packages=True, cache_dir=None)
    used = {
        name
        for name in graph.find_upstream_modules("tuner.suggestion.server")
        if not name.startswith("tuner")
    }
    [stage] = [stage for stage in STAGES if stage.startswith("${BASE} AS build-suggestion")]
    installed, homes = set(re.findall(r'"([\w.-]+)==', stage)), metadata.packages_distributions()
    missing = set()
    for module in used - sys.stdlib_module_names:
        names = {name.lower().replace("_", "-") for name in homes[module]}
        missing |= set() if names & installed else names
    # of scipy, of kubeflow-katib, of kubernetes, of Result.to_dataframe
    assert missing == {"numpy", "grpcio", "protobuf", "urllib3", "websocket-client", "pandas"}
    assert "cmaes" in installed  # Optuna's, which it imports when it needs it
    assert "torch" not in installed


def _imported(file: Path) -> set[str]:
    """The top-level names that a module imports, at its top or later."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_build_context_is_two_packages() -> None:
    allowed = [
        line
        for line in (k8s.ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    assert allowed == ["!trainer/", "!tuner/"]
