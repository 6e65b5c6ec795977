//! Fetch sessions (KIP-227): a consumer names its partitions once, later only what changed, and is
//! told only what changed.
//!
//! A session is found by its id and guarded by its epoch, which rises by one with every fetch. The
//! cache has a fixed number of slots; a new session takes the slot of one that has not been used for
//! [`IDLE_MS`], and without any such the fetch is served without a session. A follower's session takes a consumer's slot
//! whenever there is none free, and no consumer's takes a follower's.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;

use uuid::Uuid;

use crate::env::Chance;

/// `min.incremental.fetch.session.eviction.ms` of Kafka.
const IDLE_MS: i64 = 120_000;

/// Epochs on the wire.
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// A topic as a fetch names it: by name up to version 12, by id from 13.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    Name(StrBytes),
    Id(Uuid),
}

/// What a fetch wants of one partition.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub topic: TopicKey,
    pub partition: i32,
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    /// Of a follower's log; -1 when it does not say.
    pub log_start_offset: i64,
    pub bytes_max: i32,
}

/// What a partition was last said to be, to tell what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub high_watermark: i64,
    pub log_start_offset: i64,
}

/// Nothing has been said yet.
const NOTHING_KNOWN: Known = Known { high_watermark: -2, log_start_offset: -2 };

#[derive(Debug)]
struct Session {
    epoch: i32,
    uses_topic_ids: bool,
    is_replica: bool,
    last_used_ms: i64,
    /// In the order in which they are served: who got data goes to the end, so that all get some.
    partitions: Vec<(Wanted, Known)>,
}

/// The sessions of this broker.
#[derive(Debug)]
pub struct FetchSessions {
    slots: usize,
    chance: Arc<dyn Chance>,
    sessions: Mutex<HashMap<i32, Arc<Mutex<Session>>>>,
}

/// The fetch at hand, with its session if it has one.
#[derive(Debug)]
pub struct FetchContext {
    /// What to fetch, in the order in which it is served.
    pub wanted: Vec<Wanted>,
    /// Id to answer with; 0 without a session.
    pub session_id: i32,
    session: Option<Arc<Mutex<Session>>>,
    /// True when only what changed is told.
    is_incremental: bool,
}

impl FetchSessions {
    pub fn new(slots: i32, chance: Arc<dyn Chance>) -> Self {
        Self { slots: usize::try_from(slots).unwrap_or_default(), chance, sessions: Mutex::default() }
    }

    pub fn count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Finds or makes the session of a request.
    pub fn context(
        &self,
        request: &FetchRequest,
        uses_topic_ids: bool,
        is_replica: bool,
        now_ms: i64,
    ) -> Result<FetchContext, ResponseError> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            // A full fetch; it ends the session it names.
            if id != 0 {
                self.sessions.lock().remove(&id);
            }
            let wanted = wanted(request, uses_topic_ids);
            if epoch == FINAL_EPOCH || wanted.is_empty() {
                return Ok(FetchContext { wanted, session_id: 0, session: None, is_incremental: false });
            }
            let partitions = wanted.iter().map(|wanted| (wanted.clone(), NOTHING_KNOWN)).collect();
            let session = Session { epoch: 1, uses_topic_ids, is_replica, last_used_ms: now_ms, partitions };
            let kept = self.keep(session, now_ms);
            let session_id = kept.as_ref().map_or(0, |(id, _)| *id);
            let session = kept.map(|(_, session)| session);
            return Ok(FetchContext { wanted, session_id, session, is_incremental: false });
        }
        let found = self.sessions.lock().get(&id).cloned();
        let session = found.ok_or(ResponseError::FetchSessionIdNotFound)?;
        let wanted = {
            let mut session = session.lock();
            if session.uses_topic_ids != uses_topic_ids {
                return Err(ResponseError::FetchSessionTopicIdError);
            }
            if session.epoch != epoch {
                return Err(ResponseError::InvalidFetchSessionEpoch);
            }
            session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
            session.last_used_ms = now_ms;
            session.update(request, uses_topic_ids);
            session.partitions.iter().map(|(wanted, _)| wanted.clone()).collect::<Vec<_>>()
        };
        if wanted.is_empty() {
            self.sessions.lock().remove(&id);
            return Ok(FetchContext { wanted, session_id: 0, session: None, is_incremental: true });
        }
        Ok(FetchContext { wanted, session_id: id, session: Some(session), is_incremental: true })
    }

    fn keep(&self, session: Session, now_ms: i64) -> Option<(i32, Arc<Mutex<Session>>)> {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= self.slots {
            let oldest = sessions
                .iter()
                .map(|(id, other)| {
                    let other = other.lock();
                    (other.is_replica, other.last_used_ms, *id)
                })
                .min_by_key(|(is_replica, last_used_ms, _)| match session.is_replica {
                    true => (*is_replica, *last_used_ms),
                    false => (false, *last_used_ms),
                });
            let goes = oldest.filter(|(is_replica, last_used_ms, _)| {
                session.is_replica && !is_replica || now_ms - last_used_ms > IDLE_MS
            });
            sessions.remove(&goes?.2);
        }
        let id = loop {
            // Random ids, as in Kafka: a client of an earlier process must not hit a stranger's.
            let id = i32::try_from(self.chance.next_u64() >> 33).unwrap_or_default();
            if id != 0 && !sessions.contains_key(&id) {
                break id;
            }
        };
        let session = Arc::new(Mutex::new(session));
        sessions.insert(id, session.clone());
        Some((id, session))
    }
}

impl Session {
    /// Takes over what an incremental request changes.
    fn update(&mut self, request: &FetchRequest, uses_topic_ids: bool) {
        let mut forgotten: HashMap<(TopicKey, i32), ()> = HashMap::new();
        for topic in &request.forgotten_topics_data {
            let key = topic_key(&topic.topic, topic.topic_id, uses_topic_ids);
            forgotten.extend(topic.partitions.iter().map(|index| ((key.clone(), *index), ())));
        }
        if !forgotten.is_empty() {
            self.partitions
                .retain(|(wanted, _)| !forgotten.contains_key(&(wanted.topic.clone(), wanted.partition)));
        }
        let changed = wanted(request, uses_topic_ids);
        if changed.is_empty() {
            return;
        }
        let mut places: HashMap<(TopicKey, i32), usize> = HashMap::new();
        for (at, (wanted, _)) in self.partitions.iter().enumerate() {
            places.insert((wanted.topic.clone(), wanted.partition), at);
        }
        for wanted in changed {
            match places.get(&(wanted.topic.clone(), wanted.partition)) {
                Some(at) => self.partitions[*at].0 = wanted,
                None => self.partitions.push((wanted, NOTHING_KNOWN)),
            }
        }
    }
}

impl FetchContext {
    /// Which partitions go into the answer, given what each has to say (records or an error always
    /// do). Notes what is told, and puts those that got records at the end of the session's order.
    pub fn report(&self, news: &[(Known, bool, bool)]) -> Vec<bool> {
        let Some(session) = &self.session else { return vec![true; news.len()] };
        let mut session = session.lock();
        let mut include = Vec::with_capacity(news.len());
        // A concurrent request cannot be: the epoch lets only one through. But be safe on lengths.
        let mut served = Vec::new();
        let mut rest = Vec::with_capacity(session.partitions.len());
        let partitions = std::mem::take(&mut session.partitions);
        for (at, (wanted, known)) in partitions.into_iter().enumerate() {
            let Some((now, has_records, has_error)) = news.get(at).copied() else {
                rest.push((wanted, known));
                continue;
            };
            include.push(!self.is_incremental || has_records || has_error || now != known);
            // An error is told again, until it is gone and the truth is told.
            let known = if has_error { NOTHING_KNOWN } else { now };
            if has_records { served.push((wanted, known)) } else { rest.push((wanted, known)) }
        }
        rest.append(&mut served);
        session.partitions = rest;
        include.resize(news.len(), true);
        include
    }
}

/// Names are copied: a session that kept a view would keep its request's whole buffer.
fn topic_key(name: &StrBytes, id: Uuid, uses_topic_ids: bool) -> TopicKey {
    if uses_topic_ids { TopicKey::Id(id) } else { TopicKey::Name(StrBytes::from_string(name.to_string())) }
}

fn wanted(request: &FetchRequest, uses_topic_ids: bool) -> Vec<Wanted> {
    let all = request.topics.iter().flat_map(|topic| {
        let key = topic_key(&topic.topic, topic.topic_id, uses_topic_ids);
        topic.partitions.iter().map(move |partition: &FetchPartition| Wanted {
            topic: key.clone(),
            partition: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            fetch_offset: partition.fetch_offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            log_start_offset: partition.log_start_offset,
            bytes_max: partition.partition_max_bytes,
        })
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};

    use super::*;
    use crate::env::real::RealChance;

    fn request(id: i32, epoch: i32, partitions: &[i32], forgotten: &[i32]) -> FetchRequest {
        let name = TopicName(StrBytes::from_static_str("t"));
        let partitions: Vec<FetchPartition> =
            partitions.iter().map(|index| FetchPartition::default().with_partition(*index)).collect();
        let mut request = FetchRequest::default().with_session_id(id).with_session_epoch(epoch);
        if !partitions.is_empty() {
            request.topics.push(FetchTopic::default().with_topic(name.clone()).with_partitions(partitions));
        }
        if !forgotten.is_empty() {
            let topic = ForgottenTopic::default().with_topic(name).with_partitions(forgotten.to_vec());
            request.forgotten_topics_data.push(topic);
        }
        request
    }

    fn indexes(context: &FetchContext) -> Vec<i32> {
        context.wanted.iter().map(|wanted| wanted.partition).collect()
    }

    const AT_ZERO: Known = Known { high_watermark: 0, log_start_offset: 0 };

    #[test]
    fn a_session_remembers_partitions_and_tells_what_changed() {
        let sessions = FetchSessions::new(10, Arc::new(RealChance));
        let first = sessions.context(&request(0, 0, &[0, 1, 2], &[]), false, false, 0).unwrap();
        assert_ne!(first.session_id, 0);
        assert_eq!(first.report(&[(AT_ZERO, false, false); 3]), [true; 3]);
        let id = first.session_id;
        let second = sessions.context(&request(id, 1, &[], &[1]), false, false, 0).unwrap();
        assert_eq!(indexes(&second), [0, 2]);
        assert_eq!(second.report(&[(AT_ZERO, true, false), (AT_ZERO, false, false)]), [true, false]);
        // Who got records is served last.
        let third = sessions.context(&request(id, 2, &[3], &[]), false, false, 0).unwrap();
        assert_eq!(indexes(&third), [2, 0, 3]);
        let moved = Known { high_watermark: 5, ..AT_ZERO };
        assert_eq!(
            third.report(&[(moved, false, false), (AT_ZERO, false, true), (AT_ZERO, false, false)]),
            [true; 3]
        );
        let wrong_epoch = sessions.context(&request(id, 2, &[], &[]), false, false, 0).unwrap_err();
        assert_eq!(wrong_epoch, ResponseError::InvalidFetchSessionEpoch);
        assert_eq!(
            sessions.context(&request(id + 1, 1, &[], &[]), false, false, 0).unwrap_err(),
            ResponseError::FetchSessionIdNotFound
        );
        assert_eq!(
            sessions.context(&request(id, 3, &[], &[]), true, false, 0).unwrap_err(),
            ResponseError::FetchSessionTopicIdError
        );
    }

    #[test]
    fn slots_are_limited_and_idle_sessions_give_theirs() {
        let sessions = FetchSessions::new(1, Arc::new(RealChance));
        let first = sessions.context(&request(0, 0, &[0], &[]), false, false, 0).unwrap();
        assert_ne!(first.session_id, 0);
        assert_eq!(sessions.context(&request(0, 0, &[0], &[]), false, false, 0).unwrap().session_id, 0);
        let late = sessions.context(&request(0, 0, &[0], &[]), false, false, IDLE_MS + 1).unwrap();
        assert_ne!(late.session_id, 0);
        assert_eq!(sessions.count(), 1);
        // A follower's goes before, and stays.
        let replica = sessions.context(&request(0, 0, &[0], &[]), false, true, IDLE_MS + 2).unwrap();
        assert_ne!(replica.session_id, 0);
        for is_replica in [false, true] {
            let other = sessions.context(&request(0, 0, &[0], &[]), false, is_replica, IDLE_MS + 3).unwrap();
            assert_eq!(other.session_id, 0);
        }
        assert_eq!(sessions.count(), 1);
    }

    #[test]
    fn a_session_keeps_no_view_of_the_request_that_made_it() {
        let request = request(0, 0, &[0], &[]);
        let sent = request.topics[0].topic.as_ptr();
        let context = FetchSessions::new(1, Arc::new(RealChance)).context(&request, false, false, 0).unwrap();
        let TopicKey::Name(kept) = &context.wanted[0].topic else { panic!("by name") };
        assert!(kept.as_str() == "t" && kept.as_ptr() != sent);
    }
}
