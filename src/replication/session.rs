//! The follower's side of a fetch session (KIP-227): what the leader was told of each partition, and what a fetch has to
//! say because it is not that any more. Pure.

use std::collections::HashMap;

use crate::partition::following::Position;
use crate::protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use crate::types::{LeaderEpoch, TopicId};

/// A partition, as fetches name it.
pub(super) type Key = (TopicId, i32);

/// What the leader was told of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub epoch: LeaderEpoch,
    pub position: Position,
}

/// What the session holds of a partition, and since which request.
#[derive(Clone, Copy, Debug)]
struct Known {
    told: Told,
    since: u64,
}

/// The topics of a fetch, in the form of the request.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub session_id: i32,
    pub session_epoch: i32,
    /// Counts the requests of the session.
    pub number: u64,
    /// It is for the session that the leader gives: until that is there, nothing more can be said, so it is not to wait for
    /// records.
    pub asks_for_session: bool,
    pub topics: Vec<FetchTopic>,
    pub forgotten: Vec<ForgottenTopic>,
}

/// A session with one leader, over one connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// 0 until the leader has given one.
    id: i32,
    /// Of the next request.
    epoch: i32,
    requests: u64,
    /// The leader has no room for a session.
    is_refused: bool,
    known: HashMap<Key, Known>,
}

impl Session {
    /// Whether requests name only what has changed.
    pub(super) fn is_incremental(&self) -> bool {
        self.id != 0
    }

    /// Whether the leader has something to learn of the partition.
    pub(super) fn is_news(&self, key: Key, now: Option<Told>) -> bool {
        self.known.get(&key).map(|known| known.told) != now
    }

    /// A fetch of these partitions: of a new session all that are to be fetched, later those of which something may have
    /// changed. `None`: not to be fetched (now).
    pub(super) fn request(
        &mut self,
        partitions: impl IntoIterator<Item = (Key, Option<Told>)>,
        bytes_max: i32,
    ) -> Wishes {
        self.requests += 1;
        let mut wishes = Wishes {
            session_id: self.id,
            session_epoch: self.epoch,
            number: self.requests,
            asks_for_session: self.id == 0 && !self.is_refused,
            ..Wishes::default()
        };
        if self.is_incremental() {
            self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        } else {
            self.known.clear();
        }
        for (key, now) in partitions {
            let before = self.known.get(&key).map(|known| known.told);
            match now {
                Some(told) if before != Some(told) => {
                    self.known.insert(key, Known { told, since: self.requests });
                    let partition = FetchPartition::default()
                        .with_partition(key.1)
                        .with_current_leader_epoch(told.epoch.0)
                        .with_fetch_offset(told.position.log_end.0)
                        .with_last_fetched_epoch(told.position.last_epoch.0)
                        .with_log_start_offset(told.position.log_start.0)
                        .with_partition_max_bytes(bytes_max);
                    match wishes.topics.last_mut().filter(|topic| topic.topic_id == key.0.0) {
                        Some(topic) => topic.partitions.push(partition),
                        None => wishes.topics.push(
                            FetchTopic::default().with_topic_id(key.0.0).with_partitions(vec![partition]),
                        ),
                    }
                }
                Some(_) => {}
                None if before.is_some() => {
                    self.known.remove(&key);
                    match wishes.forgotten.last_mut().filter(|topic| topic.topic_id == key.0.0) {
                        Some(topic) => topic.partitions.push(key.1),
                        None => wishes.forgotten.push(
                            ForgottenTopic::default().with_topic_id(key.0.0).with_partitions(vec![key.1]),
                        ),
                    }
                }
                None => {}
            }
        }
        wishes
    }

    /// The leader has answered the first request, and keeps a session if `id` is not 0.
    pub(super) fn answered(&mut self, id: i32) {
        match id {
            0 => self.is_refused = self.id == 0,
            id if self.id == 0 => (self.id, self.epoch) = (id, 1),
            _ => {}
        }
    }

    /// What the leader was told of the partition when it answered request `number`; `None` when it was told something else
    /// meanwhile: the answer is of no use then.
    pub(super) fn told_at(&self, number: u64, key: Key) -> Option<Told> {
        self.known.get(&key).filter(|known| known.since <= number).map(|known| known.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Offset;

    const KEY: Key = (TopicId(uuid::Uuid::from_u128(1)), 0);
    const OTHER: Key = (TopicId(uuid::Uuid::from_u128(1)), 1);

    fn told(log_end: i64) -> Option<Told> {
        let position =
            Position { log_end: Offset(log_end), last_epoch: LeaderEpoch(0), log_start: Offset(0) };
        Some(Told { epoch: LeaderEpoch(3), position })
    }

    #[test]
    fn a_fetch_names_what_the_leader_does_not_know_and_its_answer_counts_for_what_it_was_asked() {
        let mut session = Session::default();
        let first = session.request([(KEY, told(5)), (OTHER, told(7))], 100);
        assert_eq!((first.session_id, first.session_epoch), (0, 0));
        assert_eq!((first.topics.len(), first.topics[0].partitions.len()), (1, 2));
        // Without a session all is named again.
        session.answered(0);
        let again = session.request([(KEY, told(5)), (OTHER, told(7))], 100);
        assert_eq!((again.session_epoch, again.topics[0].partitions.len()), (0, 2));
        session.answered(99);
        let second = session.request([(KEY, told(6)), (OTHER, told(7))], 100);
        assert_eq!((second.session_id, second.session_epoch), (99, 1));
        assert_eq!(second.topics[0].partitions[0].fetch_offset, 6);
        assert_eq!(second.topics[0].partitions.len(), 1);
        assert_eq!(session.told_at(again.number, KEY), None, "it was asked for offset 5");
        assert_eq!(session.told_at(second.number, KEY), told(6));
        assert_eq!(session.told_at(again.number, OTHER), told(7));
        let third = session.request([(KEY, None), (OTHER, told(7))], 100);
        assert_eq!((third.session_epoch, third.topics.len(), third.forgotten.len()), (2, 0, 1));
        assert_eq!(session.told_at(third.number, KEY), None);
        assert!(session.request([(KEY, None)], 100).forgotten.is_empty());
    }
}
