//! Steps that die: at every call of the token that makes or destroys, and killed at any moment. The same command again ends well, with one
//! object of each kind (A7, T13).

use std::{
    collections::BTreeSet,
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Instant,
};

use keyreeve::token::{
    TokenConfig,
    ceremony::{EnrolRequest, Receipt, Signed, Statement, Transfer},
};
use keyreeve_faultmod::{Fault, Function, Rule, Schedule, When, read_trace};
use keyreeve_pkcs11::presets;

use super::{objects, remove, serial};
use crate::{
    group::{Group, to},
    support::SOFTHSM,
};

ceremonies! { false;
    an_import_that_died_at_any_call_is_repeated_and_ends_well => |group| {
        let step = Step::import(group);
        let calls = step.calls(Function::C_UnwrapKey, 3);
        let begun = dies_at_every_call(group, &step, &calls, &ROOT_KEYS);
        assert!(begun > 20, "{begun}");
    };
    an_import_that_was_killed_after_it_had_begun_is_repeated_and_ends_well => |group| {
        is_killed(group, &Step::import(group), &ROOT_KEYS);
    };
    an_import_that_left_a_key_without_a_value_is_repeated_and_ends_well => |group| {
        left_without_a_value(group, &Step::import(group), Function::C_UnwrapKey, &ROOT_KEYS);
    };
    an_enrolment_that_left_a_key_without_a_value_is_repeated_and_ends_well => |group| {
        left_without_a_value(group, &Step::enrolment(group), Function::C_GenerateKey, &OWN_KEYS);
    };
    an_enrolment_that_died_at_any_call_that_makes_a_key_is_repeated_and_ends_well => |group| {
        let step = Step::enrolment(group);
        let mut calls = step.calls(Function::C_GenerateKeyPair, 2);
        // Each attempt makes RSA pairs: those calls must do between which a token object more is there.
        calls.retain(|(name, _)| MAKING.contains(name));
        let begun = dies_at_every_call(group, &step, &calls, &OWN_KEYS);
        assert!(begun > 5, "{begun}");
    };
    files_of_an_epoch_are_all_named_or_none_and_made_once => files_of_an_epoch;
    a_step_is_not_taken_while_another_is_under_way_at_the_token => under_way;
}

/// Moments at which a step is killed.
const KILLS: u32 = 20;
const ROOT_KEYS: [&str; 3] = [presets::KEK_LABEL, presets::BIND_LABEL, presets::SVC_LABEL];
const OWN_KEYS: [&str; 3] = [presets::TRANSPORT_LABEL, presets::AUDIT_LABEL, presets::CANARY_LABEL];
/// What neither makes nor destroys nor computes: death there is death before the next call.
const LOOKING: [Function; 6] = [
    Function::C_GetAttributeValue,
    Function::C_FindObjectsInit,
    Function::C_FindObjects,
    Function::C_FindObjectsFinal,
    Function::C_SignInit,
    Function::C_GetSessionInfo,
];

const MAKING: [Function; 3] = [
    Function::C_GenerateKeyPair,
    Function::C_GenerateKey,
    Function::C_Finalize,
];

/// A command, done with one token.
struct Step {
    token: TokenConfig,
    directory: PathBuf,
    arguments: Vec<String>,
    /// What it writes.
    out: PathBuf,
    /// Labels of the token's objects when it has ended.
    after: Vec<String>,
    is_written: fn(&Path) -> bool,
}

impl Step {
    fn import(group: &Group) -> Self {
        let (a, b) = (group.softhsm("a"), group.softhsm("b"));
        let manifest = group.found(&[&a, &b], &[]);
        let transfers = group.at(&a).make_epoch(&manifest).unwrap();
        let file = group.directory.join("b.transfer");
        to(&transfers, &serial(group, &b)).write(&file).unwrap();
        let made = ROOT_KEYS.map(str::to_owned);
        let mut step = Self::new(group, b, &["tokens", "import", file.to_str().unwrap()], &made);
        step.is_written = is_whole::<Receipt>;
        step
    }

    fn enrolment(group: &Group) -> Self {
        let made = ["audit.v1", "audit.v1", "canary.v1", "transport.v1", "transport.v1"].map(str::to_owned);
        Self::new(group, group.softhsm("a"), &["tokens", "enrol"], &made)
    }

    fn new(group: &Group, token: TokenConfig, arguments: &[&str], makes: &[String]) -> Self {
        let mut after = [&objects(group, &token)[..], makes].concat();
        after.sort();
        let directory = group.directory.clone();
        for (name, module) in [
            ("plain", SOFTHSM.into()),
            ("faulty", keyreeve_faultmod::module_path().unwrap()),
        ] {
            let module: PathBuf = module;
            let text = configuration(group, &token, &module);
            std::fs::write(directory.join(format!("{name}.toml")), text).unwrap();
        }
        Self {
            token,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            out: directory.join("out"),
            directory,
            after,
            is_written: is_whole::<EnrolRequest>,
        }
    }

    fn command(&self, configuration: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyreeve"));
        command
            .args(&self.arguments)
            .arg("--config")
            .arg(self.directory.join(format!("{configuration}.toml")))
            .arg("--out")
            .arg(&self.out)
            .arg("--transcript")
            .arg(self.directory.join("transcript"))
            .env_remove(keyreeve_faultmod::variable::CONTROL);
        command
    }

    /// The calls that it makes, but those that only look, from the one of `function` on after which so many are left.
    fn calls(&self, function: Function, left: u64) -> Vec<(Function, u64)> {
        let trace = self.directory.join("trace");
        let mut traced = self.command("faulty");
        traced.env(keyreeve_faultmod::variable::TRACE, &trace);
        succeeded(&traced.output().unwrap());
        let lines = read_trace(&std::fs::read_to_string(trace).unwrap()).unwrap();
        let calls: Vec<_> = lines.iter().map(|line| (line.function, line.nth)).collect();
        let of_function = calls.iter().filter(|(name, _)| *name == function).count() as u64;
        let from_here = calls
            .into_iter()
            .skip_while(|call| *call != (function, of_function - left));
        from_here.filter(|(name, _)| !LOOKING.contains(name)).collect()
    }

    /// Once more, with a module that works; what it said.
    fn repeat(&self) -> String {
        let output = self.command("plain").output().unwrap();
        succeeded(&output);
        String::from_utf8(output.stderr).unwrap()
    }

    fn is_unfinished(&self) -> bool {
        let marks = std::fs::read_dir(self.directory.join("data/ceremony"));
        marks.is_ok_and(|marks| marks.count() > 0)
    }

    /// As if it had never been.
    fn undo(&self, group: &Group, labels: &[&str]) {
        remove(group, &self.token, labels);
        std::fs::remove_file(&self.out).unwrap();
    }

    fn assert_ended_well(&self, group: &Group, what: &str) {
        assert_eq!(objects(group, &self.token), self.after, "{what}");
        assert!((self.is_written)(&self.out), "{what}");
        assert!(!self.is_unfinished(), "{what}");
    }
}

fn configuration(group: &Group, token: &TokenConfig, module: &Path) -> String {
    let directory = group.directory.display();
    let custodians: Vec<_> = group.custodians.iter().map(|(_, pem)| pem).collect();
    format!(
        "[tls]\ncertificate = \"tls.pem\"\nkey = \"tls.key\"\nclient_ca = {{ \"example.org\" = \"ca.pem\" }}\n\
         [store]\ndata_dir = \"{directory}/data\"\n\
         [token]\nmodule = {module:?}\nlabel = {label:?}\npin_file = \"{directory}/pin\"\nenvironments = [\"dev\"]\n\
         manifest = \"{directory}/manifest.json\"\ngroup_id = {group_id:?}\ncustodians = {custodians:?}\nquorum = 2\n",
        label = token.label.as_ref().unwrap(),
        group_id = "ab".repeat(16),
    )
}

fn is_whole<S: Statement>(file: &Path) -> bool {
    Signed::<S>::read(file).is_ok()
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Dies after each of these calls, which one attempt has made, and is repeated. `undo`: the labels of what it makes.
/// Returns how often it had begun to make something.
fn dies_at_every_call(group: &Group, step: &Step, calls: &[(Function, u64)], undo: &[&str]) -> usize {
    let mut begun = 0;
    step.assert_ended_well(group, "without a fault");
    step.undo(group, undo);
    let schedule = step.directory.join("schedule");
    for (name, nth) in calls {
        let what = format!("{name:?} {nth}");
        let fault = Fault::Abort { when: When::After };
        let dies = Schedule::new(1).rule(Rule::on(*name, fault).nth(*nth));
        std::fs::write(&schedule, serde_json::to_vec(&dies).unwrap()).unwrap();
        let mut command = step.command("faulty");
        command.env(keyreeve_faultmod::variable::SCHEDULE, &schedule);
        let died = command.output().unwrap();
        assert_eq!(died.status.signal(), Some(6), "{what}: {died:?}");
        let unfinished = step.is_unfinished();
        begun += usize::from(unfinished);
        let said = step.repeat();
        assert_eq!(said.contains("interrupted"), unfinished, "{what}: {said}");
        step.assert_ended_well(group, &what);
        step.undo(group, undo);
    }
    begun
}

/// SIGKILL, later and later, from its mark on until the command ends by itself; what is inside the module then is cut, too.
///
/// Not before the mark: SoftHSM rewrites the token's own file at C_Login, and killed in there it loses the token.
fn is_killed(group: &Group, step: &Step, undo: &[&str]) {
    let begins = || {
        let mut running = step.command("plain");
        let mut running = running.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !step.is_unfinished() && running.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        (running, Instant::now())
    };
    let (mut running, begun) = begins();
    running.wait().unwrap();
    let takes = begun.elapsed();
    step.undo(group, undo);
    let mut kills = 0;
    for part in 0..KILLS {
        let (mut running, _) = begins();
        std::thread::sleep(takes * part / KILLS);
        running.kill().unwrap();
        kills += usize::from(running.wait().unwrap().signal() == Some(9));
        if step.is_unfinished() || !step.out.exists() {
            step.repeat();
        }
        step.assert_ended_well(group, &format!("killed {part} of {KILLS}"));
        step.undo(group, undo);
    }
    assert!(kills > 5, "{kills}");
}

/// Dies with all of its keys in the token, of which one has no value yet: SoftHSM makes an object in two writes, and this is what a kill
/// between them leaves. `last`: the function whose last call makes the last key.
fn left_without_a_value(group: &Group, step: &Step, last: Function, undo: &[&str]) {
    let (function, nth) = step.calls(last, 0)[0];
    step.undo(group, undo);
    let dies = Schedule::new(1).rule(Rule::on(function, Fault::Abort { when: When::After }).nth(nth));
    let schedule = step.directory.join("schedule");
    std::fs::write(&schedule, serde_json::to_vec(&dies).unwrap()).unwrap();
    let before = object_files(&step.directory);
    for which in 0.. {
        let mut command = step.command("faulty");
        command.env(keyreeve_faultmod::variable::SCHEDULE, &schedule);
        assert_eq!(command.output().unwrap().status.signal(), Some(6));
        let made = object_files(&step.directory);
        let made: Vec<_> = made.difference(&before).collect();
        assert!(made.len() >= undo.len(), "{made:?}");
        let Some(file) = made.get(which) else { break };
        take_value(file);
        step.repeat();
        step.assert_ended_well(group, &format!("{which} of {}", made.len()));
        step.undo(group, undo);
    }
}

/// Of a key in a file of SoftHSM's: a row of attributes, each type, kind and what is of that kind, all numbers of eight bytes.
fn take_value(file: &Path) {
    /// CKA_VALUE, CKA_MODULUS, CKA_PRIVATE_EXPONENT, CKA_EC_POINT.
    const VALUES: [u64; 4] = [0x11, 0x120, 0x123, 0x181];
    const BYTES: u64 = 3;
    let mut bytes = std::fs::read(file).unwrap();
    let mut taken = 0;
    for value in VALUES {
        let pattern = [value, BYTES].map(u64::to_be_bytes).concat();
        let Some(at) = bytes.windows(pattern.len()).position(|window| window == pattern) else {
            continue;
        };
        let at = at + pattern.len();
        let length = u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        bytes.splice(at..at + 8 + length as usize, [0; 8]);
        taken += length;
    }
    assert!(taken > 0, "{file:?} has no value");
    std::fs::write(file, bytes).unwrap();
}

/// Of SoftHSM's tokens anywhere below.
fn object_files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        match entry.path() {
            path if path.is_dir() => files.extend(object_files(&path)),
            path if path.extension().is_some_and(|extension| extension == "object") => _ = files.insert(path),
            _ => {}
        }
    }
    files
}

fn under_way(group: &Group) {
    let step = Step::enrolment(group);
    let data = step.directory.join("data");
    std::fs::create_dir(&data).unwrap();
    let serial = serial(group, &step.token);
    let other = File::create(data.join(format!("ceremony-token-{serial}.lock"))).unwrap();
    other.lock().unwrap();
    let refused = step.command("plain").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("under way"), "{said}");
    assert!(objects(group, &step.token).is_empty() && !step.is_unfinished());
    drop(other);
    step.repeat();
    step.assert_ended_well(group, "alone");
}

fn files_of_an_epoch(group: &Group) {
    let (a, b) = (group.softhsm("a"), group.softhsm("b"));
    group.found(&[&a, &b], &[]);
    let media = group.directory.join("media");
    std::fs::create_dir(&media).unwrap();
    let step = Step {
        out: media.clone(),
        ..Step::new(group, a, &["ceremony", "epoch"], &[])
    };
    let names = || {
        let entries = std::fs::read_dir(&media).unwrap();
        let mut names: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let kek_ids = || {
        let read = |name: &PathBuf| Signed::<Transfer>::read(name).unwrap().said.kek_id;
        names().iter().map(read).collect::<BTreeSet<_>>()
    };
    let unname = |name: &PathBuf| std::fs::rename(name, format!("{}.new", name.display())).unwrap();
    assert!(!step.repeat().contains("before"));
    let (made, kek) = (names(), kek_ids());
    assert_eq!((made.len(), kek.len()), (2, 1));
    // It died when all files had names, and when some had.
    assert!(step.repeat().contains("none was made anew"));
    unname(&made[1]);
    assert!(step.repeat().contains("none was made anew"));
    assert_eq!((names(), kek_ids()), (made.clone(), kek.clone()));
    // It died before: none had a name, and one was cut.
    made.iter().for_each(unname);
    std::fs::write(format!("{}.new", made[0].display()), "{").unwrap();
    assert!(step.repeat().contains("were replaced"));
    assert_eq!(names(), made);
    assert!(kek_ids().is_disjoint(&kek));
    // One was carried off, and may be in a token.
    std::fs::remove_file(&made[0]).unwrap();
    let refused = step.command("plain").output().unwrap();
    assert!(!refused.status.success());
    assert_eq!(names(), made[1..]);
}
