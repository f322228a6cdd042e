"""Users' notes, encrypted: `POST /notes`, `GET /notes`, `GET /notes/<id>`, `DELETE /notes/<id>`, `GET /health`.

Who the user is says the login proxy in front, in `X-Forwarded-User`; nothing else may reach this port.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from flask import Flask, Response, abort, jsonify, request
from keyreeve import errors

import service
from failures import register
from store import Store


def create_app(database: Path | None = None) -> Flask:
    """Makes no call: an application whose key service is away starts all the same."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 64 << 10  # what one call takes; larger data: `client.sealer`
    store = Store(database or Path(os.environ.get("NOTES_DATABASE", "notes.sqlite3")))
    store.create()
    register(app)

    @app.post("/notes")
    def add() -> tuple[dict[str, str], int]:
        note, given = str(uuid.uuid4()), request.get_json()
        if not isinstance(given, dict) or not isinstance(given.get("text"), str):
            abort(400)
        store.add(note, _user(), service.seal(given["text"], user=_user(), note=note))
        return {"id": note}, 201

    @app.get("/notes")
    def of_user() -> Response:
        # Opens nothing, so it goes on while the service is away.
        return jsonify([note._asdict() for note in store.of(_user())])

    @app.get("/notes/<note>")
    def one(note: str) -> dict[str, str]:
        body = store.body(note, _user())
        if body is None:
            abort(404)
        return {"text": service.open_note(body, user=_user(), note=note).reveal().decode()}

    @app.delete("/notes/<note>")
    def remove(note: str) -> tuple[str, int]:
        store.remove(note, _user())
        return "", 204

    @app.get("/health")
    def health() -> dict[str, object]:
        # 200 while this process works. Were it 503 with the key service, every web worker would be restarted because of it.
        circuits = {endpoint.address: endpoint.circuit for endpoint in service.client().endpoints}
        return {"pid": os.getpid(), "keyreeve": circuits}

    @app.after_request
    def keep_nothing(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.cli.command("create-key")
    def create_key() -> None:
        """Makes the key of the notes, once."""
        try:
            service.client().create_key(service.KEY)
        except errors.AlreadyExists:
            print(f"{service.KEY} is there already")

    return app


def _user() -> str:
    user = request.headers.get("X-Forwarded-User")
    if not user:
        abort(401)
    return user
