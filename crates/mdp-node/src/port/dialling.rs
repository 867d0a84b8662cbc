//! Connections that this side makes.

use std::{io, net::SocketAddr};

use mdp_core::Connections;
use mdp_transport::ConnectionId;
use mio::net::TcpStream;
use socket2::SockRef;

use super::{Port, listener::UNANSWERED_MAX, stream::Stream};

impl Port {
    /// Begins to connect to an address; if that fails, now or later, the connection has failed.
    pub(crate) fn dial(
        &mut self,
        id: ConnectionId,
        address: SocketAddr,
        of: &mut impl Connections,
    ) -> io::Result<()> {
        match begin(address) {
            Ok(stream) => {
                self.add(id, Stream::Tcp(stream), of.transport());
                Ok(())
            }
            Err(error) => {
                of.failed(id, error.kind());
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
