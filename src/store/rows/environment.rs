//! Rows of environments and teams.

use std::sync::Arc;

use super::{ColumnShape, Values, columns, text, time};
use crate::{
    model::{Environment, EnvironmentId, Team, TeamId},
    store::{Column, Kind, Row, StoreError, Table, Value, backend::StoredRow},
};

pub const ENVIRONMENTS: &[ColumnShape] = &[
    (1, "id", Kind::Bytes),
    (2, "name", Kind::Text),
    (3, "production", Kind::Integer),
    (4, "created", Kind::Integer),
];

pub const TEAMS: &[ColumnShape] = &[
    (1, "id", Kind::Bytes),
    (2, "name", Kind::Text),
    (3, "environment", Kind::Bytes),
    (4, "created", Kind::Integer),
];

impl Row for Environment {
    const TABLE: Table = Table::Environments;

    fn primary_key(&self) -> Vec<u8> {
        self.id.as_bytes().to_vec()
    }

    fn columns(&self) -> Vec<Column> {
        let values = [
            Value::Bytes(self.id.as_bytes().to_vec()),
            text(self.name.as_str()),
            Value::Integer(self.production.into()),
            time(self.created),
        ];
        columns(ENVIRONMENTS, values)
    }

    fn row_version(&self) -> u64 {
        self.row_version
    }
}

impl Row for Team {
    const TABLE: Table = Table::Teams;

    fn primary_key(&self) -> Vec<u8> {
        self.id.as_bytes().to_vec()
    }

    fn columns(&self) -> Vec<Column> {
        let values = [
            Value::Bytes(self.id.as_bytes().to_vec()),
            text(self.name.as_str()),
            Value::Bytes(self.environment.id.as_bytes().to_vec()),
            time(self.created),
        ];
        columns(TEAMS, values)
    }

    fn row_version(&self) -> u64 {
        self.row_version
    }
}

pub fn environment(row: &StoredRow) -> Result<Environment, StoreError> {
    let mut values = Values::of(row);
    Ok(Environment {
        id: EnvironmentId::from_bytes(values.array()?),
        name: values.parsed(|name| name.parse().ok())?,
        production: values.integer()? != 0,
        created: values.time()?,
        row_version: row.row_version,
    })
}

/// `environment`: the one that the team's name says. A row that says another is not believed.
pub fn team(row: &StoredRow, environment: &Arc<Environment>) -> Result<Team, StoreError> {
    let mut values = Values::of(row);
    let team = Team {
        id: TeamId::from_bytes(values.array()?),
        name: values.parsed(|name| name.parse().ok())?,
        environment: environment.clone(),
        created: {
            let of = EnvironmentId::from_bytes(values.array()?);
            if of != environment.id {
                return Err(StoreError::tampered(
                    "teams",
                    "a team names another environment than its row",
                ));
            }
            values.time()?
        },
        row_version: row.row_version,
    };
    Ok(team)
}
