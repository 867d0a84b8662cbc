//! What a worker of the library says of its registrations, in its log.

use std::fmt;

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// How the library says that a node has taken a worker, and that a registration has ended.
const REGISTERED: &str = "registered";
const OVER: &str = "registration over";

/// One thing that a worker said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationEvent {
    /// A node acknowledged it.
    Registered {
        /// The node, by its address.
        endpoint: String,
    },
    /// Its registration ended.
    Over {
        /// Why, in the library's words.
        why: String,
    },
}

/// Listens to the log of the thread that it is made the default of.
pub fn registration_log(
    on_event: impl Fn(RegistrationEvent) + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync {
    Listener(on_event)
}

struct Listener<F>(F);

impl<F: Fn(RegistrationEvent) + 'static> Subscriber for Listener<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("mdp_client") && *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let Text { message, endpoint, why } = text;
        match message.as_str() {
            REGISTERED => (self.0)(RegistrationEvent::Registered { endpoint }),
            OVER => (self.0)(RegistrationEvent::Over { why }),
            _ => {}
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of an event.
#[derive(Default)]
struct Text {
    message: String,
    endpoint: String,
    why: String,
}

impl Text {
    fn field(&mut self, name: &str) -> Option<&mut String> {
        match name {
            "message" => Some(&mut self.message),
            "endpoint" => Some(&mut self.endpoint),
            "why" => Some(&mut self.why),
            _ => None,
        }
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(text) = self.field(field.name()) {
            value.clone_into(text);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if let Some(text) = self.field(field.name()) {
            *text = format!("{value:?}").trim_matches('"').to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn log_of_the_library_is_understood() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = registration_log({
            let seen = Arc::clone(&seen);
            move |event| seen.lock().unwrap().push(event)
        });

        tracing::subscriber::with_default(log, || {
            let endpoint = "tcp://a:1";
            tracing::info!(target: "mdp_client::worker", endpoint, "registered");
            tracing::info!(target: "mdp_client::worker", why = "x", "registration over");
            tracing::debug!(target: "mdp_client::worker", endpoint, "registered");
            tracing::info!(target: "elsewhere", endpoint, "registered");
        });

        let registered = RegistrationEvent::Registered { endpoint: "tcp://a:1".to_owned() };
        let over = RegistrationEvent::Over { why: "x".to_owned() };
        assert_eq!(*seen.lock().unwrap(), [registered, over]);
    }
}
