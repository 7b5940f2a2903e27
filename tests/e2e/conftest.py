"""Fixtures: machines that are closed whatever happens; their console text stays in the test's folder. Long tests go
first, so that two workers end together."""
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


def pytest_collection_modifyitems(items):
    def seconds(item):
        mark = item.get_closest_marker("takes")
        return mark.args[0] if mark else 10

    items.sort(key=seconds, reverse=True)
