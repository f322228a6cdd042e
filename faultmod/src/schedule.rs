//! A schedule: rules that say which calls suffer which fault. The format of `FAULTMOD_SCHEDULE`; reference in `README.md`.

use crate::class::Class;
use crate::fault::Fault;
use crate::function::Function;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::str::FromStr;

/// Rules in order: of those that a call meets, the first one strikes, and it alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Decides every `chance` and every bit that `corrupt_output` flips.
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub function: Functions,
    /// Which calls of the function; without it, every call.
    #[serde(default, skip_serializing_if = "Calls::is_every_call")]
    pub calls: Calls,
    /// Strikes at most so many times in a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Holds in one process only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Only>,
    pub fault: Fault,
}

/// Functions by name: `C_Sign`, a class such as `sign`, or `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Functions {
    All,
    Class(Class),
    One(Function),
}

/// Calls by number. The first call of a function after the schedule came into force has number 1, whichever thread or
/// session makes it; each function has its own count, also under a rule for several functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Calls {
    #[default]
    Any,
    /// `{"nth": 3}`
    Nth(u64),
    /// `{"range": {"from": 3, "to": 7}}`, both included; without `to`, all that follow.
    Range {
        from: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u64>,
    },
    /// `{"every": 10}`: the 10th, the 20th, …
    Every(u64),
    /// `{"chance": 0.01}`: each call with this probability. Seed, function and number alone decide about a call.
    Chance(f64),
}

/// One process among several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// `{"pid": 4711}`
    Pid(u32),
    /// `{"connected": 2}`: the second process that connected to the controller. None matches without a controller.
    Connected(u32),
}

#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error("the schedule is not as its format demands: {0}")]
    Format(#[from] serde_json::Error),
    #[error("rule {number}: {what}")]
    Rule { number: usize, what: String },
}

impl Schedule {
    pub fn new(seed: u64) -> Schedule {
        Schedule {
            seed,
            rules: Vec::new(),
        }
    }

    /// Adds a rule behind those that are there.
    pub fn rule(mut self, rule: Rule) -> Schedule {
        self.rules.push(rule);
        self
    }

    /// Reads a schedule from JSON; rules that could never strike are refused.
    pub fn parse(text: &str) -> Result<Schedule, ScheduleError> {
        let schedule: Schedule = serde_json::from_str(text)?;
        schedule.check()?;
        Ok(schedule)
    }

    pub(crate) fn check(&self) -> Result<(), ScheduleError> {
        for (index, rule) in self.rules.iter().enumerate() {
            rule.check().map_err(|what| ScheduleError::Rule {
                number: index + 1,
                what,
            })?;
        }
        Ok(())
    }
}

impl Rule {
    pub fn on(function: impl Into<Functions>, fault: Fault) -> Rule {
        Rule {
            function: function.into(),
            calls: Calls::Any,
            times: None,
            process: None,
            fault,
        }
    }

    pub fn nth(self, number: u64) -> Rule {
        self.calls(Calls::Nth(number))
    }

    pub fn calls(self, calls: Calls) -> Rule {
        Rule { calls, ..self }
    }

    pub fn times(self, times: u32) -> Rule {
        Rule {
            times: Some(times),
            ..self
        }
    }

    pub fn only(self, process: Only) -> Rule {
        Rule {
            process: Some(process),
            ..self
        }
    }

    fn check(&self) -> Result<(), String> {
        match self.calls {
            Calls::Nth(0) | Calls::Every(0) | Calls::Range { from: 0, .. } => {
                return Err("calls are counted from 1".to_owned());
            }
            Calls::Range { from, to: Some(to) } if to < from => {
                return Err(format!("the range from {from} to {to} is empty"));
            }
            Calls::Chance(chance) if !(0.0..=1.0).contains(&chance) => {
                return Err(format!("chance is a probability from 0 to 1, not {chance}"));
            }
            _ => {}
        }
        if !Function::ALL
            .iter()
            .any(|function| self.function.contains(*function) && function.can_suffer(&self.fault))
        {
            return Err(format!(
                "{} has no session, or no output, that this fault could strike",
                self.function
            ));
        }
        Ok(())
    }
}

impl Functions {
    pub fn contains(self, function: Function) -> bool {
        match self {
            Functions::All => true,
            Functions::Class(class) => class.contains(function),
            Functions::One(one) => one == function,
        }
    }
}

impl From<Function> for Functions {
    fn from(function: Function) -> Self {
        Functions::One(function)
    }
}

impl From<Class> for Functions {
    fn from(class: Class) -> Self {
        Functions::Class(class)
    }
}

impl fmt::Display for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Functions::All => "*",
            Functions::Class(class) => class.name(),
            Functions::One(function) => function.name(),
        })
    }
}

impl FromStr for Functions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Functions::All);
        }
        let class = Class::ALL.iter().copied().find(|class| class.name() == text);
        class
            .map(Functions::Class)
            .or_else(|| Function::named(text).map(Functions::One))
            .ok_or_else(|| {
                let classes: Vec<&str> = Class::ALL.iter().map(|class| class.name()).collect();
                format!(
                    "`{text}` is neither `*`, nor a function such as C_Sign, nor one of the classes {}",
                    classes.join(", ")
                )
            })
    }
}

impl Serialize for Functions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Functions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Calls {
    fn is_every_call(&self) -> bool {
        *self == Calls::Any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReturnCode, When};

    #[test]
    fn the_example_of_the_readme_is_read_and_written_back() {
        let readme = include_str!("../README.md");
        let example = readme
            .split("```json\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .expect("the README has a schedule");
        let schedule = Schedule::parse(example).unwrap();
        assert!(schedule.rules.len() > 5, "the example shows every kind of rule");
        let written = serde_json::to_string(&schedule).unwrap();
        assert_eq!(Schedule::parse(&written).unwrap(), schedule);
    }

    #[test]
    fn a_schedule_built_in_rust_reads_like_the_file() {
        let lost = Fault::Return {
            code: ReturnCode::DEVICE_ERROR,
            when: When::After,
        };
        let built = Schedule::new(7).rule(Rule::on(Function::C_Sign, lost).nth(3).times(1));
        let read = r#"{"seed": 7, "rules": [{"function": "C_Sign", "calls": {"nth": 3}, "times": 1,
            "fault": {"kind": "return", "code": "CKR_DEVICE_ERROR", "when": "after"}}]}"#;
        assert_eq!(Schedule::parse(read).unwrap(), built);
    }

    #[test]
    fn rules_that_could_never_strike_are_refused_with_their_number() {
        let refused = |rule: &str| {
            let text = format!(r#"{{"rules": [{{"function": "*", "fault": {{"kind": "hang"}}}}, {rule}]}}"#);
            Schedule::parse(&text).unwrap_err().to_string()
        };
        let hang = r#""fault": {"kind": "hang"}"#;
        let error = refused(&format!(r#"{{"function": "C_Sign", "calls": {{"nth": 0}}, {hang}}}"#));
        assert!(error.contains("rule 2") && error.contains("counted from 1"), "{error}");
        let error = refused(&format!(
            r#"{{"function": "C_Sign", "calls": {{"chance": 1.5}}, {hang}}}"#
        ));
        assert!(error.contains("probability"), "{error}");
        let error = refused(&format!(
            r#"{{"function": "C_Sign", "calls": {{"range": {{"from": 4, "to": 2}}}}, {hang}}}"#
        ));
        assert!(error.contains("empty"), "{error}");
        let error = refused(r#"{"function": "C_GetSlotList", "fault": {"kind": "logout"}}"#);
        assert!(error.contains("C_GetSlotList has no session"), "{error}");
        let error = refused(r#"{"function": "signs", "fault": {"kind": "hang"}}"#);
        assert!(error.contains("`signs`") && error.contains("sign, verify"), "{error}");
    }
}
