//! The token ceiling: single-call HMAC-SHA-512 with a 64-byte session key over a 111-byte message, buffers preallocated, one session a thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use keyreeve_pkcs11::{Access, Mechanism, Module, Pin, Selector, Session, presets};

use crate::{Failure, load::wait_for_go, token::Token};

#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    token: Token,
    #[arg(long)]
    threads: usize,
    #[arg(long)]
    milliseconds: u64,
}

/// Says `ready`; for each `go` on standard input works for the given time and prints the number of calls; ends with its input.
pub fn run(options: &Options) -> Result<(), Failure> {
    let token = &options.token;
    let module = Arc::new(Module::load(&token.module)?);
    let slot = module.select(&Selector::Label(token.label.clone()))?.slot;
    let keeper = Session::open(&module, slot, Access::ReadWrite)?;
    let pin = std::fs::read(&token.pin_file)?;
    keeper.login(&Pin::new(zeroize::Zeroizing::new(pin.trim_ascii_end().to_vec())))?;
    let key = keeper.generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &presets::version_key_at_birth())?;
    println!("ready");
    while wait_for_go()? {
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..options.threads)
            .map(|_| {
                let (stop, session) = (stop.clone(), Session::open(&module, slot, Access::ReadOnly)?);
                Ok(thread::spawn(move || -> Result<u64, keyreeve_pkcs11::CallError> {
                    let (message, mut tag, mut calls) = ([7; 111], [0; 64], 0);
                    while !stop.load(Ordering::Relaxed) {
                        session.hmac_sha512_into(key, &message, &mut tag)?;
                        calls += 1;
                    }
                    Ok(calls)
                }))
            })
            .collect::<Result<_, Failure>>()?;
        thread::sleep(Duration::from_millis(options.milliseconds));
        stop.store(true, Ordering::Relaxed);
        let mut calls = 0;
        for worker in workers {
            calls += worker.join().map_err(|_| "a raw worker panicked")??;
        }
        println!("{calls}");
    }
    drop(keeper);
    module.finalize()?;
    Ok(())
}
