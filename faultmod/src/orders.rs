//! The side of the module: connects to the controller, waits for the first order, then obeys on a thread of its own.

use crate::engine::{Engine, engine};
use crate::wire::{Answer, Command, Hello, Line, Order, PATIENCE};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Connects, says hello and obeys the first order, which must be a schedule.
pub fn connect(path: &Path, engine: &mut Engine) -> io::Result<Line> {
    let mut line = Line::over(UnixStream::connect(path)?);
    line.stream().set_read_timeout(Some(PATIENCE))?;
    line.send(&Hello {
        pid: std::process::id(),
    })?;
    let command: Command = serde_json::from_str(&line.receive()?)?;
    let Order::Schedule { connected, .. } = command.order else {
        return Err(io::Error::other("the controller's first order was not a schedule"));
    };
    engine.connected = Some(connected);
    let answer = obey(engine, command);
    line.send(&answer)?;
    match answer.error {
        Some(error) => Err(io::Error::other(error)),
        None => Ok(line),
    }
}

/// Obeys until the controller goes away; then everything stays as it is.
pub fn listen(mut line: Line) -> io::Result<()> {
    line.stream().set_read_timeout(None)?;
    std::thread::Builder::new()
        .name("faultmod-control".to_owned())
        .spawn(move || {
            while let (Ok(text), Some(engine)) = (line.receive(), engine()) {
                let answer = match serde_json::from_str::<Command>(&text) {
                    Ok(command) => obey(engine, command),
                    Err(error) => Answer {
                        error: Some(format!("not an order: {error}")),
                        ..Answer::default()
                    },
                };
                if line.send(&answer).is_err() {
                    break;
                }
            }
        })?;
    Ok(())
}

fn obey(engine: &Engine, command: Command) -> Answer {
    let mut answer = Answer {
        id: command.id,
        ..Answer::default()
    };
    match command.order {
        Order::Schedule { schedule, .. } => match schedule.check() {
            Ok(()) => engine.arm(Some(schedule)),
            Err(error) => answer.error = Some(error.to_string()),
        },
        Order::Clear => engine.arm(None),
        Order::Release => engine.gate.open(),
        Order::Counts => answer.counts = Some(engine.counts()),
    }
    answer
}
