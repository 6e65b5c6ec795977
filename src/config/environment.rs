//! Configuration by environment variables, named as the container image of Apache Kafka names them, so that a compose
//! file or a chart made for that image sets the same things here.
//!
//! `KAFKA_` and the key in capitals: `_` is a dot, `__` an underscore, `___` a dash. What the image keeps for the JVM
//! ([`is_of_the_jvm`]) is no key. Two of the image's habits with addresses are kept as well, since compose files lean on
//! them: who sets the advertised addresses alone listens on those ports of every interface, and who sets
//! `KAFKA_LISTENERS` alone does not advertise what a file says of other listeners.

use super::values::Set;

const PREFIX: &str = "KAFKA_";
const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";

/// Lays what `variables` set over `set`, which a file set; gives the names of those that have no meaning here, as they
/// are for a JVM. Variables that do not begin with `KAFKA_` are passed over.
pub fn lay_over(set: &mut Set, variables: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let mut own = Set::new();
    let mut without_meaning = Vec::new();
    for (name, value) in variables {
        match name.strip_prefix(PREFIX) {
            None | Some("") => {}
            Some(_) if is_of_the_jvm(&name) => without_meaning.push(name),
            Some(rest) => {
                own.insert(key(rest), value.trim().to_owned());
            }
        }
    }
    let says = |key: &str| own.get(key).filter(|value| !value.is_empty());
    match (says(LISTENERS), says(ADVERTISED)) {
        (None, Some(advertised)) => {
            let everywhere = on_every_interface(advertised);
            own.insert(LISTENERS.to_owned(), everywhere);
        }
        (Some(_), None) => {
            set.remove(ADVERTISED);
        }
        _ => {}
    }
    set.extend(own);
    without_meaning.sort();
    without_meaning
}

/// Whether the image keeps a variable for the JVM, its logging and its monitoring.
fn is_of_the_jvm(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "KAFKA_GC_LOG_OPTS",
        "KAFKA_HEAP_OPTS",
        "KAFKA_JVM_PERFORMANCE_OPTS",
        "KAFKA_OPTS",
        "KAFKA_TOOLS_LOG4J_LOGLEVEL",
        "KAFKA_VERSION",
    ];
    const BEGINNINGS: &[&str] = &["KAFKA_JMX_", "KAFKA_LOG4J_"];
    NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// The key that a variable names, without its prefix.
fn key(name: &str) -> String {
    // As in the image: the longest run first, from the left, so that four underscores are a dash and a dot.
    name.to_lowercase().replace("___", "-").replace("__", "\u{0}").replace('_', ".").replace('\u{0}', "_")
}

/// The listeners of these addresses, with every host left out.
fn on_every_interface(advertised: &str) -> String {
    let listeners = advertised.split(',').map(|one| match (one.split_once("://"), one.rsplit_once(':')) {
        (Some((name, _)), Some((_, port))) => format!("{}://:{port}", name.trim()),
        // Whoever reads the key says what is wrong with it.
        _ => one.to_owned(),
    });
    listeners.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid_over(file: &[(&str, &str)], variables: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut set: Set = owned(file).into_iter().collect();
        let without_meaning = lay_over(&mut set, owned(variables));
        (set.into_iter().map(|(name, value)| format!("{name}={value}")).collect(), without_meaning)
    }

    #[test]
    fn variables_name_keys_as_the_image_of_kafka_reads_them() {
        let names = [
            ("NODE_ID", "node.id"),
            ("LOG_DIRS", "log.dirs"),
            ("ABC___DEF", "abc-def"),
            ("ABC__DEF", "abc_def"),
            ("ABC____DEF", "abc-.def"),
            ("ABC_____DEF", "abc-_def"),
            ("LISTENER_NAME_PLAINTEXT__HOST_SSL_CLIENT_AUTH", "listener.name.plaintext_host.ssl.client.auth"),
        ];
        assert_eq!(names.map(|(name, _)| key(name)), names.map(|(_, key)| key.to_owned()));
    }

    #[test]
    fn variables_go_over_the_file_and_leave_what_they_do_not_name() {
        let (set, without_meaning) = laid_over(
            &[("node.id", "1"), ("num.partitions", "3")],
            &[("KAFKA_NODE_ID", " 7 "), ("HOME", "/"), ("KAFKA_", "x"), ("kafka_x", "y")],
        );
        assert_eq!(set, ["node.id=7", "num.partitions=3"]);
        assert!(without_meaning.is_empty());
    }

    #[test]
    fn what_is_for_a_jvm_is_told_and_sets_nothing() {
        let names = [
            "KAFKA_GC_LOG_OPTS",
            "KAFKA_HEAP_OPTS",
            "KAFKA_JMX_HOSTNAME",
            "KAFKA_JMX_OPTS",
            "KAFKA_JVM_PERFORMANCE_OPTS",
            "KAFKA_LOG4J_LOGGERS",
            "KAFKA_LOG4J_OPTS",
            "KAFKA_LOG4J_ROOT_LOGLEVEL",
            "KAFKA_OPTS",
            "KAFKA_TOOLS_LOG4J_LOGLEVEL",
            "KAFKA_VERSION",
        ];
        assert_eq!(
            laid_over(&[], &names.map(|name| (name, "x"))),
            (vec![], names.map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn addresses_go_together() {
        let file =
            [("listeners", "PLAINTEXT://:9092"), ("advertised.listeners", "PLAINTEXT://localhost:9092")];
        let told = |variables: &[(&str, &str)]| laid_over(&file, variables).0;
        assert_eq!(
            told(&[("KAFKA_ADVERTISED_LISTENERS", "IN://a:19092, OUT://[::1]:29092")]),
            ["advertised.listeners=IN://a:19092, OUT://[::1]:29092", "listeners=IN://:19092,OUT://:29092"]
        );
        assert_eq!(
            told(&[("KAFKA_LISTENERS", "OTHER://:1"), ("KAFKA_ADVERTISED_LISTENERS", "")]),
            ["advertised.listeners=", "listeners=OTHER://:1"]
        );
        assert_eq!(told(&[("KAFKA_LISTENERS", "OTHER://:1")]), ["listeners=OTHER://:1"]);
        let both = [("KAFKA_LISTENERS", "A://:1"), ("KAFKA_ADVERTISED_LISTENERS", "A://a:2")];
        assert_eq!(told(&both), ["advertised.listeners=A://a:2", "listeners=A://:1"]);
        assert_eq!(
            told(&[("KAFKA_NODE_ID", "2")])[..2],
            ["advertised.listeners=PLAINTEXT://localhost:9092", "listeners=PLAINTEXT://:9092"]
        );
    }
}
