"""How a sentence-transformers directory makes one embedding of a text's token embeddings.

Such a directory lists its modules in ``modules.json``: the transformer, a pooling, and perhaps a
normalization to length one. An import writes what they say into the model's config.json, under
``rarefy_pooling``, where saving and loading keep it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import BaseModel

from rarefy.pipeline.sources import hub
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.errors import ModelError

Mode = Literal["mean", "cls", "last"]
"""The mean over the tokens of the mask, the first token, or the last token of the mask."""

MODULES = hub.MODULES
SETTINGS = hub.CONFIG
SENTENCES = hub.SENTENCES
PROMPTS = hub.PROMPTS
KEY = "rarefy_pooling"

ENDLESS = 10**9
"""What transformers writes as the length of a model that has no longest text."""
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The flags of sentence-transformers before version 6, and the names of later versions."""


class _Module(BaseModel):
    """An entry of modules.json."""

    type: str
    path: str


@dataclass(frozen=True)
class Pooling:
    """``normalize``: whether embeddings are divided by their Euclidean length."""

    mode: Mode = "mean"
    normalize: bool = True


@dataclass(frozen=True)
class Layout:
    """Where the parts of a model's directory are.

    ``transformer``  the folder with config.json and the weights
    ``pooling``      what modules.json says; None if there is none
    ``files``        the files that say so, relative to the directory
    ``max_length``   the number of tokens to which sentence-transformers cuts texts, if it is given
    ``other_texts``  how it changes texts before the tokenizer reads them, which nothing here does
    ``other_scores`` that it compares embeddings otherwise than by their cosine, as is done here
    ``prompts``      the prompts that it puts before queries or documents if it is asked to
    """

    transformer: Path
    pooling: Pooling | None = None
    files: tuple[str, ...] = ()
    max_length: int | None = None
    other_texts: str | None = None
    other_scores: str | None = None
    prompts: tuple[str, ...] = ()


def read(directory: Path) -> Pooling:
    """Return the pooling of an imported model or a sentence-transformers directory.

    The default is the normalized mean. Raises ModelError if the directory asks for another pooling
    than mean, first or last token, or for further modules.
    """
    values = _values(directory / SETTINGS)
    if KEY in values:
        return of_config(values[KEY])
    return layout(directory).pooling or Pooling()


def of_config(value: Any) -> Pooling:
    """Return the pooling in a config's ``rarefy_pooling``. Raises ModelError if it is malformed."""
    if (
        not isinstance(value, dict)
        or value.get("mode") not in get_args(Mode)
        or not isinstance(value.get("normalize"), bool)
    ):
        raise ModelError(
            f"config.json: {KEY}: {value!r}, expected a mode (mean, cls or last) and whether to "
            "normalize"
        )
    return Pooling(value["mode"], value["normalize"])


def note(config: Any, pooling: Pooling) -> None:
    """Write a pooling into a config of transformers."""
    setattr(config, KEY, asdict(pooling))


def layout(directory: Path) -> Layout:
    """Return where the parts of a model's directory are, of sentence-transformers or not.

    Raises ModelError if modules.json is malformed or lists what rarefy cannot compute.
    """
    path = directory / MODULES
    if not path.is_file():
        return Layout(directory)
    transformer = directory
    mode = None
    normalize = False
    files = [MODULES]
    for kind, folder in _modules(path):
        if kind == "Transformer":
            transformer = directory / folder
        elif kind == "Pooling" and mode is None:
            files.append(f"{folder}/{SETTINGS}")
            mode = _mode(directory / folder / SETTINGS)
        elif kind == "Normalize" and mode is not None:
            normalize = True
        else:
            raise ModelError(
                f"{MODULES}: the module {kind} ({folder}) cannot be computed; supported are a "
                "Transformer, then a Pooling, then perhaps a Normalize"
            )
    if mode is None:  # a cross-encoder, as sentence-transformers saves it since version 5.4
        return Layout(transformer, files=tuple(files), max_length=_max_length(transformer))
    return Layout(
        transformer,
        Pooling(mode, normalize),
        tuple(files),
        _max_length(transformer),
        _other_texts(directory, transformer),
        None if normalize else _other_scores(directory),
        _prompts(directory),
    )


def _modules(path: Path) -> list[tuple[str, str]]:
    """Return the class name, without its module, and the folder of each entry of modules.json."""
    try:
        entries = json_text.foreign(path, list[_Module])
    except ModelError as error:
        raise ModelError(
            f"{MODULES}: expected a list of modules, each with a type and a path: {error}"
        ) from None
    modules = []
    for entry in entries:
        _, _, name = entry.type.rpartition(".")
        modules.append((name, entry.path))
    for _, folder in modules:
        if len(Path(folder).parts) > 1 or ".." in folder:
            raise ModelError(f"{MODULES}: the path {folder!r} is not a folder next to this file")
    return modules


def _mode(path: Path) -> Mode:
    """Return the mode in a Pooling module's config."""
    name = f"{path.parent.name}/{path.name}"
    try:
        values = json_text.foreign(path, dict[str, Any])
    except ModelError:
        raise ModelError(f"{name}: the config of the pooling is missing or not JSON") from None
    stored = values.get("pooling_mode") or [m for key, m in _FLAGS.items() if values.get(key)]
    if isinstance(stored, str):
        modes = [stored]
    else:
        modes = json_text.check(list[str], stored) or ["mean"]
    if modes == ["lasttoken"]:
        mode = "last"
    else:
        mode = modes[0]
    if len(modes) > 1 or mode not in get_args(Mode):
        raise ModelError(
            f"{name}: the pooling {' and '.join(map(str, modes))} is not supported; "
            "supported is one of mean, cls and lasttoken"
        )
    return cast("Mode", mode)


def _other_texts(directory: Path, transformer: Path) -> str | None:
    """Say if texts are put in lower case or behind a prompt before they are read.

    Bundles and measurements read texts as they are, so the embeddings would be others.
    """
    if _values(transformer / SENTENCES).get("do_lower_case") and not _lowercases(transformer):
        return (
            f"{SENTENCES}: do_lower_case is set, but the tokenizer reads capital letters; texts "
            "are not changed here, so set it to false, or use a tokenizer with lower case"
        )
    values = _values(directory / PROMPTS)
    name = values.get("default_prompt_name")
    prompts = values.get("prompts")
    if name is not None and (not isinstance(prompts, dict) or prompts.get(str(name)) != ""):
        return (
            f"{PROMPTS}: default_prompt_name is {name!r}; no prompt is put before texts here, so "
            "set it to null, and write the prompt into the texts"
        )
    return None


def _prompts(directory: Path) -> tuple[str, ...]:
    """Return the prompts that are not empty, each once."""
    prompts = _values(directory / PROMPTS).get("prompts")
    if not isinstance(prompts, dict):
        return ()
    texts = [prompt for prompt in prompts.values() if isinstance(prompt, str) and prompt]
    return tuple(dict.fromkeys(texts))


def _other_scores(directory: Path) -> str | None:
    """Say if embeddings that have lengths are compared by more than their directions."""
    name = _values(directory / PROMPTS).get("similarity_fn_name")
    if name in (None, "cosine"):
        return None
    return (
        f"{PROMPTS}: similarity_fn_name is {name!r}, but embeddings are trained and scored by "
        "cosine here, which ignores lengths; compare what is made of them by cosine as well"
    )


def _lowercases(transformer: Path) -> bool:
    """Return whether a tokenizer makes no difference between capital and small letters."""
    stated = _values(transformer / "tokenizer_config.json").get("do_lower_case")
    fast = _values(transformer / "tokenizer.json")
    if stated is False or not fast:
        return stated is True
    normalizer = fast.get("normalizer") or {}
    parts = normalizer.get("normalizers", [normalizer])
    return any(part.get("type") == "Lowercase" or part.get("lowercase") for part in parts)


def _max_length(transformer: Path) -> int | None:
    """Return the tokens to which texts are cut; the tokenizer says it since version 5.4."""
    stated = _values(transformer / SENTENCES).get("max_seq_length")
    if stated is None:
        stated = _values(transformer / "tokenizer_config.json").get("model_max_length")
    if isinstance(stated, int) and stated < ENDLESS:
        return stated
    return None


def _values(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; {} if there is none."""
    try:
        return json_text.foreign(path, dict[str, Any])
    except ModelError:
        return {}
