//! The addresses of a node by network, as they stand at the end of a [`Welcome`](super::Welcome).

use std::net::IpAddr;

use super::{
    RelayDecodeError,
    bytes::{Reader, Writer},
};
use crate::{CLIENT_NETWORKS_MAX, ClientNetworks, Network, NetworkAddress};

/// The longest address: a scheme, a host name (RFC 1035) and a port.
const ADDRESS_BYTES_MAX: usize = 6 + 253 + 6;
/// The first byte of a network of version 4.
const VERSION_4: u8 = 4;
/// The first byte of a network of version 6.
const VERSION_6: u8 = 6;

/// Writes nothing if there are none: then the greeting is that of 0.1.0, byte for byte.
pub(super) fn write(head: &mut Writer, networks: &ClientNetworks) {
    if networks.is_empty() {
        return;
    }
    head.u8(u8::try_from(networks.iter().count()).unwrap_or(u8::MAX));
    for NetworkAddress { from, address } in networks.iter() {
        match from.address() {
            IpAddr::V4(first) => {
                head.u8(VERSION_4);
                head.bytes(&first.octets());
            }
            IpAddr::V6(first) => {
                head.u8(VERSION_6);
                head.bytes(&first.octets());
            }
        }
        head.u8(from.prefix());
        head.long_text(address);
    }
}

/// Reads what is there. A list that cannot be read is none: it is for pages, and requests go on without.
pub(super) fn read(head: &mut Reader<'_>) -> ClientNetworks {
    if head.is_at_end() {
        return ClientNetworks::default();
    }
    read_list(head).unwrap_or_default()
}

/// Of a newer version that knows more networks than this one, the smallest count.
fn read_list(head: &mut Reader<'_>) -> Result<ClientNetworks, RelayDecodeError> {
    let count = head.u8()?;
    let mut entries = Vec::with_capacity(CLIENT_NETWORKS_MAX.min(count.into()));
    for _ in 0..count {
        let entry = read_one(head)?;
        if entries.len() < CLIENT_NETWORKS_MAX {
            entries.push(entry);
        }
    }
    ClientNetworks::new(entries).map_err(|_| head.unknown(count))
}

fn read_one(head: &mut Reader<'_>) -> Result<NetworkAddress, RelayDecodeError> {
    let first = match head.u8()? {
        VERSION_4 => IpAddr::from(head.array::<4>()?),
        VERSION_6 => IpAddr::from(head.array::<16>()?),
        got => return Err(head.unknown(got)),
    };
    let prefix = head.u8()?;
    let from = Network::new(first, prefix).map_err(|_| head.unknown(prefix))?;
    let address: String = head.long_text()?;
    if address.len() > ADDRESS_BYTES_MAX {
        return Err(head.unknown(u8::MAX));
    }
    Ok(NetworkAddress { from, address })
}
