"""The panel of remote jobs, on a stand-in for the server."""

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from double import Double
from test_remote import CALLS, assert_same

from steerlab.widgets import job_panel
from steerlab.widgets.job_panel import table

pytest_plugins = ("remote_fixtures",)
pytestmark = pytest.mark.usefixtures("well_behaved")


def test_a_call_is_begun_looked_at_and_collected(here: Any, there: Any, server: Double, tmp_path: Path) -> None:
    requests, call = CALLS["logits"]
    panel = job_panel(there, call, tmp_path / "study.jobs")
    assert server.seen() == [] and "No job" in panel.table.value
    panel.buttons["submit"].click()
    while panel.result is None:
        assert len(panel.jobs) >= 1 and panel.jobs["id"][0] in panel.table.value
        time.sleep(0.05)
        panel.buttons["collect"].click()
        assert "alert" not in panel.runner.message.value
    assert_same(panel.result, call(here))
    assert len(server.seen()) == requests and "collected" in panel.runner.message.value
    again = job_panel(there, call, tmp_path / "study.jobs")  # of another kernel
    assert again.jobs["state"].tolist() == ["COMPLETED"] * requests and "COMPLETED" in again.table.value


def test_collect_does_not_wait(there: Any, server: Double, tmp_path: Path) -> None:
    server.switch(hang=1)
    panel = job_panel(there, CALLS["logits"][1], tmp_path / "jobs")
    panel.buttons["submit"].click()
    panel.buttons["collect"].click()
    assert panel.result is None and "is not finished: look again" in panel.runner.message.value
    assert "QUEUED" in panel.table.value
    panel.buttons["look"].click()
    assert len(server.seen()) == 1 and not panel.buttons["look"].disabled


def test_a_failed_job_is_a_line(there: Any, server: Double, tmp_path: Path) -> None:
    server.switch(rejected="The model is being moved.")
    panel = job_panel(there, CALLS["logits"][1], tmp_path / "jobs")
    panel.buttons["submit"].click()
    panel.buttons["collect"].click()
    while "not finished" in panel.runner.message.value:
        panel.buttons["collect"].click()
    assert "The model is being moved." in panel.runner.message.value and panel.result is None


def test_the_table_says_until_when_a_result_is_kept() -> None:
    row = {"id": "a<b", "model": "m", "what": "logits", "state": "RUNNING", "place": None, "age": 600.0}
    jobs = pd.DataFrame([{**row, "seconds": None, "gpu_gib": 1.5}])
    now = 1_700_000_000.0
    page = table(jobs, now)
    assert "a&lt;b" in page and "1.5" in page
    for seconds in (now - 600, now - 600 + 3600):
        assert time.strftime("<td>%H:%M</td>", time.localtime(seconds)) in page


def test_a_local_model_has_no_jobs(here: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="load it with remote=True"):
        job_panel(here, CALLS["logits"][1], tmp_path / "jobs")
