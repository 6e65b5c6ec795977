//! How the values in a message stand on the wire.
//!
//! ```text
//! text         length i16, UTF-8         flexible: varint (length + 1), UTF-8
//! bytes        length i32, bytes         flexible: varint (length + 1), bytes
//! array        count i32, elements       flexible: varint (count + 1), elements
//! null         length or count -1        flexible: 0
//! structure    fields, and in flexible versions tagged fields; one that may be null has a byte before: 1 or -1
//! ```

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{BrokerId, GroupId, ProducerId, TopicName, TransactionalId};
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Encodable, StrBytes};
use uuid::Uuid;

/// The version of a message, and whether its lengths are compact (KIP-482).
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub version: i16,
    pub is_flexible: bool,
}

/// A value that a message has.
pub(super) trait Value: Sized {
    fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> Result<()>;
    fn take<B: ByteBuf>(buf: &mut B, form: Form) -> Result<Self>;

    /// For what may be null.
    fn put_nullable<B: ByteBufMut>(value: Option<&Self>, buf: &mut B, form: Form) -> Result<()> {
        buf.put_i8(if value.is_some() { 1 } else { -1 });
        value.map_or(Ok(()), |value| value.put(buf, form))
    }

    fn take_nullable<B: ByteBuf>(buf: &mut B, form: Form) -> Result<Option<Self>> {
        match buf.try_get_i8()? {
            -1 => Ok(None),
            _ => Self::take(buf, form).map(Some),
        }
    }
}

impl<T: Value> Value for Option<T> {
    fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> Result<()> {
        T::put_nullable(self.as_ref(), buf, form)
    }

    fn take<B: ByteBuf>(buf: &mut B, form: Form) -> Result<Self> {
        T::take_nullable(buf, form)
    }
}

macro_rules! fixed {
    ($($kind:ty: $put:ident $take:ident,)*) => {
        $(impl Value for $kind {
            fn put<B: ByteBufMut>(&self, buf: &mut B, _: Form) -> Result<()> {
                buf.$put(*self);
                Ok(())
            }

            fn take<B: ByteBuf>(buf: &mut B, _: Form) -> Result<Self> {
                Ok(buf.$take()?)
            }
        })*
    };
}

fixed! {
    i8: put_i8 try_get_i8,
    i16: put_i16 try_get_i16,
    i32: put_i32 try_get_i32,
    i64: put_i64 try_get_i64,
}

impl Value for bool {
    fn put<B: ByteBufMut>(&self, buf: &mut B, _: Form) -> Result<()> {
        buf.put_u8(u8::from(*self));
        Ok(())
    }

    fn take<B: ByteBuf>(buf: &mut B, _: Form) -> Result<Self> {
        Ok(buf.try_get_u8()? != 0)
    }
}

impl Value for Uuid {
    fn put<B: ByteBufMut>(&self, buf: &mut B, _: Form) -> Result<()> {
        buf.put_slice(self.as_bytes());
        Ok(())
    }

    fn take<B: ByteBuf>(buf: &mut B, _: Form) -> Result<Self> {
        let mut bytes = [0; 16];
        buf.try_copy_to_slice(&mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }
}

macro_rules! new_types {
    ($($new:ident of $kind:ty,)*) => {
        $(impl Value for $new {
            fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> Result<()> {
                self.0.put(buf, form)
            }

            fn take<B: ByteBuf>(buf: &mut B, form: Form) -> Result<Self> {
                Ok(Self(<$kind>::take(buf, form)?))
            }

            fn put_nullable<B: ByteBufMut>(value: Option<&Self>, buf: &mut B, form: Form) -> Result<()> {
                <$kind>::put_nullable(value.map(|value| &value.0), buf, form)
            }

            fn take_nullable<B: ByteBuf>(buf: &mut B, form: Form) -> Result<Option<Self>> {
                Ok(<$kind>::take_nullable(buf, form)?.map(Self))
            }
        })*
    };
}

new_types! {
    TopicName of StrBytes,
    GroupId of StrBytes,
    TransactionalId of StrBytes,
    BrokerId of i32,
    ProducerId of i64,
}

/// A value whose length stands before it, and so may say that it is null.
macro_rules! with_length {
    () => {
        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> Result<()> {
            Self::put_nullable(Some(self), buf, form)
        }

        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> Result<Self> {
            match Self::take_nullable(buf, form)? {
                Some(value) => Ok(value),
                None => bail!("a value that must not be null is null"),
            }
        }
    };
}

impl Value for StrBytes {
    with_length!();

    fn put_nullable<B: ByteBufMut>(value: Option<&Self>, buf: &mut B, form: Form) -> Result<()> {
        let length = value.map(|text| text.len());
        if form.is_flexible {
            put_compact_length(length, buf)?;
        } else {
            buf.put_i16(length.map_or(Ok(-1), i16::try_from)?);
        }
        buf.put_slice(value.map_or(&[], |text| text.as_bytes()));
        Ok(())
    }

    fn take_nullable<B: ByteBuf>(buf: &mut B, form: Form) -> Result<Option<Self>> {
        let length = if form.is_flexible {
            take_compact_length(buf)?
        } else {
            nullable(i32::from(buf.try_get_i16()?))?
        };
        let Some(length) = length else { return Ok(None) };
        Ok(Some(Self::from_utf8(buf.try_get_bytes(length)?)?))
    }
}

impl Value for Bytes {
    with_length!();

    fn put_nullable<B: ByteBufMut>(value: Option<&Self>, buf: &mut B, form: Form) -> Result<()> {
        put_length(value.map(Bytes::len), buf, form)?;
        buf.put_slice(value.map_or(&[], |bytes| &bytes[..]));
        Ok(())
    }

    fn take_nullable<B: ByteBuf>(buf: &mut B, form: Form) -> Result<Option<Self>> {
        let Some(length) = take_length(buf, form)? else { return Ok(None) };
        Ok(Some(buf.try_get_bytes(length)?))
    }
}

impl<T: Value> Value for Vec<T> {
    with_length!();

    fn put_nullable<B: ByteBufMut>(value: Option<&Self>, buf: &mut B, form: Form) -> Result<()> {
        put_length(value.map(Vec::len), buf, form)?;
        value.into_iter().flatten().try_for_each(|element| element.put(buf, form))
    }

    fn take_nullable<B: ByteBuf>(buf: &mut B, form: Form) -> Result<Option<Self>> {
        let Some(count) = take_length(buf, form)? else { return Ok(None) };
        // No element takes less than a byte: what is said beyond the bytes that are there is no reason to allocate.
        let mut elements = Self::with_capacity(count.min(buf.remaining()));
        for _ in 0..count {
            elements.push(T::take(buf, form)?);
        }
        Ok(Some(elements))
    }
}

fn put_length(length: Option<usize>, buf: &mut impl ByteBufMut, form: Form) -> Result<()> {
    if form.is_flexible {
        return put_compact_length(length, buf);
    }
    buf.put_i32(length.map_or(Ok(-1), i32::try_from)?);
    Ok(())
}

fn take_length(buf: &mut impl ByteBuf, form: Form) -> Result<Option<usize>> {
    if form.is_flexible { take_compact_length(buf) } else { nullable(buf.try_get_i32()?) }
}

fn nullable(length: i32) -> Result<Option<usize>> {
    match usize::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) if length == -1 => Ok(None),
        Err(_) => bail!("the length {length} is negative"),
    }
}

/// One more than the length, and 0 for null.
fn put_compact_length(length: Option<usize>, buf: &mut impl ByteBufMut) -> Result<()> {
    put_varint(length.map_or(Ok(0), |length| u32::try_from(length + 1))?, buf);
    Ok(())
}

fn take_compact_length(buf: &mut impl ByteBuf) -> Result<Option<usize>> {
    Ok(take_varint(buf)?.checked_sub(1).map(|length| length as usize))
}

fn put_varint(mut value: u32, buf: &mut impl ByteBufMut) {
    while value >= 0x80 {
        buf.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

fn take_varint(buf: &mut impl ByteBuf) -> Result<u32> {
    let mut value = 0_u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = buf.try_get_u8()?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("a varint has more than five bytes")
}

/// The tagged fields that this version knows nothing of.
pub(super) fn put_unknown_tagged_fields(
    fields: &BTreeMap<i32, Bytes>,
    buf: &mut impl ByteBufMut,
    form: Form,
) -> Result<()> {
    if !form.is_flexible {
        return Ok(());
    }
    put_varint(u32::try_from(fields.len())?, buf);
    for (number, value) in fields {
        put_varint(u32::try_from(*number)?, buf);
        put_varint(u32::try_from(value.len())?, buf);
        buf.put_slice(value);
    }
    Ok(())
}

pub(super) fn take_unknown_tagged_fields(buf: &mut impl ByteBuf, form: Form) -> Result<BTreeMap<i32, Bytes>> {
    let mut fields = BTreeMap::new();
    let count = if form.is_flexible { take_varint(buf)? } else { 0 };
    for _ in 0..count {
        let (number, size) = (take_varint(buf)?, take_varint(buf)?);
        fields.insert(number as i32, buf.try_get_bytes(size as usize)?);
    }
    Ok(fields)
}

/// The form of a version of a message that has these.
pub(super) fn form(version: i16, first: i16, last: i16, flexible_since: i16) -> Result<Form> {
    ensure!(first <= version && version <= last, "specified version not supported by this message type");
    Ok(Form { version, is_flexible: version >= flexible_since })
}

pub(super) fn not_in_version<T>(field: &str, form: Form) -> Result<T> {
    bail!("{field} is set, which version {} does not have", form.version)
}

pub(super) fn encoded_size(message: &impl Encodable, version: i16) -> Result<usize> {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version)?;
    Ok(bytes.len())
}
