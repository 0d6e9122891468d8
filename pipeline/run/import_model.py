"""Import the pretrained model into the store: the first artifact of every run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from rarefy.pipeline.stage import Context, Draft, Stage
from rarefy.pipeline.stage.located_model import Located
from rarefy.pipeline.store.artifact import Artifact, Kind, Manifest
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import ModelError, RarefyError

if TYPE_CHECKING:
    from rarefy.pipeline.model.quantization.plan import Plan

POOLER: Final = "pooler."
LEFT_OUT, NEW = "left_out", "new"
"""Keys of the manifest's ``model``: the weights left out, and the parameters drawn at random."""


class ImportModel(Stage):
    """Import a pretrained model into the store. The engine adds this stage to every recipe."""

    name: ClassVar[str] = "import"
    version: ClassVar[int] = 8
    consumes: ClassVar[frozenset[Kind]] = frozenset()
    reads: ClassVar[frozenset[str]] = frozenset()

    reference: str
    revision: str | None
    licence: str | None
    files_sha256: dict[str, str]

    @classmethod
    def of(cls, located: Located) -> ImportModel:
        """Return the stage for a located model, with the digest of every file that it reads."""
        digests = {_name(path, located): file_sha256(path) for path in located.files}
        return cls(
            reference=located.source.reference,
            revision=located.source.revision,
            licence=located.source.licence,
            files_sha256=digests,
        )

    def bring(self, located: Located, context: Context) -> Draft:
        """Load the model and tokenizer as published, and save both in the store's own format."""
        from rarefy.pipeline.model import checkpoint, padding, pooling, pretrained
        from rarefy.pipeline.model.quantization import plan as quantization

        task = context.task
        has_head = located.kind(task, task.labels) is Kind.CHECKPOINT
        context.progress(0, 1, "reading the weights")
        with tempfile.TemporaryDirectory(dir=context.work) as folder:
            copied = self._copy(located, Path(folder))
            weights = [copied / path.name for path in located.weights]
            try:
                complete = has_head and not task.head.body_only
                loaded = pretrained.load(copied, weights, complete=complete)
                tokenizer = checkpoint.load_tokenizer(copied)
            except RarefyError as error:  # name the user's folder
                error.args = (str(error).replace(str(copied), str(located.directory)),)
                raise
            model = loaded.model.base_model if task.head.body_only else loaded.model
            if located.pooling is not None:
                pooling.note(model.config, located.pooling)
            if has_head and located.own_labels:
                labels = dict(enumerate(task.labels))
                model.config.id2label = labels
                model.config.label2id = {label: index for index, label in labels.items()}
            padding.note(model.config, tokenizer)
            checkpoint.leave_out_types(model.config, tokenizer)
            roles = checkpoint.save(model, tokenizer, context.output)
            plan = quantization.read(copied)
            if plan is not None:
                prefix = f"{model.base_model_prefix}."
                of_body = _of_body(plan, prefix, "" if task.head.body_only else prefix)
                quantization.write(of_body, context.output)
                roles[quantization.FILE] = "plan"
        context.progress(1, 1, "written")
        description = checkpoint.describe(checkpoint.load(context.output))
        if loaded.left_out:
            description[LEFT_OUT] = list(loaded.left_out)
        if loaded.new:
            description[NEW] = list(loaded.new)
        return Draft(roles, description)

    def _copy(self, located: Located, folder: Path) -> Path:
        """Copy the files in the fingerprint, and no others; return the folder.

        Raises ModelError if one has changed since it was hashed.
        """
        for path in located.files:
            name = _name(path, located)
            copy = folder / name
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
            if file_sha256(copy) != self.files_sha256[name]:
                raise ModelError(f"{path}: the file changed after the run was planned; run again")
        return folder

    def run(self, context: Context, model: Artifact) -> Draft:
        raise NotImplementedError("an import has no input; the engine calls bring() instead")


def _of_body(plan: Plan, prefix: str, new_prefix: str) -> Plan:
    """Return a plan without the layers of heads, the pooler's among them: a task may replace them.

    Layers that are not in a plan stay float.

    Args:
        plan: of the model as it was stored.
        prefix: of the body's layers there, if it has a head.
        new_prefix: of the body's layers in the network that the task trains.
    """
    body = {}
    for name, layer in plan.linears.items():
        if name.startswith(prefix):
            body[name.removeprefix(prefix)] = layer
    linears = {}
    for name, layer in (body or plan.linears).items():
        if not name.startswith(POOLER):
            linears[new_prefix + name] = layer
    return plan.model_copy(update={"linears": linears})


def _name(path: Path, located: Located) -> str:
    """Return a file's name, after that of its folder if it is not beside config.json.

    The transformer may be in the directory of sentence-transformers or in a folder in it.
    """
    inside = path.parent in (located.directory, located.directory.parent)
    return path.name if inside else f"{path.parent.name}/{path.name}"


def warnings(manifest: Manifest) -> list[str]:
    """Return warnings about an import: weights left out, and parameters drawn at random."""
    model = manifest.model
    sentences = []
    if left_out := model.get(LEFT_OUT):
        sentences.append(
            f"model: {', '.join(left_out)} left out, because {model['architecture']} does not "
            "use it"
        )
    if new := model.get(NEW):
        sentences.append(
            f"model: no weights for {', '.join(new)}; initialized at random, to be trained"
        )
    return sentences
