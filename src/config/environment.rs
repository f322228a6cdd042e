//! Environment variables over the file: `KEYREEVE_SERVER__LISTEN` is `listen` of `[server]`.
//!
//! Variables without `__` are not ours (`KEYREEVE_ADDR` and the like belong to the client). The example file says of each option what it
//! is, so `KEYREEVE_TOKEN__LABEL=1234` is text and `KEYREEVE_SERVER__DRAIN_S=30` a number.

use std::ffi::OsString;

use toml::{Table, Value};

use super::{ConfigError, EXAMPLE};

const PREFIX: &str = "KEYREEVE_";

/// One variable that concerns the configuration.
pub struct Override {
    name: String,
    section: String,
    key: String,
    value: String,
}

/// Picks out the variables that concern the configuration.
pub fn overrides(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Vec<Override>, ConfigError> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        let Some((section, key)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once("__")) else {
            continue;
        };
        let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
        let value = value
            .into_string()
            .map_err(|_| variable(&name, "the value is not UTF-8".to_owned()))?;
        found.push(Override {
            section,
            key,
            name,
            value,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Lays them over the file's table; returns their names.
pub fn apply(overrides: Vec<Override>, table: &mut Table) -> Result<Vec<String>, ConfigError> {
    let schema = schema();
    let mut names = Vec::with_capacity(overrides.len());
    for Override {
        name,
        section,
        key,
        value,
    } in overrides
    {
        let Some(options) = schema.get(&section).and_then(Value::as_table) else {
            return Err(variable(
                &name,
                format!("there is no section `{section}`; {}", allowed(&schema)),
            ));
        };
        let Some(like) = options.get(&key) else {
            return Err(variable(
                &name,
                format!("[{section}] has no option `{key}`; {}", allowed(options)),
            ));
        };
        let value = typed(value, like).map_err(|wanted| variable(&name, format!("is not {wanted}")))?;
        let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        // A section that is not a table is the file's fault, and is reported as that.
        if let Value::Table(options) = entry {
            options.insert(key, value);
        }
        names.push(name);
    }
    Ok(names)
}

/// Every option with a value of its type: the example, its commented options (`#key = value`, no space) included.
pub fn schema() -> Table {
    let text: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(option) if option.starts_with(|first: char| first.is_ascii_lowercase()) => option,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    toml::from_str(&text).expect("the example is TOML, and a test loads it")
}

fn typed(text: String, like: &Value) -> Result<Value, &'static str> {
    let wanted = match like {
        Value::String(_) => return Ok(Value::String(text)),
        Value::Integer(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list, as in [\"a\", \"b\"]",
        _ => "a table, as in { \"a\" = \"b\" }",
    };
    let parsed: Table = toml::from_str(&format!("value = {text}")).map_err(|_| wanted)?;
    match parsed.get("value") {
        Some(value) if parsed.len() == 1 && value.same_type(like) => Ok(value.clone()),
        _ => Err(wanted),
    }
}

fn allowed(options: &Table) -> String {
    let mut names: Vec<&str> = options.keys().map(String::as_str).collect();
    names.sort_unstable();
    format!("there are: {}", names.join(", "))
}

fn variable(name: &str, problem: String) -> ConfigError {
    ConfigError::Variable {
        name: name.to_owned(),
        problem,
    }
}
