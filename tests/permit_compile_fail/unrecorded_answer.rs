// fails: E0308
//! What goes to the wire is taken out of a record; an answer that was not recorded does not fit.
use keyreeve::{operations::Sealed, policy::Recorded};

fn to_the_wire(_: Recorded<Sealed>) {}

fn misuse(sealed: Sealed) {
    to_the_wire(sealed);
}
