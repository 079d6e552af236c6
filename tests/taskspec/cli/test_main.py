import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskspec import __version__
from taskspec.cli.main import COMMANDS, app
from taskspec.errors import ArtifactError

TASKSPEC = Path(sys.executable).with_name("taskspec")


def invoke(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def failing(monkeypatch):
    """Make `taskspec plugins` fail with an exception."""

    def fail_with(error):
        def fail():
            raise error

        monkeypatch.setattr("taskspec.registry.default_registry", fail)
        return invoke("plugins")

    return fail_with


def test_help_names_every_command():
    output = invoke("--help").output
    assert all(command.__name__.replace("_", "-") in output for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_command_has_help_with_an_example(command):
    name = command.__name__.replace("_", "-")
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert f"taskspec {name}" in result.output.partition("Examples:")[2]


def test_version():
    assert invoke("--version").output == f"taskspec {__version__}\n"


def test_a_users_mistake_is_one_message_and_exit_code_2(failing):
    result = failing(ArtifactError("the bundle [old] was altered; make it again"))
    assert result.exit_code == 2
    assert result.stderr == "error: the bundle [old] was altered; make it again\n"
    assert result.stdout == ""


def test_an_interrupt_says_how_to_go_on(failing):
    result = failing(KeyboardInterrupt())
    assert result.exit_code == 130
    assert result.stderr == "\ninterrupted; run the same command again to continue\n"


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_that_a_library_reports_as_a_failure_is_still_a_signal(
    monkeypatch, number, code, word
):
    def library():
        try:
            os.kill(os.getpid(), number)
        except BaseException:
            raise ArtifactError("a file is damaged") from None

    monkeypatch.setattr("taskspec.registry.default_registry", library)
    result = invoke("plugins")
    assert result.exit_code == code
    assert result.stderr == f"\n{word}; run the same command again to continue\n"


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "permission denied")]
)
def test_a_disk_that_cannot_be_written_is_explained(failing, number, advice):
    result = failing(OSError(number, "what the system says", "/somewhere/file"))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: /somewhere/file: {advice}")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken disk"), ZeroDivisionError()])
def test_a_defect_keeps_its_traceback(failing, error):
    assert failing(error).exception is error


def test_the_installed_command_prints_no_traceback():
    command = [TASKSPEC, "plugins", "nothing-of-that-name"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: no plugin named 'nothing-of-that-name'.")
    assert "Traceback" not in result.stderr
