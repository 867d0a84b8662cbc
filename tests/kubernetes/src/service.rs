//! A Service's address: each new connection goes to one of the pods that are ready, and stays there.

use std::{
    io,
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How long a pod may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the listener looks whether it is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Ends when it is dropped; connections stay as long as both ends want.
#[derive(Debug)]
pub(crate) struct ServiceAddress {
    pub(crate) address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl ServiceAddress {
    /// Listens at any free port of a host of this machine; `endpoints` are the pods that are ready now.
    pub(crate) fn listen(
        host: IpAddr,
        port: u16,
        endpoints: impl Fn() -> Vec<SocketAddr> + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((host, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let is_over = Arc::new(AtomicBool::default());
        let ended = Arc::clone(&is_over);
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => drop(connect(stream, &endpoints())),
                    Err(_) => thread::sleep(LOOK_INTERVAL),
                }
            }
        });
        Ok(Self { address, is_over })
    }
}

impl Drop for ServiceAddress {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Without an endpoint the connection is closed; kube-proxy refuses it.
fn connect(client: TcpStream, endpoints: &[SocketAddr]) -> io::Result<()> {
    let chosen = fastrand::choice(endpoints).ok_or(io::ErrorKind::ConnectionRefused)?;
    client.set_nonblocking(false)?;
    let pod = TcpStream::connect_timeout(chosen, CONNECT_TIMEOUT)?;
    for (from, to) in [(client.try_clone()?, pod.try_clone()?), (pod, client)] {
        from.set_nodelay(true)?;
        thread::spawn(move || copy(from, to));
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    drop(io::copy(&mut from, &mut to));
    // What is over in one direction is over: neither end waits for the other.
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn connection_goes_to_an_endpoint_and_ends_with_it() {
        let pod = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = pod.local_addr().unwrap();
        let host = "127.0.0.1".parse().unwrap();
        let service = ServiceAddress::listen(host, 0, move || vec![endpoint]).unwrap();

        let mut client = TcpStream::connect(service.address).unwrap();
        client.write_all(b"hello").unwrap();
        let (mut accepted, _) = pod.accept().unwrap();
        let mut said = [0; 5];
        accepted.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello");

        drop(accepted);
        assert_eq!(client.read(&mut said).unwrap(), 0);
    }

    #[test]
    fn connection_without_an_endpoint_is_closed() {
        let host = "127.0.0.1".parse().unwrap();
        let service = ServiceAddress::listen(host, 0, Vec::new).unwrap();

        let mut client = TcpStream::connect(service.address).unwrap();

        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
}
