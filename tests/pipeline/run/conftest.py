"""A workshop in whose store the model is already: few tests are about its import."""

from __future__ import annotations

import pytest

from tests.conftest import Workshop


@pytest.fixture
def workshop(furnished_workshop: Workshop) -> Workshop:
    return furnished_workshop
