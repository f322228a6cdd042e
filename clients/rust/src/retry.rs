//! Whether a failed call is tried again, and after which wait (docs/clients.md, rules 1 to 4). Does no I/O and never sleeps.

use std::time::Duration;

use tonic::Code;

use crate::{ClientError, budget::Budget, error::UNREACHABLE};

/// Retries of one call that count.
const RETRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What is to be done about a try that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again after so long.
    Wait(Duration),
    /// Try again at once, on another endpoint.
    Elsewhere,
    /// There is no other try.
    End,
    /// There would be one, but too many were made lately.
    NoBudget,
}

/// Whether a failure is of an outage, and counts neither as a retry nor in the budget: nobody is there whom a further try could load.
/// `answered`: the service has answered this client before; an address that never did is more likely wrong than restarting.
pub(crate) fn is_outage(error: &ClientError, answered: bool) -> bool {
    answered && error.reason == UNREACHABLE
}

/// What is known when a try has failed.
pub(crate) struct Failure<'a> {
    pub error: &'a ClientError,
    /// Which try it was, from 1.
    pub tries: u32,
    /// How many have failed so far, this one included, but for those of an outage.
    pub counted: u32,
    /// This one is of an outage.
    pub outage: bool,
    /// Until the deadline.
    pub remaining: Duration,
    /// Another endpoint's circuit is closed.
    pub another: bool,
    /// The certificate changed since the connection of this try was made, and no other try was made for that.
    pub certificate_changed: bool,
}

/// For calls that may be tried again.
pub(crate) fn next(failure: &Failure<'_>, budget: &Budget) -> Next {
    let next = match failure.error.code {
        Code::Unauthenticated if failure.certificate_changed => Next::Wait(Duration::ZERO),
        Code::Unavailable if failure.another => Next::Elsewhere,
        Code::Unavailable => Next::Wait(wait(failure)),
        Code::ResourceExhausted if failure.error.retry_after.is_some() => Next::Wait(wait(failure)),
        _ => return Next::End,
    };
    match next {
        Next::Wait(wait) if wait >= failure.remaining => Next::End,
        _ if failure.remaining.is_zero() => Next::End,
        next if failure.outage => next,
        _ if failure.counted > RETRIES => Next::End,
        _ if !budget.retry() => Next::NoBudget,
        next => next,
    }
}

fn wait(failure: &Failure<'_>) -> Duration {
    full_jitter(failure.tries) + failure.error.retry_after.unwrap_or_default()
}

/// Before retry `n`, from 1: evenly spread between nothing and a time that doubles.
pub(crate) fn full_jitter(n: u32) -> Duration {
    let longest = FIRST_WAIT.saturating_mul(1 << (n - 1).min(16)).min(LONGEST_WAIT);
    longest.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::testing::of;

    const LONG: Duration = Duration::from_secs(60);

    /// The last of so many, all of which count.
    fn failure(error: &ClientError, tries: u32) -> Failure<'_> {
        Failure {
            error,
            tries,
            counted: tries,
            outage: false,
            remaining: LONG,
            another: false,
            certificate_changed: false,
        }
    }

    fn unavailable() -> ClientError {
        of(Code::Unavailable, "TOKEN_UNAVAILABLE")
    }

    #[test]
    fn rule_2_what_is_not_named_is_never_tried_again() {
        for code in [
            Code::InvalidArgument,
            Code::PermissionDenied,
            Code::NotFound,
            Code::Aborted,
            Code::DeadlineExceeded,
            Code::DataLoss,
            Code::Internal,
            Code::Unknown,
            Code::Unauthenticated,
            Code::ResourceExhausted,
        ] {
            let error = of(code, "X");
            assert_eq!(next(&failure(&error, 1), &Budget::new()), Next::End, "{code:?}");
        }
    }

    #[test]
    fn rule_2_there_are_four_retries() {
        let (error, budget) = (unavailable(), Budget::new());
        for tries in 1..=4 {
            assert!(matches!(next(&failure(&error, tries), &budget), Next::Wait(_)));
        }
        assert_eq!(next(&failure(&error, 5), &budget), Next::End);
    }

    #[test]
    fn rule_2_an_outage_is_waited_out_and_counts_neither_as_a_retry_nor_in_the_budget() {
        let (lost, budget) = (of(Code::Unavailable, UNREACHABLE), Budget::new());
        while budget.retry() {}
        let outage = |tries, remaining| Failure {
            counted: 0,
            outage: is_outage(&lost, true),
            remaining,
            ..failure(&lost, tries)
        };
        for n in 1..=100 {
            let Next::Wait(wait) = next(&outage(n, LONG), &budget) else {
                panic!("try {n} is not the last")
            };
            let longest = FIRST_WAIT.saturating_mul(1 << (n - 1).min(16)).min(LONGEST_WAIT);
            assert!(wait <= longest, "rule 3, with all tries: {n}");
        }
        assert_eq!(next(&outage(101, Duration::ZERO), &budget), Next::End, "rule 1");
    }

    #[test]
    fn rule_2_other_failures_in_an_outage_count_and_only_they() {
        let (error, budget) = (unavailable(), Budget::new());
        let other = |counted| Failure {
            counted,
            ..failure(&error, 50)
        };
        for counted in 1..=4 {
            assert!(matches!(next(&other(counted), &budget), Next::Wait(_)));
        }
        assert_eq!(next(&other(5), &budget), Next::End);
        assert_eq!((0..20).filter(|_| budget.retry()).count(), 6, "four were paid for");
    }

    #[test]
    fn rule_2_an_outage_is_unreachable_after_an_answer_and_nothing_else() {
        let lost = of(Code::Unavailable, UNREACHABLE);
        assert!(is_outage(&lost, true) && !is_outage(&lost, false));
        assert!(!is_outage(&unavailable(), true));
        assert!(!is_outage(&of(Code::Unavailable, "DRAINING"), true));
    }

    #[test]
    fn rule_3_waits_are_spread_evenly_up_to_two_seconds_and_begin_after_what_the_service_asks() {
        fastrand::seed(7);
        for (n, longest) in [
            (1, 50),
            (2, 100),
            (3, 200),
            (4, 400),
            (6, 1_600),
            (7, 2_000),
            (30, 2_000),
        ] {
            let longest = Duration::from_millis(longest);
            let waits: Vec<Duration> = (0..1_000).map(|_| full_jitter(n)).collect();
            assert!(waits.iter().all(|wait| *wait <= longest));
            let low = waits.iter().filter(|wait| **wait < longest / 4).count();
            let high = waits.iter().filter(|wait| **wait > longest * 3 / 4).count();
            assert!(
                (180..320).contains(&low) && (180..320).contains(&high),
                "{n}: {low}, {high}"
            );
        }
        let asked = Duration::from_millis(700);
        let mut error = of(Code::ResourceExhausted, "OVERLOADED");
        error.retry_after = Some(asked);
        let Next::Wait(wait) = next(&failure(&error, 1), &Budget::new()) else {
            panic!("it is tried again")
        };
        assert!(wait >= asked && wait <= asked + FIRST_WAIT);
    }

    #[test]
    fn rule_3_another_endpoint_is_tried_at_once_but_not_to_escape_overload() {
        let mut error = unavailable();
        fn elsewhere(error: &ClientError) -> Failure<'_> {
            Failure {
                another: true,
                ..failure(error, 1)
            }
        }
        assert_eq!(next(&elsewhere(&error), &Budget::new()), Next::Elsewhere);
        error.code = Code::ResourceExhausted;
        error.retry_after = Some(Duration::from_millis(10));
        assert!(matches!(next(&elsewhere(&error), &Budget::new()), Next::Wait(_)));
    }

    #[test]
    fn rule_1_a_wait_that_would_not_end_before_the_deadline_is_not_begun() {
        let mut error = of(Code::ResourceExhausted, "OVERLOADED");
        error.retry_after = Some(Duration::from_secs(3));
        let near = Failure {
            remaining: Duration::from_secs(3),
            ..failure(&error, 1)
        };
        let budget = Budget::new();
        assert_eq!(next(&near, &budget), Next::End);
        assert_eq!((0..20).filter(|_| budget.retry()).count(), 10, "it took nothing");
    }

    #[test]
    fn rule_4_without_budget_there_is_no_retry() {
        let budget = Budget::new();
        while budget.retry() {}
        assert_eq!(next(&failure(&unavailable(), 1), &budget), Next::NoBudget);
    }

    #[test]
    fn rule_8_a_refused_certificate_is_tried_again_if_it_changed() {
        let error = of(Code::Unauthenticated, "UNAUTHENTICATED");
        let changed = Failure {
            certificate_changed: true,
            ..failure(&error, 1)
        };
        assert_eq!(next(&changed, &Budget::new()), Next::Wait(Duration::ZERO));
    }
}
