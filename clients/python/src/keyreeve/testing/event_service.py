"""EventService: changes of keys, told to who waits for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message

from keyreeve.testing import answers, resource_names
from keyreeve.testing.directory import Position
from keyreeve.testing.dispatch import Asked, Dispatch
from keyreeve.testing.gate import Gate
from keyreeve.testing.refusals import Refusal, invalid
from keyreeve.v1 import events_pb2 as proto

WATCH = "Watch"
_MOST_KEYS, _LINK = 256, 32
_ACTION = "WatchKey"


class EventService:
    def __init__(self, gate: Gate, dispatch: Dispatch) -> None:
        self._gate = gate
        self._dispatch = dispatch
        self._directory = dispatch.directory

    def watch(self, request: Any, asked: Callable[[], Asked], is_active: Callable[[], bool]) -> Iterator[Message]:
        """Without end. `asked` anew for each message: who was allowed may not be so any more. Raises Refusal."""
        try:
            yield from self._messages(request, asked, is_active)
        except Refusal as refusal:
            self._dispatch.record(WATCH, request, asked(), refusal.reason)
            raise

    def _messages(self, request: Any, asked: Callable[[], Asked], is_active: Callable[[], bool]) -> Iterator[Message]:
        self._dispatch.meet(WATCH, request, asked())
        names = {resource_names.key("names", name) for name in request.names}
        place = _place(request)
        if not names:
            raise invalid("names", "there is none: name the keys to watch")
        if len(names) > _MOST_KEYS:
            raise invalid("names", f"at most {_MOST_KEYS} keys on one stream: open another")
        with self._directory.lock:
            for name in sorted(names):
                self._gate.key(asked().caller, _ACTION, name)
                if place is not None:
                    self._directory.check(place)
            place = place or self._directory.head
        self._dispatch.record(WATCH, request, asked(), "OK")
        yield proto.WatchResponse(position=answers.position(place))
        while is_active():
            with self._directory.lock:
                told, place = self._look(place, names, asked)
                if not told:
                    if self._dispatch.ending.is_set():
                        raise self._dispatch.end()
                    self._directory.lock.wait()
            yield from told

    def _look(self, place: Position, names: set[str], asked: Callable[[], Asked]) -> tuple[list[Message], Position]:
        """A message for each key that has changed; who resumes from the middle of a round is told all of it again."""
        through = self._directory.head
        changed = sorted(self._directory.changed_since(place) & names)
        told: list[Message] = []
        for name in changed:
            key = self._gate.key(asked().caller, _ACTION, name)
            position = through if name == changed[-1] else place
            told.append(proto.WatchResponse(position=answers.position(position), key=answers.key(key)))
        return told, through


def _place(request: Any) -> Position | None:
    if not request.HasField("after"):
        return None
    if len(request.after.link) != _LINK:
        raise invalid("after", f"its `link` has not {_LINK} bytes: give a position back as it came")
    return Position(request.after.sequence, request.after.link)
