// fails: E0277
//! Actions are those of the table.
use keyreeve::policy::{Action, System};

enum Everything {}

impl Action for Everything {
    type On = System;
    const NAME: &'static str = "Everything";
    const CHANGES: bool = false;
}
