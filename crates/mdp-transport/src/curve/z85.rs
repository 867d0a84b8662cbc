//! Z85 (32/Z85): four bytes as five printable characters, for keys of 32 bytes.

use zeroize::Zeroizing;

use super::KEY_BYTES;

/// How many characters a key has.
pub(super) const KEY_CHARACTERS: usize = 40;
/// The digits of base 85, in their order.
const DIGITS: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// A key of 32 bytes as 40 characters.
pub(super) fn encode(key: &[u8; KEY_BYTES]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(KEY_CHARACTERS));
    let (groups, _) = key.as_chunks::<4>();
    for group in groups {
        let mut value = u32::from_be_bytes(*group);
        let mut characters = ['0'; 5];
        for character in characters.iter_mut().rev() {
            let digit = usize::try_from(value % 85).ok().and_then(|at| DIGITS.get(at));
            *character = digit.map_or('0', |digit| char::from(*digit));
            value /= 85;
        }
        text.extend(characters);
    }
    text
}

/// The key of 40 characters; `None`: they are none.
pub(super) fn decode(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    if text.len() != KEY_CHARACTERS {
        return None;
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let (groups, _) = text.as_bytes().as_chunks::<5>();
    let (places, _) = key.as_chunks_mut::<4>();
    for (place, group) in places.iter_mut().zip(groups) {
        let value = group.iter().try_fold(0_u32, |value, character| {
            let digit = DIGITS.iter().position(|digit| digit == character)?;
            value.checked_mul(85)?.checked_add(u32::try_from(digit).ok()?)
        })?;
        *place = value.to_be_bytes();
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_manual_come_back() {
        // zmq_curve(7), "TEST KEY VALUES".
        for (text, start) in [
            ("Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", [0xbb, 0x88, 0x47, 0x1d]),
            ("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", [0x54, 0xfc, 0xba, 0x24]),
        ] {
            let key = decode(text).unwrap();
            assert_eq!(key[..4], start);
            assert_eq!(encode(&key).as_str(), text);
        }
        for key in [[0; 32], [0xff; 32]] {
            assert_eq!(*decode(&encode(&key)).unwrap(), key);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(decode(""), None);
        assert_eq!(decode(&"0".repeat(39)), None);
        assert_eq!(decode(&"0".repeat(41)), None);
        // A group above 2^32, a character that is no digit, and one of two bytes.
        assert_eq!(decode(&"#".repeat(40)), None);
        assert_eq!(decode(&"~".repeat(40)), None);
        assert_eq!(decode(&"é".repeat(20)), None);
    }
}
