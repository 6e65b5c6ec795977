//! A cursor over bytes that came from outside: every read says whether the bytes were there.
//!
//! Integers are big-endian. Varints are those of Kafka (and protocol buffers): seven bits a byte,
//! lowest first, the signed ones zigzag. A varint of 32 bits may take up to five bytes, one of 64
//! bits up to ten; longer ones are refused, as Kafka does.

/// The bytes ended inside of a value, or the value was not one of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the bytes end inside of a value")]
    End,
    #[error("a varint is longer than its type")]
    Varint,
}

/// A position in a slice. Reads move it on; a failed read leaves it where it was or at the end of
/// what it could read, so stop at the first error.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! fixed {
    ($($name:ident -> $type:ty),* $(,)?) => {
        $(
            #[doc = concat!("Reads a big-endian `", stringify!($type), "`.")]
            #[inline]
            pub fn $name(&mut self) -> Result<$type, ReadError> {
                self.array().map(<$type>::from_be_bytes)
            }
        )*
    };
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes are not read yet.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fixed!(u8 -> u8, i8 -> i8, i16 -> i16, u16 -> u16, i32 -> i32, u32 -> u32, i64 -> i64);

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let (value, rest) = self.rest.split_first_chunk::<N>().ok_or(ReadError::End)?;
        self.rest = rest;
        Ok(*value)
    }

    /// Reads the next `length` bytes.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ReadError::End)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Passes over the next `length` bytes.
    #[inline]
    pub fn skip(&mut self, length: usize) -> Result<(), ReadError> {
        self.take(length).map(|_| ())
    }

    /// Reads an unsigned varint of up to 32 bits.
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32, ReadError> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u32::from(first));
        }
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let byte = self.u8()?;
            // Bits beyond the 32nd are dropped, as Kafka's reader drops them.
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ReadError::Varint)
    }

    /// Reads a zigzag varint of up to 32 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<i32, ReadError> {
        let raw = self.unsigned_varint()?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// Reads a zigzag varint of up to 64 bits.
    #[inline]
    pub fn varlong(&mut self) -> Result<i64, ReadError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag(value));
            }
        }
        Err(ReadError::Varint)
    }
}

/// The varint at the start of eight bytes (given lowest first) if it takes four bytes or fewer: its bits, zigzag or
/// not, and its length. For loops that know the bytes to be there.
#[inline(always)]
pub fn short_varint(word: u64) -> Option<(u64, usize)> {
    let one = word & 0x7f;
    let two = one | word >> 1 & 0x3f80;
    let three = two | word >> 2 & 0x1f_c000;
    if word & 0x80 == 0 {
        Some((one, 1))
    } else if word & 0x8000 == 0 {
        Some((two, 2))
    } else if word & 0x80_0000 == 0 {
        Some((three, 3))
    } else if word & 0x8000_0000 == 0 {
        Some((three | word >> 3 & 0xfe0_0000, 4))
    } else {
        None
    }
}

/// What zigzag made of a number, undone.
#[inline(always)]
pub fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

/// Appends an unsigned varint.
pub fn put_unsigned_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a zigzag varint of up to 32 bits.
pub fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_unsigned_varint(out, ((value << 1) ^ (value >> 31)) as u32);
}

/// Appends a zigzag varint of up to 64 bits.
pub fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_read_back_at_their_edges_and_longer_ones_are_refused() {
        for value in [0, 1, -1, 63, -64, 64, i32::MAX, i32::MIN, 300] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(Reader::new(&bytes).varint(), Ok(value));
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, i64::from(value) << 32);
            assert_eq!(Reader::new(&bytes).varlong(), Ok(i64::from(value) << 32));
        }
        for value in [i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, value);
            assert_eq!(bytes.len(), 10);
            assert_eq!(Reader::new(&bytes).varlong(), Ok(value));
        }
        assert_eq!(Reader::new(&[0xff; 6]).unsigned_varint(), Err(ReadError::Varint));
        assert_eq!(Reader::new(&[0xff; 11]).varlong(), Err(ReadError::Varint));
        assert_eq!(Reader::new(&[0xff; 4]).unsigned_varint(), Err(ReadError::End));
    }
}
