"""transformers' Trainer, made quiet, exactly resumable and fast on a CPU.

Imported lazily because it imports torch.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, safe_globals

from rarefy.pipeline.data.table import IGNORED
from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.batches import batches_by_length
from rarefy.pipeline.model.tokens.words import NO_WORD
from rarefy.pipeline.stage import Context
from rarefy.pipeline.store import disk
from rarefy.pipeline.store.artifact import Curve
from rarefy.pipeline.tasks.task import FIRST
from rarefy.pipeline.terms.errors import RarefyError
from rarefy.pipeline.terms.wording import plural
from rarefy.stages.common.resume import pause
from rarefy.stages.training import attention
from rarefy.stages.training.best_weights import Keeper
from rarefy.stages.training.parameters import Loss, Row, Trained, Training, cpu_has_bf16
from rarefy.stages.training.rows import groups, lengths

CHECKPOINT_SECONDS = 60.0
CURVE_PARTS = 60
"""The points of a curve of losses, at most."""
WHOLE = "whole.json"
"""The losses so far and the size of every file of a checkpoint, which is incomplete without it.

Written last, when the other files are on the disk: after a crash they would be missing otherwise.
"""

log = logging.getLogger(__name__)

PADDING = {"attention_mask": 0, "labels": IGNORED, FIRST: NO_WORD}


def fit(
    context: Context,
    parameters: Training,
    network: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    loss: Loss,
    *,
    epochs: int,
    directory: Path,
    judge: Callable[[Any], float] | None = None,
    patience: int | None = None,
) -> Trained:
    """Train ``network`` in place; see :func:`rarefy.stages.training.run.train`."""
    tokens = lengths(rows)
    batches = length_grouped(
        tokens, parameters.batch_size, epochs, context.seed, groups=groups(rows)
    )
    arguments = _arguments(context, parameters, directory, network, len(batches))
    keeper = Keeper(judge, len(batches), epochs) if judge else None
    # Checkpoints would have the names that the weights had in the model's files: resuming, which
    # does not convert them, would leave those weights as they were before the training.
    network._weight_conversions = []
    trainer = _Trainer(context, network, tokenizer, rows, batches, loss, arguments)
    trainer.add_callback(_Watch(context, trainer, keeper, patience))
    checkpoint = last_whole(directory)
    if checkpoint is not None:
        record = json.loads((checkpoint / WHOLE).read_text())
        trainer.losses = record["losses"]
        if keeper:
            keeper.load(checkpoint, context.device)
    resumed_from = len(trainer.losses)
    judged = None
    with attention.fastest(network, context.device, tokens, bf16=arguments.bf16):
        if keeper and patience is not None and keeper.waiting() > patience:
            network.to(context.device)  # it had ended early; the keeper has its weights
            # Autocast, as in training.
            trainer.accelerator.prepare_model(network, evaluation_mode=True)
        else:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if keeper:
            judged = keeper.finish(network)
    _release(network)
    epoch_steps = len(batches) // epochs
    last_epoch = trainer.losses[-epoch_steps:]
    mean = sum(last_epoch) / len(last_epoch)
    context.curves[directory.name] = curve(trainer.losses)
    return Trained(mean, len(trainer.losses), resumed_from, judged)


def curve(losses: Sequence[float]) -> Curve:
    """Return the means of the losses over at most ``CURVE_PARTS`` equal parts of the steps."""
    parts = np.array_split(losses, min(CURVE_PARTS, len(losses)))
    means = [round(float(part.mean()), 5) for part in parts]
    return Curve(steps=len(losses), losses=tuple(means))


def _release(network: Any) -> None:
    """Remove accelerate's wrapper for autocast from a network, and move it to the CPU."""
    for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
        vars(network).pop(name, None)
    network.cpu().eval()


def length_grouped(
    lengths: NDArray[np.int64],
    batch_size: int,
    epochs: int,
    seed: int,
    pool: int = 50,
    groups: NDArray[np.int64] | None = None,
) -> list[NDArray[np.int32]]:
    """Return the batches of all epochs: rows of similar length together, batches in random order.

    Rows are shuffled, cut into pools of ``pool`` batches, and sorted by length inside a pool. All
    batches are drawn in advance from ``seed`` alone, so a resumed run sees exactly the remaining
    ones. (The Trainer's own length-grouped sampler draws from the global generator and would draw
    different ones.) A batch is an array of row indices, 4 bytes each.

    Args:
        lengths: (rows,), tokens of each row.
        batch_size: rows of a batch.
        epochs: passes over the rows.
        seed: of the order.
        pool: batches of a pool.
        groups: (rows,), a number for each row. The rows of a group stay together, except where a
            batch is full; they are sorted by the longest of them.
    """
    group_count = None
    if groups is not None:
        _, groups = np.unique(groups, return_inverse=True)
        longest = np.zeros(groups.max() + 1, lengths.dtype)
        np.maximum.at(longest, groups, lengths)
        lengths = longest[groups]
        group_count = len(longest)
    generator = torch.Generator().manual_seed(seed)
    batches: list[NDArray[np.int32]] = []
    for _ in range(epochs):
        order = torch.randperm(group_count or len(lengths), generator=generator).numpy()
        if groups is not None:  # the order is that of groups
            order = np.argsort(order[groups], kind="stable")
        epoch = _pooled_batches(order.astype(np.int32), lengths, batch_size, pool)
        shuffled = torch.randperm(len(epoch), generator=generator).tolist()
        batches += [epoch[position] for position in shuffled]
    return batches


def _pooled_batches(
    order: NDArray[np.int32], lengths: NDArray[np.int64], batch_size: int, pool: int
) -> list[NDArray[np.int32]]:
    """Cut rows in an order into pools of ``pool`` batches, and these, by length, into batches."""
    batches = []
    pool_rows = pool * batch_size
    for start in range(0, len(order), pool_rows):
        rows = order[start : start + pool_rows]
        ranks = np.argsort(lengths[rows], kind="stable")
        batches += _cut(rows[ranks], batch_size)
    return batches


def _cut(rows: NDArray[Any], batch_size: int) -> list[NDArray[Any]]:
    """Cut rows in their order into batches; the last may have fewer rows."""
    starts = range(0, len(rows), batch_size)
    return [rows[start : start + batch_size] for start in starts]


def collate(rows: Sequence[Row], tokenizer: Any) -> dict[str, torch.Tensor]:
    """Pad lists on the right to the longest in the batch, and stack numbers."""
    padding = PADDING | {
        "input_ids": tokenizer.pad_token_id,
        "token_type_ids": tokenizer.pad_token_type_id,
    }
    batch = {}
    for key, first in rows[0].items():
        values = [row[key] for row in rows]
        if isinstance(first, list):
            field = key.rpartition(".")[2]  # of a row's further texts: positive.input_ids
            values = _pad(values, padding[field])
        batch[key] = torch.tensor(values)
    return batch


def _pad(values: Sequence[list[int]], fill: int) -> list[list[int]]:
    """Fill lists on the right up to the longest of them."""
    width = max(map(len, values))
    return [value + [fill] * (width - len(value)) for value in values]


def mean_loss(
    context: Context, tokenizer: Any, rows: Sequence[Row], loss: Loss, batch_size: int
) -> Callable[[Any], float]:
    """Return ``judge(network)``: the mean of a loss over units, for a network in eval mode.

    Units are rows, or the words of rows that are not cut off. Rows of a group share a batch, as in
    training: some losses are of their pairs.
    """
    row_groups = groups(rows)
    if row_groups is not None:
        batches = length_grouped(lengths(rows), batch_size, 1, seed=0, groups=row_groups)
    else:
        batches = list(batches_by_length(lengths(rows).tolist(), batch_size))

    def judge(network: Any) -> float:
        total, count = 0.0, 0
        for places in batches:
            batch = collate([rows[place] for place in places], tokenizer)
            batch = {key: value.to(context.device) for key, value in batch.items()}
            units = len(places)
            if FIRST in batch:
                units = int((batch[FIRST] >= 0).sum())
            total += float(loss(network, batch)) * units
            count += units
        return total / count

    return judge


def last_whole(directory: Path) -> Path | None:
    """Return the newest checkpoint that can be loaded, or None; delete all newer ones.

    A complete one that cannot be loaded, e.g. after damage to the disk, is logged.
    """
    paths = sorted(directory.glob("checkpoint-*"), key=_step, reverse=True)
    for path in paths:
        if (path / WHOLE).exists():
            problem = _problem(path)
            if problem is None:
                return path
            log.warning("training: %s cannot be resumed from: %s", path.name, problem)
        shutil.rmtree(path)
    return None


def shed(directory: Path) -> None:
    """Delete what an ended training does not need to be resumed at its end.

    That is all checkpoints but the newest, and of this one AdamW's moments.
    """
    *older, newest = sorted(directory.glob("checkpoint-*"), key=_step)
    for path in older:
        shutil.rmtree(path)
    record_path = newest / WHOLE
    record = json.loads(record_path.read_text())
    if OPTIMIZER_NAME in record["files"]:
        # Before the file is gone, or a kill in between would leave the checkpoint incomplete.
        del record["files"][OPTIMIZER_NAME]
        disk.write(record_path, record)
    (newest / OPTIMIZER_NAME).unlink(missing_ok=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _problem(checkpoint: Path) -> str | None:
    """Return in one line why a checkpoint cannot be loaded, or None if it can."""
    try:
        record = json.loads((checkpoint / WHOLE).read_text())
        for name, size in record.get("files", {}).items():
            if (checkpoint / name).stat().st_size != size:
                return f"{name} is truncated"
        for path in checkpoint.iterdir():
            if path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix in (".pt", ".pth"):
                with safe_globals():
                    torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        return next(iter(str(error).splitlines()), type(error).__name__)
    return None


def use_bf16(device: str, network: Any) -> bool:
    """Return True if autocast to bfloat16 is faster on the device and the model runs in it."""
    if not parts.runs_in_bf16(network):
        return False
    # Emulated, as on a T4, it is slower than fp32.
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return cpu_has_bf16()


def _arguments(
    context: Context, parameters: Training, directory: Path, network: Any, steps: int
) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(directory),
        num_train_epochs=1,  # the batches of all epochs are one sequence, for an exact resume
        per_device_train_batch_size=parameters.batch_size,
        learning_rate=parameters.learning_rate,
        weight_decay=parameters.weight_decay,
        # Warm-up starts at a rate of 0, and lasts one step at least: a single one would be lost.
        warmup_steps=parameters.warmup if steps > 1 else 0,
        lr_scheduler_type=parameters.schedule,
        seed=context.seed,
        bf16=use_bf16(context.device, network),
        use_cpu=context.device != "cuda",
        eval_strategy="no",
        save_strategy="no",  # _Watch saves at time intervals
        save_total_limit=2,  # the newest may be incomplete or damaged
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    # With several GPUs the Trainer would wrap the network in DataParallel, whose config and layers
    # losses cannot read. It sets this itself where a model's layers are spread over the GPUs.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class _Trainer(Trainer):
    """A Trainer with precomputed batches and a loss function; raises if the loss is not finite."""

    def __init__(
        self,
        context: Context,
        network: Any,
        tokenizer: Any,
        rows: Sequence[Row],
        batches: Sequence[Sequence[int] | NDArray[np.int32]],
        loss: Loss,
        arguments: TrainingArguments,
    ) -> None:
        super().__init__(
            model=network,
            args=arguments,
            train_dataset=rows,
            data_collator=lambda chosen: collate(chosen, tokenizer),
        )
        self.batches = batches
        self.loss = loss
        self.losses: list[float] = []
        self.remove_callback(PrinterCallback)  # it prints to stdout, which is reserved for data

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(
            self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator
        )

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> torch.Tensor:
        value: torch.Tensor = self.loss(model, inputs)
        number = value.item()
        if not math.isfinite(number):
            step, rate = len(self.losses) + 1, self.args.learning_rate
            raise RarefyError(
                f"training diverged: the loss is {number} at step {step} of {len(self.batches)}; "
                f"lower learning_rate (now {rate:g})"
            )
        self.losses.append(number)
        return value

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Raise RarefyError if a checkpoint lacks weights; the Trainer only warns.

        Tied weights share memory and are saved once.
        """
        state = self.model.state_dict()
        present = state.keys() - set(load_result.missing_keys)
        loaded = {state[name].data_ptr() for name in present}
        lost = []
        for name, weight in self.model.named_parameters():
            if weight.requires_grad and state[name].data_ptr() not in loaded:
                lost.append(name)
        if lost:
            raise RarefyError(
                f"the checkpoints in {self.args.output_dir} lack {plural(len(lost), 'weight')} of "
                f"the model, e.g. {lost[0]}; delete that folder to train from the beginning"
            )


class _Watch(TrainerCallback):
    """Reports progress after every step; saves checkpoints, and one at the end.

    With a keeper, ends the training after ``patience`` epochs that were no better.
    """

    def __init__(
        self, context: Context, trainer: _Trainer, keeper: Keeper | None, patience: int | None
    ) -> None:
        self.context = context
        self.trainer = trainer
        self.keeper = keeper
        self.patience = patience
        self.saving_at = self.saved_at = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        recent = self.trainer.losses[-50:]
        mean = sum(recent) / len(recent)
        note = f"loss {mean:.3f}"
        if self.keeper:
            self.keeper.step(self.trainer.model, state.global_step)
            if self.keeper.losses:
                note += f", on dev {self.keeper.losses[-1]:.3f}"
            if self.patience is not None and self.keeper.waiting() > self.patience:
                control.should_training_stop = True
        self.context.progress(state.global_step, state.max_steps, note)
        # Also after the last step: a stage killed later, even while publishing, need not retrain.
        last = state.global_step == state.max_steps or control.should_training_stop
        if last or self._is_due():
            control.should_save = True
            self.saving_at = time.monotonic()
        return control

    def _is_due(self) -> bool:
        """Return whether the last checkpoint is so old that another is worth its time."""
        cost = self.saved_at - self.saving_at
        age = time.monotonic() - self.saved_at
        return age >= pause(CHECKPOINT_SECONDS, cost)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.keeper:
            self.keeper.save(checkpoint)
        files = [path for path in checkpoint.rglob("*") if path.is_file()]
        for path in (*files, checkpoint, checkpoint.parent):
            disk.sync(path)
        sizes = {}
        for path in files:
            name = path.relative_to(checkpoint).as_posix()
            sizes[name] = path.stat().st_size
        record = {"losses": self.trainer.losses, "files": sizes}
        disk.write(checkpoint / WHOLE, record)
        self.saved_at = time.monotonic()
        return control
