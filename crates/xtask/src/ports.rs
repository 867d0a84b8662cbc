//! Free ports instead of those in a file or an example.

use std::{collections::BTreeMap, net::TcpListener, process};

use crate::run::Failure;

/// In front of every port.
const HOST: &str = "127.0.0.1:";

/// Below the ports that systems give to outgoing connections, so that no client takes one while its
/// node is down.
const FIRST: u32 = 12_000;
/// How many there are to choose from.
const COUNT: u32 = 20_000;
/// How many are tried for one.
const ATTEMPTS_MAX: u32 = 2_000;
/// How far apart the first ports of two programs are that run at the same time.
const STRIDE: u32 = 101;

/// Puts free ports in the places of those that are written; the same for the same.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    free: BTreeMap<String, String>,
    /// Held until all are known, so that none is given out twice.
    held: Vec<TcpListener>,
    tried: u32,
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
        let start = process::id().wrapping_mul(STRIDE);
        for _ in 0..ATTEMPTS_MAX {
            let offset = start.wrapping_add(self.tried) % COUNT;
            self.tried += 1;
            let free = format!("{HOST}{}", FIRST + offset);
            if let Ok(listener) = TcpListener::bind(&free) {
                self.held.push(listener);
                self.free.insert(port.to_owned(), free.clone());
                return Ok(free);
            }
        }
        let last = FIRST + COUNT - 1;
        Err(Failure::new(format!("no free port among {ATTEMPTS_MAX} from {FIRST} to {last}")))
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
