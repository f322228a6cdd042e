//! Figures of one cell over its rounds: the median counts.

use std::collections::BTreeMap;

/// One measurement of one server.
pub struct Run {
    pub cpu_us: f64,
    pub rate: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub errors: f64,
}

/// By name of the cell.
#[derive(Default)]
pub struct Medians(pub BTreeMap<String, Vec<Run>>);

impl Medians {
    pub fn add(&mut self, cell: &str, run: Run) {
        eprintln!("{cell:<32} {:>8.2} us/op {:>9.0} op/s", run.cpu_us, run.rate);
        self.0.entry(cell.to_owned()).or_default().push(run);
    }

    pub fn cpu(&self, cell: &str) -> f64 {
        median(self.0.get(cell).into_iter().flatten().map(|run| run.cpu_us))
    }

    pub fn rate(&self, cell: &str) -> f64 {
        median(self.0.get(cell).into_iter().flatten().map(|run| run.rate))
    }
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
