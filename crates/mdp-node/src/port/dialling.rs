//! Connections that this side makes.

use std::{io, net::SocketAddr};

use mdp_transport::{ConnectionId, Transport};
use mio::net::TcpStream;
use socket2::SockRef;

use super::{Port, listener::UNANSWERED_MAX, stream::Stream};

impl Port {
    /// Begins to connect to an address; if that fails, now or later, the connection is closed.
    pub(crate) fn dial<T>(
        &mut self,
        id: ConnectionId,
        address: SocketAddr,
        transport: &mut Transport<T>,
    ) -> io::Result<()> {
        match begin(address) {
            Ok(stream) => {
                self.add(id, Stream::Tcp(stream), transport);
                Ok(())
            }
            Err(error) => {
                transport.closed(id);
                Err(error)
            }
        }
    }
}

fn begin(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_user_timeout(Some(UNANSWERED_MAX))?;
    Ok(stream)
}
