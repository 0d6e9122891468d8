"""The machine in words, not in keys of JSON."""

from __future__ import annotations

from rarefy.pipeline.measure.machine import fingerprint
from rarefy.pipeline.report import machine


def test_facts_are_words_and_empty_ones_are_left_out() -> None:
    facts = {
        "system": "Linux x86_64", "cpu": "A CPU", "memory_gib": 24, "gpu_driver": None,
        "cores": {"physical": 2, "logical": 4, "quota": None}, "gpus": [], "flags": ["avx2", "fma"],
        "libraries": {"onnxruntime": "1.32.0", "torch": "2.13.0"}, "other": {"a": {"b": 1}},
    }  # fmt: skip
    assert machine.words(facts) == {
        "CPU": "A CPU",
        "Cores": "2 physical, 4 logical",
        "Instruction sets": "avx2, fma",
        "Memory": "24 GiB",
        "GPU": "none",
        "System": "Linux x86_64",
        "Libraries": "onnxruntime 1.32.0, torch 2.13.0",
        "other": "a.b: 1",
    }


def test_every_fact_of_this_machine_has_a_title() -> None:
    assert set(fingerprint()) <= set(machine.TITLES)
