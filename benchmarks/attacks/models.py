"""Models: configs, headers of weights, and tokenizers that say what they are not."""

from __future__ import annotations

import json
import pickle
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.attacks import ANY, REFUSED, Attack, Change, shapes

PLAN = ("plan", "tiny.yaml")
RUN = ("run", "tiny.yaml", "--engine", "inline", "--threads", "1", "-q")
EXPORT = (
    "name: tiny\nmodel: model\ndata: {train: train.jsonl, eval: eval.jsonl}\n"
    "stages:\n  - finetune: {epochs: 1, batch_size: 8}\n"
)


def attacks(template: Path) -> Iterator[Attack]:
    """Yield the attacks; ``template``: the project that they will change copies of."""
    yield from _files(template)
    yield from _sizes(template)
    yield from _weights(template)
    yield from _tokenizers(template)


def _files(template: Path) -> Iterator[Attack]:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        path = f"model/{name}"
        codes = (2,) if name == "config.json" else ANY
        for title, change in shapes.texts(path):
            yield Attack(title, change, PLAN, codes)
        for title, change in shapes.values(path, template / path, 30):
            yield Attack(title, change, PLAN, ANY)
        for title, change in shapes.values(path, template / path, 3, 1):
            yield Attack(f"{title}: imported", _importing(change), RUN, ANY)
    added = ("special_tokens_map.json", "added_tokens.json", "modules.json", "shapes.json")
    for name in (*added, "sentence_bert_config.json", "model.safetensors.index.json"):
        for title, change in shapes.texts(f"model/{name}"):
            yield Attack(title, change, PLAN, ANY)
    for title, change in shapes.texts("model/model.safetensors.index.json"):
        change = _together(change, _remove("model/model.safetensors"))
        yield Attack(f"{title}: no weights", change, PLAN, (2,))


def _sizes(template: Path) -> Iterator[Attack]:
    """Configs that ask for more than any machine has."""
    config = json.loads((template / "model/config.json").read_text())
    millions = {
        "labels": {"num_labels": 5_000_000},
        "names of labels": {"id2label": {str(at): f"l{at}" for at in range(300_000)}},
        "layers": {"num_hidden_layers": 10_000_000},
        "layers, some": {"num_hidden_layers": 100_000},
        "heads": {"num_attention_heads": 10**9},
        "widths": {"hidden_size": 10**9},
        "neurons": {"intermediate_size": 10**12},
        "words": {"vocab_size": 10**10},
        "positions": {"max_position_embeddings": 10**10},
        "negative layers": {"num_hidden_layers": -5},
        "half a layer": {"num_hidden_layers": 0.5},
        "types": {"type_vocab_size": 10**9},
        "lists for mappings": {"id2label": ["a", "b"], "label2id": ["a", "b"]},
        "names with controls": {"id2label": {"0": "\x1b[31myes", "1": "::error::no"}},
        "code": {"auto_map": {"AutoModel": "evil.Model"}},
        "code of another type": {"model_type": "evil", "auto_map": {"AutoModel": "evil.Model"}},
        "a kernel of the Hub": {"attn_implementation": "kernels-community/evil"},
        "a kernel, inside": {"_attn_implementation": "kernels-community/evil"},
        "a quantization": {"quantization_config": {"quant_method": "evil"}},
        "a dtype": {"torch_dtype": "os.system"},
        "an activation": {"hidden_act": "__import__"},
        "another type": {"model_type": "t5"},
        "a type that is none": {"model_type": ["bert"]},
        "architectures": {"architectures": ["../../evil"]},
    }
    for name, changes in millions.items():
        content = json.dumps(config | changes).encode()
        change = shapes.writing("model/config.json", content)
        yield Attack(f"config: {name}", change, PLAN, ANY)
        yield Attack(f"config: {name}: imported", _importing(change), RUN, ANY)
        command = ("init", "new.yaml", "--model", "model", "--train", "train.jsonl", "--yes")
        yield Attack(f"config: {name}: init", change, command, ANY)


def _weights(template: Path) -> Iterator[Attack]:
    """Headers of safetensors that were edited by hand, and pickles."""
    path = "model/model.safetensors"
    content = (template / path).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    data = content[8 + length :]
    first = next(name for name in header if name != "__metadata__")
    entry = header[first]
    begin, end = entry["data_offsets"]
    entries: dict[str, Any] = {
        "another shape": {"shape": [10**9, 10**9]},
        "a negative shape": {"shape": [-1, 5]},
        "a shape that is none": {"shape": "x"},
        "no shape": {"shape": None},
        "half a size": {"shape": [0.5]},
        "an unknown type": {"dtype": "F7"},
        "a type that is none": {"dtype": 5},
        "another type": {"dtype": "I8"},
        "offsets that are none": {"data_offsets": "x"},
        "one offset": {"data_offsets": [0]},
        "offsets outside": {"data_offsets": [begin, 10**15]},
        "offsets backwards": {"data_offsets": [end, begin]},
        "negative offsets": {"data_offsets": [-5, end]},
        "offsets of another": {"data_offsets": [begin + 4, end + 4]},
    }
    headers = {name: header | {first: entry | change} for name, change in entries.items()}
    headers |= {
        "an entry that is none": header | {first: 5},
        "an entry of nothing": header | {first: {}},
        "metadata that is none": header | {"__metadata__": 5},
        "metadata of numbers": header | {"__metadata__": {"format": 5}},
        "a name with controls": header | {"\x1b[31m": entry},
        "no tensors": {},
        "a weight less": {name: value for name, value in header.items() if name != first},
        "many entries": header | {f"x{at}": entry for at in range(100_000)},
    }
    files = {name: _packed(json.dumps(values).encode(), data) for name, values in headers.items()}
    files |= {f"a header: {name}": _packed(text, data) for name, text in shapes.TEXTS.items()}
    files |= {
        "a length of nothing": struct.pack("<Q", 0) + data,
        "a length beyond the file": struct.pack("<Q", 2**40) + content[8:],
        "the largest length": struct.pack("<Q", 2**64 - 1) + content[8:],
        "seven bytes": content[:7],
        "nothing": b"",
        "half": content[: len(content) // 2],
        "a byte less": content[:-1],
        "a byte more": content + b"x",
        "no numbers": content[: 8 + length] + b"\xff" * len(data),
        "a pickle": pickle.dumps({"a": 1}),
    }
    for name, changed in files.items():
        change = shapes.writing(path, changed)
        codes = ANY if name in ("no numbers", "another type") else REFUSED
        yield Attack(f"weights: {name}", change, PLAN, (*codes, 0) if "metadata" in name else codes)
    pickled = _together(
        shapes.writing("model/pytorch_model.bin", pickle.dumps(Evil())), _remove(path)
    )
    yield Attack("weights: pickled code", pickled, PLAN, (6,))
    allowed = _together(pickled, _allowing_pickle)
    yield Attack("weights: pickled code, allowed", allowed, RUN, REFUSED)
    for name in ("adapter_config.json", "adapter/adapter_config.json"):
        yield Attack(f"weights: {name}", _adding(f"model/{name}"), PLAN, (2,))


class Evil:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return (os.system, ("touch home/owned",))


def _packed(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _tokenizers(template: Path) -> Iterator[Attack]:
    """Tokenizers that take for ever, multiply texts or do not end."""
    tokenizer = json.loads((template / "model/tokenizer.json").read_text())
    doubled = {"type": "Replace", "pattern": {"String": "e"}, "content": "ee" * 50}
    sequence = {"type": "Sequence", "normalizers": [doubled] * 6}
    slow = {"type": "Split", "pattern": {"Regex": "(a|aa|b|bb|.)*(a*)*(b*)*$x"}}
    slow |= {"behavior": "Isolated", "invert": False}
    words: dict[str, Any] = {"added_tokens": []}
    changes: dict[str, Any] = {
        "multiplies texts": {"normalizer": sequence},
        "multiplies a little": {"normalizer": doubled},
        "backtracks": {"pre_tokenizer": slow},
        "a regular expression that is none": {
            "pre_tokenizer": slow | {"pattern": {"Regex": "(((("}}
        },
        "a long regular expression": {
            "pre_tokenizer": slow | {"pattern": {"Regex": "(a?){900}" * 9}}
        },
        "no special tokens": words | {"post_processor": None},
        "a processor of unknown tokens": {
            "post_processor": {"type": "BertProcessing", "sep": ["x", 10**6], "cls": ["y", 10**6]}
        },
        "an unknown model": {"model": {"type": "Evil"}},
        "an empty vocabulary": {"model": tokenizer["model"] | {"vocab": {}}},
        "negative ids": {"model": tokenizer["model"] | {"vocab": {"[UNK]": -1}}},
        "huge ids": {"model": tokenizer["model"] | {"vocab": {"[UNK]": 2**31, "a": 2**32 - 1}}},
    }
    for name, change in changes.items():
        content = json.dumps(tokenizer | change).encode()
        writing = shapes.writing("model/tokenizer.json", content)
        yield Attack(f"tokenizer: {name}", writing, PLAN, ANY)
        long = _together(_importing(writing), _long_rows)
        yield Attack(f"tokenizer: {name}: imported", long, RUN, ANY)
    for seed in range(6):
        title, change = next(
            shapes.values("model/tokenizer.json", template / "model/tokenizer.json", 1, 100 + seed)
        )
        yield Attack(f"tokenizer {seed}: {title}: imported", _importing(change), RUN, ANY)


def _long_rows(project: Path) -> None:
    """Make some rows long, with what a regular expression may backtrack over."""
    draw = random.Random(0)
    path = project / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:4]:
        row["text"] = "".join(draw.choices("abe", k=20_000))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _importing(change: Change) -> Change:
    """Return a change after which the recipe imports the model and trains it."""

    def both(project: Path) -> None:
        (project / "tiny.yaml").write_text(EXPORT)
        change(project)

    return both


def _allowing_pickle(project: Path) -> None:
    text = (project / "tiny.yaml").read_text()
    (project / "tiny.yaml").write_text(text + "allow_pickle: true\n")


def _together(*changes: Change) -> Change:
    def change(project: Path) -> None:
        for one in changes:
            one(project)

    return change


def _remove(path: str) -> Change:
    def change(project: Path) -> None:
        (project / path).unlink()

    return change


def _adding(path: str) -> Change:
    def change(project: Path) -> None:
        (project / path).parent.mkdir(exist_ok=True)
        (project / path).write_text('{"peft_type": "LORA"}')

    return change
