use super::*;
use crate::env::real::{self, RealChance};
use crate::protocol::builder::BatchOptions;
use crate::segment::tests::{SetClock, append, batch_of, read_all};

fn open(dir: &Path, node_id: i32) -> Result<(DataDir, Vec<OpenedLog>), DataDirError> {
    open_accepting(dir, node_id, false)
}

fn open_accepting(
    dir: &Path,
    node_id: i32,
    accepts_missing_data: bool,
) -> Result<(DataDir, Vec<OpenedLog>), DataDirError> {
    let options = DataDirOptions {
        dir: dir.join("data"),
        node_id: NodeId(node_id),
        cluster_id: "the-cluster".into(),
        recovery_threads: 2,
        open_files_max: 100,
        accepts_missing_data,
    };
    let clock = Arc::new(SetClock::default());
    DataDir::open(&Surroundings { clock, ..real::surroundings() }, options)
}

#[test]
fn a_folder_belongs_to_one_broker_and_is_there_again_after_any_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let (data, found) = open(dir.path(), 1).unwrap();
    assert!(found.is_empty());
    assert!(matches!(open(dir.path(), 1), Err(DataDirError::Locked(_))));
    let (topic, directory) = (RealChance.topic_id(), data.directory_id());
    let names: Vec<_> = (0..20).map(|at| TopicPartition::new("a-topic", at)).collect();
    let create = |data: &DataDir, name| data.create_log(name, topic, LogConfig::default()).unwrap().log;
    let logs: Vec<_> = names.iter().map(|name| create(&data, name)).collect();
    data.sync().unwrap();
    for (at, log) in logs.iter().enumerate() {
        append(log, batch_of(1 + at as i32, 10, 5, BatchOptions::default())).unwrap();
    }
    logs[3].advance_log_start_offset(Offset(2)).unwrap();
    data.checkpoint_all().unwrap();
    assert_eq!(logs[4].recovery_point(), Offset(5));
    data.write_high_watermarks(vec![(names[4].clone(), Offset(5))]).unwrap();
    drop((data, logs));
    // Stopped at once, and then in order.
    for round in 0..2 {
        assert!(matches!(open(dir.path(), 2), Err(DataDirError::OtherNode { .. })));
        let (data, found) = open(dir.path(), 1).unwrap();
        assert_eq!((data.cluster_id(), data.directory_id()), ("the-cluster", directory));
        assert_eq!(data.closed_epoch(), if round == 0 { -1 } else { 12 });
        assert_eq!(found.len(), 20);
        assert_eq!(data.open_files(), 0);
        for opened in &found {
            assert_eq!(opened.topic_id, topic);
            let records = i64::from(opened.name.partition) + 1 + round;
            assert_eq!(opened.log.log_end_offset(), Offset(records), "{}", opened.name);
            append(&opened.log, batch_of(1, 10, 5, BatchOptions::default())).unwrap();
        }
        let of = |partition| found.iter().find(|opened| opened.name.partition == partition).unwrap();
        assert_eq!(of(4).high_watermark, Offset(5));
        assert_eq!(of(3).log.log_start_offset(), Offset(2));
        assert!(!path.join(CLEAN_SHUTDOWN).exists());
        data.close(vec![(names[4].clone(), Offset(5))], 12).unwrap();
        let marker = std::fs::read_to_string(path.join(CLEAN_SHUTDOWN)).unwrap();
        assert_eq!(marker, r#"{"version":0,"brokerEpoch":12}"#);
    }
}

#[test]
fn a_new_log_is_not_told_what_was_noted_of_an_older_one_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (data, _) = open(dir.path(), 1).unwrap();
    let name = TopicPartition::new("a", 0);
    let old = data.create_log(&name, RealChance.topic_id(), LogConfig::default()).unwrap().log;
    for _ in 0..5 {
        append(&old, batch_of(1, 10, 5, BatchOptions::default())).unwrap();
    }
    data.checkpoint_all().unwrap();
    data.delete_log(&old).unwrap();
    let new = data.create_log(&name, RealChance.topic_id(), LogConfig::default()).unwrap().log;
    append(&new, batch_of(1, 10, 5, BatchOptions::default())).unwrap();
    let path = new.dir().join("00000000000000000000.log");
    drop((data, old, new));
    // Nobody has synced it, and the power fails.
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (_data, found) = open(dir.path(), 1).unwrap();
    assert_eq!(found[0].log.log_end_offset(), Offset(0));
}

/// A log a-0 of five batches, noted as synced and stopped at once; gives its folder and its topic.
fn synced(dir: &Path) -> (PathBuf, TopicId) {
    let (data, _) = open(dir, 1).unwrap();
    let topic = RealChance.topic_id();
    let log = data.create_log(&TopicPartition::new("a", 0), topic, LogConfig::default()).unwrap().log;
    for _ in 0..5 {
        append(&log, batch_of(1, 10, 5, BatchOptions::default())).unwrap();
    }
    data.checkpoint_all().unwrap();
    (log.dir(), topic)
}

fn noted(dir: &Path, checkpoint: &str) -> String {
    std::fs::read_to_string(dir.join("data").join(checkpoint)).unwrap()
}

#[test]
fn a_log_that_lacks_records_is_left_out_until_they_are_back_or_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, topic) = synced(dir.path());
    let (name, path) = (TopicPartition::new("a", 0), folder.join("00000000000000000000.log"));
    let content = std::fs::read(&path).unwrap();
    std::fs::write(&path, &content[..content.len() - 1]).unwrap();
    for _ in 0..2 {
        let (data, found) = open(dir.path(), 1).unwrap();
        assert!(found.is_empty());
        let error = data.create_log(&name, topic, LogConfig::default()).unwrap_err().to_string();
        assert!(error.contains("a-0: records are missing, offsets 4 to 4"), "{error}");
        data.checkpoint_all().unwrap();
        data.close(Vec::new(), 1).unwrap();
        // It was not looked at, and must not pass for closed.
        assert!(!dir.path().join("data").join(CLEAN_SHUTDOWN).exists());
        assert_eq!(noted(dir.path(), RECOVERY_POINTS), "0\n1\na 0 5\n");
    }
    let (data, _) = open(dir.path(), 1).unwrap();
    std::fs::write(&path, &content).unwrap();
    let back = data.create_log(&name, topic, LogConfig::default()).unwrap();
    assert_eq!(back.log.log_end_offset(), Offset(5));
    drop((data, back));

    std::fs::remove_file(&path).unwrap();
    let (data, found) = open_accepting(dir.path(), 1, true).unwrap();
    assert_eq!(found[0].log.log_end_offset(), Offset(0));
    assert_eq!(noted(dir.path(), RECOVERY_POINTS), "0\n1\na 0 0\n");
    drop((data, found));
    assert_eq!(open(dir.path(), 1).unwrap().1.len(), 1);
}

#[test]
fn no_checkpoint_speaks_of_what_was_set_aside_once_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, _) = synced(dir.path());
    let path = folder.join("00000000000000000000.log");
    let mut content = std::fs::read(&path).unwrap();
    let size = content.len() / 5;
    // The third batch claims to be longer than the file.
    content[2 * size + 8] = 0x7f;
    std::fs::write(&path, content).unwrap();
    for _ in 0..2 {
        let (data, found) = open(dir.path(), 1).unwrap();
        assert_eq!(found[0].log.log_end_offset(), Offset(2));
        assert_eq!(noted(dir.path(), RECOVERY_POINTS), "0\n1\na 0 2\n");
        assert!(data.set_aside_bytes() > 0);
    }
}

#[test]
fn segments_go_after_the_new_start_is_noted_and_are_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (data, _) = open(dir.path(), 1).unwrap();
    let name = TopicPartition::new("a", 0);
    let config = LogConfig { segment_bytes: 200, ..LogConfig::default() };
    let log = data.create_log(&name, RealChance.topic_id(), config).unwrap().log;
    let fill = || {
        for _ in 0..5 {
            append(&log, batch_of(1, 100, 5, BatchOptions::default())).unwrap();
        }
    };
    fill();
    data.checkpoint_all().unwrap();
    fill();
    // Deleted beyond what is synced: no more than that is noted.
    log.advance_log_start_offset(Offset(8)).unwrap();
    data.note_starts().unwrap();
    assert_eq!(noted(dir.path(), LOG_STARTS), "0\n1\na 0 5\n");
    assert!(log.delete_hidden_segments(0, Offset(10)).unwrap() > 5);
    drop((data, log));
    let (data, found) = open(dir.path(), 1).unwrap();
    assert_eq!(found[0].log.log_start_offset(), Offset(8));
    let first = found[0].log.dir().join("00000000000000000008.log");
    data.checkpoint_all().unwrap();
    drop((data, found));
    std::fs::remove_file(first).unwrap();
    assert!(open(dir.path(), 1).unwrap().1.is_empty());
}

#[test]
fn deleted_logs_are_renamed_then_removed_and_strays_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let (data, _) = open(dir.path(), 1).unwrap();
    let name = TopicPartition::new("x".repeat(249).as_str(), 0);
    let topic = RealChance.topic_id();
    let log = data.create_log(&name, topic, LogConfig::default()).unwrap().log;
    append(&log, batch_of(1, 10, 5, BatchOptions::default())).unwrap();
    let content = read_all(&log, 0, 1000);
    let under_way = log.read(Offset(0), 1000, Offset(1), true).unwrap();
    let other = data.create_log(&name, RealChance.topic_id(), LogConfig::default());
    assert!(matches!(other, Err(LogError::OtherTopic { .. })));
    data.delete_log(&log).unwrap();
    let folders = |ending: &str| {
        let entries = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter(|name| name.to_str().unwrap().ends_with(ending)).count()
    };
    assert_eq!((path.join(name.to_string()).exists(), folders("-delete")), (false, 1));
    // The name is free at once.
    let again = data.create_log(&name, RealChance.topic_id(), LogConfig::default()).unwrap().log;
    assert_eq!(again.log_end_offset(), Offset(0));
    data.remove_deleted(59_999);
    assert_eq!(folders("-delete"), 1);
    data.remove_deleted(60_000);
    assert_eq!(folders("-delete"), 0);
    let mut bytes = vec![0; under_way.len];
    under_way.file.read_at(&mut bytes, under_way.position).unwrap();
    assert_eq!(bytes, content);
    drop((data, again));

    let (data, found) = open(dir.path(), 1).unwrap();
    data.set_aside(&found[0]).unwrap();
    data.delete_log(&data.create_log(&name, topic, LogConfig::default()).unwrap().log).unwrap();
    assert_eq!((folders("-stray"), folders("-delete")), (1, 1));
    drop(data);
    let (data, found) = open(dir.path(), 1).unwrap();
    assert!(found.is_empty());
    data.remove_deleted(0);
    assert_eq!((folders("-stray"), folders("-delete")), (1, 0));
}
