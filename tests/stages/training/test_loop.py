"""The training loop: exactly resumable, quiet, in the CPU's own precision."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.store import disk
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import RarefyError
from rarefy.stages.finetune import Finetune
from rarefy.stages.training import loop as trainer
from rarefy.stages.training import run as training
from tests.models import LABELS, TASK, artifact_of, rename_weights, write_model
from tests.stages.trainings import fit, same_weights

ROOT = Path(__file__).parents[3]


def test_progress_is_told_and_stdout_stays_empty(tiny_encoder, make_context, capfd):
    seen = []
    _, trained = fit(make_context(progress=lambda *what: seen.append(what)), tiny_encoder)
    assert trained.steps == 16
    assert [done for done, _, _ in seen] == list(range(1, 17))
    assert all(total == 16 and note.startswith("loss 0.") for _, total, note in seen)
    assert capfd.readouterr().out == ""


def test_the_losses_are_left_as_a_curve(tiny_encoder, make_context):
    context = make_context()
    _, trained = fit(context, tiny_encoder)
    (curve,) = context.curves.values()
    assert curve.steps == trained.steps == len(curve.losses) == 16
    last_epoch = curve.losses[-8:]
    assert sum(last_epoch) / len(last_epoch) == pytest.approx(trained.loss, abs=1e-5)


def test_a_long_curve_has_the_means_of_its_parts():
    curve = trainer.curve([1.0, 3.0] * 600)
    assert (curve.steps, curve.losses) == (1200, (2.0,) * trainer.CURVE_PARTS)


@pytest.mark.parametrize("has", [True, False])
def test_bf16_is_for_cpus_that_have_it(tiny_encoder, make_context, monkeypatch, has):
    """On other CPUs bfloat16 is emulated and slower than fp32."""
    seen = set()

    def watch(module, given, answer):
        if isinstance(module, torch.nn.Linear):
            seen.add(answer.dtype)

    monkeypatch.setattr(trainer, "cpu_has_bf16", lambda: has)
    with torch.nn.modules.module.register_module_forward_hook(watch):
        fit(make_context(rows=8), tiny_encoder, epochs=1)
    assert seen == {torch.bfloat16 if has else torch.float32}
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: has)
    bert = SimpleNamespace(config=SimpleNamespace(model_type="bert"))
    assert trainer.use_bf16("cuda", bert) is has


def test_the_model_comes_out_in_full_precision_and_ready_to_answer(tiny_encoder, make_context):
    network, _ = fit(make_context(rows=8), tiny_encoder, epochs=1)
    assert not network.training
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert network(input_ids=torch.tensor([[2, 5, 3]])).logits.dtype == torch.float32
    assert "forward" not in vars(network)  # no autocast wrapper is left


class WithTwo(TrainingArguments):
    """The arguments of a training on a machine with two GPUs."""

    def __post_init__(self):
        super().__post_init__()
        self._n_gpu = 2  # what torch.cuda.device_count() gives there


def test_a_machine_with_two_gpus_trains_on_one(tiny_encoder, make_context, monkeypatch, tmp_path):
    one, _ = fit(make_context(rows=8, work=tmp_path / "one"), tiny_encoder, epochs=1)
    monkeypatch.setattr(trainer, "TrainingArguments", WithTwo)
    two, _ = fit(make_context(rows=8, work=tmp_path / "two"), tiny_encoder, epochs=1)
    assert same_weights(one, two)


def test_a_diverging_training_says_so_in_one_line(tiny_encoder, make_context):
    def not_a_number(model, batch):
        return TASK.objective.training_loss()(model, batch) * float("nan")

    context = make_context(rows=8)
    training.prepare(context)
    network, tokenizer = training.open_network(context, tiny_encoder)
    rows = training.labelled_rows(context, tokenizer, context.split("train"))
    with pytest.raises(RarefyError, match=r"^training diverged: the loss is nan at step 1 of 3; "):
        training.train(context, Finetune(), network, tokenizer, rows, not_a_number)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from rarefy.pipeline.store.artifact import Kind
    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.stage import Context
    from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
    from rarefy.stages.training import loop as trainer
    from rarefy.stages.finetune import Finetune
    from tests import models

    trainer.pause = lambda *_: 0.0

    def progress(done, total, note):
        if note == "fitting the new head":
            return
        print("step", done, file=sys.stderr)
        if done == {kill_at}:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()

    texts, labels = models.sentences(64)
    context = Context(
        task=TEXT_CLASSIFICATION.bind(models.LABELS, 32, ("text",)),
        splits={{"train": Split("train", "train.jsonl", "0" * 64, texts, None, labels)}},
        seed=0, device="cpu", threads=1, work=Path({work!r}), output=Path({output!r}),
        artifacts={{}}, base=Path("."), progress=progress,
    )
    encoder = models.artifact_of(Path({encoder!r}), Kind.ENCODER)
    Finetune(learning_rate=2e-3, epochs=2, batch_size=8).run(context, encoder)
"""


def run_killed(encoder: Path, work: Path, output: Path, kill_at: int) -> tuple[int, list[int]]:
    """Fine-tune in a separate process; return its exit code and the steps it reported."""
    script = textwrap.dedent(KILLED).format(
        kill_at=kill_at,
        work=str(work),
        output=str(output),
        encoder=str(encoder),
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    steps = re.findall(r"^step (\d+)$", done.stderr, re.MULTILINE)
    assert steps, done.stderr
    return done.returncode, [int(step) for step in steps]


@pytest.mark.slow
def test_a_run_killed_in_its_second_epoch_goes_on_to_the_same_weights(
    tiny_encoder, make_context, tmp_path
):
    kill_at = 11
    plain = make_context(work=tmp_path / "plain")
    Finetune(learning_rate=2e-3, epochs=2, batch_size=8).run(plain, tiny_encoder)

    work, output = tmp_path / "killed", tmp_path / "result"
    code, steps = run_killed(tiny_encoder.directory, work, output, kill_at)
    assert (code, steps[-1]) == (-signal.SIGKILL, kill_at)
    # The newest checkpoint is incomplete: the run must not resume from it.
    (work / "training" / "checkpoint-14").mkdir()
    (work / "training" / "checkpoint-14" / "model.safetensors").write_bytes(b"half")

    code, steps = run_killed(tiny_encoder.directory, work, output, kill_at=-1)
    assert code == 0
    assert steps == list(range(kill_at, 17))  # killed before the checkpoint of that step
    assert same_weights(checkpoint.load(plain.output), checkpoint.load(output))


def test_a_training_that_shed_what_it_needs_no_more_stays_ended(
    tiny_encoder, make_context, monkeypatch
):
    monkeypatch.setattr(trainer, "pause", lambda *_: 0)  # a checkpoint after each step
    context = make_context(rows=16)
    network, _ = fit(context, tiny_encoder)
    trainer.shed(context.work / "training")
    (kept,) = (context.work / "training").glob("checkpoint-*")
    assert not (kept / "optimizer.pt").exists()
    again, trained = fit(context, tiny_encoder)
    assert trained.resumed_from == trained.steps
    assert same_weights(network, again)


def test_checkpoints_that_take_long_are_seldom(tiny_encoder, make_context, monkeypatch):
    now, saved, write = 0.0, [], trainer.disk.write

    def step(*_):
        nonlocal now
        now += 1

    def slow(path, record):
        nonlocal now
        now += 0.375
        saved.append(int(path.parent.name.removeprefix("checkpoint-")))
        write(path, record)

    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 2.0)
    monkeypatch.setattr(trainer.disk, "write", slow)
    fit(make_context(rows=64, progress=step), tiny_encoder, epochs=3)
    assert saved == [2, 10, 18, 24], "after 2 s, then after 20 × 0.375 s, and at the end"


class CrashError(Exception):
    """The end of a training before its time."""


def crashed(encoder, make_context, monkeypatch, at: int) -> Path:
    """Train up to a step, with a checkpoint at each; return the folder of the checkpoints."""

    def progress(done, total, note):
        if done == at:
            raise CrashError

    monkeypatch.setattr(trainer, "pause", lambda *_: 0.0)
    with pytest.raises(CrashError):
        fit(make_context(progress=progress), encoder)
    return make_context().work / "training"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES = (
    ("model.safetensors", cut),
    ("model.safetensors", overwrite),
    ("optimizer.pt", cut),
    ("optimizer.pt", Path.unlink),
    (trainer.WHOLE, cut),
)


@pytest.mark.slow
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tiny_encoder, make_context, tmp_path, monkeypatch, caplog
):
    plain, _ = fit(make_context(work=tmp_path / "plain"), tiny_encoder)
    saved = crashed(tiny_encoder, make_context, monkeypatch, at=6)
    assert sorted(path.name for path in saved.iterdir()) == ["checkpoint-4", "checkpoint-5"]
    for number, (name, damage) in enumerate(DAMAGES):
        copy = shutil.copytree(saved, tmp_path / f"copy-{number}")
        damage(copy / "checkpoint-5" / name)
        assert trainer.last_whole(copy) == copy / "checkpoint-4", (name, damage)
    caplog.clear()
    cut(saved / "checkpoint-5" / "model.safetensors")
    network, trained = fit(make_context(), tiny_encoder)
    assert trained.resumed_from == 4
    assert same_weights(plain, network)
    (line,) = [record.getMessage() for record in caplog.records if "resumed" in record.msg]
    assert line.startswith("training: checkpoint-5 cannot be resumed from: ")


def test_a_training_without_a_usable_checkpoint_starts_again(
    tiny_encoder, make_context, monkeypatch
):
    saved = crashed(tiny_encoder, make_context, monkeypatch, at=3)
    for path in saved.glob("*/optimizer.pt"):
        cut(path)
    assert fit(make_context(), tiny_encoder)[1].resumed_from == 0


def with_other_names(directory: Path, kind: str) -> Path:
    """Save a classifier whose weights have other names in its file than in transformers."""
    write_model(directory, kind, "AutoModelForSequenceClassification", LABELS)
    if kind == "bert":
        old = (("Norm.weight", "Norm.gamma"), ("Norm.bias", "Norm.beta"))
        rename_weights(directory, lambda name: name.replace(*old[0]).replace(*old[1]))
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "nomic_bert"])
def test_a_resumed_training_has_all_weights_whatever_their_names_in_a_file(
    make_context, tmp_path, monkeypatch, kind
):
    """transformers saves them by the names that they had, but resumes by its own."""
    encoder = artifact_of(with_other_names(tmp_path / "model", kind), Kind.ENCODER)
    plain, _ = fit(make_context(work=tmp_path / "plain"), encoder)
    crashed(encoder, make_context, monkeypatch, at=6)
    network, trained = fit(make_context(), encoder)
    assert trained.resumed_from == 5
    assert same_weights(plain, network)


def test_a_checkpoint_without_some_weights_is_not_resumed_from(
    tiny_encoder, make_context, monkeypatch
):
    saved = crashed(tiny_encoder, make_context, monkeypatch, at=3)
    rename_weights(saved / "checkpoint-2", lambda name: name.replace("LayerNorm", "norm"))
    for path in saved.glob(f"*/{trainer.WHOLE}"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"files": {}}))
    with pytest.raises(
        RarefyError, match=r"training lack \d+ weights of the model, e\.g\. bert\S+Norm"
    ):
        fit(make_context(), tiny_encoder)


def test_a_checkpoint_counts_once_its_files_are_on_the_disk(
    tiny_encoder, make_context, monkeypatch
):
    """Power may fail at any time: the mark of a complete checkpoint must not outlive its files."""
    done, sync, write = [], disk.sync, disk.write
    monkeypatch.setattr(disk, "sync", lambda path: (done.append(path), sync(path)))
    monkeypatch.setattr(disk, "write", lambda path, value: (done.append(path), write(path, value)))
    fit(make_context(rows=8), tiny_encoder, epochs=1)
    marks = [path for path in done if path.name == trainer.WHOLE]
    assert marks, "one is written after the last step"
    for mark in marks:
        others = {path for path in mark.parent.iterdir() if path != mark}
        assert others <= set(done[: done.index(mark)])


def test_batches_hold_every_row_once_an_epoch_and_rows_of_like_length():
    lengths = np.array([5 + row % 40 for row in range(1000)])

    def drawn():
        return [b.tolist() for b in trainer.length_grouped(lengths, 16, epochs=2, seed=3)]

    batches = drawn()
    first, second = batches[: len(batches) // 2], batches[len(batches) // 2 :]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(1000))
    assert first != second
    assert batches == drawn()
    # As Python's own sort would cut them: what a run resumed after an upgrade must see again.
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(3)).tolist()
    pools = [sorted(order[at : at + 800], key=lengths.tolist().__getitem__) for at in (0, 800)]
    parts = [pool[at : at + 16] for pool in pools for at in range(0, len(pool), 16)]
    assert sorted(first) == sorted(parts)
    padded = sum(max(lengths[row] for row in batch) * len(batch) for batch in batches)
    assert padded < 1.05 * 2 * sum(lengths)
    longest = [max(lengths[row] for row in batch) for batch in first]
    assert longest != sorted(longest)


def test_padding_adds_what_the_model_ignores(tiny_encoder):
    tokenizer = checkpoint.load_tokenizer(tiny_encoder.directory)
    rows = [
        {"input_ids": [2, 7, 3], "attention_mask": [1, 1, 1], "labels": 1},
        {"input_ids": [2, 3], "attention_mask": [1, 1], "labels": 0},
    ]
    batch = trainer.collate(rows, tokenizer)
    assert batch["input_ids"].tolist() == [[2, 7, 3], [2, 3, tokenizer.pad_token_id]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [1, 0]


def test_rows_of_a_group_share_a_batch_and_each_epoch_has_every_row():
    draw = np.random.default_rng(0)
    groups, lengths = draw.permutation(np.repeat(np.arange(50), 4)), draw.integers(5, 60, 200)
    batches = trainer.length_grouped(lengths, 16, epochs=2, seed=3, pool=2, groups=groups)
    assert [sorted(np.concatenate(part)) for part in (batches[:13], batches[13:])] == [
        list(range(200))
    ] * 2
    for batch in batches:
        _, counts = np.unique(groups[batch], return_counts=True)
        assert (counts == 4).all()
    assert batches[0].tolist() != batches[13].tolist()


def judged(context, encoder, losses, epochs, patience=None):
    """Train with a judge that gives these losses, one an epoch."""
    training.prepare(context)
    network, tokenizer = training.open_network(context, encoder)
    rows = training.labelled_rows(context, tokenizer, context.split("train"))
    stage = Finetune(learning_rate=2e-3, epochs=epochs, batch_size=8)
    given = iter(losses)
    judge = lambda _: next(given)  # noqa: E731
    trained = training.train(
        context,
        stage,
        network,
        tokenizer,
        rows,
        TASK.objective.training_loss(),
        judge=judge,
        patience=patience,
    )
    return network, trained


def test_a_training_that_gets_no_better_ends_early_and_stays_ended(tiny_encoder, make_context):
    context = make_context(rows=16)
    first, trained = judged(context, tiny_encoder, [3, 1, 2, 2], epochs=9, patience=1)
    assert (trained.steps, trained.judged) == (8, 1)
    again, resumed = judged(context, tiny_encoder, [], epochs=9, patience=1)
    assert (resumed.steps, resumed.resumed_from, resumed.judged) == (8, 8, 1)
    assert same_weights(first, again)


@pytest.mark.slow
def test_a_killed_training_still_knows_its_best_epoch(tiny_encoder, make_context, monkeypatch):
    whole, _ = judged(make_context(rows=16), tiny_encoder, [3, 1, 2, 2, 9], epochs=4)
    context = make_context(rows=16, work=make_context().base / "killed")
    monkeypatch.setattr(trainer, "pause", lambda *_: 0.0)

    def die(done, *_):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(replace(context, progress=die), tiny_encoder, [3, 1, 2], epochs=4)
    again, trained = judged(context, tiny_encoder, [2, 9], epochs=4)  # the average is the last
    assert trained.resumed_from == 6
    assert trained.judged == 1
    assert same_weights(whole, again)
