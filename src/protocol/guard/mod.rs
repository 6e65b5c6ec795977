//! The guard before the decoder: a request's body is walked, field by field, before anything is
//! allocated for it.
//!
//! kafka-protocol's decoder reserves room for as many elements as a request says it has, so nine
//! bytes could ask for 100 GiB. The walk follows the same shape over the bytes alone, without
//! allocating, and refuses what the decoder must not see: counts and lengths that the bytes
//! cannot hold, nulls where Kafka allows none, strings that are not UTF-8, tagged fields whose
//! size is not that of their value, and requests that are small on the wire but would be large in
//! memory. What passes decodes without an error, within [`memory_limit_bytes`].
//!
//! The shapes are a table ([`shapes`], made of Kafka's message definitions); how deep the walk goes is
//! how deep the table goes, so nothing on the wire can make it recurse.

pub mod schema;
#[rustfmt::skip]
pub mod shapes;

use super::reader::{ReadError, Reader};
use schema::{Field, Kind, Shape};

/// What any request may occupy decoded, however small it is on the wire.
const MEMORY_FLOOR_BYTES: usize = 16 * 1024 * 1024;

/// How many bytes in memory a byte on the wire may become, beyond the floor. The densest honest
/// requests (assignments of one replica, topics with short names) are at 7 to 12.
const MEMORY_PER_WIRE_BYTE: usize = 16;

/// What a decoded structure occupies besides its fields: the empty map of unknown tagged fields.
const STRUCT_MEMORY_BYTES: usize = 24;

/// What the allocator adds to an array's elements.
const ALLOCATION_MEMORY_BYTES: usize = 16;

/// A map's first entry allocates a leaf for eleven entries at once.
const FIRST_UNKNOWN_TAG_MEMORY_BYTES: usize = 512;

/// Every further one: leaves may stay half full, and there are the inner nodes.
const UNKNOWN_TAG_MEMORY_BYTES: usize = 128;

/// The longest string of Kafka's, in bytes, in flexible versions too.
const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Why a request must not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    #[error("version {version} is not among {least} to {greatest}")]
    UnknownVersion { version: i16, least: i16, greatest: i16 },
    #[error("{field}: {error}")]
    Read { field: &'static str, error: ReadError },
    #[error("{field}: {wanted} bytes are announced, {left} are left")]
    Truncated { field: &'static str, wanted: usize, left: usize },
    #[error("{field}: {count} elements are announced, {left} bytes are left")]
    TooManyElements { field: &'static str, count: usize, left: usize },
    #[error("{field}: the length {length} is negative")]
    NegativeLength { field: &'static str, length: i32 },
    #[error("{field} must not be null")]
    Null { field: &'static str },
    #[error("{field}: a string of {length} bytes is too long")]
    StringTooLong { field: &'static str, length: usize },
    #[error("{field} is not UTF-8")]
    NotUtf8 { field: &'static str },
    #[error("{field}: a structure is either there (1) or null (-1), not {presence}")]
    Presence { field: &'static str, presence: i8 },
    #[error("the tagged field {field} is not in this version")]
    TagNotInVersion { field: &'static str },
    #[error("the tagged field {field} is said to have {announced} bytes, but has {actual}")]
    TagSize { field: &'static str, announced: usize, actual: usize },
    #[error("decoded it would occupy {memory_bytes} bytes, more than the {limit_bytes} allowed")]
    Memory { memory_bytes: usize, limit_bytes: usize },
}

/// What a walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// How many bytes the request took. Those behind it are ignored, as Kafka ignores them.
    pub wire_bytes: usize,
    /// About how much the decoder will allocate, rounded up.
    pub memory_bytes: usize,
}

/// Says whether the body of a request (what stands behind the request header) may be given to
/// kafka-protocol's decoder.
///
/// Produce passes untouched: it is taken apart by [`super::produce`], which trusts nothing and allocates
/// nothing by a count on the wire.
pub fn check(shape: &'static Shape, version: i16, body: &[u8]) -> Result<(), GuardError> {
    if shape.key == shapes::PRODUCE.key {
        return Ok(());
    }
    walk(shape, version, body).map(|_| ())
}

/// Walks the body of a request, as [`check`] does, and says how far it went.
pub fn walk(shape: &'static Shape, version: i16, body: &[u8]) -> Result<Measured, GuardError> {
    let (least, greatest) = shape.versions;
    if !shape.has_version(version) {
        return Err(GuardError::UnknownVersion { version, least, greatest });
    }
    let mut walk = Walk {
        reader: Reader::new(body),
        version,
        flexible: shape.is_flexible(version),
        memory_bytes: 0,
        limit_bytes: memory_limit_bytes(body.len()),
    };
    walk.fields(shape.fields)?;
    Ok(Measured { wire_bytes: body.len() - walk.reader.remaining(), memory_bytes: walk.memory_bytes })
}

/// How many bytes a request may occupy in memory that has `wire_bytes` on the wire.
pub fn memory_limit_bytes(wire_bytes: usize) -> usize {
    wire_bytes.saturating_mul(MEMORY_PER_WIRE_BYTE).max(MEMORY_FLOOR_BYTES)
}

/// What a value occupies in its owner, decoded. A structure has its fields in every version.
fn memory_bytes(kind: Kind) -> usize {
    match kind {
        Kind::Bool | Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64 => 8,
        Kind::Uuid => 16,
        Kind::String | Kind::Bytes => 32,
        Kind::Array(_) => 24,
        Kind::Struct(fields) => {
            fields.iter().map(|field| memory_bytes(field.kind)).sum::<usize>() + STRUCT_MEMORY_BYTES
        }
    }
}

/// What a value takes on the wire, if all of its type take the same.
#[inline]
fn fixed_bytes(kind: Kind) -> Option<usize> {
    match kind {
        Kind::Bool | Kind::Int8 => Some(1),
        Kind::Int16 => Some(2),
        Kind::Int32 => Some(4),
        Kind::Int64 => Some(8),
        Kind::Uuid => Some(16),
        Kind::String | Kind::Bytes | Kind::Array(_) | Kind::Struct(_) => None,
    }
}

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    memory_bytes: usize,
    limit_bytes: usize,
}

impl<'a> Walk<'a> {
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), GuardError> {
        // Neighbours of a fixed size are passed over in one go: most fields are such.
        let mut ahead_bytes = 0;
        let mut last = "";
        for field in fields {
            if field.tag.is_some() || !field.is_in(self.version) {
                continue;
            }
            if let Some(size) = fixed_bytes(field.kind) {
                ahead_bytes += size;
                last = field.name;
                continue;
            }
            if ahead_bytes > 0 {
                self.skip(last, std::mem::take(&mut ahead_bytes))?;
            }
            self.value(field.name, field.kind, field.may_be_null(self.version))?;
        }
        if ahead_bytes > 0 {
            self.skip(last, ahead_bytes)?;
        }
        if self.flexible { self.tagged(fields) } else { Ok(()) }
    }

    fn value(&mut self, name: &'static str, kind: Kind, nullable: bool) -> Result<(), GuardError> {
        match kind {
            Kind::Bool | Kind::Int8 => self.skip(name, 1),
            Kind::Int16 => self.skip(name, 2),
            Kind::Int32 => self.skip(name, 4),
            Kind::Int64 => self.skip(name, 8),
            Kind::Uuid => self.skip(name, 16),
            Kind::String => self.string(name, nullable),
            Kind::Bytes => match self.length(name, nullable)? {
                Some(length) => self.skip(name, length),
                None => Ok(()),
            },
            Kind::Array(element) => self.array(name, *element, nullable),
            Kind::Struct(fields) if nullable => match self.reader.i8().map_err(read(name))? {
                1 => self.fields(fields),
                -1 => Ok(()),
                presence => Err(GuardError::Presence { field: name, presence }),
            },
            Kind::Struct(fields) => self.fields(fields),
        }
    }

    fn string(&mut self, name: &'static str, nullable: bool) -> Result<(), GuardError> {
        let length = if self.flexible {
            self.length(name, nullable)?
        } else {
            let length = self.reader.i16().map_err(read(name))?;
            not_negative(name, i32::from(length), nullable)?
        };
        let Some(length) = length else { return Ok(()) };
        if length > STRING_BYTES_MAX {
            return Err(GuardError::StringTooLong { field: name, length });
        }
        let bytes = self.take(name, length)?;
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(_) => Err(GuardError::NotUtf8 { field: name }),
        }
    }

    fn array(&mut self, name: &'static str, element: Kind, nullable: bool) -> Result<(), GuardError> {
        let Some(count) = self.length(name, nullable)? else { return Ok(()) };
        if count == 0 {
            return Ok(());
        }
        let left = self.reader.remaining();
        // No value takes less than a byte.
        let size = fixed_bytes(element);
        if count > left / size.unwrap_or(1) {
            return Err(GuardError::TooManyElements { field: name, count, left });
        }
        self.charge(count.saturating_mul(memory_bytes(element)).saturating_add(ALLOCATION_MEMORY_BYTES))?;
        if let Some(size) = size {
            return self.skip(name, count * size);
        }
        for _ in 0..count {
            self.value(name, element, false)?;
        }
        Ok(())
    }

    /// The section of tagged fields that ends every structure in flexible versions (KIP-482):
    /// their count, then number, size and value of each.
    fn tagged(&mut self, fields: &'static [Field]) -> Result<(), GuardError> {
        const SECTION: &str = "tagged fields";
        let count = self.reader.unsigned_varint().map_err(read(SECTION))?;
        let mut unknown = 0;
        for _ in 0..count {
            let number = self.reader.unsigned_varint().map_err(read(SECTION))?;
            let announced = self.reader.unsigned_varint().map_err(read(SECTION))? as usize;
            let Some(field) = fields.iter().find(|field| field.tag == Some(number)) else {
                unknown += 1;
                self.charge(if unknown == 1 {
                    FIRST_UNKNOWN_TAG_MEMORY_BYTES
                } else {
                    UNKNOWN_TAG_MEMORY_BYTES
                })?;
                self.skip(SECTION, announced)?;
                continue;
            };
            if !field.is_in(self.version) {
                return Err(GuardError::TagNotInVersion { field: field.name });
            }
            let before = self.reader.remaining();
            self.value(field.name, field.kind, field.may_be_null(self.version))?;
            let actual = before - self.reader.remaining();
            if actual != announced {
                return Err(GuardError::TagSize { field: field.name, announced, actual });
            }
        }
        Ok(())
    }

    /// Reads the length of bytes or an array (of a string too, in flexible versions): 32 bits
    /// with -1 for null, or compact: a varint, one more than the length, 0 for null.
    fn length(&mut self, name: &'static str, nullable: bool) -> Result<Option<usize>, GuardError> {
        if self.flexible {
            let raw = self.reader.unsigned_varint().map_err(read(name))?;
            return match raw.checked_sub(1) {
                Some(length) => Ok(Some(length as usize)),
                None if nullable => Ok(None),
                None => Err(GuardError::Null { field: name }),
            };
        }
        let length = self.reader.i32().map_err(read(name))?;
        not_negative(name, length, nullable)
    }

    #[inline]
    fn take(&mut self, name: &'static str, length: usize) -> Result<&'a [u8], GuardError> {
        let left = self.reader.remaining();
        self.reader.take(length).map_err(|_| GuardError::Truncated { field: name, wanted: length, left })
    }

    #[inline]
    fn skip(&mut self, name: &'static str, length: usize) -> Result<(), GuardError> {
        self.take(name, length).map(|_| ())
    }

    fn charge(&mut self, memory_bytes: usize) -> Result<(), GuardError> {
        self.memory_bytes = self.memory_bytes.saturating_add(memory_bytes);
        if self.memory_bytes > self.limit_bytes {
            let (memory_bytes, limit_bytes) = (self.memory_bytes, self.limit_bytes);
            return Err(GuardError::Memory { memory_bytes, limit_bytes });
        }
        Ok(())
    }
}

fn not_negative(name: &'static str, length: i32, nullable: bool) -> Result<Option<usize>, GuardError> {
    match usize::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) if length == -1 && nullable => Ok(None),
        Err(_) if length == -1 => Err(GuardError::Null { field: name }),
        Err(_) => Err(GuardError::NegativeLength { field: name, length }),
    }
}

fn read(field: &'static str) -> impl Fn(ReadError) -> GuardError {
    move |error| GuardError::Read { field, error }
}
