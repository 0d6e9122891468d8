"""An error's message may be shown and recorded anywhere."""

from __future__ import annotations

import pickle

from rarefy.pipeline.terms.errors import IntegrityError


def test_no_error_of_ours_holds_a_secret() -> None:
    error = IntegrityError("s3://AKIA123:hush/hush@bucket/store: damaged", 3)
    for shown in (str(error), repr(error), pickle.dumps(error).decode("latin1")):
        assert "hush" not in shown
        assert "bucket/store: damaged" in shown
    assert error.args[1] == 3
