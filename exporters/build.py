"""Build a bundle from a checkpoint; what the rewrites make of its graph is checked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir

from rarefy.exporters import adapters, fusion, half, parity
from rarefy.exporters import trace as onnx
from rarefy.exporters.bundle import files
from rarefy.exporters.passes import (
    attention,
    clean,
    embeddings,
    first_token,
    integer_matmul,
    low_rank_branches,
    mask,
    packed,
    positions,
    qdq,
    relative_bias,
    residual,
    scale,
    smooth,
)
from rarefy.exporters.passes.graph import producer
from rarefy.exporters.passes.low_rank_branches import Branch
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import cpu_arithmetic
from rarefy.pipeline.model.quantization import four_bits as blockwise
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.quantization.four_bits import Blocks
from rarefy.pipeline.model.quantization.plan import Plan
from rarefy.pipeline.model.runtime import openvino, providers
from rarefy.pipeline.model.runtime.bundle_files import SIGNATURE, read
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.model.runtime.providers import Products, is_on_cpu
from rarefy.pipeline.stage import located_model
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.errors import DataError, ModelError
from rarefy.pipeline.terms.progress import Progress, silent
from rarefy.pipeline.terms.recipe_parts import THRESHOLDS, Isa
from rarefy.pipeline.terms.wording import escape

log = logging.getLogger(__name__)

Form = Literal["reference", "deploy"]
ROWS = 48  # for parity
SCHEMA = "rarefy.onnx/1"


@dataclass(frozen=True)
class Traced:
    """A network, its graph before any rewrite, and its answers to the rows of the parity check."""

    network: Any
    tokenizer: Any
    task: Task
    graph: ir.Model
    expected: list[parity.Case]
    whole: list[parity.Case]  # before some of its weights got 4 bits
    branches: dict[str, Branch]  # of an adapter that is not merged, by module


@dataclass(frozen=True)
class BuildInfo:
    """Facts about a bundle that was built.

    ``size``: bytes of the graph and its weights; ``operators``: how often each occurs in the graph;
    ``passes``: in their order, how many places each of our passes changed, 0 if it found none;
    ``roles``: path -> role of every file; ``model``: the description of the model for the manifest.
    """

    precision: parity.Precision
    parity: parity.Parity
    integer_matmuls: int
    size: int
    operators: dict[str, int]
    passes: dict[str, int]
    roles: dict[str, str]
    model: dict[str, Any]


@dataclass(frozen=True)
class _Target:
    """What a bundle is for: a provider, the CPUs' instructions, the form of int8 products.

    ``opset``: the newest of ONNX that the graph may need.
    """

    provider: str
    isa: Isa
    products: Products
    opset: int

    def passes(self) -> list[Any]:
        """Return the passes in float, in order, of a bundle for this target."""
        if self.provider != "cpu":
            return [relative_bias, first_token, positions]
        if self.products == "fused" and self.opset >= attention.OPSET:
            return [relative_bias, first_token, positions, attention, residual]
        # Pairs of quantizers are for other runtimes, too, which have no operator for attention.
        return [relative_bias, first_token, positions, residual]

    def level(self, precision: str) -> str:
        """Return the session's optimization level for a graph's precision."""
        if precision == "int8" and self.products == "qdq" and is_on_cpu(self.provider):
            return fusion.QDQ_LEVEL
        return fusion.LEVEL[self.provider]


def build(
    checkpoint_dir: Path,
    output: Path,
    *,
    task: Task,
    split: Split,
    form: Form,
    target_provider: str = "cpu",
    threads: int = 1,
    isa: Isa = "avx2",
    products: Products = "fused",
    opset: int = attention.OPSET,
    samples: bool = True,
    traced: Traced | None = None,
    progress: Progress | None = None,
) -> BuildInfo:
    """Write a bundle for a checkpoint into the empty directory ``output``.

    Args:
        checkpoint_dir: a checkpoint, with a quantization plan if the model is to be quantized.
        output: the folder for the files.
        task: defines the labels and how rows are tokenized.
        split: real rows for the parity check and for the sample request.
        products: for int8, "fused" has ONNX Runtime's own operators, and "qdq" those that every
            runtime has. TensorRT and OpenVINO have the latter only.
        opset: the newest of ONNX that the graph may need; before 23, attention stays as it was
            traced.
        samples: whether the bundle contains a few of the rows and its answers to them.
        form: "reference" is fp32 with fused operators, as one would deploy the model without
            rarefy; it is the baseline. "deploy" has our graph passes and follows the plan.
        target_provider: cpu, cuda or tensorrt, of ONNX Runtime, or openvino.
        threads: the bundle's default number of intra-op threads.
        isa: for int8, the CPUs on which the bundle must be right; "vnni" is refused by others.
        traced: what ``trace`` made of the checkpoint, if several bundles are built of it.
        progress: called as progress(done, total, note).

    Raises:
        ModelError: if the model cannot be exported, the plan does not fit the target or the model,
            or a rewrite changed the answers.
        DataError: if the split is empty.
        ProviderError: if the bundle is for CPUs with VNNI and this one has none, so that it cannot
            be checked.
    """
    plan = None
    if form == "deploy":
        plan = quantization.read(checkpoint_dir)
    products = providers.form(target_provider, products)
    needs = _check_plan(plan, target_provider, products, isa)
    cpu_arithmetic.check(needs)
    report = progress or silent
    int4 = _int4(checkpoint_dir, plan)
    traced = traced or trace(checkpoint_dir, task, split, report, int4)
    model = traced.network
    tokenizer = traced.tokenizer
    task = traced.task
    graph = traced.graph.clone()
    expected = traced.expected
    report(2, 4, "rewriting the graph")
    longest = task.max_length
    if traced.branches:
        _check_separate(target_provider, plan)
        # Other tasks of the base may have longer rows.
        longest = located_model.positions(model.config.to_dict()) or longest
        plan = plan and adapters.of_body(plan, graph)
    bounds: dict[Any, Any] = dict.fromkeys((positions, relative_bias), longest)
    bounds[mask] = parity.reach(model.config, longest)
    bounds[low_rank_branches] = traced.branches
    target = _Target(target_provider, isa, products, opset)
    graph, precision, close, changes = _rewrite(
        task, graph, form, plan, int4, expected, bounds, target
    )
    if int4:  # until here, the answers were those of weights in 4 bits
        close = parity.check(task, graph, traced.whole, "int8", "rounding weights to 4 bits")
    _label(graph, form, precision)
    report(3, 4, "writing the bundle")
    parts = adapters.split(graph) if traced.branches else None
    size = files.write_model(
        parts.base if parts else graph,
        output,
        answer=graph.graph.outputs[0],
        model=model,
        tokenizer=tokenizer,
        task=task,
        split=split,
        provider=target_provider,
        threads=threads,
        level=target.level(precision),
        needs=needs,
    )
    if parts:
        adapters.write(output, parts, task.presenter.answers_like)
    if target_provider == "openvino" and openvino.installed():
        close = _check_openvino(task, output, precision, expected)
    chooses = task.threshold is not None
    if task.head.chooses:
        chooses = precision != "fp32"
    if chooses and split.labels is not None:
        task = files.choose(output, task, split, target_provider)
        if parts:
            adapters.write(output, parts, task.presenter.answers_like)
    if samples:
        files.write_samples(output, task, split, target_provider)
    operators = fusion.histogram(graph)
    description = checkpoint.describe(model)
    description["form"] = form
    description["precision"] = precision
    info = BuildInfo(
        precision=precision,
        parity=close,
        integer_matmuls=_integer_matmuls(graph),
        size=size,
        operators=dict(sorted(operators.items())),
        passes=changes,
        roles=files.roles(output, samples=samples),
        model=description,
    )
    files.write_program(output, task.presenter.answers_like, target_provider)
    if parts:
        files.write_other_tasks(output)
    facts = card_facts(info, target_provider, threads, task, split, samples)
    facts["least_runtime"] = read(output, SIGNATURE)["least_onnxruntime"]
    facts["rank"] = parts.rank if parts else None
    files.write_card(output, facts)
    files.write_sums(output)
    report(4, 4, "bundle written")
    return info


def _check_separate(provider: str, plan: Plan | None) -> None:
    """Raise ModelError if an adapter cannot be a file beside its base."""
    problem = None
    if provider != "cpu":
        problem = f"runs on provider: cpu only, not {provider}"
    elif plan and plan.int4_modules:
        problem = "has no weights in int4"
    elif plan and any(layer.low is not None for layer in plan.linears.values()):
        problem = "needs dynamic ranges, as an adapter changes what static ones were found by"
    if problem:
        raise ModelError(
            f"export: a bundle whose adapter is a file {problem}; put 'merge' before 'export'"
        )


def _int4(checkpoint_dir: Path, plan: Plan | None) -> dict[str, Blocks]:
    """Return the weights that the plan has in 4 bits. Raises ModelError if one is not there."""
    if plan is None or not plan.int4_modules:
        return {}
    weights = blockwise.read(checkpoint_dir)
    missing = set(plan.int4_modules) - set(weights)
    if missing:
        raise ModelError(
            f"export: the plan has {min(missing)} in int4, but its weights are not in "
            f"{blockwise.FILE}; run 'quantize' on this checkpoint"
        )
    return {name: weights[name] for name in plan.int4_modules}


def _check_plan(plan: Plan | None, provider: str, products: Products, isa: Isa) -> dict[str, Any]:
    """Return what a machine must have for a plan; ModelError if the target cannot have it."""
    if plan is None:
        return {}
    four_bits = plan.embeddings == "int4" or bool(plan.int4_modules)
    problem = providers.refusal(plan.precision, plan.mode, provider, products, four_bits)
    if problem is not None:
        raise ModelError(f"export: {problem}")
    if plan.integer_modules and isa == "vnni":
        return {"isa": isa}
    return {}


def trace(
    checkpoint_dir: Path,
    task: Task,
    split: Split,
    progress: Progress = silent,
    int4: Mapping[str, Blocks] | None = None,
) -> Traced:
    """Return a checkpoint's graph and its answers to rows of ``split``, for one bundle or several.

    ``int4``: weights that some layers have instead of their own, by module. Raises ModelError if
    PyTorch cannot trace the model, and DataError if the split is empty.
    """
    if not len(split):
        raise DataError(f"{split.reference} is empty: export needs rows to compare with PyTorch")
    progress(0, 4, "tracing the model")
    model = checkpoint.load(checkpoint_dir)
    tokenizer = checkpoint.load_tokenizer(checkpoint_dir)
    adapter = adapters.branches(model) if adapters.is_adapted(model) else {}
    if not adapter:
        blockwise.put(int4 or {}, model)
    if task.head.abstains:
        vars(model.config).pop(THRESHOLDS, None)  # of another model's probabilities
    task = task.of_model(model.config.to_dict())
    inputs = tuple(tokenizer.model_input_names)
    if adapter:
        graph = adapters.trace(checkpoint.load(checkpoint_dir).unload(), inputs, task)
    else:
        graph = onnx.export(model, inputs, task)
    progress(1, 4, "computing PyTorch's predictions")
    names = [str(value.name) for value in graph.graph.inputs if value.name in onnx.INPUTS]
    encoded = task.encoder.encode(tokenizer, split, split.evenly(ROWS))
    rows = [{name: row[name] for name in names} for row in encoded]
    longer = parity.long_rows(model.config, rows, task.max_length)
    padding = tokenizer.pad_token_id or 0
    expected = parity.cases(task, model, rows, names, padding, longer)
    whole = expected
    if int4:
        in_float = checkpoint.load(checkpoint_dir)
        whole = parity.cases(task, in_float, rows, names, padding, longer)
    return Traced(model, tokenizer, task, graph, expected, whole, adapter)


def _integer_matmuls(graph: ir.Model) -> int:
    """Return how many products of activations have an int8 weight."""
    count = 0
    for node in graph.graph:
        fused = node.op_type == "MatMulIntegerToFloat"
        if fused or (node.op_type == "MatMul" and producer(node.inputs[1], "DequantizeLinear")):
            count += 1
    return count


def _rewrite(
    task: Task,
    graph: ir.Model,
    form: Form,
    plan: Plan | None,
    int4: Mapping[str, Blocks],
    expected: list[parity.Case],
    bounds: dict[Any, Any],
    target: _Target,
) -> tuple[ir.Model, parity.Precision, parity.Parity, dict[str, int]]:
    """Run the passes of a form in order, and check parity.

    The last graph in full precision and the one that ships answer all cases.

    Args:
        task: says what the outputs mean.
        graph: the traced graph.
        form: "reference" or "deploy".
        plan: the quantization plan; None for fp32.
        int4: weights in 4 bits, by module.
        expected: inputs, and PyTorch's outputs for them.
        bounds: for some passes, what they need: mostly the longest row, up to which they hold.
        target: what the bundle is for.

    Returns:
        The graph, its precision, how close it is, and how many places each pass changed.
    """
    passes = [mask, scale]
    if form == "deploy":
        passes += target.passes()
    if bounds[low_rank_branches]:  # before attention, and sums that take in what is added here
        passes.insert(passes.index(positions) + 1, low_rank_branches)
    close, changes = _in_float(task, graph, passes, bounds, expected)
    fusion.check_fused(graph)
    if plan is None:
        return graph, "fp32", close, changes
    if plan.precision == "fp16":
        graph, in_fp32 = half.apply(graph, [case.feed for case in expected])
        if in_fp32 and target.provider == "tensorrt":
            log.warning(
                "export: %d operators stay in fp32, as their numbers need it, but TensorRT may "
                "compute them in fp16; look at what 'validate' measures there, or take provider: "
                "cuda",
                in_fp32,
            )
        close = parity.check(task, graph, expected, "fp16", "conversion to fp16")
        return graph, "fp16", close, changes
    close = _in_int8(task, graph, plan, int4, expected, target, changes)
    return graph, plan.shipped, close, changes


def _in_int8(
    task: Task,
    graph: ir.Model,
    plan: Plan,
    int4: Mapping[str, Blocks],
    expected: list[parity.Case],
    target: _Target,
    changes: dict[str, int],
) -> parity.Parity:
    """Run the passes that make products and tables integer; add their counts to ``changes``."""
    changes["smooth"] = smooth.apply(graph, plan)
    if changes["smooth"]:
        clean.apply(graph)
        parity.check(task, graph, expected, "fp32", _name(smooth))
    if plan.embeddings != "float":
        changes["embeddings"] = embeddings.apply(graph, plan.embeddings)
        clean.apply(graph)
        cases = expected
        if plan.embeddings != "int4":  # of few answers, one that 4 bits flip is over a twentieth
            cases = parity.few(expected)
        parity.check(task, graph, cases, "int8", _name(embeddings))
    if target.products == "qdq":
        last = _name(qdq)
        symmetric = target.provider == "tensorrt"
        changes["qdq"] = qdq.apply(graph, plan, target.isa, symmetric=symmetric)
    else:
        last = _name(integer_matmul)
        changes["integer_matmul"] = integer_matmul.apply(graph, plan, target.isa)
        if int4:
            last = _name(packed)
            changes["packed"] = packed.apply(graph, int4, target.isa)
    clean.apply(graph)
    fusion.check_integer(graph, plan.integer_modules)
    # Pairs of quantizers are floats at a lower level than that of the session that ships.
    level = parity.LEVEL
    if is_on_cpu(target.provider):
        level = target.level("int8")
    return parity.check(task, graph, expected, "int8", last, level)


def _in_float(
    task: Task,
    graph: ir.Model,
    passes: list[Any],
    bounds: dict[Any, Any],
    expected: list[parity.Case],
) -> tuple[parity.Parity, dict[str, int]]:
    """Run the passes that leave a graph in full precision, and check the last graph.

    Returns how close that is, and how many places each pass changed.

    A check costs seconds of a large model. So only if that one fails are all passes run again with
    a check after each, and the error names the first that is wrong.
    """
    traced = graph.clone()
    try:
        last = "tracing"
        changes = {}
        for rewrite in passes:
            count = _run(rewrite, graph, bounds)
            changes[_short(rewrite)] = count
            if count:
                last = _name(rewrite)
        return parity.check(task, graph, expected, "fp32", last), changes
    except Exception:
        parity.check(task, traced, expected, "fp32", "tracing")
        for rewrite in passes:
            if _run(rewrite, traced, bounds):
                parity.check(task, traced, expected, "fp32", _name(rewrite))
        raise


def _run(rewrite: Any, graph: ir.Model, bounds: dict[Any, Any]) -> int:
    """Apply a pass; return how many places it changed."""
    arguments = []
    if rewrite in bounds:
        arguments.append(bounds[rewrite])
    count: int = rewrite.apply(graph, *arguments)
    if count:
        clean.apply(graph)
    return count


def _check_openvino(
    task: Task, output: Path, precision: parity.Precision, expected: list[parity.Case]
) -> parity.Parity:
    """Compare OpenVINO's answers with PyTorch's; it may compute floats in bf16, on Arm in fp16."""
    model = BundleModel(output, provider="openvino")
    floats: dict[str, parity.Precision] = {"bf16": "bf16", "fp16": "fp16"}
    if precision == "fp32":
        precision = floats.get(model.precision or "", precision)
    actual = [model.run(case.feed) for case in expected]
    logits = [case.logits for case in expected]
    return parity.compare(task, logits, actual, precision, "compilation by OpenVINO")


def _name(module: Any) -> str:
    return f"the pass {_short(module)}"


def _short(module: Any) -> str:
    name: str = module.__name__
    return name.rsplit(".", 1)[-1]


def _label(graph: ir.Model, form: Form, precision: str) -> None:
    """Record schema, form and precision in the file's metadata."""
    graph.metadata_props.update({"schema": SCHEMA, "form": form, "precision": precision})


def card_facts(
    info: BuildInfo, provider: str, threads: int, task: Task, split: Split, samples: bool
) -> dict[str, Any]:
    """Return the values of the model card's template."""
    _, pairs = task.encoder.requests(split)
    changed = [f"{name} {count}" for name, count in info.passes.items() if count]
    idle = [name for name, count in info.passes.items() if not count]
    return {
        "layers": info.model["layers"],
        "hidden": info.model["hidden"],
        "architecture": escape(info.model["architecture"]),
        "labels": [escape(label) for label in task.labels],
        "task": task.name,
        "tag": files.hub_tag(task.name, pairs is not None),
        "provider": provider,
        "threads": threads,
        "precision": info.precision,
        "integer_matmuls": info.integer_matmuls,
        "passes": ", ".join(changed),
        "idle": ", ".join(idle),
        "size": info.size,
        "max_length": task.max_length,
        "windows": task.windows or task.encoder.of_words,
        "difference": info.parity.max_difference,
        "agreement": info.parity.agreement,
        "rows": info.parity.rows,
        "pairs": pairs is not None,
        "samples": samples,
        "threshold": task.threshold,
    }
