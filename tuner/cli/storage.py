"""`gantune export`: a study for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tuner.cli.options import (
    client,
    cluster_options,
    engine_option,
    ensure_free,
    force_option,
    store_option,
    study_names,
)
from tuner.cli.terminal import say

# the keys of tuner.export.FORMATS, without its import
FORMATS = ("csv", "json", "parquet", "optuna", "yaml")
MLFLOW = "mlflow"


@click.command()
@click.argument("name", shell_complete=study_names)
@click.option(
    "--to", "form", type=click.Choice((*FORMATS, MLFLOW)), required=True, help="Choose the format."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file. [default: NAME with the ending of the format]",
)
@click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    help="Write to this MLflow server, with --to mlflow. [default: MLFLOW_TRACKING_URI]",
)
@force_option
@engine_option
@cluster_options
@store_option
def export(
    name: str,
    form: str,
    output: Path | None,
    tracking_uri: str | None,
    force: bool,
    local: bool | None,
    store_dir: Path,
    **where: Any,
) -> None:
    """Write the trials of the study NAME to a file that other tools read.

    \b
    csv      one row for each trial
    json     the result, with learning curves
    parquet  one row for each trial, with types; needs the extra [report]
    optuna   an Optuna storage (SQLite) for optuna-dashboard and optuna.load_study
    yaml     the result, with learning curves
    mlflow   a run for each trial on an MLflow server; needs the extra [mlflow]
    """
    from tuner.cli.study import read
    from tuner.export import FORMATS, write

    facade = client(store_dir, **where)
    result, kind = read(facade, name, local=local)
    if form == MLFLOW:
        if not tracking_uri:
            raise click.UsageError("--to mlflow needs --tracking-uri URI, or MLFLOW_TRACKING_URI")
        from tuner.export.mlflow import export as to_server
        from tuner.report import page

        study = facade.view(name, kind, images=True)
        files = {"manifest.yaml": study.source.encode(), "report.html": page([study]).encode()}
        tags = dict(study.record) | {"engine": kind.value}
        count = to_server(
            tracking_uri,
            study.result,
            study.experiment,
            study.curves,
            tags=tags,
            artifacts={file: data for file, data in files.items() if data},
        )
        say(f"{tracking_uri}: wrote {count} of {len(result.trials)} trials of {name}", err=True)
        return
    path = output or Path(f"{name}{FORMATS[form].suffix}")
    ensure_free(path, force)
    if path.exists():
        path.unlink()
    study = facade.view(name, kind, images=False)
    write(path, form, study.result, study.experiment, study.curves)
    say(f"{path}: {len(result.trials)} trials of {name}, {FORMATS[form].about}", err=True)
