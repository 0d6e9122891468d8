"""Loading of third-party models: legacy names, missing prefixes, other heads, sharded files.

Everything that transformers can load is accepted, and modules that it skips or initializes are
reported. Our own checkpoints use the strict loader in ``checkpoint``. Code in a model's folder is
never run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rarefy.pipeline.model import checkpoint, safe_loading
from rarefy.pipeline.terms.errors import IntegrityError, ModelError, first_line

HEADS = ("AutoModelForPreTraining", "AutoModelForMaskedLM", "AutoModel")
POOLER = "pooler"
"""The only part of a body that may be missing or left out, because every task retrains it."""
RETURNED = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
"""What a call returns, by default. Published configs may ask for tuples, which have no ``logits``,
or for attentions, with which transformers loads a model but refuses to save it."""


@dataclass(frozen=True)
class Pretrained:
    """A loaded model: fp32, on the CPU, in eval mode.

    ``left_out``  modules in the weights that the model does not have
    ``new``       modules that the weights lack, initialized at random with a fixed seed
    """

    model: Any
    left_out: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


def load(directory: Path, weights: Sequence[Path], *, complete: bool = False) -> Pretrained:
    """Build the model of config.json in ``directory`` and load the files in ``weights`` into it.

    Candidates are the class that config.json names, the pretraining classes and the plain body. The
    one with the fewest new modules wins, then the one with the fewest left out. With ``complete``,
    for a model that is used without training, only the class that config.json names is tried, and
    no weight may be missing.

    Raises ModelError if a weight is missing, has the wrong shape, or belongs to the body but does
    not exist in it (poolers excepted). Raises IntegrityError if a file is truncated or contains
    more than weights.
    """
    if (directory / checkpoint.SHAPES).is_file():
        return Pretrained(checkpoint.load(directory))  # pruned or factorized, so saved by us
    config = checkpoint.read_config(directory)
    if hasattr(config, "auto_map"):
        del config.auto_map  # points to code in the model's folder, which is never run
    for name, value in RETURNED.items():
        setattr(config, name, value)
    if complete:
        classes = [checkpoint.named_class(config, directory)]
    else:
        classes = _classes(config)
    state = _read(weights)
    best = None
    problem = ModelError(f"{directory}: transformers does not support this model")
    for model_class in classes:
        try:
            pretrained = _filled(model_class, config, state, complete)
        except ModelError as error:
            problem = ModelError(f"{directory}: {error}")
            continue
        if best is None or _lost(pretrained) < _lost(best):
            best = pretrained
        if not any(_lost(best)):
            break
    if best is None:
        raise problem
    return best


def class_for(auto: Any, config: Any) -> type:
    """Return the class that one of transformers' Auto classes builds for a config.

    Raises ValueError if the Auto class does not support the model.
    """
    import torch

    with torch.device("meta"):
        return type(auto.from_config(copy.deepcopy(config), trust_remote_code=False))


def with_body(model_class: Any, pretrained: Any) -> Any:
    """Return a model of another class that reuses the body of ``pretrained``, whatever its shapes.

    The body and its config are kept as they are. All other modules, i.e. the head and a pooler that
    the body lacks, are initialized from torch's random generator.
    """
    from transformers.initialization import no_init_weights

    body = pretrained.base_model
    retained = set(body.modules())
    with no_init_weights():
        model = model_class(pretrained.config).float()
    fresh = model.base_model
    for name in {**dict(body.named_children()), **dict(fresh.named_children())}:
        if getattr(fresh, name, None) is None or getattr(body, name, None) is None:
            setattr(body, name, getattr(fresh, name, None))
    setattr(model, model.base_model_prefix, body)
    for module in model.modules():
        if module not in retained:
            model._init_weights(module)
    return model


def _lost(pretrained: Pretrained) -> tuple[int, int]:
    return len(pretrained.new), len(pretrained.left_out)


def _classes(config: Any) -> list[type]:
    """Return the classes to try, from the one that the config names to the plain body.

    Raises ModelError if one cannot be built, as with an activation that transformers does not have.
    """
    import transformers

    classes: list[Any] = []
    named = safe_loading.class_named(next(iter(config.architectures or [""])))
    if getattr(named, "config_class", None) is type(config):
        classes.append(named)
    for auto in HEADS:
        try:
            classes.append(class_for(getattr(transformers, auto), config))
        except ValueError:
            continue
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ModelError(f"config.json: transformers cannot build it: {reason}") from error
    # Reversed twice, so that a duplicate class keeps its last position.
    return list(dict.fromkeys(classes[::-1]))[::-1]


def _filled(model_class: Any, config: Any, state: dict[str, Any], complete: bool) -> Pretrained:
    """Load weights into a model of one class through transformers.

    Raises ModelError under the same conditions as ``load``.
    """
    import torch

    try:
        with _quiet(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # torch.manual_seed would also seed the GPU
            model, report = model_class.from_pretrained(
                None,
                config=copy.deepcopy(config),
                trust_remote_code=False,
                state_dict=dict(state),
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:
        raise ModelError(first_line(error)) from error
    parts = _Parts(model)
    for name, shape, expected in report["mismatched_keys"]:
        if complete or parts.matters(name):
            raise ModelError(f"{name} has shape {list(shape)}, expected {list(expected)}")
    missing = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    needed = sorted(name for name in missing if complete or parts.matters(name))
    if needed:
        more = ""
        if len(needed) > 1:
            more = f" and {len(needed) - 1} more"
        raise ModelError(f"missing weight {needed[0]}{more}")
    if report["error_msgs"]:
        raise ModelError(report["error_msgs"][0])
    unexpected = report["unexpected_keys"]
    # mDeBERTa-v3's file has a table beside that of its embeddings, of which only its training knew.
    unused = (name for name in unexpected if name.removesuffix("._weight") + ".weight" not in state)
    strange = sorted(name for name in unused if parts.of_body(name))
    if strange:
        raise ModelError(f"the model in config.json has no weight named {strange[0]}")
    model.config.name_or_path = ""
    return Pretrained(model.eval(), parts.modules(unexpected), parts.modules(missing))


class _Parts:
    """Maps weight names, with or without the model's prefix, to the parts of a model."""

    def __init__(self, model: Any) -> None:
        self._prefix = f"{model.base_model_prefix}."
        self._body = {name for name, _ in model.base_model.named_children()} - {POOLER}

    def _inside(self, name: str) -> str:
        return name.removeprefix(self._prefix)

    def of_body(self, name: str) -> bool:
        """Return whether a weight belongs to the body, not counting its pooler."""
        return self._inside(name).partition(".")[0] in self._body

    def matters(self, name: str) -> bool:
        """Return whether a model is unusable if this one of its weights is missing."""
        return self._inside(name).partition(".")[0] != POOLER

    def modules(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the modules of these weights, with at most two name parts: cls.predictions."""
        holders = {".".join(self._inside(name).split(".")[:-1][:2]) or name for name in names}
        return tuple(sorted(name for name in holders if name.rpartition(".")[0] not in holders))


def _read(paths: Iterable[Path]) -> dict[str, Any]:
    """Read all tensors of the weight files into one state dict."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: dict[str, Any] = {}
    for path in paths:
        try:
            state |= _unpickle(path) if path.suffix == ".bin" else load_file(path)
        except SafetensorError as error:
            raise IntegrityError(
                f"{path.name}: not a complete safetensors file: {error}"
            ) from error
    return state


def _unpickle(path: Path) -> dict[str, Any]:
    """Read a pickled state dict without running any code in it."""
    import torch

    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = first_line(error)
        raise IntegrityError(f"{path.name}: contains more than weights: {reason}") from error
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise ModelError(f"{path.name}: not a state dict (a mapping of names to tensors)")
    return state


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bar and its report of missing weights; we report both."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bar = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
