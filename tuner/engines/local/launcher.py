"""A trial's job: its command, its directories, its environment, and its share of cores and GPUs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from tuner.engines.local import distributed, namespace, packages, push, workspace
from tuner.engines.local.journal import TrialRecord
from tuner.engines.local.machine import ensure_room
from tuner.engines.local.reading import OUTPUT, metrics_file, metrics_reader
from tuner.engines.local.runner import GRACE, Job, Step
from tuner.engines.local.trial import takes_argv
from tuner.errors import CommandError, StudyError, similar
from tuner.experiment import command, interpreter
from tuner.experiment.model import CollectorKind, Experiment
from tuner.katib import shell
from tuner.katib.shell import is_python
from tuner.metrics import MetricsReader
from tuner.samplers.pbt import PARENT
from tuner.space import Categorical, Discrete
from tuner.store.files import remove

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_BLOCK = 1 << 16  # bytes of a log that are searched at once for its last line
CGROUP = Path("/sys/fs/cgroup")


class Launcher:
    """Makes the jobs of one Experiment.

    Attributes:
        module: What the fork server imports; "" where trials run another program.
        start: The directory that the search was started from.
        python: The interpreter that `python` in the command means.
        warnings: What users should know before the first trial starts.
    """

    def __init__(self, experiment: Experiment, folder: Path, *, from_scratch: bool) -> None:
        self._experiment = experiment
        self._study = folder.absolute()
        self._trials = self._study / "trials"
        self._method = workspace.Method.COPY
        self.start = Path.cwd()
        self._from_scratch = from_scratch
        # by the packages that a command installs
        self._environments: dict[tuple[tuple[str, ...], ...], Path] = {}
        self.module = ""
        self.python = interpreter.python()
        self._forks = interpreter.is_own(self.python)
        self.warnings: list[str] = []

    def prepare(self, entry: TrialRecord) -> None:
        """Look at the command before any trial runs.

        Raises CommandError where its module or program is not on this machine, and where a value of
        the search space or the path of a volume could be code for the shell that it runs.
        """
        built = command.build(self._experiment, entry.name, entry.values)
        for one in (built, *built.init):
            one.inside(self.folder(entry))
        self._try_values(entry, here_document=any("<<" in item for item in built.argv))
        if built.module and not self._forks:
            self._ensure_found(built.module)
        elif built.module:
            with _path_of(self.start):
                try:
                    self.module = built.module if takes_argv(built.module) else ""
                except ModuleNotFoundError as error:
                    raise CommandError(
                        f"python -m {built.module}: {error}; install it here, or run where it is (now {self.start})"
                    ) from error
                except Exception as error:
                    raise CommandError(f"python -m {built.module} cannot start: {error}") from error
        for one in (*built.init, *(() if built.module else (built,))):
            program = self._argv(one)[0]
            if shutil.which(program, path=interpreter.search_path()) is None:
                raise CommandError(
                    f"container {one.name}: command {program!r} is not found on this machine. "
                    "Install it, or submit the search to a cluster"
                )
            self._ensure_script(one)
            if own := self._environment(one):
                self.warnings.append(
                    f"container {one.name} installs packages: they are in {own}, an environment of their own. "
                    "Delete it when no search needs it"
                )
        if not self._forks and any(map(is_python, " ".join(built.argv).split())):
            self.warnings.append(
                f"trials run with {interpreter.described(self.python)}, and gantune with "
                f"{sys.executable}. So each trial imports its packages again, because trials fork "
                "only from gantune's own interpreter"
            )
        self.warnings += command.warnings(self._experiment)
        for path, mount in built.hidden_paths():
            self.warnings.append(
                f"trials do not see {path} of this machine, because {mount} is a volume of their own, as in a pod. "
                f"Move it out of {mount} and name its new path"
            )
        if (
            built.cwd
            and not any(_under(built.cwd, mount) for mount in built.mounts)
            and not Path(built.cwd).is_dir()
        ):
            self.warnings.append(
                f"workingDir {built.cwd} does not exist on this machine: trials run in {self.start}"
            )
        ensure_room(self._study)  # or else the plan is that of a full disk
        chosen = workspace.plan(self._start(built), self._study)
        self._method = chosen.method
        self.warnings.extend(chosen.warnings)

    def _ensure_found(self, module: str) -> None:
        """Raise CommandError where the trials' interpreter does not find a module."""
        look = "import importlib.util, sys; sys.exit(not importlib.util.find_spec(sys.argv[1]))"
        done = subprocess.run(  # noqa: S603 - a list, no shell
            [self.python, "-c", look, module], cwd=self.start, capture_output=True, check=False
        )
        if done.returncode != 0:
            raise CommandError(
                f"python -m {module}: No module named {module!r}, with the interpreter "
                f"{interpreter.described(self.python)}; install it there, or run where it is "
                f"(now {self.start})"
            )

    def _ensure_script(self, built: command.Command) -> None:
        """Raise CommandError where an interpreter's script is not on this machine.

        A script in a volume is left out: an init container may write it.
        """
        script = shell.script(built.argv)
        path = self._start(built) / (built.cwd or ".") / script
        if not script or built.init or any(_under(str(path), mount) for mount in built.mounts):
            return
        if not path.exists():
            raise CommandError(
                f"container {built.name}: the script {script!r} is not in {path.parent}"
                f"{similar(path)}. Correct the command, or run the search where the script is"
            )

    def _try_values(self, entry: TrialRecord, *, here_document: bool) -> None:
        """Build the command with each listed value, so that none is refused in the middle of a search.

        A plain one can be refused only as the delimiter of a here-document.
        """
        for parameter in self._experiment.parameters:
            for value in parameter.choices if isinstance(parameter, Categorical | Discrete) else ():
                if here_document or not shell.is_plain(value):
                    point = {**entry.values, parameter.name: value}
                    command.build(self._experiment, entry.name, point)

    def folder(self, entry: TrialRecord) -> Path:
        """The trial's own directory."""
        return self._trials / entry.name

    def discard_temporary(self, entry: TrialRecord) -> None:
        """Delete what a finished trial wrote to its own /tmp, as a pod's is deleted."""
        with contextlib.suppress(StudyError):
            remove(self.folder(entry) / namespace.TEMPORARY_FILES)

    def log(self, entry: TrialRecord) -> Path:
        """What the trial prints."""
        return self.folder(entry) / OUTPUT

    def job(self, entry: TrialRecord, slot: Mapping[str, str]) -> Job:
        """The trial's directories, made, and its job. A trial that runs again finds what it left, unless its rungs

        of early stopping count its reports: then it starts from scratch, so that none is counted
            twice.
        """
        folder = self.folder(entry)
        plain = command.build(self._experiment, entry.name, entry.values)
        try:
            if self._from_scratch and folder.exists():
                remove(folder)
            self._inherit(entry)
            for one in (plain, *plain.init):
                for mount in one.mounts:
                    own = command.place(folder, one.aliases.get(mount, mount))
                    (own.parent if mount == self._experiment.collector.path else own).mkdir(
                        parents=True, exist_ok=True
                    )
            folder.mkdir(parents=True, exist_ok=True)
            self.log(entry).touch()
            metrics = metrics_file(self._experiment, folder)
            metrics.parent.mkdir(parents=True, exist_ok=True)
            for path in {self.log(entry), metrics}:
                _drop_torn_line(path)
        except OSError as error:
            raise StudyError(
                f"{folder} cannot be written: {error.strerror}; run the same line again"
            ) from error
        built = plain.inside(folder)
        module = self.module if built.module == self.module else ""
        start = self._start(plain)
        return Job(
            number=entry.number,
            directory=str(folder),
            start=str(start),
            method=self._method,
            step=self._step(built, folder, slot, start, module),
            init=tuple(self._step(one, folder, slot, start) for one in built.init),
            log=str(self.log(entry)),
            deadline=built.deadline,
            grace=GRACE,
            shared_memory=command.shared_memory(self._experiment),
        )

    def _inherit(self, entry: TrialRecord) -> None:
        """Give a trial of pbt a copy of what its parent left. One that runs again keeps its own directory."""
        mount, parent = command.inherited_mount(self._experiment), entry.point.get(PARENT)
        own = command.place(self.folder(entry), mount)
        if parent is None or own.exists():
            return
        source = command.place(self._trials / f"{self._experiment.name}-{parent}", mount)
        if not source.is_dir():
            raise StudyError(
                f"{source} is gone, which trial {entry.number} continues: restore it, or start over with --fresh"
            )
        draft = own.with_name(f".{own.name}.new")
        remove(draft)
        own.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(
                source, draft, symlinks=True, ignore=_special_files, copy_function=_copy
            )
        except shutil.Error as error:  # it has a list of failures, and no strerror
            path, _, why = error.args[0][0]
            raise StudyError(
                f"{path} cannot be copied for trial {entry.number}: {why}. Fix this, and run the same command again"
            ) from error
        _lead_links_to(own, draft, source)
        draft.replace(own)

    def _step(
        self,
        built: command.Command,
        folder: Path,
        slot: Mapping[str, str],
        start: Path,
        module: str = "",
    ) -> Step:
        own = self._environment(built)
        path = interpreter.search_path()
        found = packages.variables(own, path) if own else {"PATH": path}
        variables = {**found, **slot, **self._distributed(), **built.env}
        if self._experiment.collector.kind is CollectorKind.PUSH:
            variables |= push.environment(folder, built.env.get("PYTHONPATH", ""))
        return Step(
            argv=tuple(built.argv[3:]) if module else tuple(self._argv(built)),
            module=module,
            env=variables,
            cwd=built.cwd if built.cwd != str(start) and Path(built.cwd).is_dir() else "",
            name=built.name,
        )

    def _distributed(self) -> Mapping[str, str]:
        return distributed.environment(str(self._experiment.template.spec.get("kind")))

    def _environment(self, built: command.Command) -> Path | None:
        """Return the environment of the packages that a command installs, None if it installs none."""
        wanted = packages.installed_by(built.argv)
        if wanted and wanted not in self._environments:
            self._environments[wanted] = packages.environment(wanted, self._start(built))
        return self._environments.get(wanted)

    def _start(self, plain: command.Command) -> Path:
        """The directory whose files trials see: workingDir, if it exists on this machine, or where the client runs."""
        own = any(_under(plain.cwd, mount) for mount in plain.mounts)
        return Path(plain.cwd) if plain.cwd and not own and Path(plain.cwd).is_dir() else self.start

    def reader(self, entry: TrialRecord, keep_going: Callable[[], bool]) -> MetricsReader:
        """What reads the trial's metrics, as they come, until `keep_going` returns False."""
        return metrics_reader(self._experiment, self.folder(entry), keep_going)

    def _argv(self, built: command.Command) -> list[str]:
        program, *rest = built.argv
        return [self.python if program in interpreter.NAMES else program, *rest]


def share(workers: int) -> list[dict[str, str]]:
    """One environment a worker: an equal share of the cores, and one GPU each where there are any."""
    threads = str(max(cores() // workers, 1))
    ids = gpus()
    slots = []
    for index in range(workers):
        slot = {
            name: os.environ.get(name, threads) if workers == 1 else threads for name in _THREADS
        }
        if ids:
            slot["CUDA_VISIBLE_DEVICES"] = ids[index % len(ids)]
        slots.append(slot)
    return slots


def auto_workers(parallel: int) -> int:
    """As many as there are GPUs, or else cores, and no more than the manifest's parallelTrialCount."""
    return max(min(len(gpus()) or cores(), parallel), 1)


def cores() -> int:
    """The CPUs this process may use: its affinity and its cgroup's quota."""
    count = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    # cgroup versions 2 and 1
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):
            text = " ".join((CGROUP / name).read_text(encoding="ascii") for name in files)
            quota, period = text.split()
            if quota not in ("max", "-1"):
                count = min(count, int(quota) // int(period))
    return max(count, 1)


def gpus() -> list[str]:
    """The GPUs this process may use, by what CUDA_VISIBLE_DEVICES calls them; found without CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [one for one in visible.split(",") if one and one != "-1"]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index, _ in enumerate(folder.iterdir())] if folder.is_dir() else []


def _special_files(folder: str, names: list[str]) -> list[str]:
    """Return those of `names` that are no file, directory or link: pipes and sockets cannot be copied."""
    paths = [Path(folder, name) for name in names]
    return [
        path.name for path in paths if not (path.is_symlink() or path.is_file() or path.is_dir())
    ]


def _lead_links_to(own: Path, copied: Path, source: Path) -> None:
    """Let absolute links into `source` lead to the same place in `own`: in a pod, all trials have the same path."""
    for folder, folders, names in os.walk(copied):
        for path in (Path(folder, name) for name in (*folders, *names)):
            if path.is_symlink() and (target := path.readlink()).is_relative_to(source):
                path.unlink()
                path.symlink_to(own / target.relative_to(source))


def _copy(source: str, target: str) -> None:
    workspace.copy_file(Path(source), Path(target))


def _under(path: str, mount: str) -> bool:
    return PurePosixPath(path).is_relative_to(mount)


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a killed trial left unfinished: half a number is another number."""
    if path.is_symlink() or not path.is_file():  # what a trial made of it is not ours to change
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(end - _BLOCK, 0)
            file.seek(start)
            if (found := file.read(end - start).rfind(b"\n")) >= 0:
                end = start + found + 1
                break
            end = start
        file.truncate(end)


@contextlib.contextmanager
def _path_of(folder: Path) -> Iterator[None]:
    """Import from `folder` first, as `python -m` does."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
