"""What the tests of the readers share."""

import pytest

from headrace.corpus.media import MediaSettings, read_records


@pytest.fixture
def read():
    """``read(path, settings)``: all that is in a file, as a list."""

    def all_of(path, settings=None, **more):
        return list(read_records(str(path), settings or MediaSettings(), **more))

    return all_of
