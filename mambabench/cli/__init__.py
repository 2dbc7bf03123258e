"""The command line: one module per verb, loaded only when that verb is asked for.

Exit codes: 0 done; 1 finished, but something failed and is recorded; 2 wrong usage or bad input;
130 interrupted; 143 terminated.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import warnings
from importlib import import_module
from io import TextIOWrapper
from types import FrameType
from typing import NoReturn, TextIO

import click

from mambabench.errors import MambabenchError, nearest_names

__all__ = ["VERBS", "main", "show_error", "shown_whole"]

# verb -> (module, one help line); the module has a click command named `command`
VERBS: dict[str, str] = {
    "tasks": "List, show and check tasks.",
    "extract": "Encode the clips of tasks into an embedding store.",
    "probe": "Train and score the heads of every seed, grid point and fold.",
    "report": "Print tables with intervals, comparisons and ranks.",
    "clips": "List test clips with what every seed made of them.",
    "train": "Train encoders, DepMamba or MMML, from data to weights.",
    "evaluate": "Judge trained systems and affect probes honestly.",
    "curves": "Plot the loss, rate, evaluations and probes of trainings.",
    "run": "Do extract, probe and report in one resumable folder.",
    "bundle": "Pack records and page, without audio, for a reviewer.",
    "status": "Say how far every encoder is on every task.",
    "config": "Show and check the file that tells run all.",
    "verify": "Check everything below an output folder.",
    "forget": "Take wrong results away.",
    "embed": "Embed your own audio files.",
    "check": "Validate a HEAR-API provider strictly.",
    "models": "List the encoders and what is known of them.",
    "weights": "Get, import, convert and show checkpoints.",
    "data": "Get, import, verify and resample task archives.",
    "classify": "Name what is heard in a clip, with an encoder's own head.",
    "info": "Say what this machine will use, and why.",
}


class _Verbs(click.Group):
    """Load a verb's module at its first use, so that help answers in a blink."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = import_module(f"mambabench.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            ctx.fail(f"no verb named {args[0]!r}{nearest_names(args[0], VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mambabench", prog_name="mambabench")
def _cli() -> None:
    """Measure how good an audio encoder is.

    In an empty folder, `mambabench run` generates a demo benchmark, embeds it with two encoders,
    trains ten seeds of probes and prints the table.
    """


_whole_tracebacks = False


def show_whole(wanted: bool = True) -> None:
    """Have the whole traceback of a provider's fault printed: what --traceback asks for."""
    global _whole_tracebacks
    _whole_tracebacks = wanted


def shown_whole() -> bool:
    """Say whether --traceback was given."""
    return _whole_tracebacks


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as one line; where in the source it was raised helps no user."""
    _say(f"warning: {' '.join(str(message).split())}", file or sys.stderr)


def _say(text: str, stream: TextIO) -> None:
    """Print a message: one line, on a terminal as many as keep its words whole."""
    from mambabench.cli.lines import terminal_width, wrapped

    for line in wrapped(text, terminal_width(stream)):
        print(line, file=stream)


def _show_usage_error(error: click.ClickException) -> None:
    """Print a wrong usage as one line; a group without a command answers with its help."""
    message = error.format_message()
    if message.startswith("Usage:"):
        print(message)
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"; see `{context.command_path} --help`" if context is not None else ""
    text = f"mambabench: {' '.join(message.split()).rstrip('.')}{hint}"
    _say(text.replace("?; ", "? "), sys.stderr)
    _tell_error("UsageError", message, error.exit_code)


def _tell_error(kind: str, message: str, code: int) -> None:
    """With --json an error is an object on standard output too."""
    from mambabench.cli.json_out import error_text, wanted

    if wanted():
        print(error_text(kind, message, code))


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends it before it kills: handled with the care of Ctrl-C."""


GRACE_S = 35  # threads are waited for 30 s: what goes on after that has not heard of the end


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the run with care; and if that gets lost, without.

    Python drops what a handler raises inside a callback, as while modules are imported.
    """
    terminated = number == signal.SIGTERM
    signal.signal(signal.SIGALRM, lambda *_: _leave(143 if terminated else 130))
    signal.alarm(GRACE_S)
    raise _Terminated if terminated else KeyboardInterrupt


def _leave(code: int) -> NoReturn:
    """End an interrupted run at once: what compiled code still does on threads is of no use, and
    an interpreter that is torn down under it would abort."""
    from mambabench.files import remove_unfinished

    remove_unfinished()
    print("interrupted; the same command continues where it stopped", file=sys.stderr)
    _tell_error("Interrupted", "the same command continues where it stopped", code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _be_deaf() -> None:
    """Let the interpreter end in peace: all is written, and there is nothing to stop any more."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def show_error(error: MambabenchError) -> None:
    """Print an error; of a provider's fault the last lines of its traceback, or all of it."""
    _say(f"mambabench: {str(error).replace('?; ', '? ')}", sys.stderr)
    if error.traceback and shown_whole():
        print(error.traceback, file=sys.stderr)
        return
    for note in getattr(error, "__notes__", ()):
        print(note, file=sys.stderr)
    if error.traceback:
        print("--traceback prints all of it", file=sys.stderr)


def main() -> None:
    """Run the command line and exit with its code."""
    from mambabench.cli.json_out import begin, result_text

    begin()
    warnings.showwarning = _show_warning
    signal.signal(signal.SIGTERM, _interrupt)
    if (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):  # else it is ignored on purpose
        signal.signal(signal.SIGINT, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, TextIOWrapper
        ):  # file names that are no UTF-8; terminals that are not
            utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if utf8 else "replace")
    try:
        code = _cli.main(prog_name="mambabench", standalone_mode=False)
    except click.exceptions.Abort as error:
        if isinstance(error.__cause__, EOFError):  # click takes it for Ctrl-C
            print(f"mambabench: a file ended too early ({error.__cause__})", file=sys.stderr)
            if shown_whole():
                import traceback

                traceback.print_exception(error.__cause__)
            sys.exit(2)
        _leave(143 if isinstance(error.__cause__, _Terminated) else 130)
    except click.ClickException as error:
        _show_usage_error(error)
        sys.exit(error.exit_code)
    except MambabenchError as error:
        show_error(error)
        _tell_error(type(error).__name__, str(error), 2)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        if error.errno is None or error.filename is None or shown_whole():
            raise
        said = f"cannot use {error.filename}: {error.strerror}"
        _say(f"mambabench: {said}", sys.stderr)
        _tell_error("OSError", said, 2)
        sys.exit(2)
    atexit.register(_be_deaf)
    ended = code if isinstance(code, int) else 0
    if text := result_text(ended):
        print(text)
    sys.exit(ended)
