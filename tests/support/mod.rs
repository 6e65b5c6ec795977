//! A broker process of the built binary, and a client that speaks the wire as plainly as can be.

#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod cluster;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use raftsman::protocol::batch::batches;
use raftsman::protocol::builder::{BatchBuilder, BatchOptions};

/// Longest that anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until something is found, as long as patience lasts.
pub(crate) fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A broker process; killed when dropped.
pub(crate) struct Broker {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub folder: PathBuf,
    pub log: Arc<Mutex<String>>,
}

impl Broker {
    /// Starts a broker on free ports, with its data in `folder`.
    pub(crate) fn start(folder: &Path, overrides: &[&str]) -> Broker {
        Self::start_with_environment(folder, overrides, &[])
    }

    /// As [`Broker::start`], with these variables in its environment.
    pub(crate) fn start_with_environment(
        folder: &Path,
        overrides: &[&str],
        environment: &[(&str, &str)],
    ) -> Broker {
        let data = format!("log.dirs={}", folder.display());
        let own = ["listeners=PLAINTEXT://127.0.0.1:0", "raftsman.admin.listener=127.0.0.1:0", &data];
        let values = own.iter().chain(overrides);
        let arguments: Vec<&str> = values.flat_map(|value| ["--override", *value]).collect();
        Self::run_with_environment(folder, &arguments, environment)
    }

    /// Starts a broker with these arguments, which give it free ports and its data in `folder`.
    pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Broker {
        Self::run_with_environment(folder, arguments, &[])
    }

    fn run_with_environment(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Broker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raftsman"));
        command.arg("server").args(arguments).envs(environment.iter().copied());
        let mut child =
            command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("the broker starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, receiver) = std::sync::mpsc::channel();
        let stderr = child.stderr.take().expect("stderr is piped");
        std::thread::spawn({
            let log = log.clone();
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let _ = sender.send(line.clone());
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            }
        });
        let (mut address, mut admin) = (None, None);
        let deadline = Instant::now() + PATIENCE;
        while address.is_none() || admin.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = receiver.recv_timeout(left) else {
                let _ = child.kill();
                panic!("the broker does not start:\n{}", log.lock().unwrap());
            };
            if let Some(text) = line.trim().strip_prefix("clients ") {
                address = text.trim().parse().ok();
            }
            if let Some(text) = line.trim().strip_prefix("metrics ") {
                let host = text.trim().trim_start_matches("http://");
                admin = host.split('/').next().and_then(|host| host.parse().ok());
            }
        }
        let (address, admin) = (address.expect("found"), admin.expect("found"));
        Broker { child, address, admin, folder: folder.to_owned(), log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("the broker ends")
    }

    /// `kill -9`, and waits until the process is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the broker is killed");
        self.child.wait().expect("the broker is gone");
    }

    /// SIGTERM; the broker must end in order.
    pub(crate) fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("the broker is told to stop");
        let status = self.child.wait().expect("the broker ends");
        assert!(status.success(), "the broker ended with {status}:\n{}", self.log.lock().unwrap());
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the broker runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("there is a VmRSS line");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }

    /// The value of a metric, 0 when it is not there (yet).
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = http_get(self.admin, "/metrics").1;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.trim().parse().expect("a number"))
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address).expect("the broker accepts")
    }

    pub(crate) fn log_text(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status code and body.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the admin listener accepts");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    (code, text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

/// One connection, one request at a time.
pub(crate) struct Client {
    pub stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream, correlation_id: 0 })
    }

    /// A request's frame, length included.
    pub(crate) fn frame<R: Request>(&mut self, request: &R, version: i16) -> BytesMut {
        self.correlation_id += 1;
        let header_version = ApiKey::try_from(R::KEY).expect("known").request_header_version(version);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut payload = BytesMut::new();
        header.encode(&mut payload, header_version).expect("encodes");
        request.encode(&mut payload, version).expect("encodes");
        let mut frame = BytesMut::from(&i32::try_from(payload.len()).expect("fits").to_be_bytes()[..]);
        frame.extend_from_slice(&payload);
        frame
    }

    pub(crate) fn send<R: Request>(&mut self, request: &R, version: i16) -> std::io::Result<()> {
        let frame = self.frame(request, version);
        self.stream.write_all(&frame)
    }

    /// The next response's payload: header and body.
    pub(crate) fn receive_payload(&mut self) -> std::io::Result<Bytes> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let mut payload = vec![0; usize::try_from(i32::from_be_bytes(size)).expect("a size")];
        self.stream.read_exact(&mut payload)?;
        Ok(Bytes::from(payload))
    }

    pub(crate) fn receive<R: Request>(&mut self, version: i16) -> std::io::Result<R::Response> {
        let mut payload = self.receive_payload()?;
        let header_version = ApiKey::try_from(R::KEY).expect("known").response_header_version(version);
        ResponseHeader::decode(&mut payload, header_version).expect("a response header");
        let response = R::Response::decode(&mut payload, version).expect("a response");
        assert!(payload.is_empty(), "{} bytes are left over", payload.len());
        Ok(response)
    }

    pub(crate) fn call<R: Request>(&mut self, request: &R, version: i16) -> std::io::Result<R::Response> {
        self.send(request, version)?;
        self.receive::<R>(version)
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string((*key).to_owned()))
                .with_value(Some(StrBytes::from_string((*value).to_owned())))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let response = self.call(&request, 7).expect("answered");
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    }

    /// A new idempotent producer's id.
    pub(crate) fn producer_id(&mut self) -> i64 {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let response = self.call(&request, 4).expect("answered");
        assert_eq!(response.error_code, 0);
        response.producer_id.0
    }

    pub(crate) fn metadata(&mut self, topics: &[&str]) -> MetadataResponse {
        let topics = topics
            .iter()
            .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))))
            .collect();
        let request =
            MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false);
        self.call(&request, 12).expect("answered")
    }

    /// Produces one batch; gives the error code and the base offset.
    pub(crate) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        acks: i16,
        batch: Bytes,
    ) -> std::io::Result<(i16, i64)> {
        let response = self.call(&produce_request(topic, partition, acks, batch), 12)?;
        let answer = &response.responses[0].partition_responses[0];
        Ok((answer.error_code, answer.base_offset))
    }

    /// Fetches once; gives the error code, the high watermark and the records' bytes.
    pub(crate) fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        bytes_max: i32,
    ) -> (i16, i64, Bytes) {
        let response =
            self.call(&fetch_request(topic, partition, offset, bytes_max, 0), 12).expect("answered");
        let answer = &response.responses[0].partitions[0];
        (answer.error_code, answer.high_watermark, answer.records.clone().unwrap_or_default())
    }

    /// Every record of a partition: offset and value.
    pub(crate) fn read_all(&mut self, topic: &str, partition: i32) -> Vec<(i64, Bytes)> {
        let mut records = Vec::new();
        let mut offset = 0;
        loop {
            let (error, high_watermark, bytes) = self.fetch(topic, partition, offset, 8 * 1024 * 1024);
            assert_eq!(error, 0);
            if offset >= high_watermark {
                return records;
            }
            let before = offset;
            // The last batch may be cut.
            for batch in batches(&bytes).map_while(Result::ok) {
                batch.verify_crc().expect("the checksum is right");
                for record in batch.records(1 << 30).expect("readable") {
                    let record = record.expect("readable");
                    if record.offset >= offset {
                        records.push((record.offset, record.value.unwrap_or_default()));
                    }
                }
                offset = batch.header.last_offset() + 1;
            }
            assert!(offset > before, "the fetch at {before} brings nothing, below {high_watermark}");
        }
    }
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub(crate) fn produce_request(topic: &str, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

pub(crate) fn fetch_request(
    topic: &str,
    partition: i32,
    offset: i64,
    bytes_max: i32,
    wait_ms: i32,
) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(bytes_max);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_max_bytes(bytes_max)
        .with_min_bytes(1)
        .with_max_wait_ms(wait_ms)
        .with_topics(vec![topic])
        .with_session_epoch(-1)
}

/// A batch of values; with a producer, idempotent.
pub(crate) fn batch(values: &[&[u8]], producer: Option<(i64, i16, i32)>) -> Bytes {
    let (producer_id, producer_epoch, base_sequence) = producer.unwrap_or((-1, -1, -1));
    let options = BatchOptions { producer_id, producer_epoch, base_sequence, ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    for value in values {
        builder.add(now_ms(), None, Some(value)).expect("fits");
    }
    builder.build().expect("builds")
}

pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the end of time")
}
