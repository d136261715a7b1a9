"""The ``archsim`` command: load, call, write."""

from archsim.cli._app import main

__all__ = ["main"]
