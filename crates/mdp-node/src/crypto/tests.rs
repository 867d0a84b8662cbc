use std::time::Duration;

use mdp_transport::{
    ClientKeys, ConnectionId, Flow, IdentityToken, KeyPair, Mechanisms, PeerAddress, SecretKey,
    ServerKeys, TransportEvent, TransportLimits,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::bell::{Bell, bell};

/// How long a test waits for the pool.
const PATIENCE: Duration = Duration::from_secs(20);

/// A port with the server's key, and one that connects to it.
struct Pair {
    server: Transport<()>,
    client: Transport<()>,
    /// The two ends of each connection.
    connections: Vec<(ConnectionId, ConnectionId)>,
}

fn transport() -> Transport<()> {
    let mut transport = Transport::new(Instant::now(), TransportLimits::default());
    transport.seed(b"of tests", &[7; 32]);
    transport.set_jobs_outside(true);
    transport
}

impl Pair {
    fn new(connections: usize) -> Self {
        let server_key = SecretKey::from_bytes(&[1; 32]);
        let own = KeyPair::from(SecretKey::from_bytes(&[2; 32]));
        let keys = ClientKeys { own, server: server_key.public() };
        let (mut server, mut client) = (transport(), transport());
        let curve = Some(ServerKeys::new(server_key, None));
        server.set_mechanisms(Mechanisms { null: false, curve });
        let address = PeerAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 5_555)));
        let connect = |_| {
            let accepted = server.accepted(Instant::now(), address).unwrap();
            (accepted, client.dialled_curve(Instant::now(), address, &keys).unwrap())
        };
        let connections = (0..connections).map(connect).collect();
        Self { server, client, connections }
    }

    /// Carries what waits on each connection, in both directions.
    fn exchange(&mut self) {
        for (at_server, at_client) in &self.connections {
            let bytes = written(&mut self.client, *at_client);
            self.server.received(Instant::now(), *at_server, &bytes, |_, _| Flow::Continue);
            let bytes = written(&mut self.server, *at_server);
            self.client.received(Instant::now(), *at_client, &bytes, |_, _| Flow::Continue);
        }
    }

    /// Admits every key. Returns how many clients are open now that were not before.
    fn admit(&mut self) -> usize {
        while let Some(event) = self.server.poll_event() {
            if let TransportEvent::Authenticate { id, is_last, .. } = event {
                self.server.authenticated(Instant::now(), id, is_last, Some(IdentityToken(1)));
            }
        }
        self.exchange();
        let events = std::iter::from_fn(|| self.client.poll_event());
        events.filter(|event| matches!(event, TransportEvent::Opened { .. })).count()
    }
}

fn written(from: &mut Transport<()>, id: ConnectionId) -> Vec<u8> {
    let bytes: Vec<u8> = from.output(id).iter().flat_map(|piece| piece.to_vec()).collect();
    from.transmitted(Instant::now(), id, bytes.len());
    bytes
}

fn wait_for(bell: &Bell) {
    let mut descriptors = [PollFd::from_borrowed_fd(bell.descriptor(), PollFlags::IN)];
    let deadline = Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(poll(&mut descriptors, Some(&deadline)), Ok(1), "no result came");
    bell.silence();
}

#[test]
fn handshakes_are_computed_by_the_pool_whose_results_ring_the_bell() {
    const CONNECTIONS: usize = 2 * PORT_JOBS_MAX;
    let pool = CryptoPool::start(2).unwrap();
    let (ringer, bell) = bell().unwrap();
    let mut crypto = pool.port(ringer);
    let mut pair = Pair::new(CONNECTIONS);

    let deadline = Instant::now() + PATIENCE;
    let mut open = 0;
    while open < CONNECTIONS {
        assert!(Instant::now() < deadline, "{open} are open");
        pair.exchange();
        crypto.turn(Instant::now(), &mut pair.server);
        assert!(crypto.in_pool <= PORT_JOBS_MAX);
        if crypto.in_pool > 0 {
            wait_for(&bell);
            crypto.turn(Instant::now(), &mut pair.server);
        }
        open += pair.admit();
    }
}

#[test]
fn crowd_at_one_port_has_a_bounded_number_of_jobs_in_the_pool() {
    let (jobs, queue) = sync_channel(POOL_JOBS_MAX);
    let (ringer, _bell) = bell().unwrap();
    let mut crypto = CryptoPool { jobs }.port(ringer);
    let mut pair = Pair::new(2 * PORT_JOBS_MAX);
    pair.exchange();
    pair.exchange();

    crypto.turn(Instant::now(), &mut pair.server);
    assert_eq!(queue.try_iter().count(), PORT_JOBS_MAX);
    // As long as nothing is computed, nothing more is handed out.
    crypto.turn(Instant::now(), &mut pair.server);
    assert_eq!(queue.try_iter().count(), 0);
}

#[test]
fn job_that_the_pool_has_no_room_for_waits() {
    let (jobs, queue) = sync_channel(1);
    let (ringer, _bell) = bell().unwrap();
    let mut crypto = CryptoPool { jobs }.port(ringer);
    let mut pair = Pair::new(3);
    pair.exchange();
    pair.exchange();

    let mut taken = 0;
    for _ in 0..3 {
        crypto.turn(Instant::now(), &mut pair.server);
        taken += queue.try_iter().count();
    }
    assert_eq!(taken, 3);
}

#[test]
fn number_of_threads_has_limits() {
    assert_eq!(number_of_threads(3), 3);
    assert_eq!(number_of_threads(usize::MAX), CRYPTO_THREADS_MAX);
    assert!((1..=THREADS_BY_CORES_MAX).contains(&number_of_threads(0)));
}
