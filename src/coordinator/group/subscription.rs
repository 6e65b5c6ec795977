//! Which topics a consumer's subscription names: the start of Kafka's `ConsumerProtocolSubscription`,
//! a version (16 bits) and an array of names, alike in all versions. The bytes are the client's own.

use crate::protocol::reader::{ReadError, Reader};

/// Whether the subscription names the topic; one that cannot be read may name any.
pub fn names(subscription: &[u8], topic: &str) -> bool {
    find(subscription, topic).unwrap_or(true)
}

fn find(subscription: &[u8], topic: &str) -> Result<bool, ReadError> {
    let mut reader = Reader::new(subscription);
    reader.i16()?;
    for _ in 0..reader.i32()?.max(0) {
        let length = usize::try_from(reader.i16()?).map_err(|_| ReadError::End)?;
        if reader.take(length)? == topic.as_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_found_and_nonsense_may_name_any() {
        let subscription = b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        assert!(names(subscription, "a") && names(subscription, "bc"));
        assert!(!names(subscription, "b"));
        for end in 0..subscription.len() {
            let _ = names(&subscription[..end], "bc");
        }
        assert!(names(b"\0\x01\x7f\xff\xff\xff", "a"));
        assert!(names(b"\0\x01\0\0\0\x01\xff\xff", "a"));
    }
}
