"""What every test shares: the opt-in flags, and a sentence for each test that they leave out.

`pytest --with-slow` adds tests that take minutes, `--with-gpu` those that need a CUDA device, `--with-cluster` those
that run on the cluster KUBECONFIG names. Mark a test with `@pytest.mark.slow`, `@pytest.mark.gpu` or
`@pytest.mark.cluster`.
"""

from __future__ import annotations

import pytest

OPT_IN = {
    "gpu": "needs a CUDA device",
    "cluster": "creates namespaces and Experiments on the cluster that KUBECONFIG names",
    "slow": "takes minutes",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    for marker, why in OPT_IN.items():
        parser.addoption(f"--with-{marker}", action="store_true", help=f"also run the tests marked {marker}: {why}")


def pytest_configure(config: pytest.Config) -> None:
    for marker, why in OPT_IN.items():
        config.addinivalue_line("markers", f"{marker}: {why}; runs only with --with-{marker}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker, why in OPT_IN.items():
            if item.get_closest_marker(marker) and not config.getoption(f"--with-{marker}"):
                item.add_marker(pytest.mark.skip(reason=f"{why}: opt in with --with-{marker}"))
