//! What the leader has for those whom it does not call: a node that is only a broker has no listener for controllers, as in
//! Kafka, so it comes and takes what is for it (`RaftTake`, ADR 7).
//!
//! To openraft nothing is different: a message is sent, and answered. Here it waits as a letter until its node asks,
//! goes out as the answer to that, and is answered by the node's next question:
//!
//! ```text
//! question  {"answers": 7, "refusal": null}  \n  the payload of the answer to letter 7
//! answer    {"number": 8, "key": 20001}      \n  the payload of letter 8; or nothing, when there was none for a while
//! ```
//!
//! A node deals with one letter after the other, so any letter that its question does not answer is lost on the way, and
//! whoever sent it is told so at once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::protocol::internal::Refusal;

/// How long a question waits for a letter.
const WAIT: Duration = Duration::from_secs(2);
/// Who has not asked for so long is not there.
const ASKS_WITHIN: Duration = Duration::from_secs(5);
/// Letters for one node: openraft sends one of each kind at a time.
const LETTERS_MAX: usize = 16;

/// What a question begins with; a newline, and the payload of an answer follow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Question {
    /// The number of the letter that is answered.
    pub answers: Option<u64>,
    /// Why nothing was done.
    pub refusal: Option<Refusal>,
}

/// What a letter begins with; a newline, and its payload follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub number: u64,
    pub key: i16,
}

/// What came of a letter; an error of the receiver means that it was lost.
pub(super) type LetterAnswer = Result<Bytes, Refusal>;

/// The letters for one node.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    posted: Notify,
}

#[derive(Debug, Default)]
struct State {
    last_number: u64,
    waiting: VecDeque<(Envelope, Bytes, oneshot::Sender<LetterAnswer>)>,
    taken: BTreeMap<u64, oneshot::Sender<LetterAnswer>>,
    asked_at: Option<Instant>,
    /// Counts the questions: a newer one takes the place of one that still waits.
    questions: u64,
}

impl Mailbox {
    /// Whether its node asks.
    pub(super) fn is_asked(&self) -> bool {
        self.state.lock().asked_at.is_some_and(|at| at.elapsed() < ASKS_WITHIN)
    }

    /// A letter for the node.
    pub(super) fn post(&self, key: i16, payload: Bytes) -> oneshot::Receiver<LetterAnswer> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        state.waiting.retain(|(_, _, sender)| !sender.is_closed());
        if state.waiting.len() < LETTERS_MAX {
            state.last_number += 1;
            let envelope = Envelope { number: state.last_number, key };
            state.waiting.push_back((envelope, payload, sender));
            self.posted.notify_waiters();
        }
        receiver
    }

    /// The node asks for its next letter, having dealt with the one before. Nothing when there is none for a while, or it
    /// asks again meanwhile.
    pub(super) async fn take(&self, question: Question, payload: Bytes) -> Option<(Envelope, Bytes)> {
        let own = {
            let mut state = self.state.lock();
            state.asked_at = Some(Instant::now());
            state.questions += 1;
            if let Some(answered) = question.answers.and_then(|number| state.taken.remove(&number)) {
                // Whoever sent it may have gone away.
                _ = answered.send(question.refusal.map_or(Ok(payload), Err));
            }
            // Those that it does not speak of it does not have.
            state.taken.clear();
            self.posted.notify_waiters();
            state.questions
        };
        let deadline = Instant::now() + WAIT;
        loop {
            let mut posted = std::pin::pin!(self.posted.notified());
            posted.as_mut().enable();
            {
                let mut state = self.state.lock();
                if state.questions != own {
                    return None;
                }
                while let Some((envelope, payload, sender)) = state.waiting.pop_front() {
                    if sender.is_closed() {
                        continue;
                    }
                    state.taken.insert(envelope.number, sender);
                    return Some((envelope, payload));
                }
            }
            if timeout_at(deadline, posted).await.is_err() {
                self.state.lock().asked_at = Some(Instant::now());
                return None;
            }
        }
    }
}

/// Puts a head before a payload.
pub(super) fn joined(head: &impl Serialize, payload: &[u8]) -> serde_json::Result<Bytes> {
    let mut bytes = serde_json::to_vec(head)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(payload);
    Ok(bytes.into())
}

/// Takes the head off.
pub(super) fn split<'a, H: Deserialize<'a>>(bytes: &'a Bytes) -> Result<(H, Bytes), String> {
    let at = bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no head")?;
    let head = serde_json::from_slice(&bytes[..at]).map_err(|error| error.to_string())?;
    Ok((head, bytes.slice(at + 1..)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn answers(number: u64) -> Question {
        Question { answers: Some(number), refusal: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_letter_goes_to_who_asks_and_the_next_question_answers_it() {
        let mailbox = Arc::new(Mailbox::default());
        assert!(!mailbox.is_asked());
        let asking = mailbox.clone();
        let asked = tokio::spawn(async move { asking.take(Question::default(), Bytes::new()).await });
        tokio::task::yield_now().await;
        assert!(mailbox.is_asked());
        let answer = mailbox.post(7, Bytes::from_static(b"one"));
        let (envelope, payload) = asked.await.unwrap().unwrap();
        assert_eq!((envelope.key, payload), (7, Bytes::from_static(b"one")));
        let lost = mailbox.post(7, Bytes::from_static(b"two"));
        let (second, _) = mailbox.take(answers(envelope.number), Bytes::from_static(b"done")).await.unwrap();
        assert_eq!(answer.await.unwrap(), Ok(Bytes::from_static(b"done")));
        // It asks anew, as after a broken connection: the second one is lost, and its sender knows.
        assert_eq!(mailbox.take(Question::default(), Bytes::new()).await, None);
        assert!(lost.await.is_err());
        // An answer that comes twice harms nobody.
        assert_eq!(mailbox.take(answers(second.number), Bytes::new()).await, None);
        tokio::time::advance(ASKS_WITHIN).await;
        assert!(!mailbox.is_asked());
    }

    #[tokio::test(start_paused = true)]
    async fn a_letter_whose_sender_has_gone_is_not_delivered_and_a_newer_question_ends_an_older_one() {
        let mailbox = Arc::new(Mailbox::default());
        drop(mailbox.post(1, Bytes::new()));
        let asking = mailbox.clone();
        let older = tokio::spawn(async move { asking.take(Question::default(), Bytes::new()).await });
        tokio::task::yield_now().await;
        let asking = mailbox.clone();
        let newer = tokio::spawn(async move { asking.take(Question::default(), Bytes::new()).await });
        assert_eq!(older.await.unwrap(), None);
        let _answer = mailbox.post(2, Bytes::new());
        assert_eq!(newer.await.unwrap().unwrap().0.key, 2);
    }

    #[test]
    fn heads_come_back_with_their_payloads_and_hostile_ones_are_errors() {
        let whole = joined(&answers(3), b"a\nb").unwrap();
        assert_eq!(split::<Question>(&whole), Ok((answers(3), Bytes::from_static(b"a\nb"))));
        for hostile in [&b""[..], b"{}", b"[\n", b"\xff\n"] {
            assert!(split::<Question>(&Bytes::copy_from_slice(hostile)).is_err());
        }
    }
}
