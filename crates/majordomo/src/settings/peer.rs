//! `cluster.peers`: the constant list of nodes from which a cluster begins.

use std::fmt;

use mdp_catalog::NodeName;

use super::address;

/// What is right for `cluster.peers`, to follow "use".
pub(crate) const WANTED: &str = "a list of NAME=HOST:PORT, one for each node, this one included, each at an address that the \
     others can connect to (not *, 0.0.0.0, [::] or port 0)";

/// One node of `cluster.peers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: NodeName,
    /// Its cluster address, with `tcp://`.
    pub(crate) endpoint: String,
}

/// Without `tcp://`, as a person writes it.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.endpoint.trim_start_matches("tcp://"))
    }
}

/// Reads a list in which every name and every address is there once; an error says what is wanted.
pub(crate) fn read(items: &[String]) -> Result<Vec<Peer>, String> {
    let mut peers: Vec<Peer> = Vec::with_capacity(items.len());
    for item in items {
        let peer = read_one(item).ok_or_else(|| format!("{WANTED}; {item:?} is not one"))?;
        if let Some(other) = peers.iter().find(|other| other.name == peer.name) {
            return Err(format!(
                "{WANTED}; \"{other}\" and \"{peer}\" have the same name: give each node its own"
            ));
        }
        if let Some(other) = peers.iter().find(|other| other.endpoint == peer.endpoint) {
            return Err(format!(
                "{WANTED}; \"{other}\" and \"{peer}\" have the same address: give each node its own"
            ));
        }
        peers.push(peer);
    }
    Ok(peers)
}

fn read_one(item: &str) -> Option<Peer> {
    let (name, at) = item.split_once('=')?;
    let name = name.trim().parse().ok()?;
    let endpoint = address::advertise(at.trim()).ok()?;
    Some(Peer { name, endpoint })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_texts(items: &[&str]) -> Result<Vec<Peer>, String> {
        read(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn tcp_is_optional_and_blanks_do_not_count() {
        let peers = read_texts(&["a=h:1", "b = tcp://[::1]:2"]).unwrap();

        assert_eq!(peers.iter().map(Peer::to_string).collect::<Vec<_>>(), ["a=h:1", "b=[::1]:2"]);
        assert_eq!(peers[1].endpoint, "tcp://[::1]:2");
    }

    #[test]
    fn entries_that_others_cannot_use_are_named() {
        for bad in
            ["a", "a=", "=h:1", "a b=h:1", "a=h", "a=h:0", "a=*:1", "a=0.0.0.0:1", "a=[::]:1"]
        {
            assert_eq!(read_texts(&["x=h:9", bad]), Err(format!("{WANTED}; {bad:?} is not one")));
        }
    }

    #[test]
    fn names_and_addresses_are_there_once() {
        let error = read_texts(&["a=h:1", "b=h:2", "a=h:3"]).unwrap_err();
        assert!(
            error.ends_with("\"a=h:1\" and \"a=h:3\" have the same name: give each node its own")
        );

        let error = read_texts(&["a=h:1", "b=tcp://h:1"]).unwrap_err();
        assert!(
            error
                .ends_with("\"a=h:1\" and \"b=h:1\" have the same address: give each node its own")
        );
    }
}
