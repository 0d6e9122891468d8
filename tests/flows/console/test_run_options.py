"""Commands, Prefect's flow and the job of a run have the same options, with the same defaults."""

from __future__ import annotations

import inspect
from dataclasses import fields

import click
import pytest

from rarefy.flows.commands.ci import ci
from rarefy.flows.commands.deploy import deploy
from rarefy.flows.commands.run import run
from rarefy.flows.commands.schedule import schedule
from rarefy.flows.console.options import RunOptions
from rarefy.flows.run.job import Job

DEFAULTS = {option.name: option.default for option in fields(RunOptions)}


@pytest.mark.parametrize("command", [run, ci, deploy, schedule])
def test_a_command_s_options_have_the_defaults_of_a_run(command: click.Command) -> None:
    options = {option.name: option.default for option in command.params}
    shared = DEFAULTS.keys() & options.keys()
    assert {"device", "threads"} <= shared
    assert {name: options[name] for name in shared} == {name: DEFAULTS[name] for name in shared}


def test_prefect_sees_the_options_as_parameters_of_the_flow() -> None:
    from rarefy.flows.run.flow import compress

    parameters = inspect.signature(compress.fn).parameters
    assert {name: parameters[name].default for name in DEFAULTS} == DEFAULTS
    required = compress.parameters.required
    assert required == ["recipe"]


def test_a_job_has_all_options() -> None:
    job = Job(recipe="a.yaml", home=".rarefy", out="out", command="rarefy run a.yaml")
    assert {name: getattr(job, name) for name in DEFAULTS} == DEFAULTS
