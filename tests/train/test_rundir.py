"""How files of a run directory are written: whole lines, whole files, as private as the directory."""

import os
from pathlib import Path

from train.journal.events import Superseded
from train.rundir import RunDir, append_line, read_lines, write_atomic


def test_a_line_cut_short_by_a_kill_spoils_no_other(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    append_line(path, {"step": 1})
    path.write_text(path.read_text() + '{"step": 2')
    assert list(read_lines(path)) == [{"step": 1}]
    append_line(path, {"step": 3})
    assert list(read_lines(path)) == [{"step": 1}, {"step": 3}]


def test_atomic_writes_leave_no_other_file(tmp_path: Path):
    write_atomic(tmp_path / "a.json", "one")
    write_atomic(tmp_path / "a.json", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "two"


def test_what_is_written_is_as_private_as_the_run_directory(tmp_path: Path):
    run = RunDir(tmp_path)
    for mode, others in ((0o700, 0o077), (0o2770, 0o007)):
        tmp_path.chmod(mode)
        before = os.umask(0o022)
        run.adopt_umask()
        run.log(Superseded(job_id="7"))
        os.umask(before)
        assert run.events.stat().st_mode & others == 0
        run.events.unlink()
