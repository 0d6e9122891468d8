"""The demo's chain on an NVIDIA GPU: fp16 through CUDA and TensorRT, beside PyTorch in fp16.

    python -m benchmarks.gpu --home DIR

The demo's recipe trains on the device, is exported in fp16 for each provider that is there, and is
measured by its own ``validate``: calls from text to logits, and calls with inputs and outputs in
device memory. PyTorch answers the same rows with the same student, in blocks that alternate with
those of the bundle. Without a device it says so, measures nothing and ends with 5.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.bundle import ROOT, texts
from benchmarks.record import Claim, finish
from benchmarks.students import FailedError, run
from rarefy.pipeline.terms.errors import ProviderError

PROVIDERS = ("cuda", "tensorrt")
BLOCKS, BLOCK, WARM = 20, 50, 10
"""Blocks of each contestant, calls of a block, and its first calls, which are not counted."""


def recipe(provider: str) -> dict[str, Any]:
    """Return the demo's recipe in fp16, for one provider."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "demo.yaml").read_text())
    folder = ROOT / "examples"
    for split in ("train", "eval"):
        values["data"][split] = str(folder / values["data"][split])
    values["stages"] = [
        {"quantize": {"precision": "fp16"}} if stage == "quantize" else stage
        for stage in values["stages"]
    ]
    # The budgets are those of a CPU.
    return values | {
        "name": f"gpu-{provider}",
        "targets": [{"name": "gpu", "provider": provider}],
        "budgets": [],
    }


def torch_answers(checkpoint_folder: Path) -> Callable[[str], Any]:
    """Return a function from a text to the logits of a checkpoint, in fp16 on the device."""
    import torch

    from rarefy.pipeline.model import checkpoint

    network = checkpoint.load(checkpoint_folder).half().cuda().eval()
    tokenizer = checkpoint.load_tokenizer(checkpoint_folder)

    @torch.inference_mode()
    def answer(text: str) -> Any:
        encoded = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
        return network(**encoded.to("cuda")).logits.float().cpu().numpy()  # waits for the device

    return answer


def alternated(answers: dict[str, Callable[[str], Any]], rows: list[str]) -> dict[str, float]:
    """Return each contestant's median ms from text to logits, in alternating blocks."""
    times: dict[str, list[float]] = {name: [] for name in answers}
    for block in range(BLOCKS):
        for name, answer in answers.items():
            for call in range(BLOCK):
                text = rows[(block * BLOCK + call) % len(rows)]
                began = time.perf_counter_ns()
                answer(text)
                if call >= WARM:
                    times[name].append((time.perf_counter_ns() - began) / 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def measured(home: Path, provider: str) -> dict[str, Any]:
    """Run the recipe for a provider, and return what was measured."""
    from rarefy.pipeline.measure.measurements import CANDIDATE
    from rarefy.pipeline.model.runtime.bundle_model import BundleModel
    from rarefy.pipeline.model.runtime.providers import PROVIDERS as NAMES
    from rarefy.pipeline.report import facts
    from rarefy.pipeline.run.folder import read

    values = recipe(provider)
    output = run(home, values)
    folder = home / "home" / "runs" / values["name"]
    report = read(folder)
    measurements = report.measurements
    retained = facts.retained(report)
    assert measurements is not None
    assert retained is not None
    timed = measurements.latency["gpu"]
    (student,) = (row["digest"] for row in output["ledger"] if row["id"] == "distill")
    bundle = BundleModel(folder / "bundle", provider=provider)
    medians = alternated(
        {
            "bundle": lambda text: bundle.units([text]),
            "pytorch": torch_answers(home / "home" / "store" / "artifacts" / "sha256" / student),
        },
        texts(),
    )
    return {
        "provider": provider,
        "active": bundle.session.get_providers()[0],
        "asked": NAMES[provider],
        "accuracy": measurements.score("accuracy", CANDIDATE)._asdict(),
        "kept": retained._asdict(),
        "speedup": timed.ratio("finetune", CANDIDATE)._asdict(),
        "ms": timed.percentile(CANDIDATE, 50).value,
        "ms_from_text": timed.percentile(CANDIDATE, 50, whole=True).value,
        "device_ms": statistics.median(
            call for process in timed.device[CANDIDATE] for call in process
        ),
        "bundle_ms": medians["bundle"],
        "pytorch_fp16_ms": medians["pytorch"],
    }


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what is claimed of each provider."""
    claims = []
    for row in rows:
        name = row["provider"]
        retained = row["kept"]["value"]
        speedup = row["pytorch_fp16_ms"] / row["bundle_ms"]
        claims += [
            Claim(
                f"{name}: the session runs on it",
                row["asked"],
                row["active"],
                row["active"] == row["asked"],
            ),
            Claim(
                f"{name}: accuracy retained in fp16",
                "at least 98 %",
                f"{retained:.1%}",
                retained >= 0.98,
            ),
            Claim(
                f"{name}: from text to logits, against PyTorch in fp16",
                "faster",
                f"{speedup:.2f}×: {row['bundle_ms']:.3f} ms, PyTorch {row['pytorch_fp16_ms']:.3f} "
                f"ms; on the device alone {row['device_ms']:.3f} ms",
                speedup > 1,
            ),
        ]
    return claims


def main() -> int:
    """Measure every provider that is there, and record it."""
    import torch

    from rarefy.pipeline.model.runtime import providers

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    home = parser.parse_args().home.resolve()
    if not torch.cuda.is_available():
        print("no CUDA device on this machine: nothing was measured, nothing is claimed")
        return 5
    home.mkdir(parents=True, exist_ok=True)
    rows, failed = [], 0
    for provider in PROVIDERS:
        try:
            providers.check_available(provider)
        except ProviderError as error:
            print(error, file=sys.stderr)
            continue
        try:
            rows.append(measured(home, provider))
        except FailedError as error:
            print(error, file=sys.stderr)
            failed += 1
    if not rows:
        return 5
    return finish("gpu", rows, claims(rows), seed=0) or (1 if failed else 0)


if __name__ == "__main__":
    sys.exit(main())
