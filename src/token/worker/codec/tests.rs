use super::{super::frame::Frames, *};

fn place() -> Place {
    Place {
        environment: EnvironmentId::from_bytes([1; 16]),
        key: KeyId::from_bytes([2; 16]),
        version: KeyVersion::new(7).unwrap(),
    }
}

fn frames_of(bytes: &[u8]) -> Frames {
    let mut frames = Frames::new();
    let mut left = bytes;
    frames.fill(|room| std::io::Read::read(&mut left, room)).unwrap();
    frames
}

fn calls() -> Vec<Call> {
    let blob = || Arc::new(Blob::new(vec![9; 198]));
    let input = |byte| EnvelopeInput {
        header: [byte; 32],
        salt: [byte + 1; 32],
        ec_hash: [byte + 2; 32],
    };
    vec![
        Call::EnvelopeKeys {
            blob: blob(),
            place: place(),
            inputs: vec![input(10), input(20)],
        },
        Call::Seal {
            blob: blob(),
            place: place(),
            inputs: [b"".as_slice(), b"hello"]
                .map(|plaintext| SealInput {
                    data_key: plaintext.is_empty(),
                    ec_hash: [3; 32],
                    plaintext: Plaintext::new(plaintext.to_vec()),
                })
                .into(),
        },
        Call::Open {
            blob: blob(),
            place: place(),
            inputs: vec![OpenInput {
                ec_hash: [3; 32],
                envelope: vec![5; 65],
            }]
            .into(),
        },
        Call::MakeEnvelopeKey {
            place: place(),
            suite: Suite::TokenGcm,
            residency: Residency::TokenResident,
            created_ms: 1_700_000_000_000,
        },
        Call::Attributes {
            blob: blob(),
            place: place(),
        },
        Call::Check {
            blob: blob(),
            place: place(),
        },
        Call::MasterKeyAttributes,
        Call::Random { length: 4096 },
        Call::Subkey(SubkeyLabel::Hedge),
        Call::Subkey(SubkeyLabel::Redact {
            log_origin: "a/audit/b/1".into(),
        }),
        Call::Remove { blob: blob() },
        Call::Evict { blob: [5; 32] },
        Call::Probe,
    ]
}

fn outcomes() -> Vec<Outcome> {
    let attributes = TokenAttributes {
        local: true,
        always_sensitive: false,
        never_extractable: true,
        sensitive: false,
        extractable: true,
        modifiable: false,
        copyable: true,
        observed: -5,
    };
    vec![
        Ok(Answer::EnvelopeKeys(vec![
            MessageKeys::from_prf_output(&[3; 64]),
            MessageKeys::from_prf_output(&[4; 64]),
        ])),
        Ok(Answer::MadeEnvelopeKey(Box::new(MadeKey {
            blob: Blob::new(vec![8; 198]),
            at_birth: attributes,
            iv_source: Some(IvSource::TokenRandom),
        }))),
        Ok(Answer::Sealed(vec![vec![1; 65], vec![2; 60]])),
        Ok(Answer::Opened(vec![
            Some(Plaintext::new(vec![1; 5])),
            None,
            Some(Plaintext::new(vec![])),
        ])),
        Ok(Answer::Attributes(attributes)),
        Ok(Answer::Random(Zeroizing::new(vec![6; 48]))),
        Ok(Answer::Subkey(SubkeyBytes::from_hmac_output(&[7; 64]))),
        Ok(Answer::Occupied),
        Ok(Answer::Done),
        Err(TokenError::Overloaded {
            retry_after: Duration::from_millis(250),
        }),
        Err(TokenError::KeyCeiling {
            retry_after: Duration::from_secs(3_600),
        }),
        Err(TokenError::Expired),
        Err(TokenError::Unavailable("gone".into())),
        Err(TokenError::Refused("no".into())),
        Err(TokenError::BlobTag),
        Err(TokenError::WrongAnswer("odd".into())),
    ]
}

#[test]
fn calls_and_outcomes_come_out_as_they_went_in() {
    let mut sent = Vec::new();
    for (id, call) in calls().iter().enumerate() {
        put_call(&mut sent, id as u64, call, Duration::from_micros(id as u64 + 7));
    }
    let (mut frames, mut again) = (frames_of(&sent), Vec::new());
    while let Some(frame) = frames.next().unwrap() {
        let id = frame.id;
        let (call, left) = call(frame).unwrap();
        put_call(&mut again, id, &call, left);
    }
    assert_eq!(sent, again);

    let mut sent = Vec::new();
    for (id, outcome) in outcomes().iter().enumerate() {
        put_outcome(&mut sent, id as u64, outcome, Duration::from_nanos(id as u64 + 7));
    }
    let (mut frames, mut again) = (frames_of(&sent), Vec::new());
    while let Some(frame) = frames.next().unwrap() {
        let id = frame.id;
        let (outcome, took) = outcome(frame).unwrap();
        put_outcome(&mut again, id, &outcome, took);
    }
    assert_eq!(sent, again);
}

#[test]
fn a_body_that_is_cut_or_too_long_is_no_call() {
    for call in calls() {
        let mut whole = Vec::new();
        put_call(&mut whole, 1, &call, Duration::from_secs(5));
        let (kind, body) = (whole[12], &whole[13..]);
        let parse = |body: &[u8]| super::call(Frame { id: 1, kind, body }).is_ok();
        assert!(parse(body));
        let open_ended = matches!(
            call,
            Call::EnvelopeKeys { .. } | Call::Subkey(SubkeyLabel::Redact { .. })
        );
        assert!(
            open_ended || !parse(&[body, &[0]].concat()),
            "kind {kind} with a byte more"
        );
        let text = matches!(call, Call::Subkey(SubkeyLabel::Redact { .. }));
        assert!(
            text || body.is_empty() || !parse(&body[..body.len() - 1]),
            "kind {kind}, cut"
        );
    }
}
