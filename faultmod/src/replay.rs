//! A trace becomes a schedule that injects the same faults into the same calls.

use crate::schedule::{Calls, Only, Rule, Schedule};
use crate::trace::read_trace;
use std::collections::BTreeSet;

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the trace has a line that is not of a trace: {0}")]
    Line(#[from] serde_json::Error),
    #[error(
        "the trace is of several processes that had no controller to number them: replay the lines of one at a time"
    )]
    Processes,
}

impl Schedule {
    /// The schedule that injects the faults of this trace again: same fault, same function, same number of the call, and in
    /// a trace of several processes the same process by its order of connecting.
    ///
    /// It must be in force from the first C_Initialize on. Chance is spent: the rules name calls and bits, so the seed of
    /// the original is not needed. What a controller ordered meanwhile (clear, release) is not in a trace.
    pub fn from_trace(text: &str) -> Result<Schedule, ReplayError> {
        let lines = read_trace(text)?;
        let processes: BTreeSet<u32> = lines.iter().map(|line| line.pid).collect();
        let mut schedule = Schedule::default();
        for line in lines {
            let Some(fault) = line.fault else { continue };
            let process = match (processes.len(), line.connected) {
                (1, _) => None,
                (_, Some(number)) => Some(Only::Connected(number)),
                (_, None) => return Err(ReplayError::Processes),
            };
            schedule.rules.push(Rule {
                function: line.function.into(),
                calls: Calls::Nth(line.nth),
                times: None,
                process,
                fault,
            });
        }
        Ok(schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, Function, ReturnCode, When};

    #[test]
    fn faults_come_back_at_the_same_call_and_unfinished_lines_do_not() {
        let trace = concat!(
            r#"{"seq":1,"pid":9,"thread":1,"time_us":5,"function":"C_Initialize","nth":1,"code":"CKR_OK","duration_us":3}"#,
            "\n",
            r#"{"seq":2,"pid":9,"thread":1,"time_us":8,"function":"C_Sign","nth":4,"session":1,"#,
            r#""fault":{"kind":"return","code":"CKR_DEVICE_ERROR","when":"after"},"code":"CKR_DEVICE_ERROR","duration_us":3}"#,
            "\n",
            r#"{"seq":3,"pid":9,"thr"#
        );
        let lost = Fault::Return {
            code: ReturnCode::DEVICE_ERROR,
            when: When::After,
        };
        let expected = Schedule::default().rule(Rule::on(Function::C_Sign, lost).nth(4));
        assert_eq!(Schedule::from_trace(trace).unwrap(), expected);
    }

    #[test]
    fn several_processes_are_told_apart_by_their_order_or_not_at_all() {
        let line = |pid: u32, connected: &str| {
            format!(
                r#"{{"seq":1,"pid":{pid},{connected}"thread":1,"time_us":5,"function":"C_Sign","nth":1,"fault":{{"kind":"token_gone"}}}}"#
            ) + "\n"
        };
        let told = line(8, r#""connected":1,"#) + &line(9, r#""connected":2,"#);
        let schedule = Schedule::from_trace(&told).unwrap();
        assert_eq!(schedule.rules[1].process, Some(Only::Connected(2)));
        let untold = line(8, "") + &line(9, "");
        assert!(matches!(Schedule::from_trace(&untold), Err(ReplayError::Processes)));
    }
}
