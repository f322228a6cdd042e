//! A client against services in this process that answer what a test says: slow, overloaded, draining, gone, back. The rules are those of
//! `docs/clients.md`.

#![allow(clippy::unwrap_used)] // all of this is a test

#[path = "scripted/calls.rs"]
mod calls;
#[path = "scripted/certificates.rs"]
mod certificates;
#[path = "scripted/endpoints.rs"]
mod endpoints;
#[path = "scripted/hedging.rs"]
mod hedging;
#[path = "scripted/outage.rs"]
mod outage;
#[path = "scripted/pipelining.rs"]
mod pipelining;
#[path = "scripted/service.rs"]
mod service;
#[path = "scripted/watching.rs"]
mod watching;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use certificates::Authority;
use keyreeve_client::{Client, ClientConfig, EventName, v1};
use service::Service;
use tempfile::TempDir;

/// Services, the certificate of a caller in a directory, and what his client told.
struct World {
    authority: Arc<Authority>,
    directory: TempDir,
    told: Arc<Mutex<Vec<Told>>>,
}

/// What is kept of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    name: EventName,
    reason: String,
    tries: u32,
    wait: Option<Duration>,
}

impl World {
    fn new() -> Self {
        let (authority, directory) = (Authority::new(), TempDir::new().unwrap());
        authority.leaf().write(directory.path());
        std::fs::write(directory.path().join("ca.pem"), &authority.pem).unwrap();
        Self {
            authority: Arc::new(authority),
            directory,
            told: Arc::default(),
        }
    }

    async fn service(&self) -> Service {
        Service::start(&self.authority).await
    }

    fn config(&self, services: &[&Service]) -> ClientConfig {
        let urls: Vec<String> = services.iter().map(|service| service.url()).collect();
        let file = |name: &str| self.directory.path().join(name);
        let told = self.told.clone();
        ClientConfig::new(urls.join(","), file("ca.pem"), file("own.pem"), file("own.key")).on_event(move |event| {
            told.lock().unwrap().push(Told {
                name: event.name,
                reason: event.reason.to_owned(),
                tries: event.tries,
                wait: event.wait,
            });
        })
    }

    async fn client(&self, services: &[&Service]) -> Client {
        Client::connect(self.config(services)).await.unwrap()
    }

    fn told(&self, name: EventName) -> Vec<Told> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|event| event.name == name).cloned().collect()
    }
}

fn encrypt() -> v1::EncryptRequest {
    v1::EncryptRequest {
        name: "envs/dev/teams/shop/keys/orders".into(),
        plaintext: "hello".into(),
        ..Default::default()
    }
}
