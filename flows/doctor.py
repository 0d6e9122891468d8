"""Checks of what rarefy needs from a machine; each states what it found and how to fix it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rarefy.pipeline.model.runtime import onnx_runtime
from rarefy.pipeline.sources import references
from rarefy.pipeline.terms import credentials, extras
from rarefy.pipeline.terms.digests import version
from rarefy.pipeline.terms.errors import RarefyError
from rarefy.pipeline.terms.wording import size

MEMORY, DISK = 3.2e9, 5e9
"""Bytes."""
INT8 = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Instructions of which one makes int8 models fast."""
SLOW_INT8 = "int8 models gain little speed here: measure on the machine that will serve them"
BF16 = ("avx512_bf16", "amx_bf16")
"""Instructions with which training uses bf16."""
SLOW_BF16 = "training runs in fp32, at about half the speed"
LISTEN = 0.5
"""Seconds."""
CLOCK = Path("/sys/devices/system/cpu")
GPU_FIX = (
    "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install one of them: onnxruntime for "
    "a CPU, 'onnxruntime-gpu[cuda,cudnn]' for a GPU"
)


@dataclass(frozen=True)
class Check:
    """One line of `rarefy doctor`. ``fix`` says what to do; it is empty if nothing is needed."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""

    def __post_init__(self) -> None:
        """Hide the passwords in URLs: what the doctor says is shown to others."""
        object.__setattr__(self, "found", credentials.redact(self.found))


def run_all(home: Path) -> list[Check]:
    """Run every check. A check that raises is reported as failed; the others still run."""
    groups: tuple[Callable[[], Iterator[Check]], ...] = (
        python,
        distributions,
        onnxruntime,
        openvino,
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
    """Check for Python 3.11 or newer."""
    running = f"{platform.python_version()} ({sys.executable})"
    recent = sys.version_info >= (3, 11)
    if recent:
        yield Check("python", "ok", running)
    else:
        fix = "create the environment with Python 3.11 or newer"
        yield Check("python", "fail", running, fix)


def distributions() -> Iterator[Check]:
    """Check that each distribution in rarefy's metadata is installed in a version it accepts."""
    from packaging.requirements import Requirement

    for text in importlib.metadata.requires("rarefy") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        yield _distribution(requirement)


def _distribution(requirement: Any) -> Check:
    installed = version(requirement.name)
    if installed is None:
        return Check(requirement.name, "fail", "not installed", f"pip install '{requirement}'")
    if not requirement.specifier.contains(installed, prereleases=True):
        reason = f"{installed}, needs {requirement.specifier}"
        return Check(requirement.name, "fail", reason, f"pip install --upgrade '{requirement}'")
    return Check(requirement.name, "ok", installed)


def onnxruntime() -> Iterator[Check]:
    """Check that one build of ONNX Runtime is installed: two overwrite each other's files."""
    cpu_build, gpu_build = version("onnxruntime"), version("onnxruntime-gpu")
    if cpu_build and gpu_build:
        problem = "onnxruntime and onnxruntime-gpu overwrite each other"
        yield Check("onnxruntime", "fail", problem, GPU_FIX)
    elif cpu_build:
        yield Check("onnxruntime", "ok", cpu_build)
    elif gpu_build:
        yield Check("onnxruntime-gpu", "ok", gpu_build)
    else:
        yield Check("onnxruntime", "fail", "not installed", onnx_runtime.REMEDY)
        return
    yield _providers()


def _providers() -> Check:
    """Check which execution providers a session really gets; the build may list more."""
    from rarefy.pipeline.model.runtime.providers import PROVIDERS, available

    built = available()
    active, inactive = [], []
    for name in ("cpu", "cuda", "tensorrt"):
        provider = PROVIDERS[name]
        if provider not in built:
            continue
        if name != "cpu" and onnx_runtime.inactive(provider):
            inactive.append(provider)
        else:
            active.append(provider)
    text = f"active: {', '.join(active)}"
    if PROVIDERS["cuda"] in inactive:
        fix = f"its libraries are missing: pip install 'onnxruntime-gpu[cuda,cudnn]', or {GPU_FIX}"
        return Check("providers", "warn", f"{text}; not active: {', '.join(inactive)}", fix)
    if inactive:
        text += f"; targets with provider: tensorrt need pip install '{onnx_runtime.TENSORRT}'"
    return Check("providers", "ok", text)


def openvino() -> Iterator[Check]:
    """Check for OpenVINO, and say what it computes floats in: it is optional."""
    from rarefy.pipeline.model.runtime import openvino as openvino_session

    if not openvino_session.installed():
        text = f"not installed; targets with provider: openvino need {extras.remedy('openvino')}"
    else:
        precision = openvino_session.default_precision()
        text = f"{version('openvino')}, computes floats in {precision} here"
    yield Check("openvino", "ok", text)


def cpu() -> Iterator[Check]:
    """Check for the instructions that speed up int8 inference and bf16 training; count cores."""
    from rarefy.pipeline.measure import machine

    facts = machine.fingerprint()
    yield Check("cpu", "ok", f"{facts['cpu']}, {facts['system']}")
    int8 = _instructions("int8", INT8, facts["flags"], SLOW_INT8)
    if int8.state == "ok" and takes_vnni():
        text = f"{int8.found}; targets for CPUs like this one may say isa: vnni"
        int8 = Check("int8", "ok", text)
    yield int8
    yield _instructions("bf16", BF16, facts["flags"], SLOW_BF16)
    cores = facts["cores"]
    count = f"{cores['physical']} physical, {cores['logical']} logical"
    if cores.get("quota"):
        count += f", quota {cores['quota']}"
    yield Check("cores", "ok", count)


def _instructions(name: str, any_of: tuple[str, ...], flags: Iterable[str], slow: str) -> Check:
    """Check that the CPU has one of some instructions; ``slow`` says what it means if not."""
    present = [flag for flag in any_of if flag in set(flags)]
    if present:
        return Check(name, "ok", ", ".join(present))
    return Check(name, "warn", f"the CPU has none of {', '.join(any_of)}", slow)


def takes_vnni() -> bool:
    """Return whether this CPU takes int8 bundles of ``isa: vnni``; False without ONNX Runtime."""
    from rarefy.pipeline.model.quantization import cpu_arithmetic

    return find_spec("onnxruntime") is not None and cpu_arithmetic.exact()


def quiet() -> Iterator[Check]:
    """Check that nothing else runs here and that the CPU's clock is steady.

    Otherwise the confidence intervals of measured times are wide.
    """
    import time

    from rarefy.pipeline.measure import machine

    before = machine.snapshot()
    time.sleep(LISTEN)
    noise = machine.busy(before, machine.snapshot())
    fix = "timing verdicts may be 'inconclusive': measure on a machine that runs nothing else"
    if noise:
        yield Check("quiet", "warn", "; ".join(noise), fix)
    else:
        yield Check("quiet", "ok", f"no other process used the CPU for {LISTEN} s")
    files = CLOCK.glob("cpu*/cpufreq/scaling_governor")
    governors = {path.read_text().strip() for path in files}
    if governors - {"performance"}:
        fix = "for a steady clock: cpupower frequency-set -g performance"
        yield Check("clock", "warn", f"governor {', '.join(sorted(governors))}", fix)


def memory() -> Iterator[Check]:
    """Check that there is enough free memory to train a small model."""
    import psutil

    from rarefy.pipeline.measure import machine

    ram = psutil.virtual_memory()
    limit = machine.memory_limit() or ram.total
    free, total = min(ram.available, limit), min(ram.total, limit)
    text = f"{size(free)} free of {size(total)}"
    if free < MEMORY:
        yield Check("memory", "warn", text, f"the demo needs up to {size(MEMORY)}")
    else:
        yield Check("memory", "ok", text)


def store(home: Path) -> Iterator[Check]:
    """Check the free disk space, and that this version can read and write the store."""
    existing = home.resolve()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    space = f"{size(free)} free at {existing}"
    if free >= DISK:
        yield Check("disk", "ok", space)
    else:
        fix = "free some space, or choose another folder with --home"
        yield Check("disk", "warn", space, fix)
    if not os.access(existing, os.W_OK):
        fix = "choose another folder with --home"
        yield Check("store", "fail", f"{existing} is not writable", fix)
        return
    if not (home / "store").exists():
        yield Check("store", "ok", f"none at {home} yet; the first run creates it")
        return
    from rarefy.pipeline.store.store import Store

    try:
        opened = Store(home / "store")
        with opened.guard():  # writes, as runs do
            count = len(opened.digests())
    except RarefyError as error:
        yield Check("store", "fail", str(error), "choose another store with --home")
        return
    yield Check("store", "ok", f"{count} artifacts in {home / 'store'}")


def demo_model() -> Iterator[Check]:
    """Check for the pretrained model of the examples, which is installed as a package."""
    try:
        references.model_directory(references.DEMO_MODEL, Path())
    except RarefyError:
        yield Check("demo model", "warn", "not installed", references.DEMO_FIX)
        return
    yield Check("demo model", "ok", references.DEMO_MODEL)


def prefect() -> Iterator[Check]:
    """Check that the server at PREFECT_API_URL lets us in; if unset, runs start a temporary one."""
    from rarefy.flows.server import server as prefect_server

    url = prefect_server.api_url()
    if url is None:
        yield Check("prefect", "ok", "PREFECT_API_URL is not set: runs start a temporary server")
    elif not prefect_server.answers(url):
        fix = "start it (prefect server start), or unset PREFECT_API_URL"
        yield Check("prefect", "fail", f"{url} does not respond", fix)
    elif prefect_server.astray(url):
        yield Check("prefect", "fail", f"{url} is not a Prefect API", prefect_server.TO_BE_FOUND)
    elif prefect_server.refuses(url):
        yield Check(
            "prefect", "fail", f"{url} rejected the credentials", prefect_server.TO_BE_KNOWN
        )
    else:
        yield Check("prefect", "ok", f"{url} answers")


def cuda() -> Iterator[Check]:
    """Check for a GPU and for a torch that was built for CUDA."""
    device, build = Path("/dev/nvidiactl").exists(), version("torch") or ""
    if not device:
        yield Check("cuda", "ok", "no NVIDIA device; everything runs on the CPU")
    elif "+cpu" in build or not _sees_a_gpu():
        problem = f"NVIDIA device found, but torch {build} cannot use it"
        fix = "install a torch built for the driver's CUDA, and look at CUDA_VISIBLE_DEVICES"
        yield Check("cuda", "warn", problem, fix)
    else:
        yield Check("cuda", "ok", f"NVIDIA device, torch {build}")


def _sees_a_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
