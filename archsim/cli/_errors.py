"""Where exceptions become messages and exit codes, once for all commands."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

GOOD, CHECK_FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

_USER_ERRORS = (
    ("archsim._errors", "ArchsimError"),
    ("workloads._errors", "WorkloadError"),
    ("mapper._errors", "MapperError"),
    ("rtl._errors", "RtlError"),
    ("hls_gen._errors", "HlsError"),
)


class CheckFailedError(Exception):
    """A comparison that the command makes did not hold; the message says which."""


def _user_errors() -> tuple[type[Exception], ...]:
    """The packages' error classes; one whose module is not loaded cannot have been raised."""
    loaded = [(sys.modules[module], name) for module, name in _USER_ERRORS if module in sys.modules]
    return tuple(getattr(module, name) for module, name in loaded)


def guarded(command: Callable[[], object]) -> int:
    """Run ``command``: its exit code, with one message on stderr and no traceback where it failed.

    0 good, 1 a check failed, 2 wrong input. Anything else that escapes is a defect of ours and keeps
    its traceback.
    """
    try:
        code = command()
    except CheckFailedError as error:
        return _say(str(error), CHECK_FAILED)
    except click.Abort:
        return _say("interrupted", INTERRUPTED)
    except click.ClickException as error:
        error.show()
        return WRONG_INPUT
    except BrokenPipeError:
        sys.stderr.close()
        return GOOD
    except SystemExit:
        # click's answer to a reader that closed the pipe is exit code 1, which is ours for a failed check.
        return GOOD
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _say(f"{name}{error.strerror or error}", WRONG_INPUT)
    except ValueError as error:
        if not isinstance(error, _user_errors()):
            raise
        return _say(str(error), WRONG_INPUT)
    return code if isinstance(code, int) else GOOD


def _say(message: str, code: int) -> int:
    click.echo(f"archsim: {message}", err=True)
    return code
