//! Which brokers are alive, as the active controller hears of them. Pure: time is an argument.
//!
//! A broker has a session from its last sign of life on. One whose session is over is taken for dead; a wrong verdict costs a
//! leader epoch and never a record, as leaders are elected among replicas in sync only. Sessions are the active controller's
//! alone and are in no log: a new one begins with a whole session for everybody.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::time::Instant;

use super::ControllerError;
use super::request::{BrokerIdentity, BrokerRegistration, Heartbeat, HeartbeatAnswer};
use crate::metadata::{BrokerImage, MetadataImage};
use crate::types::NodeId;

#[derive(Debug)]
pub(super) struct Liveness {
    session_timeout: Duration,
    sessions: BTreeMap<NodeId, Session>,
    /// Whose signs of life come over which connection.
    connections: HashMap<u64, BrokerIdentity>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    epoch: i64,
    heard: Instant,
}

/// What the sessions are at some time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Brokers that are not fenced, and whose session is over.
    pub expired: Vec<BrokerIdentity>,
    /// When the next session is over, if nothing is heard.
    pub next: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(session_timeout: Duration) -> Self {
        Self { session_timeout, sessions: BTreeMap::new(), connections: HashMap::new() }
    }

    /// This node has become the active controller, or has been asleep: what it heard before says nothing.
    pub(super) fn begin(&mut self, image: &MetadataImage, now: Instant) {
        let session = |broker: &BrokerImage| (broker.id, Session { epoch: broker.epoch, heard: now });
        let live = image.brokers().values().filter(|broker| !broker.fenced);
        self.sessions = live.map(|broker| session(broker)).collect();
    }

    /// A broker gives its signs of life over this connection.
    pub(super) fn connected(&mut self, broker: BrokerIdentity, connection: u64) {
        self.connections.insert(connection, broker);
    }

    fn heard(&mut self, broker: BrokerIdentity, now: Instant) {
        let session = self.sessions.entry(broker.id).or_insert(Session { epoch: broker.epoch, heard: now });
        if session.epoch <= broker.epoch {
            *session = Session { epoch: broker.epoch, heard: now.max(session.heard) };
        }
    }

    /// A heartbeat; `None` where something has to be decided about it.
    pub(super) fn beat(
        &mut self,
        image: &MetadataImage,
        beat: &Heartbeat,
        majority_ms: u64,
        now: Instant,
    ) -> Option<Result<HeartbeatAnswer, ControllerError>> {
        let known = match check_broker_epoch(image, beat.broker) {
            Ok(known) => known,
            Err(error) => return Some(Err(error)),
        };
        self.heard(beat.broker, now);
        let shall_unfence = beat.may_serve && known.fenced && !known.in_controlled_shutdown;
        (!shall_unfence).then_some(Ok(HeartbeatAnswer { is_fenced: known.fenced, majority_ms }))
    }

    /// Nothing more comes over this connection. Gives whose it was.
    pub(super) fn closed(&mut self, connection: u64) -> Option<BrokerIdentity> {
        self.connections.remove(&connection)
    }

    /// Whether the broker was heard of after this moment.
    pub(super) fn heard_after(&self, broker: BrokerIdentity, moment: Instant) -> bool {
        let session = self.sessions.get(&broker.id).filter(|session| session.epoch == broker.epoch);
        session.is_some_and(|session| session.heard > moment)
    }

    fn has_session(&self, broker: BrokerIdentity, now: Instant) -> bool {
        let session = self.sessions.get(&broker.id).filter(|session| session.epoch == broker.epoch);
        session.is_some_and(|session| now < session.heard + self.session_timeout)
    }

    /// Whose sessions are over. A broker that is new here begins one. The broker of the active controller itself, `own`, is
    /// alive where this runs.
    pub(super) fn look(&mut self, image: &MetadataImage, own: NodeId, now: Instant) -> Look {
        self.sessions.retain(|id, _| image.broker(*id).is_some());
        let mut look = Look::default();
        for broker in image.brokers().values().filter(|broker| !broker.fenced && broker.id != own) {
            let new = Session { epoch: broker.epoch, heard: now };
            let session = self.sessions.entry(broker.id).or_insert(new);
            if session.epoch < broker.epoch {
                *session = new;
            }
            let end = session.heard + self.session_timeout;
            if end <= now {
                look.expired.push(BrokerIdentity { id: broker.id, epoch: broker.epoch });
            } else {
                look.next = Some(look.next.map_or(end, |next: Instant| next.min(end)));
            }
        }
        look
    }

    /// Refuses a second process under the id of one that lives. A restarted process is known by its data folder: only
    /// one process at a time can have it. (That holds for a process's first registration. One whose registration is gone has to
    /// give way to whoever is registered now, lest two with copies of one folder drive each other out for ever.)
    pub(super) fn admit(
        &self,
        image: &MetadataImage,
        request: &BrokerRegistration,
        now: Instant,
    ) -> Result<(), ControllerError> {
        let Some(known) = image.broker(request.id) else { return Ok(()) };
        let identity = BrokerIdentity { id: known.id, epoch: known.epoch };
        let is_restarted =
            request.is_first && request.log_directories.iter().any(|id| known.log_directories.contains(id));
        let may = known.incarnation_id == request.incarnation_id
            || known.in_controlled_shutdown
            || is_restarted
            || request.accepts_missing_data
            || !self.has_session(identity, now);
        if may {
            return Ok(());
        }
        let message = "Another broker is registered with that broker id. If the broker was recently restarted this should \
                       self-resolve once the heartbeat manager expires the broker's session.";
        Err(ControllerError::new(ResponseError::DuplicateBrokerRegistration, message))
    }
}

/// The registration of a broker's process, if there is no later one.
pub(super) fn check_broker_epoch(
    image: &MetadataImage,
    broker: BrokerIdentity,
) -> Result<&BrokerImage, ControllerError> {
    let stale = |message| Err(ControllerError::new(ResponseError::StaleBrokerEpoch, message));
    match image.broker(broker.id) {
        None => stale(format!("No broker registration found for broker id {}", broker.id)),
        Some(known) if known.epoch != broker.epoch => {
            stale(format!("Expected broker epoch {}, but got broker epoch {}", known.epoch, broker.epoch))
        }
        Some(known) => Ok(known),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::metadata::{MetadataRecord, RegisterBroker};

    const SESSION: Duration = Duration::from_secs(3);
    const OWN: NodeId = NodeId(1);

    fn registered(epochs: &[(i32, i64, bool)]) -> MetadataImage {
        let record = |(id, broker_epoch, fenced): &(i32, i64, bool)| {
            MetadataRecord::RegisterBroker(RegisterBroker {
                broker_id: NodeId(*id),
                incarnation_id: Uuid::from_u128(*broker_epoch as u128),
                broker_epoch: *broker_epoch,
                listeners: Vec::new(),
                rack: None,
                log_directories: vec![Uuid::from_u128(*id as u128)],
                fenced: *fenced,
                in_controlled_shutdown: false,
                features: Default::default(),
            })
        };
        MetadataImage::default().with(&epochs.iter().map(record).collect::<Vec<_>>()).unwrap()
    }

    fn broker(id: i32, epoch: i64) -> BrokerIdentity {
        BrokerIdentity { id: NodeId(id), epoch }
    }

    #[test]
    fn a_broker_that_is_silent_for_its_session_is_dead_and_one_that_is_heard_is_not() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let image = registered(&[(1, 1, false), (2, 2, false), (3, 3, false), (4, 4, true)]);
        let mut liveness = Liveness::new(SESSION);
        liveness.begin(&image, start);
        assert_eq!(liveness.look(&image, OWN, at(2999)), Look { expired: vec![], next: Some(at(3000)) });
        liveness.heard(broker(2, 2), at(1000));
        liveness.connected(broker(2, 2), 7);
        let look = liveness.look(&image, OWN, at(3000));
        assert_eq!(look, Look { expired: vec![broker(3, 3)], next: Some(at(4000)) });
        // What an earlier process of the broker sent says nothing of the later one.
        let image = registered(&[(2, 2, false), (2, 5, false)]);
        assert_eq!(liveness.look(&image, OWN, at(3900)).next, Some(at(6900)));
        liveness.heard(broker(2, 2), at(6000));
        assert_eq!(liveness.look(&image, OWN, at(6900)).expired, [broker(2, 5)]);
        assert!(
            liveness.heard_after(broker(2, 5), at(3800)) && !liveness.heard_after(broker(2, 5), at(3900))
        );
        assert_eq!((liveness.closed(7), liveness.closed(7)), (Some(broker(2, 2)), None));
    }

    #[test]
    fn a_second_process_is_refused_while_the_first_one_lives_and_a_restarted_one_is_not() {
        let start = Instant::now();
        let image = registered(&[(2, 2, false)]);
        let mut liveness = Liveness::new(SESSION);
        liveness.begin(&image, start);
        let request = |incarnation: u128, folder: u128, is_first| BrokerRegistration {
            incarnation_id: Uuid::from_u128(incarnation),
            log_directories: vec![Uuid::from_u128(folder)],
            features: Default::default(),
            is_first,
            ..super::super::actor_tests::registration(2)
        };
        let refused = liveness.admit(&image, &request(9, 8, true), start).unwrap_err();
        assert_eq!(refused.code, ResponseError::DuplicateBrokerRegistration);
        assert!(liveness.admit(&image, &request(9, 8, true), start + SESSION).is_ok(), "it is dead by then");
        assert!(liveness.admit(&image, &request(9, 2, true), start).is_ok(), "it has its folder");
        assert!(liveness.admit(&image, &request(9, 2, false), start).is_err(), "it was driven out");
        assert!(liveness.admit(&image, &request(2, 8, false), start).is_ok(), "it is the same process");
    }
}
