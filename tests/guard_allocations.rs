//! The guard before the decoder, held against the decoders themselves: requests generated from the
//! guard's table must be requests of kafka-protocol's (or of our own codec's), and whatever passes the guard
//! must decode without a panic, without an error and within the memory the guard worked out.
//!
//! A test binary of its own: it counts every allocation.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic")]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind};
use raftsman::protocol::guard::schema::{Field, Kind, Shape};
use raftsman::protocol::guard::{self, GuardError, shapes};
use raftsman::protocol::messages::{
    self, Decodable, DescribeLogDirsRequest, Encodable, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[path = "support/allocations.rs"]
mod allocations;

use allocations::peak_bytes;

/// What decoding may hold besides the request: the counter shared by the slices of the body.
const SLACK_BYTES: usize = 64;

/// How many mutated requests of each version are tried.
const MUTATED_SEEDS: u64 = 150;

/// Writes a request as the table says it is, with random content.
struct Sample {
    random: StdRng,
    version: i16,
    flexible: bool,
    out: Vec<u8>,
}

impl Sample {
    fn of(shape: &Shape, version: i16, seed: u64) -> Vec<u8> {
        let flexible = shape.is_flexible(version);
        let mut sample = Self { random: StdRng::seed_from_u64(seed), version, flexible, out: Vec::new() };
        sample.fields(shape.fields);
        sample.out
    }

    fn fields(&mut self, fields: &[Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.is_in(version)) {
            self.value(field.kind, field.may_be_null(self.version));
        }
        if self.flexible {
            self.tagged(fields);
        }
    }

    fn tagged(&mut self, fields: &[Field]) {
        let mut section = Vec::new();
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_some() && field.is_in(version)) {
            if self.random.random_bool(0.5) {
                let outer = std::mem::take(&mut self.out);
                // Null, nothing and zero are these fields' defaults, which the encoder leaves out.
                self.value(field.kind, false);
                let value = std::mem::replace(&mut self.out, outer);
                let is_default = value == [1] || value.iter().all(|byte| *byte == 0);
                section.extend((!is_default).then(|| (field.tag.unwrap(), value)));
            }
        }
        for number in 2..5 {
            if self.random.random_bool(0.1) {
                let length = self.random.random_range(0..9);
                section.push((number, vec![number as u8; length]));
            }
        }
        self.varint(section.len() as u32);
        for (number, value) in section {
            self.varint(number);
            self.varint(value.len() as u32);
            self.out.extend(value);
        }
    }

    fn value(&mut self, kind: Kind, nullable: bool) {
        let null = nullable && self.random.random_bool(0.25);
        match kind {
            Kind::Bool => self.out.push(self.random.random_range(0..=1)),
            Kind::Int8 => self.random_bytes(1),
            Kind::Int16 => self.random_bytes(2),
            Kind::Int32 => self.random_bytes(4),
            Kind::Int64 => self.random_bytes(8),
            Kind::Uuid => self.random_bytes(16),
            Kind::String => {
                let text: String = "täglich 7 Züge".chars().take(self.random.random_range(0..15)).collect();
                match (null, self.flexible) {
                    (true, true) => self.out.push(0),
                    (true, false) => self.out.extend((-1i16).to_be_bytes()),
                    (false, true) => self.varint(text.len() as u32 + 1),
                    (false, false) => self.out.extend((text.len() as i16).to_be_bytes()),
                }
                self.out.extend(if null { &[] } else { text.as_bytes() });
            }
            Kind::Bytes => {
                let count = self.length(null, 200);
                self.random_bytes(count);
            }
            Kind::Array(element) => {
                for _ in 0..self.length(null, 4) {
                    self.value(*element, false);
                }
            }
            Kind::Struct(fields) => {
                if nullable {
                    self.out.push(if null { 0xff } else { 1 });
                }
                if !null {
                    self.fields(fields);
                }
            }
        }
    }

    fn length(&mut self, null: bool, below: u32) -> usize {
        let count = self.random.random_range(0..below);
        match (null, self.flexible) {
            (true, true) => self.out.push(0),
            (true, false) => self.out.extend((-1i32).to_be_bytes()),
            (false, true) => self.varint(count + 1),
            (false, false) => self.out.extend((count as i32).to_be_bytes()),
        }
        if null { 0 } else { count as usize }
    }

    fn varint(&mut self, value: u32) {
        raftsman::protocol::reader::put_unsigned_varint(&mut self.out, value);
    }

    fn random_bytes(&mut self, count: usize) {
        let random = &mut self.random;
        self.out.extend((0..count).map(|_| random.random::<u8>()));
    }
}

/// A decoded request, whosever its codec is.
#[allow(clippy::large_enum_variant, reason = "a box would be counted as the request's memory")]
enum Decoded {
    Crate(RequestKind),
    DescribeLogDirs(DescribeLogDirsRequest),
    ListOffsets(ListOffsetsRequest),
    OffsetCommit(OffsetCommitRequest),
    OffsetFetch(OffsetFetchRequest),
}

impl Decoded {
    /// As the handlers decode it: what is ours is not the crate's.
    fn of(key: i16, bytes: &mut Bytes, version: i16) -> Result<Self, String> {
        fn ours<M: Decodable>(version: i16, bytes: &mut Bytes) -> Result<M, String> {
            messages::decode(version, bytes).map_err(|error| error.to_string())
        }
        match key {
            2 => ours(version, bytes).map(Self::ListOffsets),
            8 => ours(version, bytes).map(Self::OffsetCommit),
            9 => ours(version, bytes).map(Self::OffsetFetch),
            35 => ours(version, bytes).map(Self::DescribeLogDirs),
            _ => {
                let key = ApiKey::try_from(key).map_err(|()| "the crate lacks it".to_owned())?;
                let decoded = RequestKind::decode(key, bytes, version);
                decoded.map(Self::Crate).map_err(|error| error.root_cause().to_string())
            }
        }
    }

    fn encoded(&self, version: i16) -> Vec<u8> {
        fn ours(message: &impl Encodable, version: i16) -> Vec<u8> {
            messages::encode(message, version).unwrap().to_vec()
        }
        match self {
            Self::Crate(request) => {
                let mut out = BytesMut::new();
                request.encode(&mut out, version).unwrap();
                out.to_vec()
            }
            Self::DescribeLogDirs(request) => ours(request, version),
            Self::ListOffsets(request) => ours(request, version),
            Self::OffsetCommit(request) => ours(request, version),
            Self::OffsetFetch(request) => ours(request, version),
        }
    }
}

fn is_decodable(key: i16, version: i16) -> bool {
    !Decoded::of(key, &mut Bytes::new(), version)
        .is_err_and(|error| error.contains("version not supported") || error.contains("lacks it"))
}

/// Every version of every request that there is a decoder for.
fn each_version() -> impl Iterator<Item = (&'static Shape, i16)> {
    shapes::ALL.iter().flat_map(|shape| {
        let versions = shape.versions.0..=shape.versions.1;
        versions.filter(|version| is_decodable(shape.key, *version)).map(|version| (*shape, version))
    })
}

#[test]
fn the_table_knows_every_version_that_the_decoders_know() {
    for shape in shapes::ALL {
        for version in -1..30 {
            let is_known = shape.has_version(version);
            assert!(!is_decodable(shape.key, version) || is_known, "{} version {version}", shape.name);
        }
    }
}

#[test]
fn generated_requests_are_the_decoders_and_pass_whole_but_none_of_their_prefixes_does() {
    for (shape, version) in each_version() {
        for seed in 0..60 {
            let about = format!("{} version {version} seed {seed}", shape.name);
            let wire = Sample::of(shape, version, seed);

            // The oracle: what the table wrote is a request, and written again it is the same.
            let mut rest = Bytes::from(wire.clone());
            let request = Decoded::of(shape.key, &mut rest, version).expect(&about);
            assert!(rest.is_empty(), "{about}: the decoder left {} bytes", rest.len());
            assert_eq!(request.encoded(version), wire, "{about}");

            let walked = guard::walk(shape, version, &wire).expect(&about);
            assert_eq!(walked.wire_bytes, wire.len(), "{about}");
            let mut longer = wire.clone();
            longer.extend([0xff; 7]);
            assert_eq!(guard::walk(shape, version, &longer), Ok(walked), "{about}: bytes behind it");
            for length in 0..wire.len() {
                let prefix = &wire[..length];
                assert!(guard::walk(shape, version, prefix).is_err(), "{about}: {length} bytes of it");
            }
        }
    }
}

#[test]
fn what_passes_decodes_within_the_memory_worked_out_whatever_the_bytes_are() {
    let mut passed = 0;
    for (shape, version) in each_version() {
        for seed in 0..MUTATED_SEEDS {
            let about = format!("{} version {version} seed {seed}", shape.name);
            let mut wire = Sample::of(shape, version, seed);
            let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
            for _ in 0..random.random_range(0..4) {
                mutate(&mut wire, &mut random);
            }
            let (verdict, guard_bytes) = peak_bytes(|| guard::walk(shape, version, &wire));
            assert_eq!(guard_bytes, 0, "{about}: the guard itself allocates nothing");
            let Ok(walked) = verdict else { continue };
            let mut body = Bytes::from(wire);
            let (request, decoded_bytes) = peak_bytes(|| Decoded::of(shape.key, &mut body, version));
            assert!(request.is_ok(), "{about}: {:?}", request.err());
            assert!(
                decoded_bytes <= walked.memory_bytes + SLACK_BYTES,
                "{about}: {decoded_bytes} bytes held, {walked:?}"
            );
            passed += 1;
        }
    }
    assert!(passed > 3000, "only {passed} requests passed the guard");
}

fn mutate(wire: &mut Vec<u8>, random: &mut StdRng) {
    if wire.is_empty() {
        return wire.push(random.random());
    }
    let at = random.random_range(0..wire.len());
    match random.random_range(0..6) {
        0 => wire[at] = random.random(),
        1 => wire[at] = [0x00, 0x01, 0x02, 0x7f, 0x80, 0xff][random.random_range(0..6)],
        2 => wire[at] ^= 1 << random.random_range(0..8),
        3 => wire.insert(at, random.random()),
        4 => drop(wire.remove(at)),
        _ => wire[at..].iter_mut().take(4).for_each(|byte| *byte = 0xff),
    }
}

#[test]
fn counts_beyond_the_bytes_are_refused() {
    // ListOffsets 1: replica, then two thousand million topics.
    let mut wire = vec![0xff; 4];
    wire.extend(i32::MAX.to_be_bytes());
    assert!(matches!(
        guard::check(&shapes::LIST_OFFSETS, 1, &wire),
        Err(GuardError::TooManyElements { field: "topics", .. })
    ));
    // DeleteGroups 2, compact: the greatest varint there is, and one byte too long.
    assert!(matches!(
        guard::check(&shapes::DELETE_GROUPS, 2, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        Err(GuardError::TooManyElements { field: "groups_names", .. })
    ));
    assert!(matches!(guard::check(&shapes::DELETE_GROUPS, 2, &[0xff; 6]), Err(GuardError::Read { .. })));
    // Heartbeat 0: a string of length -2, one that is null, one that is not UTF-8.
    assert!(matches!(
        guard::check(&shapes::HEARTBEAT, 0, &[0xff, 0xfe]),
        Err(GuardError::NegativeLength { length: -2, .. })
    ));
    assert_eq!(
        guard::check(&shapes::HEARTBEAT, 0, &[0xff, 0xff]),
        Err(GuardError::Null { field: "group_id" })
    );
    assert_eq!(
        guard::check(&shapes::HEARTBEAT, 0, &[0, 1, 0xff]),
        Err(GuardError::NotUtf8 { field: "group_id" })
    );
    // A tagged field of Fetch 12, the cluster, says three bytes and has two.
    let mut wire = vec![0; 4 + 4 + 4 + 4 + 1 + 4 + 4];
    wire.extend([1, 1, 1, 1, 0, 3, 2, b'c', 0]);
    assert!(matches!(
        guard::check(&shapes::FETCH, 12, &wire),
        Err(GuardError::TagSize { announced: 3, actual: 2, .. })
    ));
    // A version that Kafka does not have does not pass; Produce does, which has its own view.
    assert!(matches!(guard::check(&shapes::HEARTBEAT, 5, &[]), Err(GuardError::UnknownVersion { .. })));
    assert_eq!(guard::check(&shapes::PRODUCE, 9, &[0xff; 9]), Ok(()));
}

#[test]
fn large_requests_pass_and_those_that_are_large_only_in_memory_do_not() {
    // Metadata 1 for 100,000 topics with names of six bytes.
    let mut wire = 100_000i32.to_be_bytes().to_vec();
    for topic in 0..100_000 {
        wire.extend(6i16.to_be_bytes());
        wire.extend(format!("{topic:06}").bytes());
    }
    let walked = guard::walk(&shapes::METADATA, 1, &wire).unwrap();
    let copy = wire.clone();
    let mut body = Bytes::from(wire);
    let (request, decoded_bytes) = peak_bytes(|| RequestKind::decode(ApiKey::Metadata, &mut body, 1));
    assert!(
        matches!(request, Ok(RequestKind::Metadata(request)) if request.topics.as_ref().is_some_and(|topics| topics.len() == 100_000))
    );
    assert!(decoded_bytes <= walked.memory_bytes + SLACK_BYTES, "{decoded_bytes} bytes held, {walked:?}");

    // From a buffer that is still growable, as frames are, too.
    let mut frame = BytesMut::from(&copy[..]);
    let (request, decoded_bytes) = peak_bytes(|| MetadataRequest::decode(&mut frame, 1));
    assert!(request.is_ok());
    assert!(decoded_bytes <= walked.memory_bytes + SLACK_BYTES, "{decoded_bytes} bytes held, {walked:?}");

    // Fetch 12 of 100,000 partitions of one topic.
    let mut wire = vec![0; 4 + 4 + 4 + 4 + 1 + 4 + 4];
    wire.extend([2, 2, b't']);
    raftsman::protocol::reader::put_unsigned_varint(&mut wire, 100_001);
    wire.extend(vec![0; 100_000 * (4 + 4 + 8 + 4 + 8 + 4 + 1)]);
    wire.extend([0, 1, 1, 0]);
    assert_eq!(guard::walk(&shapes::FETCH, 12, &wire).unwrap().wire_bytes, wire.len());

    // DeleteTopics 4 with ten million empty names: a byte each on the wire, 32 in memory.
    let mut wire = Vec::new();
    raftsman::protocol::reader::put_unsigned_varint(&mut wire, 10_000_001);
    wire.extend(vec![1; 10_000_000]);
    wire.extend([0; 5]);
    assert!(matches!(guard::check(&shapes::DELETE_TOPICS, 4, &wire), Err(GuardError::Memory { .. })));
}
