//! Load with a ledger: callers that work without a pause until the server is gone, and write down every answer they got.
//!
//! The ledger is the promise: what is in it was acknowledged, so it must hold after any crash. What was on its way when the
//! server died is not in it, and may have happened or not.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use keyreeve_proto::v1 as proto;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::log::Record;
use super::{Client, PATIENCE, TestServer, answer, key_name, pairs, team_name, with_id};

/// One acknowledged operation.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// The request id of its record.
    pub id: String,
    /// How many records it has: one for each key.
    pub records: usize,
    /// What came back, and opens to what.
    pub result: Result,
}

#[derive(Debug, Clone)]
pub enum Result {
    /// A message's envelope, and its plaintext.
    Message(&'static str, Vec<u8>, Vec<u8>),
    /// A data key's envelope, and the data key.
    DataKey(&'static str, Vec<u8>, Vec<u8>),
    /// A key that was made, and a ciphertext under it if one was acknowledged, too.
    Key(String, Option<(Vec<u8>, Vec<u8>)>),
    Nothing,
}

/// Callers at work.
pub struct Load {
    tasks: JoinSet<Vec<Acknowledged>>,
    done: Arc<AtomicUsize>,
    progress: Arc<Notify>,
}

/// The keys that the load uses. Made once by `prepare`.
const KEYS: [&str; 2] = ["dev/shop/loaded-1", "dev/shop/loaded-2"];

/// Makes the keys of the load.
pub async fn prepare(server: &TestServer) {
    let admin = server.admin().await;
    for key in KEYS {
        admin.create_key(key).await.unwrap();
    }
}

impl Load {
    /// `name` makes the request ids unique; `callers` connections, each with several calls under way.
    pub async fn start(server: &TestServer, name: &str, callers: usize) -> Self {
        const UNDER_WAY: usize = 4;
        let mut load = Self {
            tasks: JoinSet::new(),
            done: Arc::default(),
            progress: Arc::default(),
        };
        for caller in 0..callers {
            let client = server.admin().await;
            for lane in 0..UNDER_WAY {
                let (client, name) = (client.clone(), format!("{name}-{caller}-{lane}"));
                let (done, progress) = (load.done.clone(), load.progress.clone());
                load.tasks.spawn(async move {
                    let mut ledger = Vec::new();
                    for turn in 0.. {
                        let Ok(acknowledged) = work(&client, &name, turn).await else {
                            break;
                        };
                        ledger.push(acknowledged);
                        done.fetch_add(1, Ordering::Relaxed);
                        progress.notify_one();
                    }
                    ledger
                });
            }
        }
        load
    }

    /// Waits until so many operations were acknowledged.
    pub async fn acknowledged(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.done.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < end, "the load does not get on");
            let _ = tokio::time::timeout(PATIENCE, self.progress.notified()).await;
        }
    }

    /// The ledger, once the server is gone and every caller has noticed.
    pub async fn ledger(self) -> Vec<Acknowledged> {
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

/// So many encryptions, one after the other, on a server that stays.
pub async fn calls_without_a_change(server: &TestServer, name: &str, count: usize) -> Vec<Acknowledged> {
    let client = server.admin().await;
    let mut ledger = Vec::new();
    for turn in 0..count {
        ledger.push(work(&client, name, turn * 10).await.unwrap());
    }
    ledger
}

/// One operation; each kind comes up in turn. Errors end the caller: the server is gone.
pub async fn work(client: &Client, name: &str, turn: usize) -> super::Outcome<Acknowledged> {
    let id = format!("{name}-{turn}");
    let key = KEYS[turn % KEYS.len()];
    let context = [("turn", id.as_str())];
    let mut records = 1;
    let result = match turn % 10 {
        3 => {
            let request = proto::GenerateDataKeyRequest {
                name: key_name(key),
                encryption_context: pairs(&context),
                ..Default::default()
            };
            let made = answer(client.crypto().generate_data_key(with_id(request, &id)).await)?;
            Result::DataKey(key, made.ciphertext.to_vec(), made.plaintext.to_vec())
        }
        1 | 5 | 9 => {
            let request = proto::CreateKeyRequest {
                parent: team_name("dev/shop"),
                key_id: format!("made-{id}"),
                ..Default::default()
            };
            answer(client.keys().create_key(with_id(request, &id)).await)?;
            let key = format!("dev/shop/made-{id}");
            let plaintext = format!("first of {id}").into_bytes();
            // Under an id that nobody counts: it is the key that is promised here, and what it sealed.
            let sealed = client.encrypt(&key, &plaintext, &context).await.ok();
            Result::Key(key, sealed.map(|sealed| (sealed, plaintext)))
        }
        7 => {
            let request = proto::GetKeyRequest { name: key_name(key) };
            answer(client.keys().get_key(with_id(request, &id)).await)?;
            Result::Nothing
        }
        8 => {
            let sealed = client.encrypt(key, id.as_bytes(), &context).await?;
            let request = proto::ReEncryptRequest {
                source_name: key_name(key),
                ciphertext: sealed.into(),
                source_encryption_context: pairs(&context),
                destination_name: key_name(KEYS[0]),
                destination_encryption_context: pairs(&context),
                ..Default::default()
            };
            let moved = answer(client.crypto().re_encrypt(with_id(request, &id)).await)?;
            records = 2;
            Result::Message(KEYS[0], moved.ciphertext.to_vec(), id.clone().into_bytes())
        }
        _ => {
            let request = proto::EncryptRequest {
                name: key_name(key),
                plaintext: id.clone().into_bytes().into(),
                encryption_context: pairs(&context),
                ..Default::default()
            };
            let made = answer(client.crypto().encrypt(with_id(request, &id)).await)?;
            Result::Message(key, made.ciphertext.to_vec(), id.clone().into_bytes())
        }
    };
    Ok(Acknowledged { id, records, result })
}

/// Whether every promise of the ledger holds on the server that runs now: what was sealed opens, what was made is there, and
/// the log has each operation exactly once. And whether store and log agree, acknowledged or not: no key without the record
/// of its creation, no such record without the key. The answer says what does not hold.
pub async fn check(server: &TestServer, ledger: &[Acknowledged]) -> std::result::Result<(), String> {
    let admin = server.admin().await;
    let mut broken = Vec::new();
    let mut count: HashMap<String, usize> = HashMap::new();
    let records = server.records();
    let created: HashSet<&str> = records
        .iter()
        .filter(|record| record.operation() == "CreateKey" && record.result() == "success")
        .map(Record::key_id)
        .collect();
    let stored = key_ids(&admin, "dev/shop").await;
    for id in &stored {
        if !created.contains(id.as_str()) {
            broken.push(format!(
                "the key {id} is in the store, and the log does not know of its creation"
            ));
        }
    }
    for id in created.iter().filter(|id| !stored.contains(**id)) {
        broken.push(format!(
            "the key {id} was created, says the log, and is not in the store"
        ));
    }
    for record in &records {
        if record.result() == "success" {
            *count.entry(record.request().to_owned()).or_default() += 1;
        }
    }
    for promise in ledger {
        let records = count.get(&promise.id).copied().unwrap_or_default();
        if records != promise.records {
            broken.push(format!("{}: {records} records, not {}", promise.id, promise.records));
        }
    }
    for chunk in ledger.chunks(500) {
        for key in KEYS {
            broken.extend(messages_that_do_not_open(&admin, key, chunk).await);
            broken.extend(data_keys_that_do_not_open(&admin, key, chunk).await);
        }
    }
    for promise in ledger {
        let Result::Key(key, sealed) = &promise.result else {
            continue;
        };
        if let Err(fault) = admin.key(key).await {
            broken.push(format!("{key}: {fault:?}"));
        } else if let Some((sealed, plaintext)) = sealed {
            let opened = admin.decrypt(key, sealed, &[("turn", &promise.id)]).await;
            if opened.as_ref() != Ok(plaintext) {
                broken.push(format!("{key}: {:?}", opened.map(drop)));
            }
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    broken.truncate(10);
    Err(broken.join("\n"))
}

/// The ids of all keys of a team. In the load's servers no other team has keys.
async fn key_ids(client: &Client, team: &str) -> HashSet<String> {
    let mut ids = HashSet::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListKeysRequest {
            parent: team_name(team),
            page_size: 1_000,
            page_token,
        };
        let page = answer(client.keys().list_keys(request).await).unwrap();
        ids.extend(page.keys.into_iter().map(|key| key.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
}

async fn messages_that_do_not_open(client: &Client, key: &str, ledger: &[Acknowledged]) -> Vec<String> {
    let promises: Vec<_> = ledger
        .iter()
        .filter_map(|promise| match &promise.result {
            Result::Message(of, sealed, plaintext) if *of == key => Some((&promise.id, sealed, plaintext)),
            _ => None,
        })
        .collect();
    if promises.is_empty() {
        return Vec::new();
    }
    let item = |(id, sealed, _): &(&String, &Vec<u8>, &Vec<u8>)| proto::batch_decrypt_request::Item {
        ciphertext: (*sealed).clone().into(),
        encryption_context: pairs(&[("turn", id)]),
        ..Default::default()
    };
    let request = proto::BatchDecryptRequest {
        name: key_name(key),
        items: promises.iter().map(item).collect(),
    };
    let results = match answer(client.crypto().batch_decrypt(request).await) {
        Ok(answer) => answer.results,
        Err(fault) => return vec![format!("{key}: {fault:?}")],
    };
    use proto::batch_decrypt_response::result::Result::Success;
    let opens = |result: &proto::batch_decrypt_response::Result, plaintext: &[u8]| matches!(&result.result, Some(Success(opened)) if opened.plaintext == plaintext);
    promises
        .iter()
        .zip(&results)
        .filter(|((_, _, plaintext), result)| !opens(result, plaintext))
        .map(|((id, _, _), _)| format!("{id}: its ciphertext does not open"))
        .collect()
}

async fn data_keys_that_do_not_open(client: &Client, key: &str, ledger: &[Acknowledged]) -> Vec<String> {
    let mut broken = Vec::new();
    for promise in ledger {
        let Result::DataKey(of, envelope, plain) = &promise.result else {
            continue;
        };
        if *of == key
            && client
                .unwrap_data_key(key, envelope, &[("turn", &promise.id)])
                .await
                .as_ref()
                != Ok(plain)
        {
            broken.push(format!("{}: its data key does not open", promise.id));
        }
    }
    broken
}
