//! Pages say what the code says: those that are made from it, and versions that are written in both.

use std::collections::BTreeSet;
use std::path::Path;

use raftsman::config::broker::Remarks;
use raftsman::config::{BrokerConfig, environment, properties};

/// Holds that a page is as it would be made now; makes it with `UPDATE_DOCS` set.
fn is_up_to_date(page: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, made).expect("written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "{page} is out of date: run UPDATE_DOCS=1 cargo test --test documentation");
}

#[test]
fn the_configuration_page_is_up_to_date() {
    is_up_to_date("docs/configuration.md", &raftsman::config::documentation::page());
}

#[test]
fn the_page_of_apis_is_up_to_date() {
    is_up_to_date("docs/apis.md", &raftsman::server::api_page::page());
}

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What of a file stands between the first `before` and the next `after`.
fn between(path: &str, before: &str, after: char) -> String {
    let text = text(path);
    let rest = text.split_once(before).unwrap_or_else(|| panic!("{path} has no {before}")).1;
    rest.split(after).next().unwrap_or_default().to_owned()
}

/// Clients with their versions are told in the README's table and in the suites' own, and pinned where a suite is
/// built. What comes from Debian has no pin, and Spring Boot chooses what belongs to it.
#[test]
fn the_versions_of_clients_are_those_that_the_suites_are_built_with() {
    let maven = |suite: &str| between(&format!("compat-tests/{suite}/pom.xml"), "<kafka.version>", '<');
    let go = |module: &str| between("compat-tests/go/go.mod", &format!("{module} v"), '\n');
    let python =
        |package: &str| between("compat-tests/python/requirements.txt", &format!("{package}=="), '\n');
    let spring = "<artifactId>spring-boot-starter-parent</artifactId>\n    <version>";
    let pinned = [
        ("kafka-clients", "kafka-clients", maven("java")),
        ("kafka-clients", "kafka-clients", maven("java-2.8")),
        ("Kafka's own tools", "Kafka's command-line tools", maven("kafka-tools")),
        ("Kafka Streams", "Kafka Streams", maven("streams")),
        ("Kafka Connect, standalone", "Kafka Connect", maven("connect")),
        ("confluent-kafka (librdkafka)", "confluent-kafka", python("confluent-kafka")),
        ("aiokafka", "aiokafka", python("aiokafka")),
        ("franz-go", "franz-go", go("github.com/twmb/franz-go")),
        ("sarama", "IBM/sarama", go("github.com/IBM/sarama")),
        ("kafkajs", "kafkajs", between("compat-tests/node/package.json", "\"kafkajs\": \"", '"')),
        ("rdkafka", "rdkafka", between("compat-tests/rust/Cargo.toml", "rdkafka = { version = \"=", '"')),
        ("Spring Boot", "Spring Boot", between("compat-tests/spring/pom.xml", spring, '<')),
    ];
    let (readme, suites) = (text("README.md"), text("compat-tests/README.md"));
    let table = readme.lines().skip_while(|line| *line != "| client | language | version |").skip(2);
    let rows: Vec<(&str, Vec<&str>)> = table
        .map_while(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let (client, version) = (cells.next()?, cells.nth(1)?);
            // What is in parentheses comes with the client.
            let version = version.split(" (").next()?;
            Some((client, version.split(", ").collect()))
        })
        .collect();
    for (client, versions) in rows.iter().filter(|(_, versions)| versions[0] != "Debian's") {
        let pins = pinned.iter().filter(|(name, ..)| match client.strip_prefix(name) {
            Some(rest) => rest.is_empty() || rest.starts_with(" (") || rest.starts_with(" with "),
            None => false,
        });
        let pins: Vec<&str> = pins.map(|(_, _, version)| &**version).collect();
        assert_eq!(
            versions, &pins,
            "README.md names these versions of {client}, the suites are pinned to those"
        );
    }
    for (client, in_suites, version) in &pinned {
        assert!(rows.iter().any(|(row, _)| row.starts_with(client)), "README.md does not name {client}");
        let named = format!("| {in_suites} {version}");
        assert!(
            suites.lines().any(|line| line.contains(&named)),
            "compat-tests/README.md does not name {in_suites} {version}"
        );
    }
    let bundled = between("compat-tests/rust/Cargo.lock", "name = \"rdkafka-sys\"\nversion = \"", '"');
    let bundled =
        bundled.split_once('+').map(|(_, librdkafka)| format!("librdkafka {librdkafka}")).unwrap_or_default();
    for page in [&readme, &suites] {
        assert!(
            !bundled.is_empty() && page.contains(&bundled),
            "a README names another version than {bundled}"
        );
    }
}

/// The metrics that a text names, without what a histogram adds to its name.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let own = words.filter(|word| word.starts_with("raftsman_") || word.starts_with("process_"));
    let plain = own.map(|word| {
        ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word)
    });
    plain.collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let page = text("docs/metrics.md");
    let there = metrics_in(&page);
    for file in ["docker/prometheus/alerts.yml", "docker/grafana/dashboards/raftsman.json"] {
        let content = text(file);
        let asked = metrics_in(&content);
        let missing: Vec<_> = asked.difference(&there).collect();
        assert!(
            asked.len() > 10 && missing.is_empty(),
            "{file} asks for {missing:?}, which docs/metrics.md has not"
        );
    }
}

/// What a container is configured with: the image's file, and over it the variables of a compose file; and the voters of
/// the quorum that it is part of.
#[test]
fn the_containers_are_configured_by_keys_that_there_are() {
    const FILES: &[(&str, usize)] = &[("docker/compose.yaml", 0), ("docker/compose-three.yaml", 3)];
    for (file, nodes) in FILES {
        let compose = text(file);
        let variables = compose.lines().filter_map(|line| line.trim().split_once(": "));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut values = properties::parse(&text("docker/server.properties"));
        assert_eq!(environment::lay_over(&mut values, variables), [""; 0]);
        let (config, remarks) = BrokerConfig::from_values(values).expect(file);
        assert_eq!(remarks, Remarks::default(), "{file}");
        assert_eq!(config.quorum.voters.0.len(), *nodes);
    }
    let toolchain = between("rust-toolchain.toml", "channel = \"", '"');
    let image = between("docker/Dockerfile", "ARG BUILDER=rust:", '-');
    assert!(
        toolchain.starts_with(&image),
        "the Dockerfile builds with Rust {image}, rust-toolchain.toml names {toolchain}"
    );
}
