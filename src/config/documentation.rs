//! `docs/configuration.md`, made from the keys.

use std::fmt::Write;

use super::key::{Key, Kind};
use super::topic::Unit;
use super::{broker, topic};

/// What stands above the tables.
const HEAD: &str = "# Configuration

Made from `src/config`; `UPDATE_DOCS=1 cargo test --test documentation` writes it anew.

`raftsman server [server.properties] [--override key=value]…` takes Kafka's property names. Without a
file it runs one node on loopback with its data in `./raftsman-data`. A key that neither Kafka nor
Raftsman knows is warned about by name; a key of Kafka's that has no meaning here is named once at
the start; a bad value is an error.

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
- One data folder, PLAINTEXT listeners, and both roles in one node: anything else is refused.
- A broker's own keys cannot be changed while it runs.
- `cleanup.policy=compact` is taken and demands keys, but the cleaner is not there yet: such a topic
  keeps every record, and the broker's log warns of it when one is created.
- `preallocate=true`, tiered storage and replication throttles of topics are
  refused: they are not served.
- Records inside a compressed batch are looked at only where the topic recompresses
  (`compression.type`); otherwise the batch's checksum is checked, and its header is believed
  (timestamps, number of records). A producer that compresses rubbish harms its consumers, not the
  broker. Records of an uncompressed batch are walked one by one.
- `compression.lz4.level` is taken and has no effect: the lz4 encoder has one level.

";

/// The whole page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    page += "## Broker\n\n| key | type | default | meaning |\n|---|---|---|---|\n";
    for key in broker::all_keys() {
        row(&mut page, &key, key.default.unwrap_or(""), "");
    }
    page += "\n## Topics\n\nA topic takes what it does not set from the broker's keys named last, the first that is set.\n\n";
    page += "| key | type | default | meaning |\n|---|---|---|---|\n";
    for entry in topic::KEYS {
        let names: Vec<String> = entry
            .broker_keys
            .iter()
            .map(|(name, unit)| match unit {
                Unit::Same => format!("`{name}`"),
                Unit::HoursToMs | Unit::MinutesToMs => format!("`{name}` (converted)"),
            })
            .collect();
        let broker_keys =
            if names.is_empty() { String::new() } else { format!(" From {}.", names.join(", ")) };
        row(&mut page, &entry.key, entry.key.default.unwrap_or(""), &broker_keys);
    }
    page
}

fn row(page: &mut String, key: &Key, default: &str, more: &str) {
    let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
    let kind = kind(key.kind);
    // Writing to a string cannot fail.
    let _ = writeln!(page, "| `{}` | {kind} | {default} | {}{more} |", key.name, key.doc);
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
        Kind::Double(least, greatest) => format!("double {least} to {greatest}"),
        Kind::Text => "text".to_owned(),
        Kind::OneOf(words) => format!("one of {}", words.join(", ")),
        Kind::List([]) => "list".to_owned(),
        Kind::List(words) => format!("list of {}", words.join(", ")),
    }
}
