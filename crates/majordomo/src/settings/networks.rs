//! `broker.advertise_for`: the addresses that clients of some networks are told.

use std::fmt;

use config::{Map, Value, ValueKind};
use mdp_wire::{
    CLIENT_NETWORKS_MAX, ClientNetworks, ClientNetworksError, Network, NetworkAddress, NetworkError,
};

use super::{
    address,
    kind::{read_list, scalar},
    problem::nearest,
};

/// What is right for `broker.advertise_for`, to follow "use".
pub(crate) const WANTED: &str = "a list: in a file [[broker.advertise_for]] with from = \"10.0.0.0/8\" and address = \
     \"tcp://HOST:PORT\" for each network, in a variable 10.0.0.0/8=tcp://HOST:PORT with commas between";

/// The keys of one `[[broker.advertise_for]]`.
const ENTRY_KEYS: [&str; 2] = ["from", "address"];

/// Reads a list of tables or of `NETWORK=ADDRESS`; an error says what is wanted.
pub(crate) fn read(raw: &ValueKind) -> Result<ClientNetworks, String> {
    let entries = if let ValueKind::Array(items) = raw {
        items.iter().enumerate().map(read_item).collect::<Result<Vec<_>, _>>()?
    } else {
        let items = read_list(raw).ok_or(WANTED)?;
        items.iter().map(|item| read_text(item)).collect::<Result<Vec<_>, _>>()?
    };
    ClientNetworks::new(entries).map_err(|error| match error {
        ClientNetworksError::TooMany { got } => {
            format!("at most {CLIENT_NETWORKS_MAX} networks; these are {got}")
        }
        ClientNetworksError::Repeated { network } => {
            format!("one address for each network; {network} is there twice")
        }
    })
}

fn read_item((index, item): (usize, &Value)) -> Result<NetworkAddress, String> {
    if let ValueKind::Table(table) = &item.kind {
        return read_table(index, table);
    }
    read_text(&scalar(&item.kind).ok_or(WANTED)?)
}

fn read_table(index: usize, table: &Map<String, Value>) -> Result<NetworkAddress, String> {
    let number = index + 1;
    if let Some(unknown) = table.keys().find(|key| !ENTRY_KEYS.contains(&key.as_str())) {
        let meant = nearest(unknown, ENTRY_KEYS);
        let meant = meant.map(|key| format!("; did you mean {key}?")).unwrap_or_default();
        return Err(format!(
            "from and address, and nothing else, in each [[broker.advertise_for]]; number {number} \
             has {unknown:?}{meant}"
        ));
    }
    let text = |key: &str| {
        let value = table.get(key).and_then(|value| scalar(&value.kind));
        value.ok_or_else(|| {
            format!(
                "from and address, both texts, in each [[broker.advertise_for]]; number {number} has \
                 no {key}"
            )
        })
    };
    entry(&text("from")?, &text("address")?)
}

fn read_text(item: &str) -> Result<NetworkAddress, String> {
    let (from, at) =
        item.split_once('=').ok_or_else(|| format!("{WANTED}; {item:?} is no entry of it"))?;
    entry(from.trim(), at.trim())
}

fn entry(from: &str, at: &str) -> Result<NetworkAddress, String> {
    let network: Network = from.parse().map_err(|error| {
        if let NetworkError::HostBits { network } = error {
            let bits = network.prefix();
            return format!("{network} instead of {from}, which has bits behind the first {bits}");
        }
        format!("a network such as 10.0.0.0/8 or fd00::/8; {from:?} is none: {error}")
    })?;
    let address = address::advertise(at)
        .map_err(|wanted| format!("{wanted} for {network}; {at:?} is no such address"))?;
    Ok(NetworkAddress { from: network, address })
}

/// The list in TOML, as it can stand behind the key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InToml<'a>(pub(crate) &'a ClientNetworks);

impl fmt::Display for InToml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, NetworkAddress { from, address }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{{ from = \"{from}\", address = \"{address}\" }}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_variable(text: &str) -> Result<ClientNetworks, String> {
        read(&ValueKind::String(text.to_owned()))
    }

    #[test]
    fn list_of_a_variable_may_have_blanks_and_no_tcp() {
        let networks = of_variable("10.0.0.0/8=a:1, fd00::/8 = tcp://[fd00::1]:2").unwrap();

        let expected = "[{ from = \"10.0.0.0/8\", address = \"tcp://a:1\" }, \
                        { from = \"fd00::/8\", address = \"tcp://[fd00::1]:2\" }]";
        assert_eq!(InToml(&networks).to_string(), expected);
        assert!(of_variable("").unwrap().is_empty());
    }

    #[test]
    fn entry_that_is_wrong_is_named_with_what_would_be_right() {
        for (text, wanted) in [
            ("a:1", "\"a:1\" is no entry of it"),
            ("10.0.0.0=a:1", "a network such as 10.0.0.0/8 or fd00::/8; \"10.0.0.0\" is none"),
            ("10.0.0.0/40=a:1", "\"10.0.0.0/40\" is none: an address of this kind has 32 bits"),
            (
                "10.1.2.3/8=a:1",
                "10.0.0.0/8 instead of 10.1.2.3/8, which has bits behind the first 8",
            ),
            ("::ffff:10.0.0.0/104=a:1", "counts as one of version 4"),
            ("10.0.0.0/8=*:1", "for 10.0.0.0/8; \"*:1\" is no such address"),
            ("10.0.0.0/8=a:0", "(not *, 0.0.0.0, [::] or port 0) for 10.0.0.0/8; \"a:0\" is no"),
            ("10.0.0.0/8=a:1,10.0.0.0/8=b:1", "10.0.0.0/8 is there twice"),
        ] {
            let error = of_variable(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        let many: Vec<String> = (0..=16).map(|third| format!("10.0.{third}.0/24=a:1")).collect();
        assert_eq!(
            of_variable(&many.join(",")),
            Err("at most 16 networks; these are 17".to_owned())
        );
    }
}
