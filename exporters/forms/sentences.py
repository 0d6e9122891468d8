"""The files by which sentence-transformers knows how to make one embedding of a text's tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporters.bundle.files import write_json
from exporters.forms.source import Source
from pipeline.model import pooling
from pipeline.model.pooling import Pooling

FLAGS = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}
"""Our names of a pooling -> what stands after ``pooling_mode_`` in the config of theirs."""
OTHERS = ("max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")


def write(source: Source, folder: Path) -> None:
    """Write modules.json and the files that it leads to."""
    how = pooling.of_config(source.config.get(pooling.KEY))
    kinds = ["Transformer", "Pooling", *(["Normalize"] if how.normalize else [])]
    modules = [
        {
            "idx": at,
            "name": str(at),
            "path": f"{at}_{kind}" if at else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for at, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "__version__": {},
            "model_type": "SentenceTransformer",
            "prompts": {},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    lengths = {"max_seq_length": source.max_length, "do_lower_case": False}
    write_json(folder / pooling.SENTENCES, lengths)
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", _pooling(how, source))


def _pooling(how: Pooling, source: Source) -> dict[str, Any]:
    flags = {f"pooling_mode_{name}": FLAGS[how.mode] == name for name in (*FLAGS.values(), *OTHERS)}
    width = int(source.output["shape"][-1])
    return {"word_embedding_dimension": width, **flags, "include_prompt": True}
