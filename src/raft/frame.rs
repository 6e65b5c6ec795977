//! The frames that a journal file consists of; see [`super::journal`] for what they hold.

pub(super) const FRAME_HEAD_BYTES: usize = 17;
/// More than any entry has (see `RECORDS_BYTES_MAX`); what claims more is not a frame.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(super) const HEAD: u8 = 0;
pub(super) const ENTRY: u8 = 1;
pub(super) const COMMITTED: u8 = 2;

pub(super) struct Frame<'a> {
    pub kind: u8,
    pub index: u64,
    pub payload: &'a [u8],
}

pub(super) fn frame(kind: u8, index: u64, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("entries are bounded").to_le_bytes();
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
    frame.extend_from_slice(&len);
    frame.extend_from_slice(&[0; 4]);
    frame.push(kind);
    frame.extend_from_slice(&index.to_le_bytes());
    frame.extend_from_slice(payload);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&len), &frame[8..]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
    frame
}

/// The frame at the start of `bytes`, if there is a whole and unharmed one.
pub(super) fn parse(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, _) = rest.split_first_chunk::<4>()?;
    let payload_len = u32::from_le_bytes(*len) as usize;
    if payload_len > PAYLOAD_BYTES_MAX {
        return None;
    }
    let size = FRAME_HEAD_BYTES + payload_len;
    let (kind, rest) = bytes.get(8..size)?.split_first()?;
    let (index, payload) = rest.split_first_chunk()?;
    let is_whole =
        || crc32c::crc32c_append(crc32c::crc32c(len), &bytes[8..size]) == u32::from_le_bytes(*checksum);
    if *kind > COMMITTED || !is_whole() {
        return None;
    }
    Some((Frame { kind: *kind, index: u64::from_le_bytes(*index), payload }, size))
}

/// A frame of a journal, for those who look at the file from outside.
#[derive(Debug)]
pub struct JournalFrame<'a> {
    pub position: usize,
    /// Where the next one begins.
    pub end: usize,
    pub kind: &'static str,
    pub index: u64,
    pub payload: &'a [u8],
}

/// The frames of a journal's file, up to the first that is not whole.
pub fn journal_frames(bytes: &[u8]) -> impl Iterator<Item = JournalFrame<'_>> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let (frame, size) = parse(bytes.get(position..)?)?;
        let kind = match frame.kind {
            HEAD => "head",
            ENTRY => "entry",
            _ => "committed",
        };
        let shown =
            JournalFrame { position, end: position + size, kind, index: frame.index, payload: frame.payload };
        position += size;
        Some(shown)
    })
}
