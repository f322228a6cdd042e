//! A schedule in force: which rule strikes a call.

use crate::dice;
use crate::fault::Fault;
use crate::function::Function;
use crate::schedule::{Calls, Only, Rule, Schedule};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// A schedule, what has come of it, and how far each function's count was when it came into force.
pub struct Plan {
    schedule: Schedule,
    /// The token is gone, until this plan is.
    gone: AtomicBool,
    struck: Vec<AtomicU32>,
    counted_before: Vec<u64>,
}

/// A rule that strikes a call.
pub struct Strike<'a> {
    gone: &'a AtomicBool,
    rule: &'a Rule,
    struck: &'a AtomicU32,
    /// Chooses what the rule leaves open.
    pub roll: u64,
}

impl Plan {
    /// `counts`: the calls of each function so far, indexed by [`Function`].
    pub fn new(schedule: Schedule, counts: Vec<u64>) -> Plan {
        let struck = schedule.rules.iter().map(|_| AtomicU32::new(0)).collect();
        Plan {
            schedule,
            gone: AtomicBool::new(false),
            struck,
            counted_before: counts,
        }
    }

    pub fn token_is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// The rule that strikes the call, counted as struck. `count`: the call's number in the process.
    /// `connected`: the number of the process at its controller, if it has one.
    pub fn strike(&self, function: Function, count: u64, connected: Option<u32>) -> Option<Strike<'_>> {
        // A call counted before the schedule came into force, but arriving here after, is not of this schedule.
        let nth = count.checked_sub(self.counted_before[function as usize])?;
        if nth == 0 {
            return None;
        }
        let rules = self.schedule.rules.iter().zip(&self.struck).enumerate();
        rules
            .filter(|(_, (rule, _))| rule.function.contains(function) && function.can_suffer(&rule.fault))
            .filter(|(_, (rule, _))| rule.process.is_none_or(|only| is_this_process(only, connected)))
            .find_map(|(index, (rule, struck))| {
                let roll = dice::roll(self.schedule.seed, index, function, nth);
                let strikes = includes(rule.calls, nth, roll) && take(struck, rule.times);
                strikes.then_some(Strike {
                    gone: &self.gone,
                    rule,
                    struck,
                    roll,
                })
            })
    }
}

impl Strike<'_> {
    pub fn fault(&self) -> Fault {
        self.rule.fault
    }

    /// From now on the token is gone.
    pub fn remove_token(&self) {
        self.gone.store(true, Relaxed);
    }

    /// There was nothing to strike: this one does not count.
    pub fn missed(&self) {
        self.struck.fetch_sub(1, Relaxed);
    }
}

fn includes(calls: Calls, nth: u64, roll: u64) -> bool {
    match calls {
        Calls::Any => true,
        Calls::Nth(number) => nth == number,
        Calls::Range { from, to } => nth >= from && to.is_none_or(|to| nth <= to),
        Calls::Every(step) => nth.is_multiple_of(step),
        Calls::Chance(chance) => dice::hits(roll, chance),
    }
}

fn is_this_process(only: Only, connected: Option<u32>) -> bool {
    match only {
        Only::Pid(pid) => pid == std::process::id(),
        Only::Connected(number) => connected == Some(number),
    }
}

/// Counts one more strike, unless `times` are used up.
fn take(struck: &AtomicU32, times: Option<u32>) -> bool {
    let limit = times.unwrap_or(u32::MAX);
    struck
        .fetch_update(Relaxed, Relaxed, |so_far| (so_far < limit).then_some(so_far + 1))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::When;
    use crate::class::Class;
    use crate::schedule::Functions;

    const HANG: Fault = Fault::Hang { when: When::Before };
    const ABORT: Fault = Fault::Abort { when: When::Before };

    fn plan(rules: impl IntoIterator<Item = Rule>) -> Plan {
        let schedule = rules.into_iter().fold(Schedule::new(3), Schedule::rule);
        Plan::new(schedule, vec![0; Function::ALL.len()])
    }

    /// The numbers among the first twenty calls of C_Sign that are struck.
    fn struck(plan: &Plan) -> Vec<u64> {
        (1..=20)
            .filter(|count| plan.strike(Function::C_Sign, *count, None).is_some())
            .collect()
    }

    #[test]
    fn calls_are_chosen_by_number_range_and_step() {
        let of = |calls| struck(&plan([Rule::on(Function::C_Sign, HANG).calls(calls)]));
        assert_eq!(of(Calls::Nth(3)), [3]);
        assert_eq!(of(Calls::Range { from: 4, to: Some(6) }), [4, 5, 6]);
        assert_eq!(of(Calls::Range { from: 19, to: None }), [19, 20]);
        assert_eq!(of(Calls::Every(7)), [7, 14]);
        assert_eq!(of(Calls::Any).len(), 20);
        assert!(of(Calls::Chance(0.0)).is_empty());
    }

    #[test]
    fn a_rule_strikes_no_more_often_than_it_may_and_a_miss_does_not_count() {
        let plan = plan([Rule::on(Class::Sign, HANG).times(2)]);
        plan.strike(Function::C_Sign, 1, None).unwrap().missed();
        assert_eq!(struck(&plan), [1, 2]);
    }

    #[test]
    fn the_first_rule_that_strikes_is_the_only_one() {
        let plan = plan([
            Rule::on(Function::C_Sign, HANG).nth(2),
            Rule::on(Function::C_Sign, ABORT),
        ]);
        let fault = |count| plan.strike(Function::C_Sign, count, None).unwrap().fault();
        assert_eq!((fault(1), fault(2)), (ABORT, HANG));
    }

    #[test]
    fn calls_are_counted_from_when_the_schedule_came_into_force() {
        let schedule = Schedule::new(0).rule(Rule::on(Function::C_Sign, HANG).nth(1));
        let plan = Plan::new(schedule, vec![5; Function::ALL.len()]);
        assert_eq!(struck(&plan), [6]);
    }

    #[test]
    fn a_rule_for_one_process_leaves_the_others_alone() {
        let strikes = |only, connected| {
            let plan = plan([Rule::on(Functions::All, HANG).only(only)]);
            plan.strike(Function::C_Sign, 1, connected).is_some()
        };
        assert!(strikes(Only::Pid(std::process::id()), None) && !strikes(Only::Pid(1), None));
        assert!(strikes(Only::Connected(2), Some(2)));
        assert!(!strikes(Only::Connected(2), Some(1)) && !strikes(Only::Connected(2), None));
    }

    #[test]
    fn a_fault_that_a_call_cannot_suffer_passes_it_by() {
        let plan = plan([Rule::on(Functions::All, Fault::CorruptOutput { bit: None })]);
        assert!(plan.strike(Function::C_SignInit, 1, None).is_none());
        assert!(plan.strike(Function::C_Sign, 1, None).is_some());
    }

    #[test]
    fn chance_does_not_depend_on_the_order_of_the_calls() {
        let rule = || [Rule::on(Class::Sign, HANG).calls(Calls::Chance(0.3))];
        let (forward, backward) = (plan(rule()), plan(rule()));
        let mut reversed: Vec<u64> = (1..=20)
            .rev()
            .filter(|count| backward.strike(Function::C_Sign, *count, None).is_some())
            .collect();
        reversed.reverse();
        let struck = struck(&forward);
        assert_eq!(struck, reversed);
        assert!(!struck.is_empty() && struck.len() < 20);
    }
}
