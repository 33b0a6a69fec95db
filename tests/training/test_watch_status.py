"""What somebody sees who asks how a run is; its ranks are watches in this process."""

import time

import pytest

from headrace.cli import main
from headrace.config.watch import WatchConfig
from headrace.training.watch.activity import Activity
from headrace.training.watch.files import End, Leftovers, Place, WatchFolder, jobs_of
from headrace.training.watch.watch import Watch

OFTEN = WatchConfig(heartbeat_seconds=0.05)


def watch(run_folder, job="20260101-000000-abcdef", settings=OFTEN, leftovers=None):
    """The watch of the only rank of a job."""
    path = run_folder / "watch" / job
    path.mkdir(parents=True)
    activity = Activity()
    folder = WatchFolder(path, 0)
    return activity, Watch(folder, [Place.here(0)], 0, activity, settings, leftovers)


def leave_behind(run_folder, job, end=None):
    """Files of a job that was killed."""
    _, watched = watch(run_folder, job)
    kept = run_folder / "watch" / job
    with watched:
        (kept / "kept.json").write_bytes((kept / "rank-0.json").read_bytes())
    (kept / "kept.json").rename(kept / "rank-0.json")
    if end is not None:
        assert WatchFolder(kept, 0).tell(end)
    return kept


def wait_for_beats(watched):
    """Until the thread of a watch has written, or tried to, several times."""
    beats, end = watched.beats, time.monotonic() + 60
    while watched.beats < beats + 4:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_run_that_nobody_trains(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 0
    assert "nobody is training" in capsys.readouterr().out


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["status", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_rank_at_work(tmp_path, capsys):
    activity, watched = watch(tmp_path)
    with watched, activity.training("multilingual/all"):
        activity.enter("forward", 7)
        assert main(["status", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "beats" in text
    assert "forward of step 7 (multilingual/all)" in text
    assert not (tmp_path / "watch").exists()


def test_a_rank_that_is_gone_and_a_job_that_said_why(tmp_path, capsys):
    leave_behind(tmp_path, "1")
    kept = leave_behind(tmp_path, "2", End("hang", 0, "no progress: rank 3 is asleep"))
    (kept / "rank-0.stack").write_text("Thread 0x01")
    assert main(["status", str(tmp_path), "--wait", "0.2"]) == 1
    text = capsys.readouterr().out
    assert text.count("still") == 2
    assert "ended: no progress: rank 3 is asleep" in text
    assert str(kept / "rank-0.stack") in text


def test_what_killed_jobs_left_is_removed_but_for_the_last_that_say_why(tmp_path):
    leave_behind(tmp_path, "0")
    for name in "1234":
        leave_behind(tmp_path, name, End("lost", 0, "rank 1 is gone"))
    _, watched = watch(tmp_path, "5")
    with watched:  # a job that is at work stays
        leftovers = Leftovers(tmp_path)
        wait_for_beats(watched)
        leftovers.remove()
        assert [path.name for path in jobs_of(tmp_path)] == ["2", "3", "4", "5"]


def test_a_full_disk_does_not_end_the_watch(tmp_path):
    """The folder is gone, as it is when a mount is lost: no file can be written."""
    _, watched = watch(tmp_path)
    with watched:
        (tmp_path / "watch").rename(tmp_path / "lost")
        wait_for_beats(watched)


def test_an_error_of_this_rank_is_raised_as_it_is_and_told_to_the_others(tmp_path):
    path = tmp_path / "watch" / "1"
    path.mkdir(parents=True)
    places = [Place.here(0), Place.here(1)]
    watched = Watch(WatchFolder(path, 0), places, 0, Activity(), OFTEN)
    with pytest.raises(ValueError, match="my own"), watched:
        raise ValueError("my own")
    end = WatchFolder(path, 1).end()
    assert (end.kind, end.rank) == ("failed", 0)
    assert "my own" in end.why
