"""Customers' addresses, encrypted before they are kept."""

from __future__ import annotations

from functools import cache

from flask import Flask, Response, jsonify, request

from keyreeve import Client, KeyreeveError
from keyreeve.errors import PermissionDenied

KEY = "dev/shop/addresses"

app = Flask(__name__)
addresses: dict[str, bytes] = {}


@cache
def keyreeve() -> Client:
    """Made by the first request of each worker process: also under `gunicorn --preload`, where this module is loaded before the fork."""
    return Client()


@app.errorhandler(KeyreeveError)
def not_possible(error: KeyreeveError) -> tuple[Response, int]:
    app.logger.warning("%s", error)
    status = 403 if isinstance(error, PermissionDenied) else 503
    return jsonify(error=error.reason, request_id=error.request_id), status


@app.put("/addresses/<customer>")
def write(customer: str) -> tuple[str, int]:
    addresses[customer] = keyreeve().encrypt(KEY, request.get_data(), context={"customer": customer})
    return "", 204


@app.get("/addresses/<customer>")
def read(customer: str) -> Response | tuple[str, int]:
    if customer not in addresses:
        return "", 404
    opened = keyreeve().decrypt(KEY, addresses[customer], context={"customer": customer})
    return Response(opened.reveal(), mimetype="text/plain")
