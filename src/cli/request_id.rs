//! `--request-id`: the same id and request from the same caller answers the same for 24 h, so a retry is safe.

use clap::Args;
use uuid::Uuid;

#[derive(Debug, Args)]
pub struct RequestId {
    /// A UUID of your own: give the same one when you try again, and nothing happens twice
    #[arg(long, value_name = "UUID")]
    request_id: Option<Uuid>,
}

impl RequestId {
    /// The caller's id, or a new one.
    pub fn text(&self) -> String {
        self.request_id.unwrap_or_else(Uuid::new_v4).to_string()
    }
}
