//! rdkafka (librdkafka for Rust) against the broker at BOOTSTRAP.

mod clients;
mod harness;

use std::time::Duration;

use clients::{Told, admin, consumer, fails, member, options, poll, positions, send, spread, told, topic};
use harness::{LIMIT, List, Member, Outcome, name, never_shared, now, numbers, restart, same, share, until};
use rdkafka::admin::{AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, group, topic, settings @ ..] = arguments.as_slice()
        && flag == "--member"
    {
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        member(group, topic, &settings).expect("a member runs");
        return;
    }
    let mut list = List::default();
    list.add("idempotent producer, ten thousand records, offsets and order", idempotent);
    for (title, codec) in
        [("compression none", "none"), ("compression snappy", "snappy"), ("compression lz4", "lz4")]
    {
        list.add(title, move || compression(codec));
    }
    list.add("admin: topics created, grown, deleted; configurations; records deleted", topics);
    list.add("a group whose members join, leave and die while records come: range", || rebalance("range"));
    list.add("a group whose members join, leave and die while records come: cooperative-sticky", || {
        rebalance("cooperative-sticky")
    });
    list.add("a static member that returns within its session moves nothing", static_member);
    list.add("commits with metadata, of a member and of an assigned consumer; resumed after them", commits);
    list.add("automatic commits", auto_commit);
    list.add("a member seeks by time", seek_by_time);
    list.add("groups listed, and deleted", groups);
    list.add(
        "refusals: too large, an unknown topic, metadata too large, an evicted member's commit",
        refusals,
    );
    list.add("commits and members outlive a restart of the broker (stop)", || outlive("stop"));
    list.add("commits and members outlive a restart of the broker (kill)", || outlive("kill"));
    std::process::exit(list.run());
}

fn records(values: &[String]) -> Vec<clients::Record> {
    values.iter().map(|value| (0, None, value.clone().into_bytes())).collect()
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values
}

fn idempotent() -> Outcome {
    let given = topic("idempotent", 1)?;
    let sent = send(&given, &records(&numbers(0, 10_000)), &["enable.idempotence=true", "linger.ms=1"])?;
    same((0..10_000).map(|offset| (0, offset)).collect(), sent, "offsets")?;
    let reader = consumer(&name("group"), &[])?;
    reader.assign(&positions(&given, &[(0, Offset::Beginning, "")])?)?;
    same(numbers(0, 10_000), poll(&reader, 10_000)?, "values")?;
    same((0, 10_000), reader.fetch_watermarks(&given, 0, LIMIT)?, "watermarks")
}

fn compression(codec: &str) -> Outcome {
    let given = topic(codec, 1)?;
    let values: Vec<String> = numbers(0, 500)
        .iter()
        .map(|each| format!("{each}: a line that compresses well ").repeat(20))
        .collect();
    let codec = format!("compression.codec={codec}");
    send(&given, &records(&values), &[&codec, "linger.ms=50"])?;
    let reader = consumer(&name("group"), &[])?;
    reader.assign(&positions(&given, &[(0, Offset::Offset(123), "")])?)?;
    same(values[123..].to_vec(), poll(&reader, 377)?, "values")
}

fn topics() -> Outcome {
    let (given, admin) = (topic("admin", 2)?, admin()?);
    let again = NewTopic::new(&given, 2, TopicReplication::Fixed(1));
    let refused = pollster::block_on(admin.create_topics(&[again], &options()))?;
    same(vec![Err((given.clone(), RDKafkaErrorCode::TopicAlreadyExists))], refused, "creating it again")?;
    let grown = pollster::block_on(admin.create_partitions(&[NewPartitions::new(&given, 3)], &options()))?;
    same(vec![Ok(given.clone())], grown, "growing it")?;
    let reader = consumer(&name("group"), &[])?;
    let count = || {
        let metadata = reader.fetch_metadata(Some(&given), LIMIT).ok();
        metadata.map_or(0, |metadata| metadata.topics()[0].partitions().len())
    };
    until("three partitions", || count() == 3)?;
    let resource = ResourceSpecifier::Topic(&given);
    let altered = pollster::block_on(
        admin.alter_configs(&[AlterConfig::new(resource).set("retention.ms", "4321")], &options()),
    )?;
    same(true, altered.iter().all(Result::is_ok), "altering it")?;
    let value = || {
        let found = pollster::block_on(admin.describe_configs(&[resource], &options())).ok()?;
        found.into_iter().next()?.ok()?.get("retention.ms")?.value.clone()
    };
    until("the configuration is seen", || value().as_deref() == Some("4321"))?;
    send(&given, &records(&numbers(0, 10)), &[])?;
    let deleted = pollster::block_on(
        admin.delete_records(&positions(&given, &[(0, Offset::Offset(4), "")])?, &options()),
    )?;
    same(vec![(0, Offset::Offset(4), String::new())], told(&deleted), "low watermark")?;
    let gone = pollster::block_on(admin.delete_topics(&[&given], &options()))?;
    same(vec![Ok(given.clone())], gone, "deleting it")
}

fn committed(group: &str, topic: &str, partitions: i32) -> Result<Told, Box<dyn std::error::Error>> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, partitions - 1);
    Ok(told(&consumer(group, &[])?.committed_offsets(asked, LIMIT)?))
}

fn rebalance(strategy: &str) -> Outcome {
    let (given, group) = (topic("rebalance", 6)?, name("group"));
    let strategy = format!("partition.assignment.strategy={strategy}");
    let join = || Member::start(&group, &given, &[&strategy]);
    let mut sent = 0;
    let mut produce = || {
        sent += 300;
        spread(&given, 6, &numbers(sent - 300, sent))
    };
    produce()?;
    let mut first = join();
    until("the first owns all", || share(6, &[&first]))?;
    produce()?;
    let mut second = join();
    until("two share", || share(6, &[&first, &second]))?;
    produce()?;
    let mut third = join();
    until("three share", || share(6, &[&first, &second, &third]))?;
    produce()?;
    second.leave();
    until("two share when one has left", || share(6, &[&first, &third]))?;
    produce()?;
    third.die();
    until("the first owns all when one has died", || share(6, &[&first]))?;
    produce()?;
    until("every record was read", || {
        numbers(0, 1800).iter().all(|value| [&first, &second, &third].iter().any(|member| member.has(value)))
    })?;
    first.leave();
    never_shared(&[&first, &second, &third])?;
    let wanted = (0..6).map(|partition| (partition, Offset::Offset(300), String::new())).collect();
    same(wanted, committed(&group, &given, 6)?, "committed offsets")
}

fn static_member() -> Outcome {
    let (given, group) = (topic("static", 4)?, name("group"));
    let join = |instance: &str| {
        Member::start(&group, &given, &[&format!("group.instance.id={instance}"), "session.timeout.ms=15000"])
    };
    let (first, mut second) = (join("one"), join("two"));
    until("two share", || share(4, &[&first, &second]))?;
    let (owned, count) = (second.owned(), first.assignments());
    second.die();
    second = join("two");
    until("it has what it had", || second.owned() == owned)?;
    same(count, first.assignments(), "assignments of the other")
}

fn commits() -> Outcome {
    let (given, group) = (topic("commits", 2)?, name("group"));
    spread(&given, 2, &numbers(0, 20))?;
    let reader = consumer(&group, &[])?;
    reader.subscribe(&[&given])?;
    poll(&reader, 20)?;
    reader.commit(&positions(&given, &[(0, Offset::Offset(7), "seven, ünïcode")])?, CommitMode::Sync)?;
    drop(reader);
    let wanted =
        vec![(0, Offset::Offset(7), "seven, ünïcode".to_owned()), (1, Offset::Invalid, String::new())];
    same(wanted, committed(&group, &given, 2)?, "committed")?;
    let alone = consumer(&group, &[])?;
    alone.assign(&positions(&given, &[(0, Offset::Stored, "")])?)?;
    same(vec!["14", "16", "18"], poll(&alone, 3)?.iter().map(String::as_str).collect(), "values after it")?;
    alone.commit_consumer_state(CommitMode::Sync)?;
    same(Offset::Offset(10), committed(&group, &given, 2)?[0].1, "committed by an assigned consumer")
}

fn auto_commit() -> Outcome {
    let (given, group) = (topic("auto-commit", 1)?, name("group"));
    for from in [0, 50] {
        spread(&given, 1, &numbers(from, from + 50))?;
        let reader = consumer(&group, &["enable.auto.commit=true", "auto.commit.interval.ms=500"])?;
        reader.subscribe(&[&given])?;
        same(numbers(from, from + 50), poll(&reader, 50)?, "values")?;
    }
    Ok(())
}

fn seek_by_time() -> Outcome {
    let (given, group) = (topic("seek", 1)?, name("group"));
    let base = (now() / 1000) as i64 - 100_000;
    let stamped: Vec<clients::Record> =
        (0..50).map(|i| (0, Some(base + 10 * i), i.to_string().into_bytes())).collect();
    send(&given, &stamped, &[])?;
    let reader = consumer(&group, &[])?;
    reader.subscribe(&[&given])?;
    poll(&reader, 50)?;
    let found =
        reader.offsets_for_times(positions(&given, &[(0, Offset::Offset(base + 405), "")])?, LIMIT)?;
    same(Offset::Offset(41), told(&found)[0].1, "offset")?;
    reader.seek(&given, 0, Offset::Offset(41), LIMIT)?;
    same(numbers(41, 50), poll(&reader, 9)?, "values")
}

fn groups() -> Outcome {
    let (given, group, admin) = (topic("groups", 3)?, name("group"), admin()?);
    let mut running = Member::start(&group, &given, &["partition.assignment.strategy=roundrobin"]);
    until("assigned", || share(3, &[&running]))?;
    let asking = consumer(&name("group"), &[])?;
    let listed = asking.fetch_group_list(Some(&group), LIMIT)?;
    let found = &listed.groups()[0];
    same(
        ("Stable", "consumer", "roundrobin", 1),
        (found.state(), found.protocol_type(), found.protocol(), found.members().len()),
        "listed",
    )?;
    let only = &found.members()[0];
    same(("rdkafka", "/127.0.0.1"), (only.client_id(), only.client_host()), "member")?;
    let delete = || pollster::block_on(admin.delete_groups(&[&group], &options()));
    same(
        vec![Err((group.clone(), RDKafkaErrorCode::NonEmptyGroup))],
        delete()?,
        "deleting it with a member",
    )?;
    running.leave();
    same(vec![Ok(group.clone())], delete()?, "deleting it")?;
    same(vec![Err((group.clone(), RDKafkaErrorCode::GroupIdNotFound))], delete()?, "deleting it again")
}

fn refusals() -> Outcome {
    let (given, group) = (topic("refused", 1)?, name("group"));
    let large = vec![(0, None, vec![b'x'; 2_000_000])];
    fails(RDKafkaErrorCode::MessageSizeTooLarge, send(&given, &large, &["message.max.bytes=4000000"]))?;
    spread(&given, 1, &numbers(0, 5))?;
    let reader = consumer(&group, &["max.poll.interval.ms=1500", "session.timeout.ms=1000"])?;
    reader.subscribe(&[&given])?;
    poll(&reader, 5)?;
    let much = "m".repeat(5000);
    let commit = |topic: &str, metadata: &str| {
        reader.commit(&positions(topic, &[(0, Offset::Offset(3), metadata)])?, CommitMode::Sync)
    };
    fails(RDKafkaErrorCode::OffsetMetadataTooLarge, commit(&given, &much))?;
    fails(RDKafkaErrorCode::UnknownTopicOrPartition, commit(&name("unknown"), ""))?;
    commit(&given, "")?;
    let mut other = Member::start(&group, &given, &[]);
    until("another owns it when the first does not poll", || share(1, &[&other]))?;
    same(true, commit(&given, "").is_err(), "a commit of an evicted member fails")?;
    other.leave();
    drop(reader);
    let lost = consumer(&group, &[])?;
    lost.subscribe(&[&name("unknown")])?;
    match lost.poll(LIMIT) {
        Some(result) => fails(RDKafkaErrorCode::UnknownTopicOrPartition, result),
        None => Err("no error of an unknown topic".into()),
    }
}

fn outlive(how: &str) -> Outcome {
    let (given, group) = (topic("restart", 2)?, name("group"));
    spread(&given, 2, &numbers(0, 100))?;
    let reader = consumer(&group, &[])?;
    reader.subscribe(&[&given])?;
    poll(&reader, 100)?;
    let kept = positions(&given, &[(0, Offset::Offset(40), "forty"), (1, Offset::Offset(45), "")])?;
    reader.commit(&kept, CommitMode::Sync)?;
    drop(reader);
    let mut running = Member::start(&name("running"), &given, &[]);
    let has = |running: &Member, from, to| numbers(from, to).iter().all(|value| running.has(value));
    until("it runs", || share(2, &[&running]) && has(&running, 0, 100))?;
    restart(how)?;
    spread(&given, 2, &numbers(100, 110))?;
    until("who ran goes on", || has(&running, 100, 110))?;
    let wanted = vec![(0, Offset::Offset(40), "forty".to_owned()), (1, Offset::Offset(45), String::new())];
    same(wanted, committed(&group, &given, 2)?, "committed before the restart")?;
    let resumed = consumer(&group, &[])?;
    resumed.subscribe(&[&given])?;
    let left = numbers(0, 110).into_iter().enumerate().filter(|(i, _)| i / 2 >= [40, 45][i % 2]);
    same(
        sorted(left.map(|(_, value)| value).collect()),
        sorted(poll(&resumed, 25)?),
        "values after what was committed",
    )?;
    same(true, resumed.poll(Duration::from_millis(200)).is_none(), "no more come")?;
    running.leave();
    Ok(())
}
