//! Which topics a consumer's subscription names. The bytes are the client's own.

use bytes::Bytes;

use crate::client::consumer_protocol::Subscription;

/// Whether the subscription names the topic; one that cannot be read may name any.
pub(super) fn names(subscription: &Bytes, topic: &str) -> bool {
    let read = Subscription::decode(subscription.clone());
    read.map_or(true, |read| read.topics.iter().any(|name| name == topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_found_and_nonsense_may_name_any() {
        let subscription = Bytes::from_static(b"\0\0\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff");
        assert!(names(&subscription, "a") && names(&subscription, "bc"));
        assert!(!names(&subscription, "b"));
        for end in 0..subscription.len() {
            assert!(names(&subscription.slice(..end), "b"), "cut at {end}");
        }
        assert!(names(&Bytes::from_static(b"\0\x01\x7f\xff\xff\xff"), "a"));
        assert!(names(&Bytes::from_static(b"\0\x01\0\0\0\x01\xff\xff"), "a"));
    }
}
