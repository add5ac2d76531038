"""Katib's gRPC messages are loaded without the SDK around them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tuner.katib import messages


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def test_messages_need_no_sdk() -> None:
    code = "import sys, tuner.suggestion.server; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(python(code).split())
    assert "google" in loaded
    assert not loaded & {"kubernetes", "requests"}


@pytest.mark.parametrize(
    "order", ["messages(); from kubeflow import katib", "from kubeflow import katib; messages()"]
)
def test_sdk_shares_the_messages(order: str) -> None:
    code = f"from tuner.katib.messages import katib_messages as messages; {order}; from kubeflow.katib import katib_api_pb2; "
    assert python(code + "print(messages() is katib_api_pb2, katib.ApiClient)").startswith("True")


def test_missing_package_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "kubeflow.katib.katib_api_pb2", raising=False)
    monkeypatch.setattr(messages, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="kubeflow-katib is not installed"):
        messages.katib_messages()
