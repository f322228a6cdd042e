"""Notes that are encrypted before they are kept."""

from __future__ import annotations

import math
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from keyreeve import AsyncClient, KeyreeveError
from keyreeve.errors import PermissionDenied

KEY = "dev/shop/notes"

# Stands for a database: it never sees a note in clear.
notes: dict[str, bytes] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for the life of the application; KEYREEVE_… in the environment says where the service is."""
    async with AsyncClient() as client:
        app.state.keyreeve = client
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(KeyreeveError)
async def not_possible(_: Request, error: KeyreeveError) -> JSONResponse:
    """The caller learns the request id, with which an operator finds the call in the audit log; no more."""
    status, headers = 500, dict[str, str]()
    if isinstance(error, PermissionDenied):
        status = 403
    elif error.is_temporary:
        status, headers = 503, {"Retry-After": str(math.ceil(error.retry_after or 1))}
    return JSONResponse({"error": error.reason, "request_id": error.request_id}, status, headers)


@app.post("/notes")
async def write(request: Request, text: Annotated[str, Body(media_type="text/plain")]) -> dict[str, str]:
    note_id = uuid.uuid4().hex
    # The context binds the ciphertext to its note: nobody can put it into another one's place.
    context = {"note": note_id}
    notes[note_id] = await request.app.state.keyreeve.encrypt(KEY, text.encode(), context=context)
    return {"id": note_id}


@app.get("/notes/{note_id}")
async def read(request: Request, note_id: str) -> dict[str, str]:
    if note_id not in notes:
        raise HTTPException(404)
    opened = await request.app.state.keyreeve.decrypt(KEY, notes[note_id], context={"note": note_id})
    return {"text": opened.decode().reveal()}
