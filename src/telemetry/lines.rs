//! One line per event, made of allowed fields only.

use std::fmt::{self, Write as _};

use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::FIELDS;

/// The layer that writes lines.
pub struct Lines<W> {
    json: bool,
    write: W,
}

impl<W: Fn(&str) + 'static> Lines<W> {
    pub fn new(json: bool, write: W) -> Self {
        Self { json, write }
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&str) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Allowed::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Allowed>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if !ours(metadata.target()) && *metadata.level() > Level::WARN {
            return;
        }
        let mut fields = Allowed::default();
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root().filter(|span| ours(span.metadata().target())) {
                if let Some(outer) = span.extensions().get::<Allowed>() {
                    fields.fields.extend(outer.fields.iter().cloned());
                }
            }
        }
        event.record(&mut fields);
        let time = crate::clock::Clock::now(&crate::clock::SystemClock).rfc3339();
        let line = if self.json {
            fields.json(&time, metadata.level(), metadata.target())
        } else {
            fields.text(&time, metadata.level(), metadata.target())
        };
        (self.write)(&line);
    }
}

fn ours(target: &str) -> bool {
    target.starts_with("keyreeve")
}

/// The message and the allowed fields of an event or a span; everything else was dropped on the way in.
#[derive(Default)]
struct Allowed {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Allowed {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name();
        if name == "message" {
            self.message = match value.into() {
                Value::String(text) => text,
                other => other.to_string(),
            };
        } else if FIELDS.contains(&name) {
            let value = value.into();
            match self.fields.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => self.fields.push((name, value)),
            }
        }
    }

    fn json(self, time: &str, level: &Level, target: &str) -> String {
        let mut object = serde_json::Map::new();
        object.insert("time".to_owned(), time.into());
        object.insert("level".to_owned(), level.as_str().to_ascii_lowercase().into());
        object.insert("target".to_owned(), target.into());
        object.insert("message".to_owned(), self.message.into());
        for (name, value) in self.fields {
            object.insert(name.to_owned(), value);
        }
        format!("{}\n", Value::Object(object))
    }

    fn text(self, time: &str, level: &Level, target: &str) -> String {
        let mut line = format!("{time} {level:5} {target}: {}", one_line(&self.message));
        for (name, value) in self.fields {
            // Text values are quoted as JSON: a line break in one cannot start a line of its own.
            let _ = write!(line, " {name}={value}");
        }
        line.push('\n');
        line
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl Visit for Allowed {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // The allowlist is asked first: a field that is dropped is not even formatted.
        if field.name() == "message" || FIELDS.contains(&field.name()) {
            self.put(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, chain(value));
    }
}

/// An error and its causes on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn logged(json: bool, work: impl FnOnce()) -> String {
        let text = Arc::new(Mutex::new(String::new()));
        let sink = text.clone();
        let lines = Lines::new(json, move |line: &str| sink.lock().unwrap().push_str(line));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), work);
        Arc::into_inner(text).expect("the layer is gone").into_inner().unwrap()
    }

    #[test]
    fn a_field_that_is_not_allowed_does_not_reach_the_line() {
        for json in [true, false] {
            let text = logged(json, || {
                tracing::info!(request_id = "r-1", plaintext = "CANARY", body = ?b"CANARY", "worked");
            });
            assert!(text.contains("r-1") && text.contains("worked"), "{text}");
            assert!(!text.contains("CANARY") && !text.contains("67, 65"), "{text}");
            assert!(!text.contains("plaintext"), "{text}");
        }
    }

    #[test]
    fn fields_of_spans_come_along_filtered() {
        let text = logged(true, || {
            let span = tracing::info_span!("rpc", request_id = "r-2", secret = "CANARY");
            let _inside = span.enter();
            tracing::warn!(code = "INTERNAL", "failed");
        });
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["request_id"], "r-2");
        assert_eq!(line["code"], "INTERNAL");
        assert_eq!(line["level"], "warn");
        assert!(!text.contains("CANARY"));
    }

    #[test]
    fn other_crates_speak_only_when_something_is_wrong() {
        let text = logged(true, || {
            tracing::debug!(target: "h2::codec", "frame CANARY");
            tracing::warn!(target: "h2::codec", "odd frame");
        });
        assert!(!text.contains("CANARY") && text.contains("odd frame"));
    }

    #[test]
    fn a_line_break_in_a_value_does_not_forge_a_line() {
        let text = logged(false, || tracing::info!(path = "a\nERROR forged", "one\ntwo"));
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
