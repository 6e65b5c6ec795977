//! `docs/configuration.md`, made from the keys.

use std::fmt::Write;

use super::declaration::UpdateMode;
use super::key::{Key, Kind};
use super::topic::Unit;
use super::{broker_keys, group, topic};

/// What stands above the tables.
const HEAD: &str = "# Configuration

Made from `src/config`; `UPDATE_DOCS=1 cargo test --test documentation` writes it anew.

`raftsman server [server.properties] [--override key=value]…` takes Kafka's property names. Without a
file it runs one node on loopback with its data in `./raftsman-data`. The `server.properties` of a
Kafka installation starts it: keys of Kafka's that have no meaning here are named in one line at the
start, a key that nobody knows is warned about with what may have been meant, and a bad value is an
error. With `--environment`, variables such as `KAFKA_NODE_ID` go over the file, as in a container
([operating](operating.md#configuration-in-containers)).

## While the broker runs

`raftsman configs`, Kafka's `kafka-configs` and admin clients describe and change topics, groups, and
the broker keys that the table below marks with *run time*: for one broker (`--broker 1`) or for all of
them (`--broker-defaults`). A broker's own value goes before that for all brokers, which goes before
`server.properties`, which goes before the default; a topic takes what it does not set from the
broker, at once when that changes. What is set lies in the cluster's metadata and survives restarts.
Connections beyond a lowered `max.connections` stay until they end.

Levels of loggers (`--broker-logger 1 --add-config raftsman::segment=DEBUG`) change at once and are
forgotten at the end of the process, as in Kafka. `RAFTSMAN_LOG` sets them for the start.

## Differences to Kafka

- `listeners` is `PLAINTEXT://127.0.0.1:9092` unless set (Kafka: every interface), and `log.dirs` is
  `raftsman-data` in the working folder.
- `queued.max.request.bytes` is 256 MiB unless set (Kafka: without a limit), and counts bytes as they
  arrive.
- `socket.send.buffer.bytes` and `socket.receive.buffer.bytes` are left to the kernel unless set
  (Kafka: 102400).
- `log.flush.offset.checkpoint.interval.ms` also syncs what was written since the last time, so that
  recovery looks only at what is newer. `flush.ms` works as it says, without
  `log.flush.scheduler.interval.ms` (which is read as a default of `flush.ms`).
- With `flush.messages=1`, consumers see records only once they are synced.
- One data folder and PLAINTEXT listeners: anything else is refused.
- DescribeConfigs tells of the broker keys below (`producer.id.expiration.check.interval.ms` among them,
  which Kafka hides), not of Kafka's others, which have no meaning here.
  Kafka keys that Kafka changes at run time and this broker does not are read-only: `listeners`,
  `listener.security.protocol.map`, `num.recovery.threads.per.data.dir`, threads, TLS and SASL, quotas,
  tiered storage, `listener.name.…` and `group.consumer.…`, `group.share.…`, `group.streams.…`.
- A broker key that nobody knows is refused (Kafka stores it for plugins and hides its value), as are
  times below -1 (which Kafka takes as -1) and host names in `max.connections.per.ip.overrides`.
- `min.insync.replicas` of all brokers is set when a cluster of several nodes is made, with
  `eligible.leader.replicas.version`, as in Kafka. A node that is made alone has neither, and it may be set for one broker.
- `node.id`, `process.roles` and `controller.listener.names` have defaults. `offsets.topic.replication.factor`
  is 1 on a node that is alone, and 3 in a cluster, as in Kafka. `socket.listen.backlog.size` is 1024 (Kafka: 50).
- The limits of group keys are those of Kafka's defaults; the broker keys that move them have no
  meaning here. Group keys are kept, and take effect with the protocols that they belong to.
- Loggers are the parts of this broker, not Kafka's classes; FATAL is silence.
- Client metrics (KIP-714) are not served: their configurations are refused, and there are none to list.
- `log.cleaner.threads` may change by any factor (Kafka: by two), is 256 at most, and 0 stops the cleaner.
- `log.cleaner.dedupe.buffer.size` is a limit: memory is taken for the keys that come, while a log is
  compacted. A full disk does not stop the cleaner for good: it tries again. Any other failure of a log
  takes that log out of compaction until the next start, as in Kafka (where a failing disk takes out
  its folder).
- Refused with a reason, since they would have no effect: `preallocate=true`, tiered storage
  (`remote.…`, `local.retention.…`), replication throttles, and levels of lz4 but 9 (the encoder has
  one). `internal.segment.bytes` is not known.
- Records inside a compressed batch are looked at where the topic recompresses (`compression.type`) or is
  compacted, where the batch's header cannot be right (a largest timestamp that is not above the first
  record's: sarama before 1.45.1 leaves it unset), and where the header alone would have the batch refused;
  otherwise the batch's checksum is checked, and its header is believed. A producer that compresses rubbish
  harms its consumers, not the broker; but one that writes a wrong header can get round
  `message.timestamp.*.max.ms`. With `raftsman.check.compressed.records=true` every compressed batch is looked
  into, as in Kafka: 0.4 CPU seconds for a GB of records with lz4, 0.7 to 1.1 with snappy, 0.8 to 1.2 with zstd,
  2.5 to 2.8 with gzip, beside 0.03 that a compressed batch costs without. Records of an uncompressed batch are always walked one by one.

";

/// The whole page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    page +=
        "## Broker\n\n*Run time* keys can be changed while the broker runs; the others with a restart.\n\n";
    page += "| key | type | default | changes | meaning |\n|---|---|---|---|---|\n";
    for known in broker_keys::all() {
        let changes = match known.update_mode {
            UpdateMode::ReadOnly => "restart",
            UpdateMode::ClusterWide => "run time",
        };
        row(&mut page, &known.key, Some(changes), "");
    }
    page += "\n## Topics\n\nAll change at run time. A topic takes what it does not set from the broker's keys named last, the first that is set.\n\n";
    page += "| key | type | default | meaning |\n|---|---|---|---|\n";
    for entry in topic::keys() {
        let names: Vec<String> = entry
            .broker_keys
            .iter()
            .map(|known| match known.unit {
                Unit::Same => format!("`{}`", known.name),
                Unit::HoursToMs | Unit::MinutesToMs => format!("`{}` (converted)", known.name),
            })
            .collect();
        let broker_keys =
            if names.is_empty() { String::new() } else { format!(" From {}.", names.join(", ")) };
        row(&mut page, &entry.key, None, &broker_keys);
    }
    page += "\n## Groups\n\nAll change at run time. They matter to groups of the new protocols (`consumer`, `share`, `streams`), which this\nbroker does not serve yet; classic groups bring their timeouts with them.\n\n";
    page += "| key | type | default | meaning |\n|---|---|---|---|\n";
    for entry in group::KEYS {
        let limits = match entry.limits() {
            (Some(least), Some(greatest)) => format!(" Limited to {least} to {greatest}."),
            (None, Some(greatest)) => format!(" Limited to {greatest}."),
            _ => String::new(),
        };
        row(&mut page, &entry.key, None, &limits);
    }
    page
}

fn row(page: &mut String, key: &Key, changes: Option<&str>, more: &str) {
    let default = match key.default {
        None | Some("") => String::new(),
        Some(default) => format!("`{default}`"),
    };
    let changes = changes.map(|changes| format!(" {changes} |")).unwrap_or_default();
    // Writing to a string cannot fail.
    let _ =
        writeln!(page, "| `{}` | {} | {default} |{changes} {}{more} |", key.name, kind(key.kind), key.doc);
}

fn kind(kind: Kind) -> String {
    let range =
        |least: String, greatest: String, is_least: bool, is_greatest: bool| match (is_least, is_greatest) {
            (true, true) => String::new(),
            (false, true) => format!(" from {least}"),
            (true, false) => format!(" to {greatest}"),
            (false, false) => format!(" {least} to {greatest}"),
        };
    match kind {
        Kind::Boolean => "boolean".to_owned(),
        Kind::Short(least, greatest) => format!("short {least} to {greatest}"),
        Kind::Int(least, greatest) => {
            format!(
                "int{}",
                range(least.to_string(), greatest.to_string(), least == i32::MIN, greatest == i32::MAX)
            )
        }
        Kind::Long(least, greatest) => {
            format!(
                "long{}",
                range(least.to_string(), greatest.to_string(), least == i64::MIN, greatest == i64::MAX)
            )
        }
        Kind::Double(least, f64::MAX) => format!("double from {least}"),
        Kind::Double(least, greatest) => format!("double {least} to {greatest}"),
        Kind::Text => "text".to_owned(),
        Kind::OneOf(words) => format!("one of {}", words.join(", ")),
        Kind::List([]) => "list".to_owned(),
        Kind::List(words) => format!("list of {}", words.join(", ")),
    }
}
