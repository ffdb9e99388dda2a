from __future__ import annotations

import errno
import json
import signal

import click
import pytest

from graviton.cli.errors import BadArgument, Interrupted, from_os_error, report
from graviton.cli.output import Output, one_line, path_text
from graviton.cli.times import utc_text
from graviton.errors import GravitonError, IntegrityError, NotFound, PermissionDenied, StorageFull, Unavailable


@pytest.fixture
def out() -> Output:
    return Output()


def test_a_result_is_text_or_one_object(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    out.result("text", id="x", size=1)
    out.json = True
    out.result("text", id="x", size=1)
    out.result(None, id="y")
    assert capsys.readouterr().out == 'text\n{"id": "x", "size": 1}\n{"id": "y"}\n'


def test_objects_leave_by_stderr_while_stdout_carries_bytes(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    out.json = True
    out.data_on_stdout()
    out.error(NotFound("gone", subject="x"))
    streams = capsys.readouterr()
    assert streams.out == ""
    assert json.loads(streams.err) == {"error": "not_found", "message": "gone", "subject": "x"}


def test_an_error_says_what_where_and_what_to_do_in_one_line(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    out.error(NotFound("it is\ngone\x1b[2J", subject="/a/b", hint="Look elsewhere."))
    assert capsys.readouterr().err == "graviton: it is\\ngone\\x1b[2J (/a/b). Look elsewhere.\n"


def test_quiet_silences_all_but_errors(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    out.quiet = True
    out.note("a")
    out.warn("b")
    out.verbose = True
    out.detail("c")
    out.error(NotFound("d"))
    assert capsys.readouterr().err == "graviton: d\n"


def test_details_need_verbose(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    out.detail("a")
    out.verbose = True
    out.detail("b")
    assert capsys.readouterr().err == "graviton: b\n"


def test_names_from_a_file_system_stay_one_line_of_valid_text() -> None:
    assert one_line("a\tb\udcff") == "a\\tb\\xff"
    assert path_text("plain name") == "plain name"
    assert path_text("a\\nb") == "a\\\\nb" != path_text("a\nb")
    assert path_text("new\nline\udcff\\") == "new\\nline\\xff\\\\"


def test_whatever_is_printed_is_valid_text(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    out.result("at \udcff")
    out.json = True
    out.result(None, path="\udcff", inner=[{"deep": "\udcff"}])
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["at \\xff", '{"path": "\\\\xff", "inner": [{"deep": "\\\\xff"}]}']


def test_an_error_shows_its_path_as_any_path_is_shown(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    error = NotFound("a\n\udcff\\ does not exist", subject="a\n\udcff\\")
    out.error(error)
    assert capsys.readouterr().err == "graviton: a\\n\\xff\\\\ does not exist\n"
    out.json = True
    out.error(error)
    assert json.loads(capsys.readouterr().out) == {
        "error": "not_found",
        "message": "a\\n\\xff\\\\ does not exist",
        "subject": "a\\n\\xff\\\\",
    }


def test_an_error_is_a_sentence_whatever_its_message_ends_with(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    out.error(NotFound("Did you mean 'x'?", hint="Try it."))
    out.error(NotFound("It is gone.", hint="Look."))
    assert capsys.readouterr().err == "graviton: Did you mean 'x'? Try it.\ngraviton: It is gone. Look.\n"


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (NotFound("x"), 1, "not_found"),
        (IntegrityError("x"), 1, "integrity"),
        (BadArgument("x"), 2, "invalid_input"),
        (click.UsageError("x"), 2, "invalid_input"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted(signal.SIGINT), 130, "interrupted"),
        (Interrupted(signal.SIGTERM), 143, "interrupted"),
        (OSError(errno.ENOSPC, "full"), 1, "storage_full"),
        (ZeroDivisionError("x"), 1, "internal"),
    ],
)
def test_every_failure_has_its_exit_code_and_its_object(
    error: BaseException, code: int, kind: str, out: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    out.json = True
    assert report(error, out) == code
    [line] = capsys.readouterr().out.splitlines()
    printed = json.loads(line)
    assert printed["error"] == kind
    assert {"message", "subject"} <= printed.keys()


def test_a_traceback_needs_debug(out: Output, capsys: pytest.CaptureFixture[str]) -> None:
    report(NotFound("x"), out)
    assert "Traceback" not in capsys.readouterr().err
    report(NotFound("x"), out, debug=True)
    assert "NotFound" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EACCES, PermissionDenied), (errno.ENOSPC, StorageFull), (errno.ENOENT, NotFound), (errno.EIO, Unavailable)],
)
def test_errors_of_the_system_become_ours(number: int, kind: type[GravitonError]) -> None:
    error = from_os_error(OSError(number, "?", "/some/file"), doing="cannot write")
    assert type(error) is kind
    assert error.message.startswith("cannot write: /some/file: ")


def test_times_are_utc_with_microseconds() -> None:
    assert utc_text(0) == "1970-01-01T00:00:00.000000Z"
    assert utc_text(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456Z"
