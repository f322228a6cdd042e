from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from keyreeve import Client, errors
from support.dev import Dev


def test_a_forked_worker_opens_what_the_application_queued(
    dev: Dev, client: Client, tmp_path: Path, environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_key("dev/shop/mails")
    for folder in ("queue", "results"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("BROKER", "filesystem://")
    monkeypatch.setenv("BROKER_FOLDER", str(tmp_path / "queue"))
    monkeypatch.setenv("BACKEND", f"file://{tmp_path / 'results'}")
    import tasks

    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tasks",
        "worker",
        "-P",
        "prefork",
        "-c",
        "2",
        "-l",
        "INFO",
    ]
    examples = str(Path(__file__).parent)
    paths = os.pathsep.join([examples, *filter(None, [os.environ.get("PYTHONPATH")])])
    log = tmp_path / "log"
    with open(log, "wb") as out:
        worker = subprocess.Popen(
            [*command, "--without-mingle", "--without-gossip", "--without-heartbeat"],
            env=os.environ | {"PYTHONPATH": paths},
            cwd=tmp_path,
            stdout=out,
            stderr=out,
        )
        try:
            queued = [tasks.queue_mail(client, f"ann-{n}", b"dear ann, canary") for n in range(6)]
            assert [result.get(timeout=30, interval=0.05) for result in queued] == [16] * 6
            swapped = tasks.send_mail.delay("bob", _sealed_for_ann(client))
            with pytest.raises(Exception, match="DECRYPT_FAILED"):
                swapped.get(timeout=30, interval=0.05)
        finally:
            worker.terminate()
            worker.wait(30)
    said = log.read_text()
    assert "succeeded" in said
    assert "canary" not in said
    assert not any(b"canary" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_what_may_get_better_by_itself_is_tried_again_and_a_refusal_is_not() -> None:
    import tasks

    again = tasks.send_mail.autoretry_for
    by_itself = (
        errors.Unreachable,
        errors.DeadlineExceeded,
        errors.Draining,
        errors.Overloaded,
        errors.TokenUnavailable,
    )
    assert all(issubclass(error, again) for error in by_itself)
    assert not any(issubclass(error, again) for error in (errors.DecryptFailed, errors.PermissionDenied))


def _sealed_for_ann(client: Client) -> str:
    import base64

    return base64.b64encode(client.encrypt("dev/shop/mails", b"canary", context={"recipient": "ann"})).decode()
