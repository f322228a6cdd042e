//! `tokens status`. What a token can and enforces is told by `doctor`, on its host.

use clap::Subcommand;
use keyreeve_client::v1;

use super::{
    connection::Connection,
    failure::{Failure, Outcome},
    output::{self, Format},
    status::TokenView,
};

#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Shows the service's tokens and whether they serve
    #[command(after_help = "Example:\n  keyreeve tokens status\n\nExit code 1 if one does not serve.")]
    Status {
        #[command(flatten)]
        connection: Connection,
    },
}

impl Tokens {
    pub async fn run(self, format: Format) -> Outcome {
        match self {
            Self::Status { connection } => status(format, connection).await,
        }
    }
}

async fn status(format: Format, connection: Connection) -> Outcome {
    let answer = connection.open().await?.get_status(v1::GetStatusRequest {}).await?;
    let tokens: Vec<TokenView> = answer.tokens.into_iter().map(TokenView::from).collect();
    output::print(format, &tokens)?;
    if tokens.iter().all(|token| token.serving) {
        return Ok(());
    }
    Err(Failure::failed(
        "a token does not serve: `keyreeve doctor` on its host tells why",
    ))
}
