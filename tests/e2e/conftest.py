"""Fixtures: a machine per test, closed whatever happens; its console text stays in the test's folder."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import aerostat  # noqa: E402


@pytest.fixture
def machine(tmp_path):
    """machine(**options) makes a Machine in the test's folder."""
    made = []

    def make(**options):
        one = aerostat.Machine(tmp_path / f"machine{len(made)}", **options)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()
