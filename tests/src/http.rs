//! Just enough of HTTP to ask an administration port.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long a page may take. A page is a node's own view: it waits for nobody.
const PAGE_PATIENCE: Duration = Duration::from_secs(2);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Asks for a page; an error if nobody answers it in time.
///
/// # Errors
/// The connection was refused or lost, or the answer is no HTTP.
pub fn http_get(address: SocketAddr, path: &str) -> io::Result<Page> {
    http_get_within(address, path, PAGE_PATIENCE)
}

/// As [`http_get`], with so much time for each step.
///
/// # Errors
/// As [`http_get`].
pub fn http_get_within(address: SocketAddr, path: &str, patience: Duration) -> io::Result<Page> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    // 1.0: the end of the connection is the end of the body.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, answer))
}

fn parse(answer: &str) -> Option<Page> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Page { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_read() {
        let page = parse("HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\n{\"ready\":false}");

        assert_eq!(page, Some(Page { status: 503, body: "{\"ready\":false}".to_owned() }));
        assert_eq!(parse("hello"), None);
    }
}
