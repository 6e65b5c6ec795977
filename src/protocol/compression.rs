//! The codecs of record batches: gzip, snappy, lz4 and zstd, one block per batch.
//!
//! - gzip: RFC 1952, members may follow each other.
//! - snappy: the framing of xerial's Java library, which Kafka writes (`82 "SNAPPY" 00`, two `i32`
//!   of versions, then blocks of an `i32` length and that many bytes of raw snappy); a block
//!   without that head is raw snappy, which other clients write.
//! - lz4: LZ4 frames with independent blocks.
//! - zstd: RFC 8878 frames.
//!
//! Decompression takes a limit in bytes and ends with an error when it is passed: what comes out of
//! a hostile block is never larger, whatever the block promises.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameInfo};
use zstd::zstd_safe::{DCtx, ResetDirective};

use super::batch::{BatchError, Compression};
use super::reader::{ReadError, Reader};

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Versions that follow the magic: the writer's, and the oldest reader's that it suits.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Bytes that go into one block of xerial's framing.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// A copy element of raw snappy gives at most 64 bytes for 3.
const SNAPPY_RATIO_MAX: usize = 22;
/// What a decompressor's output buffer holds before the first byte came out.
const FIRST_BYTES: usize = 16 * 1024;

/// A thread keeps its zstd decoder up to this size: what the usual levels need, not what a hostile
/// frame's window (128 MiB at most, as level 22 needs it) made of it.
const ZSTD_KEPT_BYTES: usize = 4 * 1024 * 1024;

thread_local! {
    /// A decoder costs several microseconds to make, more than most batches to decompress.
    static ZSTD: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

/// Undoes `compression`; gives `bytes` themselves when there is none.
///
/// # Errors
/// `DecompressedTooLarge` as soon as more than `limit_bytes` come out, `Decompress` when the bytes are
/// not what they should be.
pub fn decompress(
    compression: Compression,
    bytes: &[u8],
    limit_bytes: usize,
) -> Result<Cow<'_, [u8]>, BatchError> {
    match compression {
        Compression::None if bytes.len() > limit_bytes => {
            Err(BatchError::DecompressedTooLarge { limit: limit_bytes })
        }
        Compression::None => Ok(Cow::Borrowed(bytes)),
        _ => {
            with_reader(compression, bytes, limit_bytes, |reader| read_all(reader, compression, limit_bytes))?
                .map(Cow::Owned)
        }
    }
}

/// Hands `read` a reader of what `bytes` hold, decompressed as they are read. A reader that has met bytes that are not
/// what they should be ends with an error ([`failed`] words it).
///
/// # Errors
/// `Decompress` when the codec cannot begin; `DecompressedTooLarge` when blocks that come out as a whole say that more
/// than `limit_bytes` do. What streams has to be watched by `read`.
pub fn with_reader<T>(
    compression: Compression,
    bytes: &[u8],
    limit_bytes: usize,
    read: impl FnOnce(&mut dyn Read) -> T,
) -> Result<T, BatchError> {
    Ok(match compression {
        Compression::None => read(&mut &*bytes),
        Compression::Gzip => read(&mut flate2::bufread::MultiGzDecoder::new(bytes)),
        Compression::Snappy => {
            let mut unsnapped = Unsnapped::new(bytes)?;
            if unsnapped.promised_bytes() > limit_bytes {
                return Err(BatchError::DecompressedTooLarge { limit: limit_bytes });
            }
            read(&mut unsnapped)
        }
        Compression::Lz4 => read(&mut lz4_flex::frame::FrameDecoder::new(bytes)),
        Compression::Zstd => return unzstd(bytes, read),
    })
}

/// Compresses the records of a batch. `level` is the codec's own (gzip 1 to 9, zstd -131072 to 22);
/// none means the codec's default, as does any for snappy and lz4, which have no levels here.
///
/// # Errors
/// `Decompress` when the codec refuses, which it does for no input but may for a level.
pub fn compress(
    compression: Compression,
    bytes: &[u8],
    level: Option<i32>,
) -> Result<Cow<'_, [u8]>, BatchError> {
    let out = match compression {
        Compression::None => return Ok(Cow::Borrowed(bytes)),
        Compression::Gzip => {
            let level = match level.and_then(|level| u32::try_from(level).ok()) {
                Some(level) => flate2::Compression::new(level.min(9)),
                None => flate2::Compression::default(),
            };
            let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 2), level);
            encoder
                .write_all(bytes)
                .and_then(|()| encoder.finish())
                .map_err(|error| failed(compression, error))?
        }
        Compression::Snappy => snap(bytes)?,
        Compression::Lz4 => {
            // Blocks as Kafka's clients write them: readers keep a buffer of a block's size.
            let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
            let out = Vec::with_capacity(bytes.len() / 2);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, out);
            encoder.write_all(bytes).map_err(|error| failed(compression, error))?;
            encoder.finish().map_err(|error| failed(compression, error))?
        }
        Compression::Zstd => zstd::bulk::compress(bytes, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))
            .map_err(|error| failed(compression, error))?,
    };
    Ok(Cow::Owned(out))
}

pub fn failed(compression: Compression, cause: impl std::fmt::Display) -> BatchError {
    BatchError::Decompress { codec: compression.name(), cause: cause.to_string() }
}

/// Reads to the end, but never more than the limit and one byte.
fn read_all(reader: impl Read, compression: Compression, limit_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::with_capacity(limit_bytes.min(FIRST_BYTES));
    reader
        .take((limit_bytes as u64).saturating_add(1))
        .read_to_end(&mut out)
        .map_err(|error| failed(compression, error))?;
    match out.len() > limit_bytes {
        true => Err(BatchError::DecompressedTooLarge { limit: limit_bytes }),
        false => Ok(out),
    }
}

fn unzstd<T>(bytes: &[u8], read: impl FnOnce(&mut dyn Read) -> T) -> Result<T, BatchError> {
    let mut context = ZSTD.take().unwrap_or_default();
    // The last frame may have been left in its middle.
    context
        .reset(ResetDirective::SessionOnly)
        .map_err(|code| failed(Compression::Zstd, zstd::zstd_safe::get_error_name(code)))?;
    let out = read(&mut zstd::stream::read::Decoder::with_context(bytes, &mut context));
    if context.sizeof() <= ZSTD_KEPT_BYTES {
        ZSTD.set(Some(context));
    }
    Ok(out)
}

/// What blocks of snappy hold, one block after the other.
struct Unsnapped<'a> {
    rest: Reader<'a>,
    /// Without xerial's framing, all is one block.
    is_framed: bool,
    block: Vec<u8>,
    /// Up to here the block has been read.
    at: usize,
}

impl<'a> Unsnapped<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let framed = bytes.strip_prefix(&XERIAL_MAGIC);
        let mut rest = Reader::new(framed.unwrap_or(bytes));
        if framed.is_some() {
            rest.skip(XERIAL_VERSIONS.len()).map_err(|error| failed(Compression::Snappy, error))?;
        }
        Ok(Self { rest, is_framed: framed.is_some(), block: Vec::new(), at: 0 })
    }

    /// What all blocks together say that they hold; up to one that cannot be read.
    fn promised_bytes(&self) -> usize {
        let (mut rest, mut promised) = (self.rest.clone(), 0_usize);
        while !rest.is_empty() {
            let length = packed_block(&mut rest, self.is_framed)
                .ok()
                .and_then(|packed| snap::raw::decompress_len(packed).ok());
            let Some(length) = length else { break };
            promised = promised.saturating_add(length);
        }
        promised
    }

    fn next_block(&mut self) -> io::Result<()> {
        let packed = packed_block(&mut self.rest, self.is_framed).map_err(io::Error::other)?;
        let length = snap::raw::decompress_len(packed).map_err(io::Error::other)?;
        if length > packed.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(io::Error::other("a block promises more than it can hold"));
        }
        self.block.resize(length, 0);
        snap::raw::Decoder::new().decompress(packed, &mut self.block).map_err(io::Error::other)?;
        self.at = 0;
        Ok(())
    }
}

fn packed_block<'a>(rest: &mut Reader<'a>, is_framed: bool) -> Result<&'a [u8], ReadError> {
    let length = if is_framed { rest.u32()? as usize } else { rest.remaining() };
    rest.take(length)
}

impl Read for Unsnapped<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let mut block = self.block.get(self.at..).unwrap_or_default();
        let count = block.read(out)?;
        self.at += count;
        Ok(count)
    }
}

fn snap(bytes: &[u8]) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::with_capacity(XERIAL_MAGIC.len() + XERIAL_VERSIONS.len() + bytes.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&XERIAL_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).map_err(|error| failed(Compression::Snappy, error))?;
        // A block of 32 KiB never grows beyond an i32.
        out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_reads_back_what_it_wrote_and_stops_at_the_limit() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|n| (n / 7 % 251).to_be_bytes()).collect();
        for codec in Compression::ALL {
            for bytes in [&text[..], &text[..1], &[]] {
                let packed = compress(codec, bytes, None).expect("compresses");
                let back = decompress(codec, &packed, bytes.len());
                assert_eq!(back.as_deref(), Ok(bytes), "{codec:?} {}", bytes.len());
            }
            let packed = compress(codec, &text, Some(1)).expect("compresses");
            assert_eq!(
                decompress(codec, &packed, text.len() - 1),
                Err(BatchError::DecompressedTooLarge { limit: text.len() - 1 }),
                "{codec:?}"
            );
        }
    }

    #[test]
    fn a_cut_or_senseless_block_is_an_error() {
        let text = vec![7u8; 100_000];
        for codec in &Compression::ALL[1..] {
            let packed = compress(*codec, &text, None).expect("compresses").into_owned();
            for length in 0..packed.len() {
                // What is cut may still be whole blocks, or all but the mark of the end.
                if let Ok(out) = decompress(*codec, &packed[..length], text.len()) {
                    let whole = out.len() == text.len();
                    assert!(!whole || length + 4 >= packed.len(), "{codec:?} cut at {length}");
                    assert!(text.starts_with(&out), "{codec:?} cut at {length}");
                }
            }
            assert!(decompress(*codec, b"this is no compressed block", 1 << 20).is_err(), "{codec:?}");
        }
        // Raw snappy, as clients without xerial's framing write it; and one that promises 4 GiB.
        let raw = snap::raw::Encoder::new().compress_vec(&text).expect("compresses");
        assert_eq!(decompress(Compression::Snappy, &raw, 1 << 20).as_deref(), Ok(&text[..]));
        let promise = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(decompress(Compression::Snappy, &promise, usize::MAX).is_err());
    }
}
