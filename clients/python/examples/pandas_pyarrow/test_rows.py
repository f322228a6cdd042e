"""Values of a DataFrame, each bound to its row."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from keyreeve import Client, Event, errors
from support.dev import Dev

from rows import RowsFailed, open_rows, seal_rows

CANARY = "4000 canary 9d13"


@pytest.fixture
def key(new_key: Callable[[], str]) -> str:
    return new_key()


def cards(count: int) -> pd.Series[str]:
    return pd.Series({f"c{n}": f"{CANARY} {n}" for n in range(count)}, name="card", dtype=object)


def test_values_come_back_under_their_labels_and_nothing_stays_nothing(shared_client: Client, key: str) -> None:
    values = cards(3).reindex(["c2", "c0", "none", "c1"])
    sealed = seal_rows(shared_client, key, values, table="customers")
    assert CANARY not in str(sealed.to_dict())
    assert sealed.isna()["none"]
    opened = open_rows(shared_client, key, sealed, table="customers")
    pd.testing.assert_series_equal(opened, values)
    assert open_rows(shared_client, key, sealed.loc[["c1"]], table="customers").to_dict() == {"c1": f"{CANARY} 1"}


def test_an_empty_column_is_an_empty_column(shared_client: Client, key: str) -> None:
    assert seal_rows(shared_client, key, cards(0), table="customers").empty


def test_a_ciphertext_under_another_label_column_or_table_does_not_open(shared_client: Client, key: str) -> None:
    sealed = seal_rows(shared_client, key, cards(3), table="customers")
    swapped = sealed.rename({"c0": "c1", "c1": "c0"})
    with pytest.raises(RowsFailed, match="2 values failed") as caught:
        open_rows(shared_client, key, swapped, table="customers")
    assert list(caught.value.errors) == ["c1", "c0"]
    assert all(isinstance(error, errors.DecryptFailed) for error in caught.value.errors.values())
    for series, table in ((sealed.rename("iban"), "customers"), (sealed, "suppliers")):
        with pytest.raises(RowsFailed, match="3 values failed"):
            open_rows(shared_client, key, series, table=table)


def test_a_value_that_is_too_long_is_named_by_its_row_and_does_not_show(shared_client: Client, key: str) -> None:
    values = pd.concat([cards(2), pd.Series({"long": CANARY * 5000}, name="card", dtype=object)])
    with pytest.raises(RowsFailed, match="1 values failed; the first, of row 'long'") as caught:
        seal_rows(shared_client, key, values, table="customers")
    assert CANARY not in str(caught.value)


def test_labels_that_are_there_twice_name_no_rows(shared_client: Client, key: str) -> None:
    with pytest.raises(ValueError, match="set_index"):
        seal_rows(shared_client, key, pd.concat([cards(2), cards(2)]), table="customers")


def test_a_call_takes_a_thousand_values_or_a_mebibyte(dev: Dev, key: str) -> None:
    calls: list[Event] = []
    with Client(**dev.settings(), on_event=calls.append) as client:
        seal_rows(client, key, cards(2001), table="customers")
        assert [event.method for event in calls] == ["BatchEncrypt"] * 3
        calls.clear()
        long = cards(40).str.pad(40_000)
        sealed = seal_rows(client, key, long, table="customers")
        pd.testing.assert_series_equal(open_rows(client, key, sealed, table="customers"), long)
        assert [event.method for event in calls] == ["BatchEncrypt"] * 2 + ["BatchDecrypt"] * 2
