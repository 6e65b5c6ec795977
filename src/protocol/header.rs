//! The headers in front of a request's and a response's body.
//!
//! ```text
//! request  v0  api_key i16, api_version i16, correlation_id i32
//!          v1  and client_id: i16 length (-1: null), UTF-8
//!          v2  and tagged fields (KIP-482); client_id stays as it is in v1
//! response v0  correlation_id i32
//!          v1  and tagged fields
//! ```
//!
//! The version of a header follows from the request's API and version. A response to ApiVersions has
//! header version 0 always: the client reads it before it knows what the broker speaks (KIP-511).

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::guard::shapes;
use super::internal::{self, InternalKey};
use super::reader::{ReadError, Reader};

/// Why the front of a request is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("the request header: {0}")]
    Read(#[from] ReadError),
    #[error("the client id has length {0}")]
    ClientIdLength(i16),
    #[error("the client id is not UTF-8")]
    ClientIdText,
}

/// What every request starts with. API and version are as the client says, known or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<StrBytes>,
}

impl RequestHeader {
    /// Takes the header off the front of `frame`, which then starts with the body. Of an API that is
    /// not known, only the fields of v0 are taken. The client id is a copy: who keeps it does not
    /// keep the frame.
    ///
    /// # Errors
    /// When the bytes end too soon or the client id is no string; `frame` is as before then.
    pub fn parse(frame: &mut BytesMut) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(frame);
        let api_key = reader.i16()?;
        let api_version = reader.i16()?;
        let correlation_id = reader.i32()?;
        let version = match shapes::find(api_key) {
            Some(shape) => shape.request_header_version(api_version),
            None => InternalKey::of(api_key).map_or(0, |_| internal::REQUEST_HEADER_VERSION),
        };
        let mut client_id = None;
        if version >= 1 {
            client_id = read_client_id(&mut reader)?;
        }
        if version >= 2 {
            skip_tagged_fields(&mut reader)?;
        }
        let length = frame.len() - reader.remaining();
        frame.advance(length);
        Ok(Self { api_key, api_version, correlation_id, client_id })
    }
}

fn read_client_id(reader: &mut Reader<'_>) -> Result<Option<StrBytes>, HeaderError> {
    let length = reader.i16()?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| HeaderError::ClientIdLength(length))?;
    let text = std::str::from_utf8(reader.take(length)?).map_err(|_| HeaderError::ClientIdText)?;
    Ok(Some(StrBytes::from_string(text.to_owned())))
}

/// Passes over tagged fields: their count, then of each the tag, the size and that many bytes.
///
/// # Errors
/// When the bytes end before; a count beyond them ends there too.
pub fn skip_tagged_fields(reader: &mut Reader<'_>) -> Result<(), ReadError> {
    for _ in 0..reader.unsigned_varint()? {
        reader.unsigned_varint()?;
        let size = reader.unsigned_varint()?;
        reader.skip(size as usize)?;
    }
    Ok(())
}

/// A response's header: 4 bytes in version 0, and no tagged fields, in one byte, from 1 on.
pub fn response_header(correlation_id: i32, header_version: i16) -> Bytes {
    let [a, b, c, d] = correlation_id.to_be_bytes();
    match header_version {
        0 => Bytes::copy_from_slice(&[a, b, c, d]),
        _ => Bytes::copy_from_slice(&[a, b, c, d, 0]),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiKey, RequestHeader as Wire, ResponseHeader};
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::*;

    #[test]
    fn headers_of_every_api_and_version_are_read_and_answered_as_kafka_writes_them() {
        for api in ApiKey::iter() {
            let range = api.valid_versions();
            for version in range.min..=range.max {
                let header_version = api.request_header_version(version);
                for client_id in [None, Some(""), Some("müller")] {
                    let client_id = client_id.map(StrBytes::from_static_str);
                    let mut wire = Wire::default()
                        .with_request_api_key(api as i16)
                        .with_request_api_version(version)
                        .with_correlation_id(-5)
                        .with_client_id(client_id.clone());
                    if header_version >= 2 {
                        wire = wire.with_unknown_tagged_field(9, Bytes::from_static(b"later"));
                    }
                    let mut frame = BytesMut::new();
                    wire.encode(&mut frame, header_version).expect("encodes");
                    let whole = frame.clone();
                    frame.extend_from_slice(b"body");
                    let header = RequestHeader::parse(&mut frame).expect("parses");
                    assert_eq!(&frame[..], b"body", "{api:?} {version}");
                    assert_eq!((header.api_key, header.api_version), (api as i16, version));
                    assert_eq!((header.correlation_id, header.client_id.clone()), (-5, client_id));
                    let shape = shapes::find(api as i16).expect("is known");
                    let mut answer = response_header(-5, shape.response_header_version(version));
                    let expected =
                        if api == ApiKey::ApiVersions { 0 } else { api.response_header_version(version) };
                    let back = ResponseHeader::decode(&mut answer, expected).expect("decodes");
                    assert_eq!((back.correlation_id, answer.len()), (-5, 0));
                    for length in 0..whole.len() {
                        let mut cut = BytesMut::from(&whole[..length]);
                        assert!(RequestHeader::parse(&mut cut).is_err());
                        assert_eq!(cut.len(), length);
                    }
                }
            }
        }
    }

    #[test]
    fn an_unknown_api_gives_its_first_fields_and_a_wrong_client_id_an_error() {
        let mut frame = BytesMut::from(&[0x7f, 0xff, 0, 1, 0, 0, 0, 2, 0xff][..]);
        let header = RequestHeader::parse(&mut frame).expect("parses");
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (i16::MAX, 1, 2));
        assert_eq!((header.client_id.clone(), frame.len()), (None, 1));
        let parse = |tail: &[u8]| {
            RequestHeader::parse(&mut BytesMut::from(&[&[0, 18, 0, 3, 0, 0, 0, 2], tail].concat()[..]))
        };
        assert_eq!(parse(&[0xff, 0xfe, 0]), Err(HeaderError::ClientIdLength(-2)));
        assert_eq!(parse(&[0, 1, 0xff, 0]), Err(HeaderError::ClientIdText));
        let endless = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(parse(&endless), Err(HeaderError::Read(ReadError::End)));
    }
}
