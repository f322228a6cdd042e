//! Random calls to a token, and what must hold of each answer, whatever fails meanwhile.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use keyreeve::{
    model::Blob,
    token::{Answer, Call, Host, Lane, TokenError, host::Place},
};
use keyreeve_envelope::prf_commit::MessageKeys;
use tokio::sync::oneshot;

use crate::{
    dice::Dice,
    fixture::{assert_same, keys_call, place, submit},
};

pub const DEADLINE: Duration = Duration::from_secs(5);
/// For a machine that does other things, too.
pub const GRACE: Duration = Duration::from_secs(10);

type Waiting = (Of, oneshot::Receiver<Result<Answer, TokenError>>);

pub struct Workload {
    made: Vec<Made>,
    next: u8,
    /// Random bytes that were answered.
    drawn: HashSet<Vec<u8>>,
    /// Waits for answers, up to a time.
    clock: tokio::runtime::Runtime,
}

/// A key that was acknowledged.
struct Made {
    place: Place,
    blob: Arc<Blob>,
    /// The first ones that were answered.
    keys: Option<MessageKeys>,
}

/// What a call is of.
#[derive(Clone, Copy)]
enum Of {
    None,
    New(Place),
    Made(usize),
}

impl Workload {
    /// With a few keys to begin with.
    pub fn begin(host: &dyn Host) -> Self {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let mut workload = Self {
            made: vec![],
            next: 0,
            drawn: HashSet::new(),
            clock: clock.unwrap(),
        };
        while workload.made.len() < 3 {
            let (call, of) = workload.make();
            let answer = submit(host, call, Lane::of(None, "a"), DEADLINE);
            workload.await_all(vec![(of, answer)]);
        }
        workload
    }

    /// So many random calls under way together.
    pub fn operate(&mut self, host: &dyn Host, dice: &mut Dice, at_once: usize) {
        let submit_one = |_| {
            let (call, of) = self.any_call(dice);
            let lane = Lane::of(None, ["a", "b", "c"][dice.below(3)]);
            (of, submit(host, call, lane, DEADLINE))
        };
        let waiting = (0..at_once).map(submit_one).collect();
        self.await_all(waiting);
    }

    /// Without faults every key works that was ever acknowledged. Errors: the first failure.
    pub fn check_all(&mut self, host: &dyn Host) -> Result<(), TokenError> {
        let submit_one = |(key, made): (usize, &Made)| {
            let call = keys_call(&made.blob, made.place, 1);
            (key, submit(host, call, Lane::of(None, "a"), DEADLINE + GRACE))
        };
        let waiting: Vec<_> = self.made.iter().enumerate().map(submit_one).collect();
        for (key, answer) in waiting {
            let answer = answer.blocking_recv().unwrap()?;
            self.judge(Of::Made(key), Ok(answer));
        }
        Ok(())
    }

    /// A call, and the key that it is of.
    fn any_call(&mut self, dice: &mut Dice) -> (Call, Of) {
        let key = dice.below(self.made.len());
        let made = &self.made[key];
        let blob = Arc::clone(&made.blob);
        match dice.below(10) {
            0 => self.make(),
            1 | 2 => (Call::Evict { blob: *blob.sha256() }, Of::None),
            3 => (Call::Random { length: 32 }, Of::None),
            4 => (Call::Probe, Of::None),
            5 => {
                let place = made.place;
                (Call::Attributes { blob, place }, Of::None)
            }
            _ => (keys_call(&blob, made.place, 1 + dice.below(8)), Of::Made(key)),
        }
    }

    fn make(&mut self) -> (Call, Of) {
        self.next = self.next.wrapping_add(1);
        let place = place(self.next);
        let call = Call::MakeEnvelopeKey {
            place,
            suite: keyreeve_envelope::Suite::PrfCommit,
            residency: keyreeve::model::Residency::Wrapped,
            created_ms: 1,
        };
        (call, Of::New(place))
    }

    fn await_all(&mut self, waiting: Vec<Waiting>) {
        let until = tokio::time::Instant::from_std(Instant::now() + DEADLINE + GRACE);
        for (of, answer) in waiting {
            let answered = self
                .clock
                .block_on(async { tokio::time::timeout_at(until, answer).await });
            let answer = answered.expect("no answer by the deadline and its grace");
            self.judge(of, answer.expect("a call was dropped without an answer"));
        }
    }

    fn judge(&mut self, of: Of, answer: Result<Answer, TokenError>) {
        match (answer, of) {
            (Err(TokenError::BlobTag), _) => panic!("a blob that was acknowledged is called the store's fault"),
            (Err(_), _) => {}
            (Ok(Answer::EnvelopeKeys(keys)), Of::Made(key)) => {
                let made = &mut self.made[key];
                for now in keys {
                    match &made.keys {
                        Some(first) => assert_same(first, &now, made.place),
                        None => made.keys = Some(now),
                    }
                }
            }
            (Ok(Answer::MadeEnvelopeKey(new)), Of::New(place)) => self.made.push(Made {
                place,
                blob: Arc::new(new.blob),
                keys: None,
            }),
            (Ok(Answer::Random(bytes)), Of::None) => {
                assert!(
                    bytes.len() == 32 && self.drawn.insert(bytes.to_vec()),
                    "random bytes came twice"
                );
            }
            (Ok(Answer::Attributes(now)), Of::None) => {
                assert!(
                    now.sensitive && !now.extractable,
                    "a key in use that could be taken out"
                );
            }
            (Ok(Answer::Done), Of::None) => {}
            (Ok(_), _) => panic!("another answer"),
        }
    }
}
