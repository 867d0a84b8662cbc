//! Pages of a node's administration port.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long a page may take.
const PAGE_MAX: Duration = Duration::from_secs(2);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Gets a page; the error is a sentence.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<Page, String> {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, PAGE_MAX)?;
        stream.set_read_timeout(Some(PAGE_MAX))?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error: std::io::Error| format!("{path}: {error}"))?;
    page(&answer).ok_or_else(|| format!("{path}: this is no page: {answer}"))
}

fn page(answer: &str) -> Option<Page> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Page { status, body: body.to_owned() })
}

impl Page {
    /// The first text or number of this name. Four fields do not pay for a JSON reader: none of
    /// them holds an escaped character, and none has its name in a part of the page.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(&format!("\"{name}\":"))?;
        let rest = rest.trim_start();
        match rest.strip_prefix('"') {
            Some(text) => text.split('"').next(),
            None => {
                let value = rest.split([',', '}', ']', '\n']).next()?.trim();
                (value != "null").then_some(value)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_texts_or_numbers() {
        let body = r#"{"applied_index": 12,"leader":"node-2","nodes":[{"name":"x"}],"term":3}"#;
        let page = page(&format!("HTTP/1.1 200 OK\r\na: b\r\n\r\n{body}")).unwrap();

        assert_eq!(page.status, 200);
        assert_eq!(page.field("leader"), Some("node-2"));
        assert_eq!(page.field("applied_index"), Some("12"));
        assert_eq!(page.field("term"), Some("3"));
        assert_eq!(page.field("epoch"), None);
        let nobody = Page { status: 200, body: r#"{"leader":null}"#.to_owned() };
        assert_eq!(nobody.field("leader"), None);
    }
}
