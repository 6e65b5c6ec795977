//! Records into batches and out of them, on the client's side.

use bytes::Bytes;

use crate::protocol::batch::Batch;
use crate::protocol::builder::{BatchBuilder, BatchOptions};

pub use crate::protocol::batch::Compression;

/// What the records of one batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 512 * 1024 * 1024;

/// One record. Keys, values and headers' values may be null; headers' names may repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl Record {
    /// Bytes of key, value and headers.
    pub fn data_bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        length(&self.key) + length(&self.value) + headers
    }

    /// Bytes that the record takes in a batch, at most.
    pub fn size_estimate(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value) + 10).sum();
        length(&self.key) + length(&self.value) + headers + 24
    }
}

/// A record as read from a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    pub offset: i64,
    pub record: Record,
}

/// Builds one batch.
pub fn encode(records: &[Record], options: BatchOptions) -> Result<Bytes, String> {
    let mut builder = BatchBuilder::new(options);
    for record in records {
        let headers = record.headers.iter().map(|(name, value)| (&name[..], value.as_deref()));
        let headers = headers.collect::<Vec<_>>();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder
            .add_with_headers(record.timestamp, key, value, &headers)
            .map_err(|error| error.to_string())?;
    }
    builder.build().map_err(|error| error.to_string())
}

/// The records of a batch.
pub fn decode(batch: &Batch<'_>) -> Result<Vec<ReadRecord>, String> {
    let records = batch.records(UNPACKED_BYTES_MAX).map_err(|error| error.to_string())?;
    records
        .map(|view| {
            let view = view.map_err(|error| error.to_string())?;
            let headers = view.headers.into_iter().map(|header| (header.key, header.value)).collect();
            let record = Record { timestamp: view.timestamp, key: view.key, value: view.value, headers };
            Ok(ReadRecord { offset: view.offset, record })
        })
        .collect()
}

/// The records of a batch that this client has built.
pub fn decode_own(bytes: &[u8]) -> Result<Vec<Record>, String> {
    let batch = Batch::parse(bytes).map_err(|error| error.to_string())?;
    Ok(decode(&batch)?.into_iter().map(|read| read.record).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_read_back_in_every_compression() {
        let text = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
        let records = (0..500)
            .map(|number| Record {
                timestamp: 1_000 + number % 7,
                key: if number % 3 == 0 { None } else { text(&format!("key-{number}")) },
                value: if number % 5 == 0 { None } else { text(&"value ".repeat(number as usize)) },
                headers: vec![(Bytes::from_static(b"h"), None), (Bytes::from_static(b"h"), text("2"))],
            })
            .collect::<Vec<_>>();
        for compression in Compression::ALL {
            let options = BatchOptions {
                compression,
                producer_id: 9,
                producer_epoch: 1,
                base_sequence: 17,
                ..BatchOptions::default()
            };
            let bytes = encode(&records, options).unwrap();
            let batch = Batch::parse(&bytes).unwrap();
            batch.verify_crc().unwrap();
            assert_eq!(batch.bytes.len(), bytes.len());
            assert_eq!((batch.header.records_count, batch.header.base_sequence), (500, 17));
            let read = decode(&batch).unwrap();
            assert_eq!(read.iter().map(|read| read.offset).collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
            assert_eq!(read.into_iter().map(|read| read.record).collect::<Vec<_>>(), records);
        }
    }
}
