use std::time::Instant;

use super::*;
use crate::curve::{ClientHandshake, ClientKeys, KeyPair, cookie::CookieKeys, entropy::Entropy};

const VOUCH_NONCE: [u8; LONG_NONCE_BYTES] = [9; LONG_NONCE_BYTES];

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn public(number: u8) -> PublicKey {
    secret(number).public()
}

/// The server has the keys 1 and 2.
fn hello_job(hello: Hello) -> HelloJob {
    #[expect(clippy::disallowed_methods, reason = "an instant can not be made from nothing")]
    let now = Instant::now();
    let mut entropy = Entropy::new(&[0; 8], &[1; 32]);
    let cookie_key = CookieKeys::default().sealing(now, &mut entropy);
    let keys = ServerKeys::new(secret(1), Some(secret(2)));
    HelloJob { hello, keys, cookie_key, random: entropy.draw() }
}

/// A HELLO of the short-term key 5 for the server's key 1.
fn hello(text: &[u8; 64]) -> Hello {
    let nonce = 1_u64.to_be_bytes();
    let shared = secret(5).shared_with(&public(1)).unwrap();
    let sealed = wire::seal(&shared.for_purpose(HELLO_PURPOSE), nonce, &[text]);
    Hello { client: public(5), nonce, signature: Fields(&sealed).take().unwrap() }
}

/// What a client makes of an INITIATE that it writes as it wants.
struct Client {
    cookie: [u8; COOKIE_BYTES],
    server_short: PublicKey,
    ticket: Ticket,
    cookie_key: CookieKey,
    number: u64,
    /// The long-term key that it names.
    named: PublicKey,
    /// The long-term key that the vouch is made with.
    vouches: SecretKey,
    /// What the vouch says.
    vouched: [PublicKey; 2],
}

/// One whose INITIATE is right, with the long-term key 3.
fn client() -> Client {
    let job = hello_job(hello(&SIGNED));
    let welcome = job.run().unwrap();
    let mut fields = Fields(welcome.command.strip_prefix(WELCOME).unwrap());
    let nonce = fields.take().unwrap();
    let mut sealed = fields.rest().to_vec();
    let shared = secret(5).shared_with(&public(1)).unwrap();
    let (key, short) = shared.for_long_nonce(WELCOME_PURPOSE, &nonce);
    let mut fields = Fields(wire::open(&key, short, &mut sealed).unwrap());
    Client {
        server_short: PublicKey::from_bytes(fields.take().unwrap()),
        cookie: fields.take().unwrap(),
        ticket: welcome.ticket,
        cookie_key: job.cookie_key,
        number: 2,
        named: public(3),
        vouches: secret(3),
        vouched: [public(5), public(1)],
    }
}

impl Client {
    fn initiate(self) -> Result<Established, CurveError> {
        let with_server = self.vouches.shared_with(&self.server_short).unwrap();
        let (key, short) = with_server.for_long_nonce(VOUCH_PURPOSE, &VOUCH_NONCE);
        let vouch = wire::seal(&key, short, &self.vouched.each_ref().map(|it| &it.as_bytes()[..]));
        let shared = secret(5).shared_with(&self.server_short).unwrap();
        let nonce = self.number.to_be_bytes();
        let text = [self.named.as_bytes().as_slice(), &VOUCH_NONCE, &vouch, b"metadata"];
        let sealed = wire::seal(&shared.for_purpose(INITIATE_PURPOSE), nonce, &text);
        let initiate = [INITIATE, &self.cookie, &nonce, &sealed].concat();
        let (ticket, cookie_key) = (self.ticket, self.cookie_key);
        InitiateJob { initiate, ticket, hello_number: 1, cookie_key }.run()
    }
}

/// Points of small order: 0, 1, and the two of order 8 (RFC 7748, 6.1; "Curve25519", Bernstein, 2006).
fn weak_keys() -> [PublicKey; 4] {
    let of_order_8 = |hex: &str| {
        let digit = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        std::array::from_fn(digit)
    };
    [
        [0; 32],
        std::array::from_fn(|at| u8::from(at == 0)),
        of_order_8("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        of_order_8("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    ]
    .map(PublicKey::from_bytes)
}

#[test]
fn initiate_that_is_right_shows_whose_the_client_is() {
    let established = client().initiate().unwrap();
    assert_eq!(
        (established.client, established.metadata.as_slice()),
        (public(3), &b"metadata"[..])
    );
}

#[test]
fn vouch_for_another_short_term_key_is_refused() {
    // What a server was told may not be told again by it, as by a client with a key of its own.
    let refused = Client { vouched: [public(6), public(1)], ..client() }.initiate();
    assert_eq!(refused.unwrap_err(), CurveError::Vouch);
}

#[test]
fn vouch_for_another_server_key_is_refused() {
    // The key of another server, and the one of this server that the HELLO was not made for.
    for server in [7, 2] {
        let refused = Client { vouched: [public(5), public(server)], ..client() }.initiate();
        assert_eq!(refused.unwrap_err(), CurveError::Vouch, "{server}");
    }
    let swapped = Client { vouched: [public(1), public(5)], ..client() }.initiate();
    assert_eq!(swapped.unwrap_err(), CurveError::Vouch);
}

#[test]
fn vouch_that_is_made_with_the_key_of_another_is_refused() {
    let refused = Client { vouches: secret(4), ..client() }.initiate();
    assert_eq!(refused.unwrap_err(), CurveError::Vouch);
    let refused = Client { named: public(4), ..client() }.initiate();
    assert_eq!(refused.unwrap_err(), CurveError::Vouch);
}

#[test]
fn initiate_whose_number_is_not_above_that_of_the_hello_is_refused() {
    for number in [0, 1] {
        let refused = Client { number, ..client() }.initiate();
        assert_eq!(refused.unwrap_err(), CurveError::Nonce, "{number}");
    }
    assert!(Client { number: 3, ..client() }.initiate().is_ok());
}

#[test]
fn long_term_key_of_small_order_is_refused() {
    for named in weak_keys() {
        let refused = Client { named, ..client() }.initiate();
        assert_eq!(refused.unwrap_err(), CurveError::WeakKey, "{named:?}");
    }
}

#[test]
fn hello_whose_box_is_good_and_not_empty_is_refused() {
    assert!(hello_job(hello(&SIGNED)).run().is_ok());
    for at in 0..SIGNED.len() {
        let mut text = SIGNED;
        text[at] = 1;
        let refused = hello_job(hello(&text)).run();
        assert_eq!(refused.unwrap_err(), CurveError::Command, "{at}");
    }
}

#[test]
fn hello_with_a_key_of_small_order_is_refused_for_that() {
    for client in weak_keys() {
        let refused = hello_job(Hello { client, ..hello(&SIGNED) }).run();
        assert_eq!(refused.unwrap_err(), CurveError::WeakKey, "{client:?}");
    }
}

#[test]
fn hello_for_another_server_is_refused_for_that() {
    let mut hello = hello(&SIGNED);
    hello.signature[20] ^= 1;
    assert_eq!(hello_job(hello).run().unwrap_err(), CurveError::ServerKey);
}

#[test]
fn welcome_that_is_made_with_the_key_of_another_server_is_refused() {
    // A server between both answers with a box of its own key 7, for the HELLO that it has seen.
    let keys = ClientKeys { own: KeyPair::from(secret(3)), server: public(1) };
    let mut random = [4; 48];
    random[..32].copy_from_slice(&[5; 32]);
    let handshake = ClientHandshake::new(&keys, &random).unwrap();
    let welcome = |server: u8| {
        let shared = secret(server).shared_with(&public(5)).unwrap();
        let (key, short) = shared.for_long_nonce(WELCOME_PURPOSE, &[8; 16]);
        let sealed = wire::seal(&key, short, &[public(8).as_bytes(), &[0; COOKIE_BYTES]]);
        [WELCOME, &[8; 16], &sealed].concat()
    };
    assert!(handshake.initiate(&welcome(1), b"").is_ok());
    assert_eq!(handshake.initiate(&welcome(7), b"").unwrap_err(), CurveError::Welcome);
}
