//! Which error codes a response carries, for `raftsman_request_errors_total`.

use crate::protocol::messages::Encodable;

/// The error codes of one response with how often each occurs. Success is not counted.
#[derive(Debug, Default)]
pub struct Errors(Vec<(i16, u64)>);

impl Errors {
    pub fn count(&mut self, code: i16) {
        if code == 0 {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => self.0.push((code, 1)),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (i16, u64)> + '_ {
        self.0.iter().copied()
    }
}

/// A response message that knows where its error codes are; see [`error_codes!`].
pub trait ErrorCodes: Encodable + 'static {
    fn count_errors(&self, errors: &mut Errors);
}

/// Says of a response the ways to its error codes: `[]` is its own, `[topics partitions]` that of each
/// partition of each topic.
macro_rules! error_codes {
    ($message:ty: $([$($way:ident)*])*) => {
        impl crate::server::errors::ErrorCodes for $message {
            fn count_errors(&self, errors: &mut crate::server::errors::Errors) {
                $(error_codes!(@ errors, self, $($way)*);)*
            }
        }
    };
    (@ $errors:ident, $at:expr,) => { $errors.count($at.error_code) };
    (@ $errors:ident, $at:expr, $list:ident $($rest:ident)*) => {
        for each in &$at.$list { error_codes!(@ $errors, each, $($rest)*); }
    };
}
pub(super) use error_codes;

#[cfg(test)]
mod tests {
    use kafka_protocol::ResponseError;

    use super::*;
    use crate::protocol::messages::OffsetFetchResponse;
    use crate::protocol::messages::offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
    };

    #[test]
    fn errors_are_found_wherever_a_response_has_them() {
        let failed = ResponseError::UnknownTopicOrPartition.code();
        let partitions =
            [0, failed, failed].map(|code| OffsetFetchResponsePartitions::default().with_error_code(code));
        let topic = OffsetFetchResponseTopics::default().with_partitions(partitions.into());
        let refused = ResponseError::NotCoordinator.code();
        let groups = vec![
            OffsetFetchResponseGroup::default().with_topics(vec![topic]),
            OffsetFetchResponseGroup::default().with_error_code(refused),
        ];
        let mut errors = Errors::default();
        OffsetFetchResponse::default().with_groups(groups).count_errors(&mut errors);
        assert_eq!(errors.iter().collect::<Vec<_>>(), [(refused, 1), (failed, 2)]);
    }
}
