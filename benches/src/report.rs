//! The table people read and the file machines read: a flat list of `{"name", "value", "unit"}`.

use std::{fs, path::Path};

use serde::Serialize;

use crate::Failure;

#[derive(Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

/// A figure that has a bar to meet.
struct Bar {
    name: &'static str,
    most: bool,
    limit: f64,
}

/// Bars of the project: ratios to ceilings that were measured in the same run.
const BARS: [Bar; 23] = [
    Bar {
        name: "seal_stream_1_thread_over_raw_read",
        most: false,
        limit: 0.9,
    },
    Bar {
        name: "seal_writer_1_thread_over_raw",
        most: false,
        limit: 0.9,
    },
    Bar {
        name: "open_stream_1_thread_over_raw_read",
        most: false,
        limit: 0.9,
    },
    Bar {
        name: "seal_stream_all_cores_over_raw_read",
        most: false,
        limit: 0.9,
    },
    Bar {
        name: "open_stream_all_cores_over_raw_read",
        most: false,
        limit: 0.9,
    },
    Bar {
        name: "seal_1gib_peak_memory",
        most: true,
        limit: 64.0,
    },
    Bar {
        name: "encrypt_unary_over_ceiling",
        most: true,
        limit: 1.5,
    },
    Bar {
        name: "decrypt_unary_over_ceiling",
        most: true,
        limit: 1.5,
    },
    Bar {
        name: "generate_data_key_unary_over_ceiling",
        most: true,
        limit: 1.5,
    },
    Bar {
        name: "batch_cpu_per_item_over_raw",
        most: true,
        limit: 1.7,
    },
    Bar {
        name: "stream_cpu_over_raw",
        most: true,
        limit: 2.5,
    },
    Bar {
        name: "keys_100k_over_1k",
        most: true,
        limit: 1.1,
    },
    Bar {
        name: "slow_token_saturation",
        most: false,
        limit: 0.9,
    },
    Bar {
        name: "isolation_cpu_c16",
        most: true,
        limit: 1.25,
    },
    Bar {
        name: "isolation_cpu_c64",
        most: true,
        limit: 1.25,
    },
    Bar {
        name: "kill_client_errors",
        most: true,
        limit: 0.0,
    },
    Bar {
        name: "kill_worst_latency",
        most: true,
        limit: 100.0,
    },
    Bar {
        name: "hung_call_beyond_deadline",
        most: true,
        limit: 50.0,
    },
    Bar {
        name: "overload_goodput_over_peak",
        most: false,
        limit: 0.9,
    },
    Bar {
        name: "overload_p99_over_p99_at_1x",
        most: true,
        limit: 3.0,
    },
    Bar {
        name: "victim_share_of_fair",
        most: false,
        limit: 0.9,
    },
    Bar {
        name: "two_tokens_over_one",
        most: false,
        limit: 1.8,
    },
    Bar {
        name: "failover_failed_calls",
        most: true,
        limit: 0.0,
    },
];

#[derive(Default)]
pub struct Report(Vec<Figure>);

impl Report {
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.0.push(Figure {
            name: name.into(),
            value: (value * 1000.0).round() / 1000.0,
            unit,
        });
    }

    pub fn write(&self, file: &Path) -> Result<(), Failure> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(fs::write(file, serde_json::to_string_pretty(&self.0)? + "\n")?)
    }

    pub fn print(&self) {
        println!("{:<58} {:>12}  {:<8} bar", "figure", "value", "unit");
        for figure in &self.0 {
            let bar = BARS
                .iter()
                .find(|bar| bar.name == figure.name)
                .map_or_else(String::new, |bar| {
                    let met = if bar.most {
                        figure.value <= bar.limit
                    } else {
                        figure.value >= bar.limit
                    };
                    format!(
                        "{} {} {}",
                        if bar.most { "≤" } else { "≥" },
                        bar.limit,
                        if met { "met" } else { "MISSED" }
                    )
                });
            println!("{:<58} {:>12.3}  {:<8} {bar}", figure.name, figure.value, figure.unit);
        }
    }
}
