"""Jobs that outlive a call, a kernel and a connection: none is lost, and none is begun twice."""

import stat
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from double import KEY, Double, distant
from test_remote import CALLS, PROMPTS, assert_same, settings, study

import steerlab as sl
from steerlab import remote, sweep
from steerlab.jobs import Job, JobFile
from steerlab.remote import Remote, RemoteError, Requests
from steerlab.server import Server

pytest_plugins = ("remote_fixtures",)
pytestmark = pytest.mark.usefixtures("well_behaved")


def ids(file: Path | None = None) -> list[str]:
    return [job.id for job in JobFile(file).all()]


def interrupted(patch: pytest.MonkeyPatch, method: str, turn: int = 1) -> None:
    """A method of `Server` is interrupted at its first call, or a later one."""
    real, calls = getattr(Server, method), []

    def stopped(self: Any, *given: Any) -> Any:
        calls.append(1)
        if len(calls) == turn:
            raise KeyboardInterrupt
        return real(self, *given)

    patch.setattr(Server, method, stopped)


@pytest.mark.parametrize("name", ["logits", "samples", "fit", "next tokens", "sara"])
def test_a_job_is_collected_by_another_kernel(name: str, server: Double, here: Any, there: Any, tmp_path: Path) -> None:
    requests, call = CALLS[name]
    file = tmp_path / "study.jobs"
    while (job := there.submit(call, file)) is not None:
        assert job in ids(file) and KEY.encode() not in file.read_bytes()
        time.sleep(0.05)
    assert len(server.seen()) == requests
    assert_same(distant("llama", server.url).collect(call, file), call(here))
    assert len(server.seen()) == requests  # nothing was begun anew
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_job_that_hangs_is_pending_and_a_failed_one_is_forgotten(there: Any, server: Double, tmp_path: Path) -> None:
    server.switch(hang=1)
    file = tmp_path / "jobs"
    job = there.submit(CALLS["logits"][1], file)
    assert job is not None and there.submit(CALLS["logits"][1], file) == job
    server.switch(rejected="The model is being moved.")
    with pytest.raises(RemoteError, match=r"rejected the job: The model is being moved\."):
        there.collect(CALLS["samples"][1], file)
    assert ids(file) == [job]


def test_a_file_of_something_else_is_refused(there: Any, server: Double, tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("[1, 2]" * 1000)
    with pytest.raises(ValueError, match=r"is no file of jobs .*: give a new name"):
        there.submit(CALLS["logits"][1], tmp_path / "jobs")
    with pytest.raises(FileNotFoundError):
        there.submit(CALLS["logits"][1], tmp_path / "nowhere" / "jobs")
    assert server.seen() == []


@pytest.mark.parametrize("name", ["logits", "samples"])
def test_a_wait_that_is_stopped_names_its_job_which_the_same_call_collects_in_any_kernel(
    name: str, here: Any, there: Any, server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = CALLS[name][1]
    with monkeypatch.context() as patch:
        interrupted(patch, "state")
        line = rf"^stopped waiting, but job (\S+) goes on at {server.url}: the same call collects it, within an hour"
        with pytest.raises(KeyboardInterrupt, match=line) as caught:
            call(there)
    assert caught.value.__context__ is None  # one line, and no frame with the key
    assert len(ids()) == 1
    assert_same(there.logits("He"), here.logits("He"))  # another call leaves it be
    assert_same(call(distant("llama", server.url)), call(here))
    assert len(server.seen()) == 2 and ids() == []  # it was not begun anew
    call(there)
    assert len(server.seen()) == 3  # what was collected is done with


def test_a_wait_has_an_end_and_its_job_is_collected(here: Any, server: Double) -> None:
    server.switch(slow=1.0)
    with pytest.raises(RemoteError, match=r"no result of job .* in time, but it goes on: the same call") as caught:
        distant("llama", Remote(server.url, timeout=0.3)).logits(PROMPTS)
    assert caught.value.job is not None and ids() == [caught.value.job]
    assert_same(distant("llama", server.url).logits(PROMPTS), here.logits(PROMPTS))
    assert len(server.seen()) == 1


def test_a_connection_that_drops_loses_nothing(
    here: Any, there: Any, server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.switch(slow=0.5)
    with monkeypatch.context() as patch:
        real = Server.state

        def cut(self: Server, job: str, limit: Any) -> Any:
            return real(Server("http://127.0.0.1:1", self.key), job, limit)

        patch.setattr(Server, "state", cut)
        with pytest.raises(
            RemoteError, match=r"the result of job .* could not be fetched \(ConnectError.*the same call"
        ):
            there.logits(PROMPTS)
    assert_same(there.logits(PROMPTS), here.logits(PROMPTS))
    assert len(server.seen()) == 1


def test_a_job_of_which_nothing_is_known_yet_waits(here: Any, there: Any, server: Double, tmp_path: Path) -> None:
    server.switch(late=10)  # about a second, in tenths
    assert there.submit(CALLS["logits"][1], tmp_path / "jobs") is not None
    assert there.jobs(tmp_path / "jobs")["state"].tolist() == ["UNKNOWN"]
    assert_same(there.collect(CALLS["logits"][1], tmp_path / "jobs"), CALLS["logits"][1](here))


def test_a_job_of_which_nothing_is_known_for_minutes_keeps_its_id(
    there: Any, server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.switch(forget=True)
    monkeypatch.setattr(remote, "UNHEARD", 0.3)
    with pytest.raises(
        RemoteError, match=r"has known nothing of job (\S+) for minutes: .*the same call asks again"
    ) as caught:
        there.logits(PROMPTS)
    assert ids() == [caught.value.job]


def test_a_result_that_has_expired_is_said_and_forgotten(here: Any, there: Any, server: Double, tmp_path: Path) -> None:
    file, call = tmp_path / "jobs", CALLS["logits"][1]
    there.submit(call, file)
    server.switch(expired=1)
    with pytest.raises(RemoteError, match=r"the result of job .* has expired, .* for an hour: run the call again"):
        there.collect(call, file)
    assert ids(file) == []
    assert_same(there.collect(call, file), call(here))
    assert len(server.seen()) == 1


def test_without_a_file_what_has_expired_is_begun_anew(here: Any, there: Any, server: Double) -> None:
    server.switch(expired=1)
    assert_same(there.logits(PROMPTS), here.logits(PROMPTS))
    assert len(server.seen()) == 2


def test_a_job_of_yesterday_is_not_waited_for(there: Any, here: Any, server: Double, tmp_path: Path) -> None:
    call, yesterday = CALLS["logits"][1], time.time() - 86400
    for file in (None, tmp_path / "jobs"):
        there.submit(call, tmp_path / "begun")
        (job,) = JobFile(tmp_path / "begun").all()
        JobFile(file).note(Job(job.digest, "gone", job.host, job.model, job.what, yesterday))
    with pytest.raises(RemoteError, match="the result of job gone has expired"):
        there.collect(call, tmp_path / "jobs")
    assert_same(call(there), call(here))


def test_jobs_are_a_frame(there: Any, server: Double, tmp_path: Path) -> None:
    assert there.jobs().empty and list(there.jobs().columns)[:3] == ["id", "model", "what"]
    server.switch(hang=1)
    file = tmp_path / "jobs"
    waiting = there.submit(CALLS["logits"][1], file)
    there.submit(CALLS["logprobs"][1], file)
    while "COMPLETED" not in there.jobs(file)["state"].tolist():
        time.sleep(0.05)
    frame = there.jobs(file)
    assert frame["id"][0] == waiting and frame["model"].tolist() == ["tiny/llama"] * 2
    assert frame["what"].tolist() == ["logits", "logprobs"] and frame["state"].tolist() == ["QUEUED", "COMPLETED"]
    assert frame["place"][0] == 2 and pd.isna(frame["place"][1])
    assert frame["gpu_gib"][1] == 1.0 and frame["seconds"][1] == 0
    assert frame["age"].between(0, 60).all()


def test_several_jobs_of_one_model_are_on_their_way_at_once(here: Any, there: Any, server: Double) -> None:
    server.switch(slow=1.0)
    answers: dict[str, Any] = {}
    prompts = ["He", "She", "They"]
    threads = [
        threading.Thread(target=lambda prompt=prompt: answers.update({prompt: there.logits(prompt)}))
        for prompt in prompts
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    while len(ids()) < 3 and time.monotonic() - began < 20:
        time.sleep(0.02)
    assert len(ids()) == 3 and answers == {}
    for thread in threads:
        thread.join()
    for prompt in prompts:
        assert_same(answers[prompt], here.logits(prompt))


def test_all_parts_of_a_large_call_are_begun_before_one_is_waited_for(server: Double, tmp_path: Path) -> None:
    server.switch(hang=2)
    lm = distant("llama", Remote(server.url, limit=2 * 3 * 8))
    lm.submit(lambda lm: lm.generate(PROMPTS[0], n=4, batch_size=1, max_new_tokens=3), tmp_path / "jobs")
    assert len(server.seen()) == len(ids(tmp_path / "jobs")) == 2


def test_two_processes_keep_each_others_jobs(tmp_path: Path) -> None:
    first, second = JobFile(tmp_path / "jobs"), JobFile(tmp_path / "jobs")
    first.note(Job("a", "1", "h", "m", "w"))
    second.note(Job("b", "2", "h", "m", "w"))
    first.forget("a")
    assert [job.id for job in second.all()] == ["2"]


def test_a_sweep_that_was_stopped_goes_on(
    here: Any, there: Any, server: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many, file = settings(here, 2, 3), settings(here, 3, 3), tmp_path / "sweep.sqlite"
    sweep.next_tokens(there, few, file=file, progress=False)
    assert len(server.seen()) == 1
    with monkeypatch.context() as patch:
        interrupted(patch, "state")
        with pytest.raises(KeyboardInterrupt):
            sweep.next_tokens(there, many, file=file, progress=False)
    assert len(server.seen()) == 2
    frame = sweep.next_tokens(there, many, file=file, progress=False)
    assert len(server.seen()) == 2  # the job that ran while nobody waited
    assert server.seen()[1]["result"] < server.seen()[0]["result"]  # and it was the new settings only
    assert_same(frame, sweep.next_tokens(here, many, progress=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep.sqlite"]


def test_a_study_that_was_stopped_between_its_requests_goes_on(
    here: Any, there: Any, server: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, expected = tmp_path / "study.sqlite", study(here)
    for method, turn, requests in [("result", 1, 1), ("post", 1, 1), ("result", 2, 2)]:
        with monkeypatch.context() as patch:
            interrupted(patch, method, turn)
            with pytest.raises(KeyboardInterrupt):
                study(there, file=file)
        assert len(server.seen()) == requests
    assert_same(study(there, file=file), expected)
    assert len(server.seen()) == 2  # the vectors, then the answers: neither was begun anew
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.sqlite"]
    assert_same(study(there, file=file, repeats=3), study(here, repeats=3))
    assert server.seen()[3]["result"] < server.seen()[1]["result"]  # the third answers only


def test_a_stop_before_there_is_a_job_is_just_that(there: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(monkeypatch, "post")
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        there.logits(PROMPTS)


def test_the_store_is_readable_by_its_owner_only(there: Any, server: Double) -> None:
    server.switch(hang=1)
    with pytest.raises(RemoteError):
        distant("llama", Remote(server.url, timeout=0.3)).logits(PROMPTS)
    path = JobFile().path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KEY.encode() not in path.read_bytes()
    assert isinstance(sl.SteerableModel.noting(there, path).runner, Requests)
