"""Build a bundle from a checkpoint; what the rewrites make of its graph is checked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir

from exporters import boundaries, bundle, fusion, half, hub_tags, onnx, parity, providers
from exporters.passes import (
    attention,
    clean,
    embeddings,
    first_token,
    integer_matmul,
    mask,
    packed,
    positions,
    qdq,
    relative_bias,
    residual,
    scale,
    smooth,
)
from exporters.providers import Products
from pipeline.model import arithmetic, blockwise, checkpoint, openvino_session, quantization
from pipeline.model.blockwise import Blocks
from pipeline.model.quantization import Plan
from pipeline.model.runtime import DEVICES, BundleModel
from pipeline.stage.split import Split
from pipeline.stage.tasks import Task
from pipeline.terms.errors import DataError, ModelError
from pipeline.terms.progress import Progress, silent
from pipeline.terms.vocabulary import Isa
from pipeline.terms.wording import escape

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


@dataclass(frozen=True)
class BuildInfo:
    """Facts about a bundle that was built.

    ``size``: bytes of the graph and its weights; ``operators``: how often each occurs in the graph;
    ``passes``: in their order, how many places each of our passes changed, 0 if it found none;
    ``roles``: path -> role of every file; ``model``: the description of the model for the manifest.
    """

    form: Form
    precision: parity.Precision
    parity: parity.Parity
    integer_matmuls: int
    size: int
    operators: dict[str, int]
    passes: dict[str, int]
    roles: dict[str, str]
    model: dict[str, Any]


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
    plan = quantization.read(checkpoint_dir) if form == "deploy" else None
    products = providers.form(target_provider, products)
    if plan is not None:
        four = plan.embeddings == "int4" or bool(plan.int4_modules)
        problem = providers.refusal(plan.precision, plan.mode, target_provider, products, four)
        if problem is not None:
            raise ModelError(f"export: {problem}")
    needs: dict[str, Any] = {}
    if plan is not None and plan.integer_modules and isa == "vnni":
        needs = {"isa": isa}
    arithmetic.check(needs)
    report = progress or silent
    int4 = _int4(checkpoint_dir, plan)
    traced = traced or trace(checkpoint_dir, task, split, report, int4)
    model, tokenizer, task = traced.network, traced.tokenizer, traced.task
    graph, expected = traced.graph.clone(), traced.expected
    report(2, 4, "rewriting the graph")
    bounds = dict.fromkeys((positions, relative_bias), task.max_length)
    bounds[mask] = boundaries.reach(model.config, task.max_length)
    graph, precision, close, found = _rewrite(
        task, graph, form, plan, int4, expected, bounds, target_provider, isa, products
    )
    if int4:  # until here, the answers were those of weights in 4 bits
        close = parity.check(task, graph, traced.whole, "int8", "rounding weights to 4 bits")
    _label(graph, form, precision)
    report(3, 4, "writing the bundle")
    size = bundle.write_model(
        graph,
        output,
        model=model,
        tokenizer=tokenizer,
        task=task,
        split=split,
        provider=target_provider,
        threads=threads,
        level=_level(target_provider, precision, products),
        needs=needs,
    )
    if target_provider == "openvino" and openvino_session.installed():
        close = _check_openvino(task, output, precision, expected)
    if precision != "fp32" and task.head.chooses and split.labels is not None:
        task = bundle.choose(output, task, split, target_provider)
    if samples:
        bundle.write_samples(output, task, split, target_provider)
    info = BuildInfo(
        form=form,
        precision=precision,
        parity=close,
        integer_matmuls=_integer_products(graph),
        size=size,
        operators=dict(sorted(fusion.histogram(graph).items())),
        passes=found,
        roles=bundle.roles(output, samples=samples),
        model=checkpoint.describe(model) | {"form": form, "precision": precision},
    )
    bundle.write_card(output, _facts(info, target_provider, threads, task, split, samples))
    bundle.write_sums(output)
    report(4, 4, "bundle written")
    return info


def _int4(checkpoint_dir: Path, plan: Plan | None) -> dict[str, Blocks]:
    """Return the weights that the plan has in 4 bits. Raises ModelError if one is not there."""
    wanted = plan.int4_modules if plan else []
    held = blockwise.read(checkpoint_dir) if wanted else {}
    if lost := sorted(set(wanted) - set(held)):
        raise ModelError(
            f"export: the plan has {lost[0]} in int4, but its weights are not in "
            f"{blockwise.FILE}; run 'quantize' on this checkpoint"
        )
    return {name: held[name] for name in wanted}


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
    model, tokenizer = checkpoint.load(checkpoint_dir), checkpoint.load_tokenizer(checkpoint_dir)
    blockwise.put(int4 or {}, model)
    task = task.of_model(model.config.to_dict())
    graph = onnx.export(model, tuple(tokenizer.model_input_names), task)
    progress(1, 4, "computing PyTorch's answers")
    names = [str(value.name) for value in graph.graph.inputs]
    encoded = task.encoder.encode(tokenizer, split, split.evenly(ROWS))
    rows = [{name: row[name] for name in names} for row in encoded]
    longer = boundaries.long_rows(model.config, rows, task.max_length)
    asked = (rows, names, tokenizer.pad_token_id or 0, longer)
    expected = parity.cases(task, model, *asked)
    whole = parity.cases(task, checkpoint.load(checkpoint_dir), *asked) if int4 else expected
    return Traced(model, tokenizer, task, graph, expected, whole)


def _level(provider: str, precision: str, products: Products) -> str:
    """Return the session's optimization level."""
    if precision == "int8" and products == "qdq" and DEVICES[provider] == "cpu":
        return fusion.QDQ_LEVEL
    return fusion.LEVEL[provider]


def _integer_products(graph: ir.Model) -> int:
    """Return how many products of activations have an int8 weight."""
    return sum(
        node.op_type == "MatMulIntegerToFloat"
        or (node.op_type == "MatMul" and _dequantized(node.inputs[1]))
        for node in graph.graph
    )


def _dequantized(value: ir.Value | None) -> bool:
    made = value.producer() if value is not None else None
    return made is not None and made.op_type == "DequantizeLinear"


def _rewrite(
    task: Task,
    graph: ir.Model,
    form: Form,
    plan: Plan | None,
    int4: Mapping[str, Blocks],
    expected: list[parity.Case],
    bounds: dict[Any, int],
    provider: str,
    isa: Isa,
    products: Products,
) -> tuple[ir.Model, parity.Precision, parity.Parity, dict[str, int]]:
    """Run the passes of a form in order, and check parity; return also what each pass found.

    ``bounds``: the longest row, for each pass whose result holds only up to some length. The last
    graph in full precision and the one that ships answer all cases.
    """
    passes = [mask, scale]
    if form == "deploy":
        passes += [relative_bias, first_token, positions]
        if provider == "cpu":
            # Pairs of quantizers are for other runtimes, too, which have no operator for attention.
            passes += [attention, residual] if products == "fused" else [residual]
    close, found = _in_float(task, graph, passes, bounds, expected)
    fusion.check_fused(graph)
    if plan is None:
        return graph, "fp32", close, found
    if plan.precision == "fp16":
        graph, kept = half.apply(graph, [case.feed for case in expected])
        if kept and provider == "tensorrt":
            log.warning(
                "export: %d operators stay in fp32, as their numbers need it, but TensorRT may "
                "compute them in fp16; look at what 'validate' measures there, or take provider: "
                "cuda",
                kept,
            )
        close = parity.check(task, graph, expected, "fp16", "conversion to fp16")
        return graph, "fp16", close, found
    found["smooth"] = smooth.apply(graph, plan)
    if found["smooth"]:
        clean.apply(graph)
        parity.check(task, graph, expected, "fp32", _name(smooth))
    if plan.embeddings != "float":
        found["embeddings"] = embeddings.apply(graph, plan.embeddings)
        clean.apply(graph)
        # Of few answers, one that 4 bits flip is more than a twentieth.
        some = expected if plan.embeddings == "int4" else parity.few(expected)
        parity.check(task, graph, some, "int8", _name(embeddings))
    if products == "qdq":
        found["qdq"] = qdq.apply(graph, plan, isa, symmetric=provider == "tensorrt")
    else:
        found["integer_matmul"] = integer_matmul.apply(graph, plan, isa)
        if int4:
            found["packed"] = packed.apply(graph, int4, isa)
    clean.apply(graph)
    fusion.check_integer(graph, plan.integer_modules)
    last = _name(qdq if products == "qdq" else packed if int4 else integer_matmul)
    # Pairs of quantizers are floats at a lower level than that of the session that ships.
    level = _level(provider, "int8", products) if DEVICES[provider] == "cpu" else parity.LEVEL
    close = parity.check(task, graph, expected, "int8", last, level)
    return graph, plan.shipped, close, found


def _in_float(
    task: Task,
    graph: ir.Model,
    passes: list[Any],
    bounds: dict[Any, int],
    expected: list[parity.Case],
) -> tuple[parity.Parity, dict[str, int]]:
    """Run the passes that leave a graph in full precision, and check the last graph.

    Returns how close that is, and how many places each pass changed.

    A check costs seconds of a large model. So only if that one fails are all passes run again with
    a check after each, and the error names the first that is wrong.
    """
    traced = graph.clone()
    try:
        what, found = "tracing", dict[str, int]()
        for rewrite in passes:
            count = found[_short(rewrite)] = _run(rewrite, graph, bounds)
            what = _name(rewrite) if count else what
        return parity.check(task, graph, expected, "fp32", what), found
    except Exception:
        parity.check(task, traced, expected, "fp32", "tracing")
        for rewrite in passes:
            if _run(rewrite, traced, bounds):
                parity.check(task, traced, expected, "fp32", _name(rewrite))
        raise


def _run(rewrite: Any, graph: ir.Model, bounds: dict[Any, int]) -> int:
    """Apply a pass; return how many places it changed."""
    found: int = rewrite.apply(graph, *([bounds[rewrite]] if rewrite in bounds else []))
    if found:
        clean.apply(graph)
    return found


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


def _facts(
    info: BuildInfo, provider: str, threads: int, task: Task, split: Split, samples: bool
) -> dict[str, Any]:
    """Return the values of the model card's template."""
    pairs = task.encoder.requests(split)[1] is not None
    return {
        **{key: info.model[key] for key in ("layers", "hidden")},
        "architecture": escape(info.model["architecture"]),
        "labels": [escape(label) for label in task.labels],
        "task": task.name,
        "runner": task.presenter.runner,
        "tag": hub_tags.tag(task.name, pairs),
        "form": info.form,
        "provider": provider,
        "threads": threads,
        "precision": info.precision,
        "integer_matmuls": info.integer_matmuls,
        "passes": ", ".join(f"{name} {count}" for name, count in info.passes.items() if count),
        "idle": ", ".join(name for name, count in info.passes.items() if not count),
        "size": info.size,
        "max_length": task.max_length,
        "windows": task.windows or task.encoder.of_words,
        "difference": info.parity.max_difference,
        "agreement": info.parity.agreement,
        "rows": info.parity.rows,
        "pairs": pairs,
        "samples": samples,
    }
