from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from keyreeve import Client, SecretStr
from keyreeve.errors import DecryptFailed, Unreachable
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import encrypted
from encrypted import Encrypted


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    iban: Mapped[SecretStr | None] = mapped_column(Encrypted("customers.iban"))
    note: Mapped[SecretStr | None] = mapped_column(Encrypted("customers.note"))


@pytest.fixture
def session(client: Client, environment: None, tmp_path: Path) -> Iterator[Session]:
    for made in (encrypted.client, encrypted.sealer, encrypted.opener):
        made.cache_clear()
    if not any(key.name.endswith("/customers") for key in client.list_keys("dev/shop")):
        client.create_key(encrypted.KEY)
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}", hide_parameters=True)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()
    encrypted.client().close()


def test_values_are_sealed_in_the_database_and_hidden_in_the_program(session: Session, tmp_path: Path) -> None:
    session.add_all(Customer(iban=SecretStr(f"DE-canary-{n}"), note=None) for n in range(200))
    session.commit()
    session.expire_all()
    found = session.scalars(select(Customer).order_by(Customer.id)).all()
    assert [customer.iban and customer.iban.reveal() for customer in found] == [f"DE-canary-{n}" for n in range(200)]
    assert "canary" not in repr([customer.iban for customer in found])
    assert found[0].note is None
    assert b"canary" not in (tmp_path / "shop.db").read_bytes()


def test_a_value_in_another_column_does_not_open(session: Session) -> None:
    session.add(Customer(iban="DE-1", note="friendly"))
    session.commit()
    session.execute(text("update customers set iban = note"))
    session.expire_all()
    with pytest.raises(DecryptFailed):
        session.scalars(select(Customer)).all()


def test_statements_that_are_logged_show_no_value(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sqlalchemy.engine"):
        session.add(Customer(iban="canary-in-a-log", note=None))
        session.commit()
    assert "INSERT INTO customers" in caplog.text
    assert "canary" not in caplog.text


def test_an_error_shows_no_value(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> bytes:
        raise Unreachable("the service is away")

    monkeypatch.setattr(type(encrypted.sealer()), "seal", gone)
    session.add(Customer(iban=SecretStr("DE-canary"), note=None))
    with pytest.raises(Exception) as failure:
        session.commit()
    assert "canary" not in str(failure.value)
