"""``rarefy plan``: show what would run, what is cached, and whether the data is sufficient."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from rarefy.flows.console.options import (
    device_option,
    first_option,
    home_option,
    json_option,
    no_code_option,
    recipe_argument,
    show_json,
    show_table,
    stdout,
)
from rarefy.pipeline.store.home import Home


@click.command(short_help="Show what would run and what is cached, without running it.")
@recipe_argument
@click.option(
    "--baseline", metavar="TAG", help="Plan `rarefy ci` with this baseline: TAG or URL#TAG."
)
@first_option
@no_code_option
@device_option
@home_option
@json_option
def plan(
    recipe: Path,
    baseline: str | None,
    first: bool,
    no_code: bool,
    device: str,
    home: Home,
    as_json: bool,
) -> None:
    """Check RECIPE, its data and its model, and show what `rarefy run` would do.

    Also shows the time and the memory of each stage's last run on this machine, or about how long
    it will take the first time. It says whether the eval split has enough rows for the budgets'
    margins.

    A stage `module:Class` or a metric `module:function` is imported, so code next to the recipe
    runs. With --no-code, a recipe with one is rejected.

    Example: `rarefy plan demo.yaml`
    """
    from rarefy.flows.console.views import PlanView
    from rarefy.pipeline.recipe import recipe as recipes
    from rarefy.pipeline.run.plan import baselines
    from rarefy.pipeline.run.plan.plan import Plan
    from rarefy.pipeline.terms.errors import RecipeError

    stages = recipes.check_form(recipe) if no_code else []
    if stages:
        raise RecipeError(
            f"{recipe}: to plan it, {', '.join(stages)} must be imported, which --no-code forbids; "
            "`rarefy recipe check --no-code` checks its form"
        )
    loaded = recipes.load(recipe)
    if baseline is not None:
        loaded = baselines.with_baseline(loaded, baseline)
    plan = Plan(loaded, home.store(), device, first=first)
    view = PlanView.from_plan(plan, home)
    if as_json:
        show_json(view.as_json())
        return
    console = stdout()
    show_table(view.table(), console)
    console.print(f"\n{view.summary}")
    if view.time:
        console.print(view.time)
    for note in view.notes:
        if note in view.doubts:
            console.print(f"warning: {note}", style="bold red")
        else:
            console.print(f"note: {note}")
