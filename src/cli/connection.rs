//! How client commands reach the service: four settings, from the environment or the command line.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use keyreeve_client::{Client, ClientConfig};

use super::failure::Failure;

/// Where the service is, and who we are. Paths only: no key is ever an argument.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Address of the service, https://host:port; several with commas between them
    #[arg(long, env = "KEYREEVE_ADDR", hide_env_values = true)]
    addr: Option<String>,
    /// Authorities of the server's certificate (PEM)
    #[arg(long, env = "KEYREEVE_CA", hide_env_values = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Own certificate (PEM)
    #[arg(long, env = "KEYREEVE_CERT", hide_env_values = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long = "key", env = "KEYREEVE_KEY", hide_env_values = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Seconds a call may take
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60), value_name = "SECONDS")]
    deadline: u64,
}

impl Connection {
    pub async fn open(self) -> Result<Client, Failure> {
        Ok(Client::connect(self.config()?).await?)
    }

    fn config(self) -> Result<ClientConfig, Failure> {
        let (Some(addr), Some(ca), Some(cert), Some(key)) = (&self.addr, &self.ca, &self.cert, &self.key) else {
            return Err(Failure::usage(format!(
                "not told how to reach the service: {} not set (`keyreeve dev` starts one and prints all four)",
                self.missing().join(", ")
            )));
        };
        let mut config = ClientConfig::new(addr, ca, cert, key);
        config.deadline = Duration::from_secs(self.deadline);
        Ok(config)
    }

    fn missing(&self) -> Vec<&'static str> {
        let settings = [
            ("KEYREEVE_ADDR", self.addr.is_some()),
            ("KEYREEVE_CA", self.ca.is_some()),
            ("KEYREEVE_CERT", self.cert.is_some()),
            ("KEYREEVE_KEY", self.key.is_some()),
        ];
        settings.iter().filter(|(_, set)| !set).map(|(name, _)| *name).collect()
    }
}
