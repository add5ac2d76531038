"""Builds models of the kubeflow-katib SDK from documents: what `KatibClient.create_experiment` takes.

The SDK's own `ApiClient.deserialize` fails on metadata, because it does not know the types that
current kubernetes packages name, such as `dict[str, str]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tuner.errors import GantuneError

LIST = re.compile(r"list\[(\w+)\]")


def model(document: Mapping[str, Any]) -> Any:
    """Return an Experiment's document as a V1beta1Experiment.

    Raises:
        GantuneError: kubeflow-katib is not installed.
    """
    try:
        from kubeflow.katib import models
    except ImportError as error:
        raise GantuneError(
            "a V1beta1Experiment needs kubeflow-katib. Install it: pip install 'gan-tuner[cluster]'"
        ) from error
    return _built(document, "V1beta1Experiment", models)


def _built(value: Any, kind: str, models: Any) -> Any:
    """Return a value as the type that the SDK names. What is no model stays as it is."""
    if isinstance(value, list) and (listed := LIST.fullmatch(kind)):
        return [_built(item, listed[1], models) for item in value]
    found: Any = getattr(models, kind, None)
    if not isinstance(value, Mapping) or not hasattr(found, "openapi_types"):
        return value
    keys = found.attribute_map
    return found(
        **{
            name: _built(value[keys[name]], type_, models)
            for name, type_ in found.openapi_types.items()
            if keys[name] in value
        }
    )
