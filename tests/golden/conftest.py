"""`--update-golden` writes the outputs anew. Read the diff before you commit it."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/**/*.out.json anew")
