//! [`KeyFile`]: keys of CURVE as czmq and pyzmq write them (4/ZPL): `NAME.key` with the public key, and
//! `NAME.key_secret` with both.
//!
//! ```text
//! metadata
//! curve
//!     public-key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
//!     secret-key = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
//! ```

use thiserror::Error;
use zeroize::Zeroizing;

use crate::{PublicKey, SecretKey};

/// The section that has the keys.
const SECTION: &str = "curve";
/// How many characters of a key people are shown to tell it from others.
const FINGERPRINT_CHARACTERS: usize = 8;

/// What a key file has.
#[derive(Debug)]
pub struct KeyFile {
    /// The public key.
    pub public: PublicKey,
    /// The secret key; `None`: the file is one to give away.
    pub secret: Option<SecretKey>,
}

/// What is wrong with a key file. No error shows a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyFileError {
    /// There is no public key.
    #[error(
        "there is no `public-key = \"...\"` in a section `curve`: this is no key file of `majordomo keygen`, \
         czmq or pyzmq"
    )]
    NoKey,
    /// A key has another form.
    #[error("`{0}` is no key: use 40 characters of Z85 (32/Z85)")]
    NotAKey(&'static str),
    /// A key is there twice.
    #[error("`{0}` is there twice")]
    Twice(&'static str),
    /// The two keys are of different pairs.
    #[error("`public-key` and `secret-key` do not belong together")]
    NotAPair,
}

impl KeyFile {
    /// Reads the text of a key file.
    ///
    /// # Errors
    /// It has no key, or a broken one, or two that do not belong together.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let (mut public, mut secret) = (None, None);
        let mut is_in_section = false;
        for line in text.lines() {
            let content = line.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if !line.starts_with([' ', '\t']) {
                is_in_section = content == SECTION;
                continue;
            }
            let Some((key, value)) = content.split_once('=').filter(|_| is_in_section) else {
                continue;
            };
            let value = value.trim().trim_matches(['"', '\'']);
            match key.trim() {
                "public-key" => {
                    let key = PublicKey::from_z85(value);
                    let key = key.map_err(|_| KeyFileError::NotAKey("public-key"))?;
                    once(&mut public, key, "public-key")?;
                }
                "secret-key" => {
                    let key = SecretKey::from_z85(value);
                    let key = key.map_err(|_| KeyFileError::NotAKey("secret-key"))?;
                    once(&mut secret, key, "secret-key")?;
                }
                _ => {}
            }
        }
        let public = public.ok_or(KeyFileError::NoKey)?;
        if secret.as_ref().is_some_and(|secret| secret.public() != public) {
            return Err(KeyFileError::NotAPair);
        }
        Ok(Self { public, secret })
    }

    /// The text of `NAME.key`, for everyone who is to know the owner.
    #[must_use]
    pub fn public_text(name: &str, public: &PublicKey) -> String {
        format!(
            "#   Public key of {name}, made by majordomo keygen (26/CURVEZMQ, 4/ZPL).\n\
             #   Give it to those that {name} connects to, or that connect to it.\n\
             metadata\n\
             {SECTION}\n    public-key = \"{public}\"\n"
        )
    }

    /// The text of `NAME.key_secret`, for the owner alone.
    #[must_use]
    pub fn secret_text(name: &str, secret: &SecretKey) -> Zeroizing<String> {
        let (public, own) = (secret.public(), secret.to_z85());
        Zeroizing::new(format!(
            "#   Secret key of {name}, made by majordomo keygen (26/CURVEZMQ, 4/ZPL).\n\
             #   DO NOT GIVE IT TO ANYONE: who has it is {name}.\n\
             metadata\n\
             {SECTION}\n    public-key = \"{public}\"\n    secret-key = \"{}\"\n",
            own.as_str()
        ))
    }
}

/// The first characters of a key, by which people tell it from others.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    key.to_string().chars().take(FINGERPRINT_CHARACTERS).collect()
}

fn once<T>(place: &mut Option<T>, value: T, key: &'static str) -> Result<(), KeyFileError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(KeyFileError::Twice(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
    const SECRET: &str = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";

    #[test]
    fn file_of_czmq_and_of_pyzmq_is_read() {
        // czmq's zcert_save_public and pyzmq's create_certificates differ in comments alone.
        let czmq = format!(
            "#   ****  Generated on 2026-11-30 10:00:00 by CZMQ  ****\n\
             #   ZeroMQ CURVE Public Certificate\n\n\
             metadata\n    name = \"a = b\"\n\
             curve\n    public-key = \"{PUBLIC}\"\n"
        );
        let file = KeyFile::parse(&czmq).unwrap();
        assert!(file.public.to_string() == PUBLIC && file.secret.is_none());
        let both = format!("{czmq}    secret-key = \"{SECRET}\"\n");
        let file = KeyFile::parse(&both).unwrap();
        assert_eq!(file.secret.unwrap().to_z85().as_str(), SECRET);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let secret = SecretKey::from_z85(SECRET).unwrap();
        let text = KeyFile::secret_text("billing", &secret);
        let file = KeyFile::parse(&text).unwrap();
        assert_eq!(file.secret.unwrap().to_z85().as_str(), SECRET);
        let file = KeyFile::parse(&KeyFile::public_text("billing", &secret.public())).unwrap();
        assert!(file.public == secret.public() && file.secret.is_none());
        assert_eq!(fingerprint(&file.public), "Yne@$w-v");
    }

    #[test]
    fn broken_file_says_what_is_wrong_and_shows_no_key() {
        let other = SecretKey::from_bytes(&[7; 32]).to_z85();
        let line = |key: &str, value: &str| format!("    {key} = \"{value}\"\n");
        for (section, lines, error) in [
            ("curve", vec![], KeyFileError::NoKey),
            ("metadata", vec![line("public-key", PUBLIC)], KeyFileError::NoKey),
            ("curve", vec![line("secret-key", SECRET)], KeyFileError::NoKey),
            ("curve", vec![line("public-key", "short")], KeyFileError::NotAKey("public-key")),
            (
                "curve",
                vec![line("public-key", PUBLIC), line("secret-key", "x")],
                KeyFileError::NotAKey("secret-key"),
            ),
            (
                "curve",
                vec![line("public-key", PUBLIC), line("public-key", PUBLIC)],
                KeyFileError::Twice("public-key"),
            ),
            (
                "curve",
                vec![line("public-key", PUBLIC), line("secret-key", &other)],
                KeyFileError::NotAPair,
            ),
        ] {
            let found = KeyFile::parse(&format!("{section}\n{}", lines.concat())).unwrap_err();
            assert_eq!(found, error);
            assert!(!found.to_string().contains(SECRET));
        }
        assert_eq!(KeyFile::parse("PK\u{3}\u{4}").unwrap_err(), KeyFileError::NoKey);
    }
}
