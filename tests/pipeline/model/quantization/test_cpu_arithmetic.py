"""A CPU that adds int8 products in 16 bits is found by what it computes."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys

import pytest

from rarefy.exporters.bundle import session_onnxruntime
from rarefy.pipeline.model.quantization import cpu_arithmetic
from rarefy.pipeline.terms.errors import ProviderError

EMULATED = ("qemu-x86_64", "-cpu", "Haswell")


@pytest.fixture
def without_vnni(monkeypatch):
    monkeypatch.setattr(cpu_arithmetic, "exact", lambda: False)


def test_this_cpu_is_exact_if_numpy_says_that_it_has_vnni():
    from numpy._core._multiarray_umath import __cpu_features__

    if not __cpu_features__.get("AVX512VNNI"):
        pytest.skip("this CPU has no AVX512-VNNI")
    assert cpu_arithmetic.exact()


def test_the_program_of_a_bundle_has_the_same_probe():
    assert session_onnxruntime.PROBE == cpu_arithmetic.PROBE
    assert session_onnxruntime.exact() == cpu_arithmetic.exact()


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which(EMULATED[0]) is None or platform.machine() != "x86_64",
    reason="qemu-user is not installed: apt-get install qemu-user",
)
def test_an_emulated_cpu_without_vnni_is_not_exact():
    """/proc/cpuinfo shows the flags of the machine that emulates."""
    code = "from rarefy.pipeline.model.quantization.cpu_arithmetic import exact; print(exact())"
    done = subprocess.run(
        [*EMULATED, sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]


def test_only_a_bundle_that_needs_vnni_is_refused(without_vnni):
    cpu_arithmetic.check({})
    cpu_arithmetic.check({"isa": "avx2"})
    with pytest.raises(ProviderError, match="export it for a target without isa"):
        cpu_arithmetic.check({"isa": "vnni"})


def test_where_products_are_exact_every_bundle_runs(monkeypatch):
    monkeypatch.setattr(cpu_arithmetic, "exact", lambda: True)
    cpu_arithmetic.check({"isa": "vnni"})
