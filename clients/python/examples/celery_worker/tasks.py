"""Mails that are sent later. The queue sees ciphertext only."""

from __future__ import annotations

import base64
import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown
from keyreeve import Client
from keyreeve.errors import DeadlineExceeded, Draining, Overloaded, TokenUnavailable, Unreachable

KEY = "dev/shop/mails"

app = Celery("tasks", broker=os.environ.get("BROKER", "memory://"), backend=os.environ.get("BACKEND"))
app.conf.update(task_acks_late=True, broker_connection_retry_on_startup=True)
if folder := os.environ.get("BROKER_FOLDER"):
    # For the test: a broker made of files.
    app.conf.broker_transport_options = {
        "data_folder_in": folder,
        "data_folder_out": folder,
        "control_folder": f"{folder}/control",
    }

_client: Client | None = None


@worker_process_init.connect
def connect(**_: Any) -> None:
    """In each worker process, after the fork: a client that was used before it would refuse to work."""
    global _client
    _client = Client()


@worker_process_shutdown.connect
def disconnect(**_: Any) -> None:
    if _client is not None:
        _client.close()


def queue_mail(client: Client, recipient: str, body: bytes) -> Any:
    """For the application: encrypts, then queues. Arguments of tasks end up in brokers, results, logs and error trackers."""
    sealed = client.encrypt(KEY, body, context={"recipient": recipient})
    return send_mail.delay(recipient, base64.b64encode(sealed).decode())


# The client has tried already, within its deadline. What may get better in minutes is worth another attempt; a refusal is not.
@app.task(
    autoretry_for=(Unreachable, DeadlineExceeded, Draining, Overloaded, TokenUnavailable),
    retry_backoff=5,
    retry_backoff_max=600,
    retry_jitter=True,
    max_retries=10,
)
def send_mail(recipient: str, sealed: str) -> int:
    """Returns the number of bytes that were sent."""
    if _client is None:
        raise RuntimeError("no client: this runs outside a worker process")
    body = _client.decrypt(KEY, base64.b64decode(sealed), context={"recipient": recipient})
    return deliver(recipient, body.reveal())


def deliver(recipient: str, body: bytes) -> int:
    """Stands for SMTP."""
    return len(recipient) and len(body)
