//! Hostile clients: the broker stays up, its memory stays bounded, and a well-behaved client beside
//! them notices nothing.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use support::{Broker, Client, batch, fetch_request, produce_request};

const MIB: u64 = 1024 * 1024;

/// Produces and reads back through a connection of its own.
struct Neighbour {
    client: Client,
    next: i64,
}

impl Neighbour {
    fn new(broker: &Broker) -> Self {
        let mut client = broker.connect();
        client.create_topic("neighbour", 1, &[]);
        Self { client, next: 0 }
    }

    fn notices_nothing(&mut self) {
        let produced = self.client.produce("neighbour", 0, -1, batch(&[b"v"], None)).unwrap();
        assert_eq!(produced, (0, self.next));
        self.next += 1;
        assert_eq!(self.client.fetch("neighbour", 0, self.next - 1, 1000).1, self.next);
    }
}

/// Sends bytes, and reads until the broker closes or says nothing for a while.
fn send_and_drain(broker: &Broker, bytes: &[u8]) {
    let mut stream = TcpStream::connect(broker.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut sink = [0; 4096];
    while matches!(stream.read(&mut sink), Ok(count) if count > 0) {}
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut frame = i32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

#[test]
fn random_truncated_and_lying_frames_of_every_api() {
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut neighbour = Neighbour::new(&broker);
    let before = broker.resident_bytes();
    let apis = broker.connect().call(&ApiVersionsRequest::default(), 2).unwrap().api_keys;
    assert!(apis.len() > 15);
    for api in &apis {
        for version in api.min_version - 1..=api.max_version + 1 {
            let mut header = Vec::new();
            header.extend_from_slice(&api.api_key.to_be_bytes());
            header.extend_from_slice(&version.to_be_bytes());
            header.extend_from_slice(&7_i32.to_be_bytes());
            header.extend_from_slice(&[0, 1, b'x', 0]);
            // Random bytes.
            let mut noise = header.clone();
            let count = random.random_range(0..200);
            noise.extend((0..count).map(|_| random.random::<u8>()));
            send_and_drain(&broker, &framed(&noise));
            // Counts that the bytes cannot hold: as 32 bits and as varints, and negative ones.
            for lie in [
                &[0x7f, 0xff, 0xff, 0xff][..],
                &[0xff, 0xff, 0xff, 0xff, 0x0f],
                &[0x80, 0, 0, 0],
                &[0xff; 12],
            ] {
                let mut lying = header.clone();
                for _ in 0..6 {
                    lying.extend_from_slice(lie);
                }
                send_and_drain(&broker, &framed(&lying));
            }
        }
        neighbour.notices_nothing();
    }
    // Lengths of frames: negative, zero, tiny, beyond the limit.
    for size in [-1, i32::MIN, 0, 1, 7, i32::MAX, 104_857_601] {
        let mut bytes = i32::to_be_bytes(size).to_vec();
        bytes.extend_from_slice(&[0; 16]);
        send_and_drain(&broker, &bytes);
    }
    neighbour.notices_nothing();
    let after = broker.resident_bytes();
    assert!(after < before + 100 * MIB, "{before} bytes before, {after} after");
    broker.stop();
}

#[test]
fn bad_batches_are_refused_with_kafka_s_errors() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut client = broker.connect();
    client.create_topic("checked", 1, &[("max.message.bytes", "1000")]);
    let good = batch(&[b"one", b"two"], None);
    let changed = |at: usize, to: u8| {
        let mut bytes = BytesMut::from(&good[..]);
        bytes[at] = to;
        bytes.freeze()
    };
    let resealed = |at: usize, to: u8| {
        let mut bytes = BytesMut::from(&good[..]);
        bytes[at] = to;
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.freeze()
    };
    let two: Bytes = [&good[..], &good[..]].concat().into();
    let (corrupt, invalid_record, too_large) = (2, 87, 10);
    for (what, records, error) in [
        ("a wrong checksum", changed(good.len() - 1, b'!'), corrupt),
        ("an old magic", changed(16, 1), invalid_record),
        ("a magic of the future", changed(16, 3), corrupt),
        ("a truncated batch", good.slice(..good.len() - 3), invalid_record),
        ("no batch", Bytes::new(), invalid_record),
        ("two batches", two, invalid_record),
        ("a count that is not so", resealed(60, 9), invalid_record),
        ("a control batch", resealed(22, 0x20), invalid_record),
        ("an oversize batch", batch(&[&[b'x'; 2000]], None), too_large),
    ] {
        let (code, offset) = client.produce("checked", 0, 1, records).unwrap();
        assert_eq!((code, offset), (error, -1), "{what}");
    }
    assert_eq!(client.produce("checked", 0, 5, good.clone()).unwrap().0, 21, "acks=5");
    assert_eq!(client.produce("checked", 0, 1, good).unwrap(), (0, 0));
    broker.stop();
}

#[test]
fn slow_senders_and_readers_that_never_read_hold_little() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &["queued.max.request.bytes=8388608"]);
    let mut neighbour = Neighbour::new(&broker);
    let mut client = broker.connect();
    client.create_topic("read", 1, &[]);
    for _ in 0..20 {
        client.produce("read", 0, 1, batch(&[&vec![b'r'; 900_000]], None)).unwrap();
    }
    let before = broker.resident_bytes();
    // 100 MB announced each, a little sent.
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(broker.address).unwrap();
        stream.write_all(&100_000_000_i32.to_be_bytes()).unwrap();
        stream.write_all(&vec![0; 100_000]).unwrap();
        slow.push(stream);
    }
    // Fetches of everything, again and again, and nobody reads the answers.
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut reader = broker.connect();
        for _ in 0..50 {
            reader.send(&fetch_request("read", 0, 0, 50_000_000, 0), 12).unwrap();
        }
        deaf.push(reader);
    }
    for _ in 0..100 {
        neighbour.notices_nothing();
    }
    // A request greater than the whole budget still goes through (one at a time).
    let large = produce_request("read", 0, 1, Bytes::from(vec![0; 20_000_000]));
    assert_eq!(client.call(&large, 9).unwrap().responses[0].partition_responses[0].base_offset, -1);
    neighbour.notices_nothing();
    let after = broker.resident_bytes();
    assert!(after < before + 150 * MIB, "{before} bytes before, {after} after");
    drop((slow, deaf));
    broker.stop();
}

#[test]
fn a_codec_bomb_is_refused_where_the_broker_looks_inside() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut neighbour = Neighbour::new(&broker);
    let mut client = broker.connect();
    client.create_topic("bombed", 1, &[("compression.type", "gzip")]);
    // 2 GiB of zeros in a few hundred kilobytes.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let zeros = vec![0; 1024 * 1024];
    for _ in 0..2048 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let mut bytes = BytesMut::from(&batch(&[b"v"], None)[..61]);
    bytes.extend_from_slice(&bomb);
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = 4;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let before = broker.resident_bytes();
    let (error, _) = client.produce("bombed", 0, 1, bytes.freeze()).unwrap();
    assert!([10, 87, 2].contains(&error), "error {error}");
    neighbour.notices_nothing();
    let after = broker.resident_bytes();
    assert!(after < before + 600 * MIB, "{before} bytes before, {after} after");
    broker.stop();
}

#[test]
fn thousands_of_silent_connections_cost_little() {
    const CONNECTIONS: usize = 4000;
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    if soft < hard {
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut neighbour = Neighbour::new(&broker);
    let before = broker.resident_bytes();
    let connections: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(broker.address).unwrap()).collect();
    neighbour.notices_nothing();
    while broker.metric("raftsman_connections") < CONNECTIONS as f64 {
        std::thread::yield_now();
    }
    let each = broker.resident_bytes().saturating_sub(before) / CONNECTIONS as u64;
    assert!(each < 10 * 1024, "a silent connection costs {each} bytes");
    drop(connections);
    neighbour.notices_nothing();
    broker.stop();
}

#[test]
fn who_drips_while_memory_is_short_goes_and_what_was_held_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &["queued.max.request.bytes=67108864"]);
    let mut neighbour = Neighbour::new(&broker);
    // Memory that a producer's requests take is in use from the first one on.
    let large = |byte| batch(&[&vec![byte; 900_000]], None);
    neighbour.client.create_topic("large", 1, &[]);
    neighbour.client.produce("large", 0, -1, large(0)).unwrap();
    let before = broker.resident_bytes();
    let mut slow = Vec::new();
    for _ in 0..30 {
        let mut stream = TcpStream::connect(broker.address).unwrap();
        stream.write_all(&90_000_000_i32.to_be_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        slow.push(stream);
    }
    let chunk = vec![0; 200_000];
    let ended = std::sync::atomic::AtomicBool::new(false);
    let is_ended = || ended.load(std::sync::atomic::Ordering::Relaxed);
    // Also when an assertion fails: else the scope below would wait for ever.
    struct Ends<'a>(&'a std::sync::atomic::AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Each sends some megabytes, and drips then.
            for round in 0.. {
                if is_ended() {
                    break;
                }
                let count = if round < 30 { chunk.len() } else { 200 };
                for stream in &mut slow {
                    let _ = stream.write(&chunk[..count]);
                }
                std::thread::sleep(Duration::from_millis(if round < 30 { 5 } else { 100 }));
            }
        });
        let _ends = Ends(&ended);
        let deadline = std::time::Instant::now() + support::PATIENCE;
        let refused = r#"raftsman_connections_refused_total{reason="too slow"}"#;
        for round in 0.. {
            let (error, _) = neighbour.client.produce("large", 0, -1, large(round as u8)).unwrap();
            assert_eq!(error, 0);
            if round > 20 && broker.metric(refused) >= 3.0 {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{} went", broker.metric(refused));
        }
    });
    drop(slow);
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while broker.resident_bytes() > before + 40 * MIB {
        assert!(
            std::time::Instant::now() < deadline,
            "{} bytes before, {} after",
            before,
            broker.resident_bytes()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    neighbour.notices_nothing();
    broker.stop();
}

#[test]
fn what_was_answered_before_a_request_that_closes_the_connection_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    // Its answers wait for a sync.
    broker.connect().create_topic("synced", 1, &[("flush.messages", "1")]);
    let mut payload = BytesMut::from(&[0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b'x', 0][..]);
    let unreadable_produce = framed(&payload);
    payload[0] = 3;
    let unknown_api = framed(&payload);
    let mut sender = broker.connect();
    let unanswerable =
        sender.frame(&produce_request("no such topic", 0, 0, batch(&[b"v"], None)), 9).to_vec();
    for broken in [unreadable_produce, unknown_api, unanswerable, vec![0xff; 4], vec![0x7f; 4]] {
        let mut client = broker.connect();
        let versions = client.frame(&ApiVersionsRequest::default(), 0);
        let produce = client.frame(&produce_request("synced", 0, -1, batch(&[b"v"], None)), 9);
        // Bytes behind the broken request are never read.
        let behind = vec![0; 100_000];
        client.stream.write_all(&[&versions[..], &produce, &produce, &broken, &behind].concat()).unwrap();
        assert_eq!(client.receive::<ApiVersionsRequest>(0).unwrap().error_code, 0);
        for _ in 0..2 {
            let answer = client.receive::<ProduceRequest>(9).unwrap();
            assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        }
        assert_eq!(client.stream.read(&mut [0; 16]).unwrap(), 0, "the connection is closed");
    }
    broker.stop();
}
