"""Saving and loading of checkpoints, whether plain, pruned, factorized or with an adapter.

``config.json`` defines the original shapes of a model. If pruning or factorization changed them,
``shapes.json`` beside it lists every linear layer that deviates, and vectors outside of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rarefy.pipeline.model import padding, safe_loading
from rarefy.pipeline.model import tokenizer as conversion
from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.architectures.families import ARCHITECTURES
from rarefy.pipeline.model.architectures.parts import encoder_layers
from rarefy.pipeline.model.safe_loading import WEIGHTS
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.digests import canonical_json
from rarefy.pipeline.terms.errors import IntegrityError, ModelError, as_model_error, first_line

__all__ = [
    "ADAPTER",
    "SHAPES",
    "check_vocabulary",
    "count_heads",
    "describe",
    "encoder_layers",
    "factorized",
    "load",
    "load_tokenizer",
    "named_class",
    "read_config",
    "save",
]

SHAPES = "shapes.json"
ADAPTER = "adapter"
TYPES = "token_type_ids"
SCHEMA = "rarefy.shapes/1"
KEYS = {"schema", "linear", "factorized", "heads", "vectors"}
"""Of shapes.json; the last two are left out if they are empty."""


def load(directory: Path) -> Any:
    """Load the model in ``directory``: fp32, on the CPU, in eval mode, with its adapter attached.

    Raises ModelError if a file, weight or shape is missing or does not match, IntegrityError if
    the weights are pickled or truncated.
    """
    import torch

    directory = Path(directory)
    model = _build(directory)
    with torch.no_grad():
        _fill(model, _read_weights(directory), directory / WEIGHTS)
    if (directory / ADAPTER).is_dir():
        model = _attach(model, directory / ADAPTER)
    return model.eval()


def leave_out_types(config: Any, tokenizer: Any) -> None:
    """Let a tokenizer number no texts of a pair for a model that knows one number only.

    Some RoBERTa bodies come with BERT's tokenizer, whose second texts would be out of range.
    """
    names = list(tokenizer.model_input_names)
    if getattr(config, "type_vocab_size", None) == 1 and TYPES in names:
        names.remove(TYPES)
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names


def load_tokenizer(directory: Path) -> Any:
    """Load the fast tokenizer in ``directory`` and make sure that it has a padding token.

    A vocabulary without tokenizer.json is converted. Raises ModelError if there is no fast
    tokenizer, it cannot be converted, or it has no padding token.
    """
    from transformers import AutoTokenizer

    conversion.check(Path(directory))
    try:
        with as_model_error("the tokenizer"):
            tokenizer = safe_loading.from_folder(AutoTokenizer, Path(directory))
            if tokenizer.is_fast:
                conversion.restore(tokenizer, Path(directory))
    except Exception as error:
        reason = first_line(error)
        raise ModelError(f"{directory}: the tokenizer cannot be loaded: {reason}") from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"{directory}: transformers has no fast version of {type(tokenizer).__name__}, and "
            "there is no tokenizer.json"
        )
    if not isinstance(tokenizer.model_max_length, int | float):
        length = tokenizer.model_max_length
        raise ModelError(f"{directory}: tokenizer_config.json: model_max_length is {length!r:.40}")
    padding.check(tokenizer, Path(directory))
    return tokenizer


def save(model: Any, tokenizer: Any, directory: Path) -> dict[str, str]:
    """Write a model and its tokenizer. The same model always gives the same bytes.

    Returns:
        Relative path -> role, for ``Draft.roles``.

    Raises:
        ModelError: if an adapter is attached (merge it, or save it with peft) or the tokenizer has
            ids beyond the model's embeddings.
    """
    from safetensors.torch import save_file

    if model is not parts.unwrapped(model):
        raise ModelError("the model has an adapter attached; merge it before saving a checkpoint")
    check_vocabulary(tokenizer, model.get_input_embeddings().num_embeddings)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = model.dtype
    model.config.save_pretrained(str(directory))
    roles = {"config.json": "config", WEIGHTS: "weights"}
    # Not save_pretrained, which shows a progress bar and does not know about shapes.json.
    save_file(_own_tensors(model), directory / WEIGHTS, metadata={"format": "pt"})
    shapes = _deviations(model)
    if shapes["linear"] or shapes["factorized"]:
        (directory / SHAPES).write_bytes(canonical_json(shapes))
        roles[SHAPES] = "shapes"
    return roles | _save_tokenizer(tokenizer, directory)


def describe(model: Any) -> dict[str, Any]:
    """Return a model's entry for the manifest: sizes per layer, parameters, labels.

    The heads and neurons of a family that is not described are unknown, so their lists are empty.
    """
    from torch import nn

    plain = parts.unwrapped(model)
    config = plain.config
    is_known = config.model_type in ARCHITECTURES
    names = config.id2label or {}
    return {
        "architecture": type(plain).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layers": parts.depth(config) or 0,
        "hidden": parts.width(config) or int(plain.get_input_embeddings().embedding_dim),
        "heads": parts.head_counts(plain) if is_known else [],
        "intermediate": parts.neuron_counts(plain) if is_known else [],
        "vocabulary": int(plain.get_input_embeddings().num_embeddings),
        "embeddings": sum(
            table.weight.numel() for table in plain.modules() if isinstance(table, nn.Embedding)
        ),
        "labels": [str(names[index]) for index in sorted(names)],
    }


def check_vocabulary(tokenizer: Any, embeddings: int) -> None:
    """Raise ModelError if the tokenizer produces ids without an embedding in the model."""
    largest = max(tokenizer.get_vocab().values())
    if largest >= embeddings:
        raise ModelError(
            f"the vocabulary does not match the model: the tokenizer's largest id is {largest}, "
            f"but the model has only {embeddings} embeddings"
        )


def factorized(inputs: int, rank: int, outputs: int, *, bias: bool) -> Any:
    """Return ``up(down(x))``, a linear layer whose weight is a product of two low-rank matrices.

    ``down`` is rank × inputs without bias, ``up`` is outputs × rank. It is a plain Sequential of
    linear layers, so export and training need no special case.
    """
    from collections import OrderedDict

    from torch import nn

    down = nn.Linear(inputs, rank, bias=False)
    up = nn.Linear(rank, outputs, bias=bias)
    return nn.Sequential(OrderedDict(down=down, up=up))


def _build(directory: Path) -> Any:
    """Build the model that config.json and shapes.json describe, with uninitialized weights."""
    from transformers.initialization import no_init_weights

    config = read_config(directory)
    model_class = named_class(config, directory)
    with no_init_weights():
        model = model_class(config).float()
        if (directory / SHAPES).is_file():
            _reshape(model, directory / SHAPES)
    model.tie_weights()
    return model


def read_config(directory: Path) -> Any:
    """Return transformers' config, set to fp32. Raises ModelError if it cannot be read."""
    import torch
    from transformers import AutoConfig

    if not (directory / "config.json").is_file():
        raise ModelError(f"{directory}: config.json is missing; is this a checkpoint?")
    try:
        config = safe_loading.from_folder(AutoConfig, directory)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{directory}/config.json: {first_line(error)}") from error
    config.dtype = torch.float32
    config._attn_implementation = None  # it may name code on the Hub, which is never run
    return config


def named_class(config: Any, directory: Path) -> Any:
    """Return the class named in config.json. Raises ModelError if transformers does not have it."""
    import transformers

    name = next(iter(config.architectures or []), None)
    model_class = safe_loading.class_named(name or "")
    if not isinstance(model_class, type) or not issubclass(
        model_class, transformers.PreTrainedModel
    ):
        raise ModelError(
            f"{directory}/config.json: architectures: transformers has no model class {name!r}"
        )
    return model_class


def _reshape(model: Any, path: Path) -> None:
    """Give the model's linear layers and vectors the shapes listed in the file at ``path``."""
    import torch
    from torch import nn

    from rarefy.pipeline.model.architectures import shared_heads

    try:
        shapes = json_text.parse(path.read_bytes())
        if shapes["schema"] != SCHEMA:
            raise ModelError(f"{path}: schema {shapes['schema']!r}, expected {SCHEMA!r}")
        if unknown := sorted(shapes.keys() - KEYS):
            raise ModelError(
                f"{path}: {unknown[0]!r} is unknown; another version of rarefy made it, so run "
                "the recipe again"
            )
        for name, sizes in (shapes["linear"] | shapes["factorized"]).items():
            bias = model.get_submodule(name).bias is not None
            if name in shapes["factorized"]:
                inputs, rank, outputs = sizes
                model.set_submodule(name, factorized(inputs, rank, outputs, bias=bias))
            else:
                inputs, outputs = sizes
                model.set_submodule(name, nn.Linear(inputs, outputs, bias=bias))
        for name, count in shapes.get("heads", {}).items():
            shared_heads.prepare(model.get_submodule(name), torch.zeros(count, dtype=torch.int64))
        for name, size in shapes.get("vectors", {}).items():
            parent, _, attribute = name.rpartition(".")
            model.get_parameter(name)  # raises AttributeError if there is none
            setattr(model.get_submodule(parent), attribute, nn.Parameter(torch.zeros(size)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = first_line(error)
        raise ModelError(f"{path}: does not match the model: {reason}") from error
    count_heads(model)


def count_heads(model: Any) -> None:
    """Set the head count of each attention module to match its weights.

    Does nothing if the family is not described: its heads are not pruned.
    """
    if model.config.model_type not in ARCHITECTURES:
        return
    row = parts.of(model)
    size = parts.head_size(model)
    if row.head_count is None:
        return
    for layer, heads in zip(encoder_layers(model), parts.head_counts(model), strict=True):
        attention = layer.get_submodule(row.attention)
        setattr(attention, row.head_count, heads)
        if hasattr(attention, "all_head_size"):
            attention.all_head_size = heads * size


def _read_weights(directory: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = directory / WEIGHTS
    if not path.is_file():
        pickled = sorted(p.name for s in ("*.bin", "*.pt", "*.pth") for p in directory.glob(s))
        if pickled:
            raise IntegrityError(
                f"{directory}/{pickled[0]}: pickled weights are not loaded because they can run "
                f"code; convert them to {WEIGHTS}"
            )
        raise ModelError(f"{directory}: {WEIGHTS} is missing")
    try:
        weights: dict[str, Any] = load_file(path)
    except SafetensorError as error:
        raise IntegrityError(f"{path}: not a complete safetensors file: {error}") from error
    return weights


def _fill(model: Any, weights: dict[str, Any], path: Path) -> None:
    """Copy the weights into the model. Raises ModelError unless names and shapes match exactly."""
    parameters = model.state_dict()
    # A buffer that older versions of transformers saved and newer ones compute.
    weights = {k: v for k, v in weights.items() if not k.endswith("embeddings.position_ids")}
    for name, tensor in weights.items():
        if name not in parameters:
            raise ModelError(f"{path}: the model in config.json has no weight named {name}")
        if tensor.shape != parameters[name].shape:
            raise ModelError(
                f"{path}: {name} has shape {list(tensor.shape)}, expected "
                f"{list(parameters[name].shape)}"
            )
    # Tied weights share memory and are stored once.
    loaded = {parameters[name].data_ptr() for name in weights}
    missing = [name for name, tensor in parameters.items() if tensor.data_ptr() not in loaded]
    if missing:
        more = ""
        if len(missing) > 1:
            more = f" and {len(missing) - 1} more"
        raise ModelError(f"{path}: missing weight {missing[0]}{more}")
    model.load_state_dict(weights, strict=False)


def _attach(model: Any, directory: Path) -> Any:
    from peft import PeftModel

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (directory / name).is_file():
            raise ModelError(f"{directory}: {name} is missing")
    try:
        return PeftModel.from_pretrained(model, str(directory))
    except Exception as error:
        reason = first_line(error)
        raise ModelError(f"{directory}: the adapter does not match the model: {reason}") from error


def _own_tensors(model: Any) -> dict[str, Any]:
    """Return the state dict with each tied weight only once, under its first name."""
    seen: set[int] = set()
    copies = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            copies[name] = tensor.detach().cpu().contiguous()
    return copies


def _deviations(model: Any) -> dict[str, Any]:
    """Return the linear layers and vectors that the config does not describe."""
    import torch
    from torch import nn

    from rarefy.pipeline.model.architectures.shared_heads import count as kept

    with torch.device("meta"):
        plain = type(model)(model.config)
    linear = {}
    thin = {}
    vectors: dict[str, int] = {}
    for name, expected in plain.named_modules():
        actual = model.get_submodule(name)
        if not isinstance(expected, nn.Linear):
            own = {n: p for n, p in expected.named_parameters(name, recurse=False) if p.dim() == 1}
            sizes = {n: len(model.get_parameter(n)) for n in own}
            vectors |= {n: size for n, size in sizes.items() if size != len(own[n])}
            continue
        if hasattr(actual, "down"):
            thin[name] = [actual.down.in_features, actual.up.in_features, actual.up.out_features]
        elif actual.weight.shape != expected.weight.shape:
            linear[name] = [actual.in_features, actual.out_features]
    deviations = {"schema": SCHEMA, "linear": linear, "factorized": thin}
    heads = {name: count for name, module in model.named_modules() if (count := kept(module))}
    more = {"vectors": vectors, "heads": heads}
    return deviations | {key: value for key, value in more.items() if value}


def _save_tokenizer(tokenizer: Any, directory: Path) -> dict[str, str]:
    # Otherwise tokenizer.json would keep the truncation and padding of the last call.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    written = tokenizer.save_pretrained(str(directory))
    return {Path(path).name: "tokenizer" for path in written if Path(path).is_file()}
