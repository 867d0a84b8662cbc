//! Bearer tokens: who may change a node, and who may look at it.

use std::{fmt, path::Path};

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::secret_file::{self, SecretFileError, Visibility};

/// The longest file of tokens.
const FILE_BYTES_MAX: u64 = 4 << 10;
/// The shortest token: 16 characters of base64 are 96 bits, which no one guesses by HTTP.
const TOKEN_BYTES_MIN: usize = 16;
/// The longest token.
const TOKEN_BYTES_MAX: usize = 512;
/// How many tokens a file may have: the second one is for the time of a rotation.
const TOKENS_MAX: usize = 2;
/// The scheme of RFC 6750, with the space behind it.
const BEARER: &[u8] = b"bearer ";

/// The tokens of a file: one a line, at most two, without the space around them.
///
/// # Errors
/// The file cannot be read, every user can get at it, or a line is no token.
pub fn read_tokens(path: &Path) -> Result<Vec<Zeroizing<String>>, SecretFileError> {
    let content = secret_file::read(path, Visibility::Secret, FILE_BYTES_MAX)?;
    let problem = |reason: String| SecretFileError::Content(reason);
    let text = str::from_utf8(&content)
        .map_err(|_| problem("it has no token: a token is visible ASCII characters".to_owned()))?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if !(1..=TOKENS_MAX).contains(&lines.len()) {
        let count = lines.len();
        return Err(problem(format!(
            "it has {count} lines with a token: 1 is right, or {TOKENS_MAX} while one takes the place of the \
             other"
        )));
    }
    for line in &lines {
        if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
            let reason = "a token is visible ASCII characters without a space between them";
            return Err(problem(reason.to_owned()));
        }
        if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&line.len()) {
            return Err(problem(format!(
                "a token has {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} characters, this one has {}; \
                 `openssl rand -hex 32` prints a good one",
                line.len()
            )));
        }
    }
    Ok(lines.into_iter().map(|line| Zeroizing::new(line.to_owned())).collect())
}

/// The tokens of one file. Only their digests are kept, of equal lengths: comparing them takes the same time
/// whatever is presented.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    pub(super) fn read(path: &Path) -> Result<Self, SecretFileError> {
        let tokens = read_tokens(path)?;
        Ok(Self(tokens.iter().map(|token| Sha256::digest(token.as_bytes()).into()).collect()))
    }

    /// Whether this is one of them.
    pub(super) fn contain(&self, presented: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let none = Choice::from(0);
        self.0.iter().fold(none, |found, token| found | token.ct_eq(&digest)).into()
    }
}

/// Not even a digest is shown.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

/// The token that a request presents, if it presents one.
pub(super) fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
        path::PathBuf,
    };

    use tempfile::TempDir;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        (folder, path)
    }

    #[test]
    fn space_around_a_token_is_none_of_it() {
        let (_folder, path) = file(format!("\n  {TOKEN} \r\n"));

        let tokens = Tokens::read(&path).unwrap();

        assert_eq!(read_tokens(&path).unwrap()[0].as_str(), TOKEN);
        assert!(tokens.contain(TOKEN.as_bytes()));
        assert_eq!(format!("{tokens:?}"), "Tokens(1)");
        for wrong in ["", " ", &TOKEN[1..], &format!("{TOKEN}0"), &TOKEN.to_uppercase()] {
            assert!(!tokens.contain(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn two_tokens_count_while_one_takes_the_place_of_the_other() {
        let second = TOKEN.to_uppercase();
        let (_folder, path) = file(format!("{TOKEN}\n{second}\n"));

        let tokens = Tokens::read(&path).unwrap();

        assert!(tokens.contain(TOKEN.as_bytes()) && tokens.contain(second.as_bytes()));
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_shown() {
        for (content, reason) in [
            (&b""[..], "0 lines"),
            (b"secret", "16 to 512 characters, this one has 6; `openssl rand"),
            (&[b'x'; 513], "this one has 513"),
            (b"secret secret secret", "without a space"),
            (b"secretsecretsecret\nsecretsecretsecret\nsecretsecretsecret", "3 lines"),
            (b"secretsecretsecret\xff", "visible ASCII"),
            (&[b'x'; 5000], "more than 4096 bytes"),
        ] {
            let (_folder, path) = file(content);

            let error = read_tokens(&path).unwrap_err().to_string();

            assert!(error.contains(reason) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn token_stands_behind_its_scheme() {
        let of = |value: &str| {
            let headers = [(header::AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
            presented(&headers).map(|token| String::from_utf8(token.to_vec()).unwrap())
        };
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(of("Bearer"), None);
        assert_eq!(of("Basic abc"), None);
        assert_eq!(presented(&HeaderMap::new()), None);
    }
}
