//! Several processes: told apart by the controller, killed on purpose, traced into one file, replayed.

#![allow(clippy::unwrap_used)] // a test stops at the first surprise

mod steer;
#[path = "../../pkcs11/tests/support/mod.rs"]
mod support;

use keyreeve_faultmod::{
    Calls, Fault, Function, Only, ReturnCode, Rule, Schedule, TraceLine, When, read_trace, variable,
};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use steer::{PATIENCE, Worker, controller, set, trace_to, work};
use support::TestModule;

contract! {
    through faultmod:
    a_rule_for_the_second_process_leaves_the_first_alone => second_process;
    an_abort_kills_the_process_and_is_in_the_trace => abort;
    a_hung_process_can_be_released_or_killed_and_its_controller_goes_on => hung_process;
    a_process_that_connects_later_gets_the_schedule_of_then => late_process;
    a_replayed_trace_injects_the_same_faults_into_the_same_calls => replay;
    a_trace_has_a_line_for_each_call_and_nothing_else => trace;
}

fn refuse() -> Fault {
    Fault::Return {
        code: ReturnCode::DEVICE_ERROR,
        when: When::Before,
    }
}

fn ok() -> Option<String> {
    Some("ok".to_owned())
}

fn refused() -> Option<String> {
    Some("CKR_DEVICE_ERROR".to_owned())
}

fn second_process(test: &TestModule) {
    if work(test) {
        return;
    }
    let schedule = Schedule::default().rule(Rule::on(Function::C_SignInit, refuse()).nth(2).only(Only::Connected(2)));
    let controller = controller(test, schedule);
    let (mut first, mut second) = (Worker::start(), Worker::start());
    let processes = controller.wait_for(2, PATIENCE).unwrap();
    assert_eq!(processes[1].pid, second.pid());
    assert_eq!([first.sign(), first.sign()], [ok(), ok()]);
    assert_eq!([second.sign(), second.sign()], [ok(), refused()]);
    let signed = |pid| controller.counts(pid).unwrap()[&Function::C_SignInit];
    assert_eq!((signed(first.pid()).calls, signed(first.pid()).faults), (2, 0));
    assert_eq!((signed(second.pid()).calls, signed(second.pid()).faults), (2, 1));

    controller
        .set_for(
            first.pid(),
            Schedule::default().rule(Rule::on(Function::C_SignInit, refuse())),
        )
        .unwrap();
    assert_eq!((first.sign(), second.sign()), (refused(), ok()));
    assert!(first.end().success() && second.end().success());
    assert_eq!(controller.processes(), [], "both have ended");
}

fn abort(test: &TestModule) {
    if work(test) {
        return;
    }
    let path = trace_to(test);
    for when in [When::Before, When::After] {
        let schedule = Schedule::default().rule(Rule::on(Function::C_Sign, Fault::Abort { when }).nth(2));
        let controller = steer::controller_at(test, &format!("{when:?}"), schedule);
        let mut worker = Worker::start();
        let pid = worker.pid();
        assert_eq!((worker.sign(), worker.sign()), (ok(), None));
        assert_eq!(worker.end().signal(), Some(6), "SIGABRT");
        controller.clear().expect("a process that ended is no error");
        let last = lines(&path).into_iter().rfind(|line| line.pid == pid).unwrap();
        assert_eq!((last.function, last.nth), (Function::C_Sign, 2));
        assert_eq!((last.fault, last.code), (Some(Fault::Abort { when }), None));
    }
}

fn hung_process(test: &TestModule) {
    if work(test) {
        return;
    }
    let path = trace_to(test);
    let hang = Fault::Hang { when: When::After };
    let controller = controller(test, Schedule::default().rule(Rule::on(Function::C_Sign, hang).nth(1)));
    let mut workers = [Worker::start(), Worker::start()];
    let hanging = || lines(&path).iter().filter(|line| line.fault == Some(hang)).count();
    for worker in &mut workers {
        worker.begin();
    }
    steer::until(|| hanging() == 2);
    let [first, mut second] = workers;
    assert!(!first.kill().success());
    controller.release().unwrap();
    assert_eq!((second.outcome(), second.sign()), (ok(), ok()));
    let of_second: Vec<TraceLine> = lines(&path)
        .into_iter()
        .filter(|line| line.pid == second.pid() && line.function == Function::C_Sign && line.nth == 1)
        .collect();
    assert_eq!(of_second.len(), 2, "one line as it hung, one as it returned");
    assert_eq!(of_second[0].seq, of_second[1].seq);
    assert_eq!((of_second[1].fault, of_second[1].code), (None, Some(ReturnCode::OK)));
    assert!(second.end().success());
}

fn late_process(test: &TestModule) {
    if work(test) {
        return;
    }
    let controller = controller(test, Schedule::default());
    let mut early = Worker::start();
    assert_eq!(early.sign(), ok());
    controller
        .set(Schedule::default().rule(Rule::on(Function::C_SignInit, refuse()).nth(1)))
        .unwrap();
    let mut late = Worker::start();
    assert_eq!([late.sign(), late.sign()], [refused(), ok()]);
    assert_eq!(
        [early.sign(), early.sign()],
        [refused(), ok()],
        "counted from when it was set"
    );
    assert!(early.end().success() && late.end().success());
}

/// Chance, corruption and a crash, then the same run under the schedule made of its trace.
fn replay(test: &TestModule) {
    if work(test) {
        return;
    }
    let chances = Schedule::new(11)
        .rule(Rule::on(Function::C_Sign, Fault::Abort { when: When::Before }).nth(12))
        .rule(Rule::on(Function::C_Sign, Fault::CorruptOutput { bit: None }).calls(Calls::Chance(0.3)))
        .rule(Rule::on(Function::C_SignInit, refuse()).calls(Calls::Chance(0.3)));
    let run = |name: &str, schedule: &Schedule| {
        let file = test.directory.join(format!("{name}.json"));
        std::fs::write(&file, serde_json::to_string(schedule).unwrap()).unwrap();
        set(variable::SCHEDULE, &file);
        let trace = test.directory.join(format!("{name}.jsonl"));
        set(variable::TRACE, &trace);
        let mut worker = Worker::start();
        let outcomes: Vec<Option<String>> = (0..24).map_while(|_| Some(Some(worker.sign()?))).collect();
        worker.end();
        let faults = lines(&trace)
            .into_iter()
            .filter_map(|line| line.fault.map(|fault| (line.function, line.nth, fault)))
            .collect::<Vec<_>>();
        (outcomes, faults, std::fs::read_to_string(&trace).unwrap())
    };
    let (outcomes, faults, trace) = run("first", &chances);
    assert!(outcomes.len() < 24, "it ended in a crash");
    assert!(faults.len() > 5, "{faults:?}");
    let (again, same_faults, _) = run("again", &Schedule::from_trace(&trace).unwrap());
    assert_eq!(outcomes, again);
    assert_eq!(faults, same_faults);
}

fn trace(test: &TestModule) {
    if work(test) {
        return;
    }
    let path = trace_to(test);
    let mut worker = Worker::start();
    let mut other = Worker::start();
    assert_eq!((worker.sign(), other.sign()), (ok(), ok()));
    let pid = worker.pid();
    assert!(worker.end().success() && other.end().success());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(support::PIN) && !text.contains("what is signed"));
    let lines: Vec<TraceLine> = lines(&path).into_iter().filter(|line| line.pid == pid).collect();
    let numbers: Vec<u64> = lines.iter().map(|line| line.seq).collect();
    assert_eq!(
        numbers,
        (1..=lines.len() as u64).collect::<Vec<_>>(),
        "one thread: in order, none missing"
    );
    assert_eq!((lines[0].function, lines[0].thread), (Function::C_Initialize, 1));
    let signed = lines.iter().find(|line| line.function == Function::C_Sign).unwrap();
    assert!(signed.session.is_some() && signed.duration_us.is_some());
    assert_eq!((signed.nth, signed.code, signed.fault), (1, Some(ReturnCode::OK), None));
}

fn lines(path: &Path) -> Vec<TraceLine> {
    read_trace(&std::fs::read_to_string(path).unwrap_or_default()).unwrap()
}
