"""Command lines of verbs that do not compose a configuration."""

import argparse
from typing import Any, NoReturn

from metavision.errors import InputError


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all of metavision does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; {self.prog} --help shows what there is")
