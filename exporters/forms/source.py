"""What the other forms are made of: a bundle's files, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rarefy.pipeline.model.runtime import (
    adapter_file,
    bundle_files,
    bundle_model,
    onnx_runtime,
)
from rarefy.pipeline.model.runtime.bundle_files import MODEL
from rarefy.pipeline.model.runtime.graph_file import check_graph
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.errors import IntegrityError, ModelError

REQUEST, RESPONSE = "samples/request.json", "samples/response.json"


@dataclass(frozen=True)
class Source:
    """A bundle's folder, and what its files say.

    ``name`` is what messages call it, and ``digest`` that of its manifest, None without one.
    ``config``, ``tokenizer`` and ``signature`` are its JSON files of these names.
    """

    folder: Path
    name: str
    digest: str | None
    config: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    signature: Mapping[str, Any]

    @property
    def task(self) -> str:
        return str(self.signature["task"])

    @property
    def labels(self) -> list[str]:
        """The labels in the order of the logits; empty for embeddings."""
        names = self.config["id2label"]
        return [str(names[key]) for key in sorted(names, key=int)]

    @property
    def max_length(self) -> int:
        return int(self.signature["max_length"])

    @property
    def inputs(self) -> list[str]:
        """The names of the graph's inputs, in order."""
        return [str(value["name"]) for value in self.signature["inputs"]]

    @property
    def output(self) -> Mapping[str, Any]:
        """The graph's output: its name, and its shape, whose last size is a number."""
        tensor: Mapping[str, Any] = self.signature["outputs"][0]
        return tensor

    @property
    def provider(self) -> str:
        """The provider that the bundle is for, which gave its samples and its score."""
        return bundle_files.provider_of(self.folder)

    @cached_property
    def graph(self) -> Any:
        """The graph as ONNX's protobuf, without weights that are in a file of their own."""
        import onnx

        return onnx.load(str(self.folder / MODEL), load_external_data=False)

    @property
    def precision(self) -> str:
        """How the weights are stored: fp32, int8 or fp16."""
        noted = {entry.key: entry.value for entry in self.graph.metadata_props}
        return str(noted.get("precision", "fp32"))

    @cached_property
    def opset(self) -> int:
        """The opset of ONNX that the graph imports."""
        versions = []
        for entry in self.graph.opset_import:
            if not entry.domain:
                versions.append(entry.version)
        return int(max(versions))

    @cached_property
    def least_runtime(self) -> str:
        """The first version of ONNX Runtime that answers correctly."""
        operators = set()
        for node in self.graph.graph.node:
            operators.add(node.op_type)
        return onnx_runtime.least_version(self.opset, operators)

    @property
    def rows_interact(self) -> bool:
        """Whether a text's answer depends on the texts in its batch.

        It does if the graph takes the ranges of activations at run time: over the whole batch.
        """
        return bundle_model.ranges_at_run_time(self.graph.graph)


def read(folder: Path, name: str, digest: str | None) -> Source:
    """Return what the files of a bundle say; the caller has checked them by its manifest.

    Args:
        folder: the bundle's folder.
        name: what messages call the bundle.
        digest: the digest of its manifest; None if it has none.

    Raises:
        IntegrityError: if the graph or a JSON file is damaged.
        ModelError: if a file is missing.
    """
    check_graph(folder / MODEL)
    config = bundle_files.read(folder, "config.json")
    tokenizer = bundle_files.read(folder, "tokenizer_config.json")
    signature = bundle_files.read(folder, bundle_files.SIGNATURE)
    if adapter_file.ADAPTER in signature:
        raise ModelError(
            f"{name}: its adapter is a file next to a base, which other tools cannot load; put "
            "'merge' before 'export'"
        )
    return Source(folder, name, digest, config, tokenizer, signature)


def check_anywhere(source: Source, form: str) -> None:
    """Raise ModelError if the bundle is right only on CPUs with VNNI, which the tool cannot know.

    ``form``: what the bundle would be written for.
    """
    if source.signature.get("isa") == "vnni":
        raise ModelError(
            f"{source.name}: it was made for CPUs with VNNI (isa: vnni), and gives wrong "
            f"predictions on others; what loads the form {form!r} does not check that, so export "
            "it "
            "for a target without isa"
        )


def samples(source: Source) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the sample request and its response; None if the bundle has none.

    Raises IntegrityError if a file is not JSON.
    """
    paths = [source.folder / name for name in (REQUEST, RESPONSE)]
    if not all(path.is_file() for path in paths):
        return None
    contents = []
    for path in paths:
        content = json_text.foreign(path, dict[str, Any], IntegrityError)
        contents.append(content)
    request, response = contents
    return request, response
