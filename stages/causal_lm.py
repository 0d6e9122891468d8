"""Causal language models: open one, from safetensors or GGUF, tune it, and have it write texts."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.model import no_code, sources
from pipeline.stage import Context, locating
from pipeline.stage.split import Split
from pipeline.stage.values import IGNORED
from pipeline.terms.errors import ModelError, ProviderError
from stages import spans, training
from stages.parameters import Row, cpu_has_bf16
from stages.rows import Rows

GGUF = ".gguf"


def files(reference: str, base: Path) -> tuple[Path, ...]:
    """Return the files of a model. Raises ModelError if it cannot be found."""
    if reference.endswith(GGUF):
        return (sources.data_file(reference, base, "write.model"),)
    return locating.locate(reference, base, allow_pickle=False, key="write.model").files


@dataclass(frozen=True)
class Writer:
    """A causal language model with its tokenizer."""

    network: Any
    tokenizer: Any

    @property
    def start(self) -> int:
        """The token with which a text begins that follows nothing."""
        own = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if own is None else own)

    @property
    def positions(self) -> int | None:
        """The number of tokens that the model can read; None if it has no limit."""
        config = self.network.config
        stated = (getattr(config, name, None) for name in locating.POSITIONS)
        return next((value for value in stated if value is not None), None)

    @torch.inference_mode()
    def goes_on(self) -> bool:
        """Return whether a token read after others gets the answer that it gets beside them.

        It does not in an encoder, which transformers opens as a causal language model as well, and
        in a model that ignores the cache. What differs in fp32 otherwise is rounding.
        """
        from transformers import DynamicCache

        network = self.network.eval()
        ids = self.tokenizer("a good film", add_special_tokens=False)["input_ids"]
        given = torch.tensor([[self.start, *ids]], device=network.device)
        cache = DynamicCache(config=network.config)
        network(input_ids=given[:, :-1], past_key_values=cache, use_cache=True)
        after = network(input_ids=given[:, -1:], past_key_values=cache, use_cache=True)
        beside = network(input_ids=given).logits[:, -1]
        difference = (after.logits[:, -1] - beside).abs().max()
        return bool(difference <= 1e-3 * beside.abs().max())

    def check_length(self, prompt: int, tokens: int) -> None:
        """Raise ModelError if the model cannot read a prompt and a text of so many tokens."""
        if self.positions is None or prompt + tokens <= self.positions:
            return
        parameter = "examples" if prompt > tokens else "tokens"
        raise ModelError(
            f"write.{parameter}: lower it: a prompt of {prompt} and a text of {tokens} tokens are "
            f"more than the {self.positions} that the language model can read"
        )

    def write(
        self, prompt: str, count: int, *, tokens: int, temperature: float, top_p: float
    ) -> list[str]:
        """Return ``count`` sampled texts, each the line that follows the prompt; none is empty.

        The prompt is read once. A text that reaches ``tokens`` is cut back to its last sentence,
        and left out if it has none. Raises ModelError if the model cannot read as many tokens.
        """
        ids = self.tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
        given = torch.tensor([[self.start, *ids]], device=self.network.device)
        self.check_length(given.shape[1], tokens)
        stop = self.tokenizer.eos_token_id
        texts: list[str] = []
        for own in self._sample(given, count, tokens, temperature, top_p, stop):
            ended = stop in own
            own = own[: own.index(stop)] if ended else own
            text = self.tokenizer.decode(own, skip_special_tokens=True).lstrip(" ")
            line, broken, _ = text.partition("\n")
            line = line if ended or broken else _whole(line)
            if len(spans.units(line)[0]) > 1:
                texts.append(line.strip())
        return texts

    @torch.inference_mode()
    def _sample(
        self, given: Tensor, count: int, tokens: int, temperature: float, top_p: float, stop: int
    ) -> list[list[int]]:
        from transformers import DynamicCache

        network = self.network.eval()
        bf16 = cpu_has_bf16() and network.device.type == "cpu"
        network = network.to(torch.bfloat16 if bf16 else torch.float32)
        cache = DynamicCache(config=network.config)
        if given.shape[1] > 1:
            network(input_ids=given[:, :-1], past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(count)
        current = given[:, -1:].repeat(count, 1)
        found = torch.full((count, tokens), stop, device=given.device)
        texts = torch.arange(count, device=given.device)  # those of the cache's rows
        goes_on = torch.ones_like(texts, dtype=torch.bool)
        for at in range(tokens):
            logits = network(input_ids=current, past_key_values=cache, use_cache=True).logits
            current = nucleus(logits[:, -1].float() / temperature, top_p)
            found[texts[goes_on], at] = current[goes_on, 0]
            goes_on &= (current[:, 0] != stop) & ~self._breaks(current[:, 0])
            left = goes_on.nonzero()[:, 0]
            if not len(left):
                break
            if len(left) <= len(texts) / 2:  # not each time, since it copies the cache
                cache.batch_select_indices(left)
                texts, current, goes_on = texts[left], current[left], goes_on[left]
        rows: list[list[int]] = found.tolist()
        return rows

    def _breaks(self, ids: Tensor) -> Tensor:
        """Return which tokens contain a line break."""
        breaks = ["\n" in self.tokenizer.decode([token]) for token in ids.tolist()]
        return torch.tensor(breaks, device=ids.device)


def nucleus(logits: Tensor, top_p: float, likely: int = 1024) -> Tensor:
    """Sample one token a row from the fewest tokens whose probabilities sum to ``top_p``.

    Holtzman et al. 2020 (arXiv 1904.09751). ``logits``: rows × vocabulary; returns rows × 1. Only
    the ``likely`` first are sorted, and more for rows where these do not suffice: to sort a whole
    vocabulary takes longer than a small model does for a token.
    """
    shares, order = logits.softmax(-1).topk(min(likely, logits.shape[-1]))
    before = shares.cumsum(-1) - shares
    chosen = order.gather(1, torch.multinomial(shares.masked_fill(before >= top_p, 0), 1))
    wider = shares.sum(-1) < top_p
    if likely < logits.shape[-1] and wider.any():
        chosen[wider] = nucleus(logits[wider], top_p, 16 * likely)
    return chosen


def open_model(reference: str, base: Path) -> Writer:
    """Open a causal language model in fp32.

    Raises ModelError if it is none, ProviderError if it is a GGUF file and gguf is missing.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        if reference.endswith(GGUF):
            (path,) = files(reference, base)
            tokenizer = no_code.from_gguf(AutoTokenizer, path)
            network = _plain(no_code.from_gguf(AutoModelForCausalLM, path, dtype=torch.float32))
        else:
            directory = locating.locate(
                reference, base, allow_pickle=False, key="write.model"
            ).directory
            no_code.check_plain(directory)
            tokenizer = no_code.from_folder(AutoTokenizer, directory)
            network, report = no_code.from_folder(
                AutoModelForCausalLM, directory, dtype=torch.float32, output_loading_info=True
            )
            if missing := sorted(report["missing_keys"]):  # transformers draws them at random
                raise ValueError(f"it has no weights for {missing[0]}")
    except ImportError as error:
        raise ProviderError(
            "write.model: a GGUF file needs the extra: pip install 'rarefy[write]'"
        ) from error
    except (ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        message = f"write.model: {reference} is no causal language model: {reason}"
        raise ModelError(message) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"write.model: the tokenizer of {reference} has no end-of-text token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    writer = Writer(network, tokenizer)
    if not writer.goes_on():
        raise ModelError(
            f"write.model: {reference} is no causal language model: its answers change if it goes "
            "on from a cache of what it has read"
        )
    return writer


def _plain(network: Any) -> Any:
    """Return a model that was read from GGUF as one that can be trained; its weights are floats."""
    config = copy.deepcopy(network.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(network)(config).float()
    plain.load_state_dict(network.state_dict())
    plain.tie_weights()
    return plain


def rows(context: Context, writer: Writer, split: Split) -> Rows:
    """Return the texts as rows to tune on: start, tokens, end.

    They are cut to the recipe's max_length, or to what the model can read.
    """
    ends = [writer.tokenizer.eos_token_id]
    most = min(context.task.max_length, (writer.positions or sys.maxsize) - 2)
    made = Rows(context.work)

    def row(text: str) -> Row:
        ids = writer.tokenizer(" ".join(text.split()), add_special_tokens=False)["input_ids"]
        ids = [writer.start, *ids[:most], *ends]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids}

    for start in range(0, len(split), training.CHUNK):
        chunk = split.texts[start : start + training.CHUNK]
        made.extend(row(text) for text in chunk)
        context.progress(start + len(chunk), len(split), f"{split.name}: tokenizing")
    return made


def loss(network: Any, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean cross-entropy of the next tokens that are not padding."""
    labels = batch["labels"].masked_fill(batch["attention_mask"] == 0, IGNORED)
    logits = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED
    )


def _whole(text: str) -> str:
    """Return a text up to the end of its last sentence; empty if it has no end."""
    end = max(text.rfind(mark) for mark in spans.SENTENCE_ENDS)
    return text[: end + 1]
