//! `docs/apis.md`, made of the declarations; `tests/documentation.rs` holds that it is up to date.

use std::fmt::Write as _;

use super::api::{AnsweredBy, Api, ListenerRole, Need, Operation, Resource};
use super::handlers::APIS;

const HEAD: &str = "\
# APIs

The requests of Kafka's protocol that are served, as the files in `src/server/handlers` declare them. This page is
made of the declarations: `UPDATE_DOCS=1 cargo test --test documentation`.

* **Versions** are those that ApiVersions tells clients. In brackets those of Apache Kafka 4.3, where they are others.
* **Answered by** says which broker can answer: any; the one that leads the partitions or coordinates the group (others
  say that they do not); or the active controller.
* **Listeners** are those on which the request is served: `C` on a controller's too, once there are any. All are on a
  broker's.
* **Needs** are the operations that a client will have to be allowed; without ACLs everybody may do everything.
";

/// The whole page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str(
        "\n| key | API | versions | listeners | answered by | needs |\n|---|---|---|---|---|---|\n",
    );
    for api in APIS {
        let (key, name) = (api.shape.key, api.shape.name);
        let (versions, by, needs) = (versions(api), answered_by(api.answered_by), needs(api.needs));
        let controllers = if api.served_on.contains(&ListenerRole::Controller) { "B, C" } else { "B" };
        let _ = writeln!(page, "| {key} | {name} | {versions} | {controllers} | {by} | {needs} |");
    }
    page.push_str("\n## What is new in a version\n\n");
    for api in APIS.iter().filter(|api| !api.notes.is_empty()) {
        let _ = writeln!(page, "* {}", api.shape.name);
        for (version, note) in api.notes {
            let _ = writeln!(page, "  * {version}: {note}");
        }
    }
    page
}

fn range(first: i16, last: i16) -> String {
    if first == last { first.to_string() } else { format!("{first}–{last}") }
}

fn versions(api: &Api) -> String {
    let (first, last) = (*api.versions.start(), *api.versions.end());
    let of_kafka = (api.shape.versions.0, api.shape.last_stable);
    match of_kafka == (first, last) {
        true => range(first, last),
        false => format!("{} ({})", range(first, last), range(of_kafka.0, of_kafka.1)),
    }
}

fn answered_by(by: AnsweredBy) -> &'static str {
    match by {
        AnsweredBy::AnyBroker => "any broker",
        AnsweredBy::PartitionLeader => "the partitions' leader",
        AnsweredBy::GroupCoordinator => "the group's coordinator",
        AnsweredBy::ActiveController => "the active controller",
        AnsweredBy::ControllerInPart => "the active controller; a broker its own part",
    }
}

fn needs(needs: &[Need]) -> String {
    let words = needs.iter().map(|Need(operation, resource)| {
        let operation = match operation {
            Operation::Read => "Read",
            Operation::Write => "Write",
            Operation::Create => "Create",
            Operation::Delete => "Delete",
            Operation::Alter => "Alter",
            Operation::Describe => "Describe",
            Operation::ClusterAction => "ClusterAction",
            Operation::DescribeConfigs => "DescribeConfigs",
            Operation::AlterConfigs => "AlterConfigs",
            Operation::IdempotentWrite => "IdempotentWrite",
        };
        let resource = match resource {
            Resource::Topic => "Topic",
            Resource::Group => "Group",
            Resource::Cluster => "Cluster",
            Resource::TransactionalId => "TransactionalId",
        };
        format!("{operation} {resource}")
    });
    words.collect::<Vec<_>>().join(", ")
}
