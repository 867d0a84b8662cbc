//! Floods of strangers, and a client among them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use mdp_transport::{Flow, PeerAddress, TransportEvent, TransportLimits};

use crate::pair::{
    End, GREETING_BYTES, KNOWN, Pair, Port, client_keys, curve_only, port, server_key,
};

const STEP: Duration = Duration::from_millis(10);
/// How long a byte of the client is on its way.
const ONE_WAY: Duration = Duration::from_millis(50);

/// A greeting and a HELLO.
fn greeting_and_hello() -> Vec<u8> {
    let bytes = Pair::open().passed[0].clone();
    bytes[..GREETING_BYTES + 202].to_vec()
}

/// A port under attack.
struct Siege {
    port: Port,
    now: Instant,
    hello: Vec<u8>,
    /// How many strangers have come.
    come: u32,
}

impl Siege {
    fn new() -> Self {
        let now = Instant::now();
        let mut port = port(now, 10, TransportLimits::default());
        port.set_mechanisms(curve_only());
        port.set_jobs_outside(true);
        Self { port, now, hello: greeting_and_hello(), come: 0 }
    }

    fn connect(&mut self, from: IpAddr, says: &[u8]) {
        self.come += 1;
        let number = u16::try_from(self.come % 60_000).unwrap();
        let address = PeerAddress::from(SocketAddr::from((from, number)));
        if let Some(id) = self.port.accepted(self.now, address) {
            self.port.received(self.now, id, says, |_, _| Flow::Continue);
        }
        while self.port.poll_closing().is_some() {}
    }

    /// Whether a client gets in at its first try while `attack` goes on in each step. Only its jobs are done:
    /// those of the attackers would only cost time here.
    fn lets_a_client_in(&mut self, mut attack: impl FnMut(&mut Self)) -> bool {
        for _ in 0..350 {
            self.step(&mut attack);
        }
        while self.port.poll_event().is_some() {}
        let from = SocketAddr::from(([192, 0, 2, 1], 1));
        let id = self.port.accepted(self.now, from.into()).unwrap();
        let mut client = End::dialling(self.now, 20, &client_keys(server_key()));
        for _ in 0..5 {
            self.wait(&mut attack);
            let bytes = client.written(self.now);
            self.port.received(self.now, id, &bytes, |_, _| Flow::Continue);
            self.do_job_of(id);
            self.wait(&mut attack);
            let bytes: Vec<u8> = self.port.output(id).iter().flat_map(|it| it.to_vec()).collect();
            self.port.transmitted(self.now, id, bytes.len());
            client.receive(self.now, &bytes);
        }
        client.is_open()
    }

    fn wait(&mut self, attack: &mut impl FnMut(&mut Self)) {
        let until = self.now + ONE_WAY;
        while self.now < until {
            self.step(attack);
        }
    }

    fn step(&mut self, attack: &mut impl FnMut(&mut Self)) {
        self.now += STEP;
        self.port.handle_timeout(self.now, |_| false);
        attack(self);
        while self.port.poll_closing().is_some() {}
    }

    fn do_job_of(&mut self, id: mdp_transport::ConnectionId) {
        while let Some(job) = self.port.poll_job() {
            if job.id() == id {
                self.port.job_done(self.now, job.run());
            }
        }
        while let Some(event) = self.port.poll_event() {
            if let TransportEvent::Authenticate { id: asked, is_last, .. } = event
                && asked == id
            {
                self.port.authenticated(self.now, id, is_last, Some(KNOWN));
            }
        }
    }
}

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

#[test]
fn client_gets_in_under_ten_thousand_silent_connections_and_a_thousand_hellos_a_second() {
    let mut siege = Siege::new();
    let (silent, hello) = (v4(1), v4(2));
    let mut from_others = 0;
    let is_in = siege.lets_a_client_in(|siege| {
        let bytes = siege.hello.clone();
        (0..10).for_each(|_| siege.connect(hello, &bytes));
        (0..100).for_each(|_| siege.connect(silent, &[]));
        // And some that come from one host for each.
        from_others += 1;
        siege.connect(v4(1_000 + from_others), &[]);
    });
    assert!(siege.come > 10_000 && is_in);
    assert!(siege.port.totals().strangers <= TransportLimits::default().strangers_max);
}

#[test]
fn hellos_of_one_attacker_that_would_fill_the_port_keep_no_client_out() {
    // 5,000 a second for 3 s, from as many addresses of one network.
    let mut siege = Siege::new();
    let network = 0xfd00_0000_0000_0001_u128 << 64;
    let mut number = 0_u128;
    let is_in = siege.lets_a_client_in(|siege| {
        let bytes = siege.hello.clone();
        for _ in 0..50 {
            number += 1;
            siege.connect(Ipv6Addr::from_bits(network + number).into(), &bytes);
        }
    });
    assert!(is_in);
}

#[test]
fn silent_connections_of_a_host_each_keep_no_client_out() {
    let mut siege = Siege::new();
    let mut number = 0;
    let is_in = siege.lets_a_client_in(|siege| {
        for _ in 0..100 {
            number += 1;
            siege.connect(v4(number), &[]);
        }
    });
    assert!(is_in);
}
