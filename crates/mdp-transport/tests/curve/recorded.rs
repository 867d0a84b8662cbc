//! What a libzmq 4.3.4 (with libsodium) wrote to a port with the same keys and the same seed. Since all that the
//! port draws comes from its seed, the recorded INITIATE answers the WELCOME of today.
//!
//! The client: a DEALER with key number 3 and the routing id `recorded`, heartbeats every 50 ms, that sends a
//! message of three frames and one of 300 bytes. The port has keys number 1 and 2, and the seed 42.

use std::time::Instant;

use mdp_transport::{Mechanisms, ServerKeys, SocketType};

use crate::pair::{End, KNOWN, client_key, secret};

/// Greeting, HELLO, INITIATE, four MESSAGEs, and two PINGs in boxes.
const RECORDED: [&str; 6] = [
    "\
     ff00000000000000097f0301435552564500000000000000000000000000000000000000000000000000000000000000\
     00000000000000000000000000000000\
     ",
    "\
     04c80548454c4c4f01000000000000000000000000000000000000000000000000000000000000000000000000000000\
     00000000000000000000000000000000000000000000000000000000000000000000658368a230fc9682acf0580f50a5\
     e63fba3ae911e09e6cea28c421d3d3cc6d5d0000000000000001dbda0a6713607e473e2098905e7172443a7c32d9e06f\
     4c0dc10b95eee51aaca02803f3494cb572fd369375aadb9aa5563d1b030cf1e7471a2df675c7e316dd7737eeb534e4b6\
     b78202e0bc8a59e1b122\
     ",
    "\
     06000000000000012c08494e495449415445a94a64dd249c83847481f4b0cb33fddd2f25046fc140d8e6520b85475a83\
     62b0b6d97be34fb14f47d75b34ee70fdbb2f335bc01a9f9af4ffc8ff8cb22bddbc866b07790a4c1dc6305d00ee91558e\
     6e7f1531be818c5030297757788aa1c944c200000000000000024f3f3eff3644891f5df89ca5c697dc230d614715c19a\
     1e9fd0ec0541c86673daa8fbccca47aaa538b03a36f3765dce8d791e544ad3d102605fb9054eeb15bd733933babf510e\
     a7d2cade3d0a2a6efedce347310530a38a29f45875204399aff903ebbccc3749643b4a7f1fe10e06d55b7e4585417a53\
     23d898d36c53f5b1dda33f440c7b183cb6ea43351941c3ecb1c8061a9b2c33ddfb0deeff24406bb7aea11eba5188f329\
     ce6a4abb7ce17f1386a08804780557b5c96bc8d0bb\
     ",
    "\
     0021074d4553534147450000000000000003e7ed9d180b0bf78ba3dce9bbd5277654540026074d455353414745000000\
     00000000041cbc37fabce431e1d70016563aec552d36d3fd6c03910028074d4553534147450000000000000005e9e026\
     55899d873eae5bbda223c1d4dcbe07dbc2eafdb44902000000000000014d074d4553534147450000000000000006c4f8\
     417a7c63375c50190e52c19b8808d31bf160d6e70d7c7277d67eb0ecf92b22c45d7c3147650908642c074714258dd7ef\
     d57205c01f75c5b90409e82f5c7f6d435add28527c9ea07867dcd8cfd9b5b992f1a131ae034b98c96a597bef316f50ae\
     57c3e2027db039b4634e6dfb84af548b4dc77443650da0fb12646f8cfa48c7a5ebc5ee1e9ba435772636de500778797f\
     63a0c2ad2aebd851563a20df285d6654ef36e45179e9830978733df920ba5c337fbcdda97f11bbea6b520dd04676ce74\
     2c9b74fea20c30859670585f4e5d67e645d4be1921e8cf99f3159eaf5f58d35917e178ea9e98cba43929d2956cfa8812\
     7bbbd8291b7a379310af8c3ef4a2e57e1af7a7e9e6611c3ba6a92160cb1902a055ae568dcff78401be6b6e202b51f64d\
     a1735568d0adcc114a75d9d50c9806162a90d7daca76e5572e2297\
     ",
    "\
     0028074d45535341474500000000000000072d2a4cf52e917b2c0b9f3cd921e009f84886adb6a0975616\
     ",
    "\
     0028074d455353414745000000000000000808b55b66ad8bce45cf47c2fe26151247feecc04ae2784e61\
     ",
];

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap();
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) * 16 + digit(pair[1])).collect()
}

#[test]
fn recorded_bytes_of_libzmq_mean_what_they_meant() {
    let now = Instant::now();
    let curve = Some(ServerKeys::new(secret(1), Some(secret(2))));
    let mut server = End::accepting(now, 42, Mechanisms { null: false, curve });
    let mut written = Vec::new();
    for hex in RECORDED {
        written.extend(server.written(now));
        server.receive(now, &bytes(hex));
        server.answer(now, Some(KNOWN));
    }
    assert_eq!(server.ended(), None);
    let peer = server.port.peer(server.id).unwrap();
    assert_eq!((peer.socket_type, peer.key), (SocketType::Dealer, Some(client_key())));
    assert_eq!(&*peer.routing_id, b"recorded");
    let long = (0..300).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let first = [b"".as_slice(), b"first", b"message"].map(<[u8]>::to_vec).to_vec();
    assert_eq!(server.messages, [first, vec![long]]);
    // Both PINGs are answered: 40 bytes each.
    assert!(server.written(now).len() >= 40);
    assert!(!written.is_empty());
}
