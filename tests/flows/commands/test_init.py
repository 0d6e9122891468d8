"""A new recipe passes ``recipe check``, whatever it was made from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rarefy.flows.new_recipe.columns import read
from rarefy.flows.new_recipe.goals import GOALS
from rarefy.flows.new_recipe.recognise import recognise
from rarefy.pipeline.model.quantization import cpu_arithmetic
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.terms import metrics
from tests.models import (
    configure,
    pickle_weights,
    sentences,
    write_encoder,
    write_finetuned,
    write_model,
)
from tests.project import Project, Said


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(project.folder)
    return project


@pytest.mark.parametrize("goal", list(GOALS))
def test_every_goal_gives_a_recipe_that_passes_check(
    goal: str, here: Project, rarefy: Callable[..., Said]
) -> None:
    config = Path("encoder/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 64}))
    said = rarefy(
        *("init", "deep/new.yaml", "--model", "encoder", "--train", "train.jsonl"),
        *("--goal", goal, "--yes"),
    )
    assert (said.code, said.out) == (0, "deep/new.yaml\n")
    assert rarefy("recipe", "check", "deep/new.yaml").code == 0
    loaded = recipes.load(Path("deep/new.yaml"))
    assert loaded.recipe.data.eval == "../eval.jsonl", "found beside the training rows"
    assert loaded.recipe.data.max_length == 64, "no longer than the model's positions"
    first = Path("deep/new.yaml").read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    schema = json.loads((Path("deep") / first.partition("=")[2]).read_text())
    assert schema["title"] == "rarefy recipe"


@pytest.mark.parametrize("exact", [True, False])
def test_a_cpu_with_vnni_is_told_that_targets_may_say_so(
    exact: bool, here: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a comment: a recipe is for other machines, too, and int8 must be right on them."""
    monkeypatch.setattr(cpu_arithmetic, "exact", lambda: exact)
    said = rarefy("init", "--model", "encoder", "--train", "train.jsonl", "--yes")
    assert said.code == 0, said.err
    (line,) = (line for line in Path("recipe.yaml").read_text().splitlines() if "name: cpu" in line)
    assert ("# isa: vnni" in line) is exact
    (target,) = recipes.load(Path("recipe.yaml")).recipe.targets
    assert target.isa == "avx2"


def test_a_file_that_is_there_stays(here: Project, rarefy: Callable[..., Said]) -> None:
    Path("recipe.yaml").write_text("mine")
    arguments = ("init", "--model", "encoder", "--train", "train.jsonl", "--yes")
    said = rarefy(*arguments)
    assert (said.code, Path("recipe.yaml").read_text()) == (2, "mine")
    assert "--force" in said.err
    assert rarefy(*arguments, "--force").code == 0


@pytest.mark.parametrize("place", ["2024/recipe.yaml", "2024.yaml"])
def test_a_name_that_is_a_number_is_a_name(
    here: Project, rarefy: Callable[..., Said], place: str
) -> None:
    said = rarefy("init", place, "--model", "encoder", "--train", "train.jsonl", "--yes")
    assert said.code == 0, said.err
    assert recipes.load(Path(place)).recipe.name == "2024"


def test_a_place_where_no_file_can_be_is_refused(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    arguments = ("--model", "encoder", "--train", "train.jsonl", "--yes")
    said = rarefy("init", "train.jsonl/new.yaml", *arguments)
    assert (said.code, said.out) == (2, "")
    assert "train.jsonl/new.yaml: cannot be written" in said.err


def test_columns_of_a_table_are_guessed(here: Project, rarefy: Callable[..., Said]) -> None:
    for name in ("train", "eval"):
        rows = [json.loads(line) for line in Path(f"{name}.jsonl").read_text().splitlines()]
        with Path(f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "comment", "mood"])
            writer.writerows([at, row["text"], row["label"]] for at, row in enumerate(rows))
    said = rarefy("init", "--model", "encoder", "--train", "train.csv", "--yes")
    assert said.code == 0, said.err
    data = recipes.load(Path("recipe.yaml")).recipe.data
    assert (data.text, data.label, data.eval) == ("comment", "mood", "eval.csv")

    for name in ("train", "eval"):
        path = Path(f"{name}.csv")
        path.write_text(path.read_text().replace("id,comment,mood", '"id","a, comment","my, mood"'))
    Path("recipe.yaml").unlink()
    said = rarefy("init", "--model", "encoder", "--train", "train.csv", "--yes")
    assert said.code == 0, said.err
    data = recipes.load(Path("recipe.yaml")).recipe.data
    assert (data.text, data.label) == ("a, comment", "my, mood")


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("200 E Randolph", "B-Number B-Direction B-Street"),
        ("200 E Randolph", "['B-Number', 'B-Direction', 'B-Street']"),
        ("['the', 'dog']", '["DET", "NOUN"]'),
    ],
)
def test_tags_as_text_are_refused_and_leave_no_recipe(
    here: Project, rarefy: Callable[..., Said], text: str, tags: str
) -> None:
    for name in ("train", "eval"):
        with Path(f"{name}.csv").open("w", newline="") as file:
            rows = [[f"{text}", tags], [text, tags.replace("B-Street", "O").replace("NOUN", "X")]]
            csv.writer(file).writerows([["text", "tags"], *rows])
    said = rarefy("init", "--model", "encoder", "--train", "train.csv", "--yes")
    assert said.code == 2
    line = "column 'tags' holds tags as text; token-classification needs a list in each row, as"
    assert line in " ".join(said.err.split())
    assert not Path("recipe.yaml").exists()


def test_a_recipe_that_fails_is_not_left_behind(here: Project, rarefy: Callable[..., Said]) -> None:
    Path("eval.jsonl").write_text('{"text": "a film", "label": "unheard of"}\n')
    command = ("init", "--model", "encoder", "--train", "train.jsonl", "--yes")
    said = rarefy(*command)
    assert (said.code, Path("recipe.yaml").exists()) == (2, False)
    Path("recipe.yaml").write_text("mine")
    assert rarefy(*command, "--force").code == 2
    assert Path("recipe.yaml").read_text() == "mine"


def test_a_column_that_is_not_there_is_refused(here: Project, rarefy: Callable[..., Said]) -> None:
    said = rarefy(
        *("init", "--model", "encoder", "--train", "train.jsonl", "--label", "stars", "--yes")
    )
    assert said.code == 2
    assert "no column 'stars'; it has text, label" in said.err
    assert not Path("recipe.yaml").exists()


def test_it_asks_for_what_the_flags_do_not_say(here: Project) -> None:
    from click.testing import CliRunner

    from rarefy.flows.cli import cli

    answers = "train.jsonl\n\n\n\nencoder\nfast\n"
    asked = CliRunner().invoke(cli, ["init", "mine.yaml"], input=answers)
    assert asked.exit_code == 0, asked.output
    assert asked.stdout == "mine.yaml\n"
    assert "Label column, one of text, label [label]" in asked.stderr
    loaded = recipes.load(Path("mine.yaml"))
    assert loaded.recipe.name == "mine"
    assert "prune" in [step.id for step in loaded.steps]


@pytest.mark.parametrize(
    ("given", "needed"),
    [((), "--train … --yes"), (("--train", "train.jsonl"), "--yes")],
)
def test_without_a_terminal_it_says_what_to_give(
    here: Project,
    rarefy: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, ...],
    needed: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    said = rarefy("init", *given)
    assert said.code == 2
    assert f"no terminal to ask at: give {needed}, which takes" in " ".join(said.err.split())
    assert not Path("recipe.yaml").exists()


DATA = Path(__file__).parents[3] / "examples" / "data"
EXAMPLES = [
    *("addresses", "brown-tags", "movie-ratings", "movie-reviews", "wordnet-concepts"),
    *("wordnet-rerank", "wordnet-search"),
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_task_is_recognised_and_its_recipe_passes_check(
    example: str, here: Project, rarefy: Callable[..., Said]
) -> None:
    for file in (DATA / example).glob("*.jsonl"):
        rows = file.read_text().splitlines(keepends=True)
        most = {"train": 1000, "eval": 100}.get(file.stem, len(rows))
        Path(file.name).write_text("".join(rows[:most]))
    found = recognise(read(Path("train.jsonl")))
    assert found is not None
    said = rarefy("init", "--model", "encoder", "--train", "train.jsonl", "--yes")
    assert said.code == 0, said.err
    assert rarefy("recipe", "check", "recipe.yaml").code == 0
    recipe = recipes.load(Path("recipe.yaml")).recipe
    assert recipe.task == found.task
    assert recipe.data.group == found.group
    assert metrics.known(recipe.budgets[0].metric).kind == "score"
    written = Path("recipe.yaml").read_text()
    Path("recipe.yaml").write_text(written.replace("  # - {", "  - {"))
    releases = recipes.load(Path("recipe.yaml"))
    assert releases.tags == ("production", "anchor"), "what is a comment before the first release"
    assert {budget.metric for budget in releases.recipe.budgets[-2:]} == {recipe.budgets[0].metric}


def test_a_finetuned_model_and_texts_alone_give_a_recipe_without_labels(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    write_finetuned(Path("finetuned"))
    texts_alone()
    for goal in GOALS:
        said = rarefy(
            *("init", "--model", "finetuned", "--train", "train.jsonl", "--goal", goal),
            *("--yes", "--force"),
        )
        assert said.code == 0, said.err
        assert "note: no column looks like labels, so the model's own predictions" in said.err
        assert rarefy("recipe", "check", "recipe.yaml").code == 0
        loaded = recipes.load(Path("recipe.yaml"))
        assert loaded.recipe.data.label is None
        assert "finetune" not in [step.id for step in loaded.steps]
        assert loaded.recipe.budgets[0].metric == "agreement"
        assert {budget.against for budget in loaded.recipe.budgets} <= {None, "model"}
    said = rarefy("init", "--model", "encoder", "--train", "train.jsonl", "--yes", "--force")
    assert said.code == 2
    assert "the model has no head for text-classification; give a label column" in said.err


@pytest.mark.parametrize("labels", [("negative", "positive"), ("positive", "negative")])
def test_a_model_with_the_data_s_labels_is_the_baseline(
    here: Project, rarefy: Callable[..., Said], labels: tuple[str, str]
) -> None:
    write_model(Path("mine"), "bert", "AutoModelForSequenceClassification", labels)
    for goal in GOALS:
        said = rarefy(
            *("init", "--model", "mine", "--train", "train.jsonl", "--goal", goal),
            *("--yes", "--force"),
        )
        assert said.code == 0, said.err
        why = "note: the model has a head with the data's labels, so it is the baseline as it is"
        assert why in said.err
        assert rarefy("recipe", "check", "recipe.yaml").code == 0
        loaded = recipes.load(Path("recipe.yaml"))
        assert "finetune" not in Path("recipe.yaml").read_text()
        assert {budget.against for budget in loaded.recipe.budgets} == {"model"}


@pytest.mark.parametrize("labels", [("spam", "ham"), ("LABEL_0", "LABEL_1")])
def test_a_head_with_other_names_is_kept_or_replaced_as_the_user_says(
    here: Project, rarefy: Callable[..., Said], labels: tuple[str, str]
) -> None:
    write_model(Path("other"), "bert", "AutoModelForSequenceClassification", labels)
    given = ("init", "--model", "other", "--train", "train.jsonl", "--yes")
    said = rarefy(*given)
    assert (said.code, Path("recipe.yaml").exists()) == (2, False)
    line = (
        f"rarefy: the model's head has the outputs {', '.join(labels)}, and the data has the "
        "labels negative, positive: give --labels negative,positive, in the order of the outputs, "
        "or --new-head to train a new one"
    )
    assert said.err.splitlines() == [line]
    said = rarefy(*given, "--labels", "positive,negative")
    assert said.code == 0, said.err
    assert f"({', '.join(labels)} are positive, negative), so it is the baseline" in said.err
    recipe = recipes.load(Path("recipe.yaml")).recipe
    assert recipe.data.labels == ("positive", "negative")
    assert {budget.against for budget in recipe.budgets} == {"model"}
    said = rarefy(*given, "--new-head", "--force")
    assert said.code == 0, said.err
    assert f"its head is for other labels (only it has {', '.join(labels)};" in said.err
    recipe = recipes.load(Path("recipe.yaml")).recipe
    assert {budget.against for budget in recipe.budgets} == {"finetune"}


def test_a_head_with_another_number_of_outputs_is_replaced(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    labels = ("LABEL_0", "LABEL_1", "LABEL_2")
    write_model(Path("other"), "bert", "AutoModelForSequenceClassification", labels)
    said = rarefy("init", "--model", "other", "--train", "train.jsonl", "--yes")
    assert said.code == 0, said.err
    assert "to keep it, list the data's labels in the order of its outputs" in said.err


@pytest.mark.slow
def test_a_model_of_transformers_trainer_is_taken_as_it_is(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    """It has LABEL_0 and LABEL_1 for 0 and 1; what is predicted are the data's labels."""
    write_finetuned(Path("mine"))
    configure(Path("mine"), "label2id", id2label={"0": "LABEL_0", "1": "LABEL_1"})
    write_table(Path("rows.csv"), 60)
    said = rarefy("init", "--model", "mine", "--train", "rows.csv", "--eval", "20%", "--yes")
    assert said.code == 0, said.err
    assert "the data's labels (LABEL_0, LABEL_1 are 0, 1), so it is the baseline" in said.err
    values = yaml.safe_load(Path("recipe.yaml").read_text())
    assert values["data"]["eval"] == "20%"
    Path("recipe.yaml").write_text(yaml.safe_dump(values | {"stages": ["export"], "budgets": []}))
    said = rarefy("run", "recipe.yaml", "--engine", "inline", "--home", "home")
    assert said.code == 0, said.err
    bundle = Path("home", "runs", values["name"], "bundle")
    config = json.loads((bundle / "config.json").read_text())
    assert config["id2label"] == {"0": "0", "1": "1"}
    texts = ("a lovely great film", "a dull awful film")
    said = rarefy("predict", str(bundle), *texts, "--json")
    assert [json.loads(line)["label"] for line in said.out.splitlines()] == ["1", "0"]


def write_table(path: Path, count: int) -> None:
    """Write a CSV file of tickets, whose topic the words tell, and nothing else."""
    texts, labels = sentences(count)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket_id", "created", "body", "priority", "kind"])
        for at, (text, label) in enumerate(zip(texts, labels, strict=True)):
            created = f"2024-03-{at % 9 + 1:02}"
            writer.writerow([at // 2, created, text, "LMH"[at * at % 7 % 3], label])


def test_one_file_is_enough_and_what_was_chosen_is_said(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    write_table(Path("rows.csv"), 200)
    said = rarefy("init", "--model", "encoder", "--train", "rows.csv", "--yes")
    assert said.code == 0, said.err
    chosen = (
        "text: body; label: kind (also possible: priority); task: text-classification; "
        "eval: 20% of rows.csv"
    )
    assert chosen in said.err.splitlines()
    written = Path("recipe.yaml").read_text()
    assert "eval: 20% # of train" in written
    assert "validate: {linear: warn}" in written
    assert "note: dev: 8 rows, by which a score is known within ±35 points" in said.err
    assert rarefy("recipe", "check", "recipe.yaml").code == 0
    assert "dev: 8 rows, by which" in rarefy("plan", "recipe.yaml").out
    said = rarefy(
        *("init", "--model", "encoder", "--train", "rows.csv", "--eval", "5%", "--yes"),
        *("--label", "priority", "--force", "--json"),
    )
    assert said.json["chosen"].startswith("text: body; label: priority (a guess; also possible: ki")
    assert recipes.load(Path("recipe.yaml")).recipe.data.eval == "5%"


def test_a_share_that_leaves_too_little_for_training_is_refused(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    said = rarefy("init", "--model", "encoder", "--train", "train.jsonl", "--eval", "80%", "--yes")
    assert said.code == 2
    assert "--eval 80% is a share of the training rows; give one up to 50%, or a file" in said.err


@pytest.mark.parametrize("content", ["text,label\n", ""])
def test_a_file_without_rows_is_said(
    here: Project, rarefy: Callable[..., Said], content: str
) -> None:
    Path("train.csv").write_text(content)
    said = rarefy("init", "--model", "encoder", "--train", "train.csv", "--yes")
    assert (said.code, said.err) == (2, "rarefy: train.csv has no rows\n")


def pooled(folder: str) -> None:
    """Let a folder be one of sentence-transformers."""
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [{"type": f"sentence_transformers.models.{k}", "path": p} for p, k in parts]
    Path(folder, "modules.json").write_text(json.dumps(modules))
    Path(folder, "1_Pooling").mkdir()
    Path(folder, "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')


@pytest.mark.parametrize("trained", ["embeddings", "scores", None])
def test_a_model_that_is_trained_for_scores_or_embeddings_is_the_baseline(
    trained: str | None, here: Project, rarefy: Callable[..., Said]
) -> None:
    model = "encoder"
    columns = ("query", "passage", "score") if trained == "scores" else ("query", "positive")
    for name in ("train", "eval"):
        rows = [[f"what {n}", f"that {n}", n / 50] for n in range(60)]
        lines = (json.dumps(dict(zip(columns, row, strict=False))) + "\n" for row in rows)
        Path(f"{name}.jsonl").write_text("".join(lines))
    Path("corpus.jsonl").write_text(
        "".join(f'{{"id": "that {n}", "text": "that {n}"}}\n' for n in range(60))
    )
    if trained == "embeddings":
        pooled("encoder")
    elif trained == "scores":
        model = "ranker"
        write_model(Path(model), "bert", "AutoModelForSequenceClassification", ("LABEL_0",))
    said = rarefy("init", "--model", model, "--train", "train.jsonl", "--yes")
    assert said.code == 0, said.err
    recipe = recipes.load(Path("recipe.yaml")).recipe
    assert recipe.task == ("regression" if trained == "scores" else "sentence-embeddings")
    against = {budget.against for budget in recipe.budgets}
    assert against == {"model" if trained else "finetune"}
    assert ("add one to train the model on these rows" in said.err) is bool(trained)
    assert rarefy("recipe", "check", "recipe.yaml").code == 0


@pytest.mark.parametrize(("width", "rate"), [(16, "7e-5"), (768, "3e-5")])
def test_wide_bodies_learn_at_a_lower_rate(
    width: int, rate: str, here: Project, rarefy: Callable[..., Said]
) -> None:
    write_encoder(Path("body"), hidden=width, layers=1)
    assert rarefy("init", "--model", "body", "--train", "train.jsonl", "--yes").code == 0
    assert f"finetune: {{epochs: 3, learning_rate: {rate}}}" in Path("recipe.yaml").read_text()


def test_half_of_the_layers_is_kept_whatever_the_config_calls_them(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    write_model(Path("body"), "distilbert")  # n_layers: 2
    said = rarefy("init", "--model", "body", "--train", "train.jsonl", "--yes")
    assert said.code == 0, said.err
    assert "distill: {keep_layers: 1," in Path("recipe.yaml").read_text()


def test_pickled_weights_are_loaded_if_that_is_allowed(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    pickle_weights(Path("encoder"))
    given = ("init", "--model", "encoder", "--train", "train.jsonl", "--yes")
    said = rarefy(*given)
    assert (said.code, Path("recipe.yaml").exists()) == (6, False)
    assert "(rarefy init: --allow-pickle)" in " ".join(said.err.split())
    assert rarefy(*given, "--allow-pickle").code == 0
    assert recipes.load(Path("recipe.yaml")).recipe.allow_pickle


def test_labels_can_be_left_out(here: Project, rarefy: Callable[..., Said]) -> None:
    write_finetuned(Path("finetuned"))
    said = rarefy(
        *("init", "--model", "finetuned", "--train", "train.jsonl", "--label", "none", "--yes")
    )
    assert said.code == 0, said.err
    assert recipes.load(Path("recipe.yaml")).recipe.data.label is None


def texts_alone() -> None:
    """Leave only the texts of the rows."""
    for name in ("train", "eval"):
        rows = [json.loads(line) for line in Path(f"{name}.jsonl").read_text().splitlines()]
        lines = (json.dumps({"text": row["text"]}) + "\n" for row in rows)
        Path(f"{name}.jsonl").write_text("".join(lines))


@pytest.mark.parametrize("goal", list(GOALS))
def test_a_model_of_sentence_transformers_and_texts_alone_give_a_recipe_of_embeddings(
    goal: str, here: Project, rarefy: Callable[..., Said]
) -> None:
    texts_alone()
    pooled("encoder")
    arguments = ("--train", "train.jsonl", "--goal", goal, "--yes")
    said = rarefy("init", "--model", "encoder", *arguments)
    assert said.code == 0, said.err
    recipe = recipes.load(Path("recipe.yaml")).recipe
    assert recipe.task == "sentence-embeddings"
    assert recipe.data.label is recipe.data.corpus is None
    assert recipe.budgets[0].metric == "agreement"
    assert rarefy("recipe", "check", "recipe.yaml").code == 0


@pytest.mark.parametrize(
    ("labels", "problem", "task"),
    [
        (("a", "b"), "multi_label_classification", "multi-label-classification"),
        (("a", "b"), None, "text-classification"),
        (("a",), "regression", "regression"),
    ],
)
def test_without_labels_the_model_s_head_says_the_task(
    labels: tuple[str, ...],
    problem: str | None,
    task: str,
    here: Project,
    rarefy: Callable[..., Said],
) -> None:
    texts_alone()
    write_model(Path("headed"), "bert", "AutoModelForSequenceClassification", labels)
    config = Path("headed/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"problem_type": problem}))
    said = rarefy("init", "--model", "headed", "--train", "train.jsonl", "--yes")
    assert said.code == 0, said.err
    assert recipes.load(Path("recipe.yaml")).recipe.task == task


def test_a_task_can_be_given(here: Project, rarefy: Callable[..., Said]) -> None:
    said = rarefy(
        *("init", "--model", "encoder", "--train", "train.jsonl", "--task", "tagging", "--yes")
    )
    assert said.code == 2
    assert "unknown task 'tagging'" in said.err


def test_a_header_with_a_column_twice_is_refused(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    Path("rows.csv").write_text("text,label,label\n" + "a,b,c\n" * 9)
    said = rarefy("init", "--model", "encoder", "--train", "rows.csv", "--yes")
    assert said.code == 2
    assert "the header has the column 'label' twice; rename one" in said.err
