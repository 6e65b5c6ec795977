//! Kafka's scripts by their names: which command each one is, and its command line as Kafka's parser takes it.
//!
//! Kafka's tools read their options with joptsimple: a long option may have one dash, `=` may stand before its
//! value, it may be shortened as long as it stays clear which one is meant, and what follows an option that
//! takes a value is that value, whatever it looks like. Here a command line in that form becomes one that clap
//! understands, before clap sees it.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Arg, ArgAction, Command};

use super::bench::perf_tests;

/// A script of Kafka 4.3's `bin` folder.
pub struct Script {
    /// Without `.sh`.
    pub name: &'static str,
    stand_in: StandIn,
}

/// What stands in for a script.
#[derive(Clone, Copy)]
enum StandIn {
    /// A command with what the script takes for granted, and the options of Kafka's tool.
    Command(&'static [&'static str], &'static str),
    /// A command whose options are others: the command line is translated.
    Translated(fn(Vec<OsString>) -> Result<Vec<OsString>, clap::Error>),
    /// Nothing; why, and what to do in its place.
    Nothing(&'static str),
}

use StandIn::{Command as Is, Nothing, Translated};

const TRANSACTIONS: &str = "transactions are not served yet";
const SHARE: &str =
    "share groups are not served; consumer groups are: raftsman groups, raftsman consume --group";
const CONNECT: &str = "Kafka Connect is a program of its own: run the one of a Kafka installation with \
                       bootstrap.servers pointing here, it works unchanged";
const SECURITY: &str = "TLS, SASL, authorisation and delegation tokens are not served yet";

/// Everything in Kafka 4.3's `bin`, and what is asked for most of what was there before.
pub const SCRIPTS: &[Script] = &[
    script(
        "kafka-topics",
        Is(
            &["topics"],
            "alter at-min-isr-partitions bootstrap-server command-config config create delete delete-config \
             describe exclude-internal help if-exists if-not-exists list partition-size-limit-per-response \
             partitions replica-assignment replication-factor topic topic-id topics-with-overrides \
             unavailable-partitions under-min-isr-partitions under-replicated-partitions version",
        ),
    ),
    script(
        "kafka-configs",
        Is(
            &["configs"],
            "add-config add-config-file all alter bootstrap-controller bootstrap-server broker broker-defaults \
             broker-logger client client-defaults client-metrics command-config delete-config describe \
             entity-default entity-name entity-type group help ip ip-defaults topic user user-defaults version",
        ),
    ),
    script(
        "kafka-get-offsets",
        Is(
            &["offsets"],
            "bootstrap-server command-config exclude-internal-topics help partitions time topic \
             topic-partitions version",
        ),
    ),
    script(
        "kafka-consumer-groups",
        Is(
            &["groups"],
            "all-groups all-topics bootstrap-server by-duration command-config delete delete-offsets describe \
             dry-run execute export from-file group help list members offsets reset-offsets shift-by state \
             timeout to-current to-datetime to-earliest to-latest to-offset topic type validate-regex verbose \
             version",
        ),
    ),
    script(
        "kafka-groups",
        Is(
            &["groups", "--all-types"],
            "bootstrap-server command-config consumer group-type help list protocol share streams version",
        ),
    ),
    script(
        "kafka-delete-records",
        Is(&["delete-records"], "bootstrap-server command-config help offset-json-file version"),
    ),
    script(
        "kafka-log-dirs",
        Is(&["log-dirs"], "bootstrap-server broker-list command-config describe help topic-list version"),
    ),
    script(
        "kafka-console-producer",
        Is(
            &["produce"],
            "batch-size bootstrap-server command-config command-property compression-codec help line-reader \
             max-block-ms max-memory-bytes max-partition-memory-bytes message-send-max-retries \
             metadata-expiry-ms producer-property producer.config property reader-config reader-property \
             request-required-acks request-timeout-ms retry-backoff-ms socket-buffer-size sync timeout topic \
             version",
        ),
    ),
    script(
        "kafka-console-consumer",
        Is(
            &["consume"],
            "bootstrap-server command-config command-property consumer-property consumer.config \
             enable-systest-events formatter formatter-config formatter-property from-beginning group help \
             include isolation-level key-deserializer max-messages offset partition property \
             skip-message-on-error timeout-ms topic value-deserializer version",
        ),
    ),
    script(
        "kafka-dump-log",
        Is(
            &["dump-log"],
            "cluster-metadata-decoder deep-iteration files help index-sanity-check key-decoder-class max-bytes \
             max-message-size offsets-decoder print-data-log remote-log-metadata-decoder \
             share-group-state-decoder skip-record-metadata transaction-log-decoder value-decoder-class \
             verify-index-only version",
        ),
    ),
    script(
        "kafka-reassign-partitions",
        Is(
            &["reassign"],
            "additional bootstrap-controller bootstrap-server broker-list cancel command-config disable-rack-aware \
             disallow-replication-factor-change execute generate help list preserve-throttles reassignment-json-file \
             replica-alter-log-dirs-throttle throttle timeout topics-to-move-json-file verify version",
        ),
    ),
    script(
        "kafka-leader-election",
        Is(
            &["elect-leaders"],
            "admin.config all-topic-partitions bootstrap-server command-config election-type help partition \
             path-to-json-file topic version",
        ),
    ),
    script("kafka-cluster", Is(&["cluster"], "")),
    script(
        "kafka-broker-api-versions",
        Is(&["api-versions"], "bootstrap-server command-config help version"),
    ),
    script("kafka-server-start", Is(&["server"], "override version")),
    script("kafka-producer-perf-test", Translated(perf_tests::producer)),
    script("kafka-consumer-perf-test", Translated(perf_tests::consumer)),
    script("kafka-e2e-latency", Translated(perf_tests::end_to_end)),
    script(
        "kafka-server-stop",
        Nothing(
            "a broker ends in order on SIGTERM: kill the process of `raftsman server`, or systemctl stop",
        ),
    ),
    script("kafka-storage", Is(&["storage"], "")),
    script("kafka-acls", Nothing(SECURITY)),
    script("kafka-delegation-tokens", Nothing(SECURITY)),
    script("kafka-transactions", Nothing(TRANSACTIONS)),
    script(
        "kafka-replica-verification",
        Nothing("compare with raftsman dump-log on each broker; Kafka's own tool works, too"),
    ),
    script("kafka-metadata-quorum", Is(&["quorum"], "")),
    script(
        "kafka-metadata-shell",
        Nothing(
            "metadata is not kept in Kafka's __cluster_metadata; raftsman topics, configs and groups show it",
        ),
    ),
    script("kafka-features", Is(&["features"], "")),
    script("kafka-console-share-consumer", Nothing(SHARE)),
    script("kafka-share-consumer-perf-test", Nothing(SHARE)),
    script("kafka-share-groups", Nothing(SHARE)),
    script("kafka-verifiable-share-consumer", Nothing(SHARE)),
    script(
        "kafka-streams-groups",
        Nothing(
            "groups of the streams protocol are not served; Streams applications with the classic one are",
        ),
    ),
    script(
        "kafka-streams-application-reset",
        Nothing(
            "reset the input topics with raftsman groups --reset-offsets --group APPLICATION --to-earliest \
             --execute --topic TOPIC, and delete the application's internal topics with raftsman topics --delete",
        ),
    ),
    script(
        "kafka-client-metrics",
        Nothing("client metrics (KIP-714) are not served; librdkafka and the Java client have their own"),
    ),
    script("kafka-jmx", Nothing("there is no JVM; /metrics has the numbers (raftsman.admin.listener)")),
    script("kafka-run-class", Nothing("there is no JVM; raftsman --help names the tools")),
    script("kafka-oauth-compatibility-test", Nothing(SECURITY)),
    script(
        "kafka-verifiable-producer",
        Nothing("use raftsman produce, or raftsman bench produce, which counts what the broker holds"),
    ),
    script("kafka-verifiable-consumer", Nothing("use raftsman consume --group")),
    script(
        "kafka-mirror-maker",
        Nothing(
            "MirrorMaker is gone since Kafka 4.0; run MirrorMaker 2 (connect-mirror-maker) of a Kafka installation",
        ),
    ),
    script("connect-standalone", Nothing(CONNECT)),
    script("connect-distributed", Nothing(CONNECT)),
    script("connect-mirror-maker", Nothing(CONNECT)),
    script("connect-plugin-path", Nothing(CONNECT)),
    script("trogdor", Nothing("it tests Kafka itself; raftsman bench --help measures any cluster")),
];

const fn script(name: &'static str, stand_in: StandIn) -> Script {
    Script { name, stand_in }
}

impl Script {
    /// The options of Kafka's tool, where the command takes the same.
    fn options(&self) -> impl Iterator<Item = &'static str> {
        match self.stand_in {
            Is(_, options) => options,
            _ => "",
        }
        .split_whitespace()
    }
}

/// Options that older tutorials use and Kafka 4 has no more, and what takes their place.
const GONE: &[(&str, &str)] = &[
    (
        "zookeeper",
        "there is no ZooKeeper, nor is there one in Kafka since 4.0: give --bootstrap-server HOST:PORT",
    ),
    ("broker-list", "gone since Kafka 4.0: give --bootstrap-server HOST:PORT"),
    ("new-consumer", "gone: there is no other consumer any more, leave it out"),
];

/// Classes that tutorials give to kafka-run-class, by the end of their names, with the script that runs them.
const CLASSES: &[(&str, &str)] = &[
    ("tools.GetOffsetShell", "kafka-get-offsets"),
    ("tools.DumpLogSegments", "kafka-dump-log"),
    ("tools.ConsoleProducer", "kafka-console-producer"),
    ("tools.ConsoleConsumer", "kafka-console-consumer"),
    ("consumer.ConsoleConsumer", "kafka-console-consumer"),
    ("tools.ProducerPerformance", "kafka-producer-perf-test"),
    ("tools.ConsumerPerformance", "kafka-consumer-perf-test"),
    ("tools.EndToEndLatency", "kafka-e2e-latency"),
    ("admin.TopicCommand", "kafka-topics"),
    ("tools.TopicCommand", "kafka-topics"),
    ("admin.ConfigCommand", "kafka-configs"),
    ("admin.ConsumerGroupCommand", "kafka-consumer-groups"),
    ("group.ConsumerGroupCommand", "kafka-consumer-groups"),
    ("admin.LogDirsCommand", "kafka-log-dirs"),
    ("tools.LogDirsCommand", "kafka-log-dirs"),
    ("admin.DeleteRecordsCommand", "kafka-delete-records"),
    ("tools.DeleteRecordsCommand", "kafka-delete-records"),
    ("admin.BrokerApiVersionsCommand", "kafka-broker-api-versions"),
    ("tools.BrokerApiVersionsCommand", "kafka-broker-api-versions"),
    ("tools.ClusterTool", "kafka-cluster"),
    ("tools.MetadataQuorumCommand", "kafka-metadata-quorum"),
    ("tools.FeatureCommand", "kafka-features"),
    ("tools.StorageTool", "kafka-storage"),
];

/// The script that runs what kafka-run-class is given.
fn script_of_class(program: &OsStr, class: Option<&OsString>) -> Option<&'static str> {
    let is_run_class = script_named(program)?.is_ok_and(|script| script.name == "kafka-run-class");
    let class = class.filter(|_| is_run_class)?.to_str()?;
    CLASSES.iter().find(|(end, _)| class.ends_with(&format!(".{end}"))).map(|(_, script)| *script)
}

/// An option that is gone, which the tool does not have for something else.
fn gone<'a>(given: impl Iterator<Item = &'a OsString>, script: &Script) -> Option<clap::Error> {
    given.filter_map(|token| token.to_str()?.strip_prefix('-')).find_map(|token| {
        let name = token.trim_start_matches('-').split('=').next()?;
        let (name, why) = GONE.iter().find(|(gone, _)| *gone == name)?;
        let is_gone = !script.options().any(|option| option == *name);
        let message = format!("--{name}: {why}\n");
        is_gone.then(|| clap::Error::raw(clap::error::ErrorKind::UnknownArgument, message))
    })
}

/// Why there is no command line to run.
#[derive(Debug)]
pub enum NotRun {
    /// The tool is not there; the message says why.
    Absent(String),
    Usage(clap::Error),
}

/// The script of a program's name, with or without `.sh`.
fn script_named(program: &OsStr) -> Option<Result<&'static Script, String>> {
    let name = Path::new(program).file_name()?.to_str()?;
    let name = name.strip_suffix(".sh").or_else(|| name.strip_suffix(".bat")).unwrap_or(name);
    if let Some(script) = SCRIPTS.iter().find(|script| script.name == name) {
        return Some(Ok(script));
    }
    if name.starts_with("zookeeper-") {
        return Some(Err(format!("{name}: there is no ZooKeeper, nor is there one in Kafka since 4.0")));
    }
    (name.starts_with("kafka-") || name.starts_with("connect-"))
        .then(|| Err(format!("{name}: not a script of Kafka 4.3; raftsman --help names the tools")))
}

/// The command line as clap takes it: with the command in it when the binary runs under a script's name, and
/// with options in clap's form.
pub fn command_line(mut arguments: Vec<OsString>, root: &Command) -> Result<Vec<OsString>, NotRun> {
    let Some(mut program) = arguments.first().cloned() else { return Ok(arguments) };
    if let Some(script) = script_of_class(&program, arguments.get(1)) {
        arguments.remove(1);
        program = script.into();
        arguments[0] = program.clone();
    }
    if let Some(Ok(script)) = script_named(&program)
        && !matches!(script.stand_in, Nothing(_))
        && let Some(error) = gone(arguments.iter().skip(1), script)
    {
        return Err(NotRun::Usage(error));
    }
    let mut kafka_options = None;
    let mut given_from = 1;
    match script_named(&program) {
        None => {}
        Some(Err(reason)) => return Err(NotRun::Absent(reason)),
        Some(Ok(script)) => match script.stand_in {
            Nothing(reason) => return Err(NotRun::Absent(format!("{}: {reason}", script.name))),
            Translated(translate) => return translate(arguments).map_err(NotRun::Usage),
            Is(command, _) => {
                arguments.splice(1..1, command.iter().map(OsString::from));
                kafka_options = Some(script.options().collect::<Vec<_>>());
                given_from += command.len();
            }
        },
    }
    let Some(command) = arguments.get(1).and_then(|name| root.find_subcommand(name)) else {
        return Ok(arguments);
    };
    // Commands with commands of their own, and the broker's, take their options as clap does.
    if command.has_subcommands() || command.get_name() == "server" {
        return Ok(arguments);
    }
    let given = arguments.split_off(given_from.max(2).min(arguments.len()));
    arguments.extend(as_clap_takes_them(given, command, kafka_options.as_deref()));
    Ok(arguments)
}

/// Rewrites options from joptsimple's forms. `kafka_options`: those of Kafka's tool, which a shortened name
/// means; without them clap finds out what is meant.
fn as_clap_takes_them(
    given: Vec<OsString>,
    command: &Command,
    kafka_options: Option<&[&str]>,
) -> Vec<OsString> {
    let mut taken = Vec::new();
    let mut given = given.into_iter();
    while let Some(token) = given.next() {
        if token == "--" {
            taken.push(token);
            taken.extend(given);
            break;
        }
        let Some((name, value)) = token.to_str().and_then(|text| option_of(text, command)) else {
            taken.push(token);
            continue;
        };
        let full = full_name(name, command, kafka_options);
        let Some(argument) = argument_of(full, command) else {
            taken.push(token);
            continue;
        };
        match value {
            Some(value) => taken.push(format!("--{full}={value}").into()),
            None if needs_value(argument) => match given.next() {
                // In one piece it is a value even when it begins with a dash.
                Some(value) => {
                    let mut whole = OsString::from(format!("--{full}="));
                    whole.push(value);
                    taken.push(whole);
                }
                None => taken.push(format!("--{full}").into()),
            },
            None => taken.push(format!("--{full}").into()),
        }
    }
    taken
}

/// Name and value of a token that is a long option with one dash or two; None when it is none.
fn option_of<'t>(token: &'t str, command: &Command) -> Option<(&'t str, Option<&'t str>)> {
    let (name, has_two) = match token.strip_prefix("--") {
        Some(name) => (name, true),
        None => (token.strip_prefix('-')?, false),
    };
    if !name.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
        return None;
    }
    let (name, value) = match name.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name, None),
    };
    // Short options and several of them in one are clap's.
    let is_short = |letter: char| letter == 'h' || letter == 'V' || has_short(letter, command);
    if !has_two && name.chars().all(is_short) {
        return None;
    }
    Some((name, value))
}

fn has_short(letter: char, command: &Command) -> bool {
    command.get_arguments().any(|argument| argument.get_short() == Some(letter))
}

/// What a shortened name stands for, if that is clear.
fn full_name<'n>(name: &'n str, command: &Command, kafka_options: Option<&[&'n str]>) -> &'n str {
    if argument_of(name, command).is_some() {
        return name;
    }
    let mut matching = kafka_options.unwrap_or_default().iter().filter(|known| known.starts_with(name));
    match (matching.next(), matching.next()) {
        (Some(only), None) => only,
        _ => name,
    }
}

fn argument_of<'c>(name: &str, command: &'c Command) -> Option<&'c Arg> {
    command.get_arguments().find(|argument| {
        argument.get_long() == Some(name)
            || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    })
}

/// Whether the next token is the option's value, whatever it looks like.
fn needs_value(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
        && argument.get_num_args().is_none_or(|count| count.min_values() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory, Parser};

    fn run(line: &str) -> Vec<String> {
        let mut root = Cli::command();
        root.build();
        let arguments = line.split(' ').map(OsString::from).collect();
        let taken = command_line(arguments, &root).unwrap();
        taken.into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    #[test]
    fn script_names_choose_the_command() {
        assert_eq!(run("/usr/bin/kafka-topics.sh --list"), ["/usr/bin/kafka-topics.sh", "topics", "--list"]);
        assert_eq!(run("kafka-topics --list"), ["kafka-topics", "topics", "--list"]);
        assert_eq!(run("kafka-groups --list"), ["kafka-groups", "groups", "--all-types", "--list"]);
        assert_eq!(
            run("kafka-metadata-quorum.sh --bootstrap-server h:1 describe --status").join(" "),
            "kafka-metadata-quorum.sh quorum --bootstrap-server h:1 describe --status"
        );
        assert_eq!(run("kafka-features describe"), ["kafka-features", "features", "describe"]);
        assert_eq!(run("raftsman --list"), ["raftsman", "--list"]);
    }

    #[test]
    fn options_are_taken_as_joptsimple_takes_them() {
        for (given, taken) in [
            ("kafka-topics --create -topic t", "kafka-topics topics --create --topic=t"),
            ("kafka-topics -create -topic=t", "kafka-topics topics --create --topic=t"),
            ("kafka-topics --boot h:1 --list", "kafka-topics topics --bootstrap-server=h:1 --list"),
            (
                "kafka-console-consumer --from --topic t",
                "kafka-console-consumer consume --from-beginning --topic=t",
            ),
            ("kafka-console-producer --topic -t", "kafka-console-producer produce --topic=-t"),
            // Not clear, not known, no option, clap's own.
            ("kafka-topics --top t", "kafka-topics topics --top t"),
            ("kafka-topics -x t", "kafka-topics topics -x t"),
            ("kafka-topics -- -topic", "kafka-topics topics -- -topic"),
            ("kafka-topics -h", "kafka-topics topics -h"),
            ("raftsman topics -topic t --list", "raftsman topics --topic=t --list"),
            ("raftsman produce -q --topic t", "raftsman produce -q --topic=t"),
            ("raftsman server -x", "raftsman server -x"),
        ] {
            assert_eq!(run(given).join(" "), taken, "{given}");
        }
    }

    #[test]
    fn every_option_of_kafkas_tools_is_known_to_the_command() {
        let mut root = Cli::command();
        root.build();
        for script in SCRIPTS {
            let Is(command, _) = script.stand_in else { continue };
            let command = root.find_subcommand(command[0]).unwrap();
            for option in script.options() {
                assert!(argument_of(option, command).is_some(), "{} --{option}", script.name);
            }
        }
    }

    #[test]
    fn every_name_of_a_script_is_a_tool_or_says_why_not() {
        let absent = |name: &str| match command_line(vec![name.into()], &Cli::command()) {
            Err(NotRun::Absent(reason)) => reason,
            other => panic!("{name}: {other:?}"),
        };
        for (name, part) in [
            ("kafka-acls.sh", "authorisation"),
            ("bin/connect-standalone", "Kafka Connect"),
            ("zookeeper-shell.sh", "no ZooKeeper"),
            ("kafka-preferred-replica-election.sh", "not a script of Kafka 4.3"),
        ] {
            assert!(absent(name).contains(part), "{name}");
        }
        let translated =
            run("kafka-producer-perf-test --topic t --num-records 10 --record-size 5 --throughput -1");
        assert!(Cli::try_parse_from(translated).is_ok());
    }
}
