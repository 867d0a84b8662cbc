//! Free ports instead of those in a file or an example.

use std::{collections::BTreeMap, net::TcpListener};

use crate::run::Failure;

/// In front of every port.
const HOST: &str = "127.0.0.1:";

/// Puts free ports in the places of those that are written; the same for the same.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    free: BTreeMap<String, String>,
    /// Held until all are known, so that none is given out twice.
    held: Vec<TcpListener>,
}

impl Ports {
    pub(crate) fn replace(&mut self, text: &str) -> Result<String, Failure> {
        let mut pieces = text.split(HOST);
        let mut replaced = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let end = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
            let (port, rest) = piece.split_at(end);
            replaced.push_str(&self.free_instead_of(port)?);
            replaced.push_str(rest);
        }
        Ok(replaced)
    }

    fn free_instead_of(&mut self, port: &str) -> Result<String, Failure> {
        if let Some(free) = self.free.get(port) {
            return Ok(free.clone());
        }
        let failed = |error: std::io::Error| Failure::new(format!("no free port: {error}"));
        let listener = TcpListener::bind((HOST.trim_end_matches(':'), 0)).map_err(failed)?;
        let free = listener.local_addr().map_err(failed)?.to_string();
        self.held.push(listener);
        self.free.insert(port.to_owned(), free.clone());
        Ok(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_gets_a_free_one_and_the_same_one_again() {
        let mut ports = Ports::default();
        let first = ports.replace("\"tcp://127.0.0.1:5551\"\n# at 127.0.0.1\n").unwrap();
        let second = ports.replace("a=127.0.0.1:5552,b=127.0.0.1:5551").unwrap();

        let (_, rest) = first.split_once(HOST).unwrap();
        let (port, rest) = rest.split_once('"').unwrap();
        assert_ne!(port, "5551");
        assert_eq!(rest, "\n# at 127.0.0.1\n");
        assert!(second.ends_with(&format!(",b={HOST}{port}")), "{second}");
        assert!(!second.starts_with(&format!("a={HOST}{port},")), "{second}");
    }
}
