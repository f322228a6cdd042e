// fails: E0423
//! Only completing a permit makes a `Recorded`.
use keyreeve::policy::Recorded;

fn misuse(answer: u64) -> Recorded<u64> {
    Recorded(answer)
}
