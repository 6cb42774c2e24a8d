"""`python -m certdicom` is the `certdicom` command."""

from certdicom.cli.main import run

run()
