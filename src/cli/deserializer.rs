//! Kafka's deserializers by the names of their classes: how keys, values and headers become text.
//!
//! Numbers are big-endian. What Java prints for them is printed: a double has at least one digit behind the point,
//! and an exponent below 10^-3 and from 10^7 on.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::Value;

use super::output::CliError;
use super::record_text::json_of;

const PACKAGE: &str = "org.apache.kafka.common.serialization.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deserializer {
    /// The bytes as they are.
    ByteArray,
    String,
    Boolean,
    Short,
    Integer,
    Long,
    Float,
    Double,
    Uuid,
    /// Letters as they are, other bytes as `\xFF`.
    Bytes,
    /// Nothing at all.
    Void,
}

const CLASSES: &[(&str, Deserializer)] = &[
    ("StringDeserializer", Deserializer::String),
    ("LongDeserializer", Deserializer::Long),
    ("IntegerDeserializer", Deserializer::Integer),
    ("ShortDeserializer", Deserializer::Short),
    ("DoubleDeserializer", Deserializer::Double),
    ("FloatDeserializer", Deserializer::Float),
    ("BooleanDeserializer", Deserializer::Boolean),
    ("UUIDDeserializer", Deserializer::Uuid),
    ("ByteArrayDeserializer", Deserializer::ByteArray),
    ("ByteBufferDeserializer", Deserializer::ByteArray),
    ("BytesDeserializer", Deserializer::Bytes),
    ("VoidDeserializer", Deserializer::Void),
];

impl Deserializer {
    /// By the name of the class, with or without Kafka's package.
    pub fn parse(option: &str, class: &str) -> Result<Self, CliError> {
        let name = class.trim();
        let name = name.strip_prefix(PACKAGE).unwrap_or(name);
        let known = CLASSES.iter().find(|(known, _)| *known == name);
        known.map(|(_, deserializer)| *deserializer).ok_or_else(|| {
            let names = CLASSES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            CliError::Usage(format!("{option}={class}: Java classes cannot be used here, only {names}"))
        })
    }

    /// The text, as Java has it.
    pub fn text<'b>(self, bytes: &'b [u8]) -> Result<Cow<'b, [u8]>, String> {
        if matches!(self, Self::ByteArray | Self::String) {
            return Ok(Cow::Borrowed(bytes));
        }
        let text = match self {
            Self::ByteArray | Self::String => String::new(),
            Self::Boolean => boolean(bytes)?.to_string(),
            Self::Short => i16::from_be_bytes(sized(bytes, "short")?).to_string(),
            Self::Integer => i32::from_be_bytes(sized(bytes, "integer")?).to_string(),
            Self::Long => i64::from_be_bytes(sized(bytes, "long")?).to_string(),
            Self::Float => java_float(format!("{:e}", f32::from_be_bytes(sized(bytes, "float")?))),
            Self::Double => java_float(format!("{:e}", f64::from_be_bytes(sized(bytes, "double")?))),
            Self::Uuid => {
                let text = std::str::from_utf8(bytes).ok().and_then(|text| uuid::Uuid::parse_str(text).ok());
                text.ok_or_else(|| format!("{} bytes are no UUID in text", bytes.len()))?.to_string()
            }
            Self::Bytes => escaped(bytes),
            Self::Void => return Err(format!("{} bytes where there must be none", bytes.len())),
        };
        Ok(Cow::Owned(text.into_bytes()))
    }

    /// The JSON form: numbers as numbers where JSON has them.
    pub fn json(self, bytes: &[u8]) -> Result<Value, String> {
        let text = self.text(bytes)?;
        let is_number = matches!(self, Self::Short | Self::Integer | Self::Long | Self::Float | Self::Double);
        if is_number || self == Self::Boolean {
            // NaN and the infinities are none.
            if let Ok(value) = serde_json::from_slice(&text) {
                return Ok(value);
            }
        }
        Ok(json_of(Some(&text)))
    }
}

fn sized<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("{} bytes are no {what}, which has {N}", bytes.len()))
}

fn boolean(bytes: &[u8]) -> Result<bool, String> {
    match bytes {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(format!("{} bytes are no boolean, which is one byte, 0 or 1", bytes.len())),
    }
}

/// Java's form of a number that Rust has written as `d.ddde±n`, both with as few digits as tell it apart.
fn java_float(scientific: String) -> String {
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return match scientific.as_str() {
            "inf" => "Infinity".to_owned(),
            "-inf" => "-Infinity".to_owned(),
            _ => "NaN".to_owned(),
        };
    };
    let exponent = exponent.parse::<i32>().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    match exponent {
        -3..=-1 => {
            let zeros = "0".repeat(usize::try_from(-exponent - 1).unwrap_or(0));
            format!("{sign}0.{zeros}{digits}")
        }
        0..=6 => {
            let whole = usize::try_from(exponent).unwrap_or(0) + 1;
            let digits = format!("{digits:0<whole$}");
            let (whole, fraction) = digits.split_at(whole);
            format!("{sign}{whole}.{}", if fraction.is_empty() { "0" } else { fraction })
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            format!("{sign}{first}.{}E{exponent}", if rest.is_empty() { "0" } else { rest })
        }
    }
}

/// As Kafka's `Bytes.toString`.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_graphic() && *byte != b'\\' || *byte == b' ' {
            text.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kafka 4.3.0's console consumer prints for the same bytes.
    #[test]
    fn values_print_as_java_prints_them() {
        let print = |class: &str, bytes: &[u8]| {
            let deserializer = Deserializer::parse("value.deserializer", class).unwrap();
            deserializer.text(bytes).map(|text| String::from_utf8(text.into_owned()).unwrap())
        };
        let long = format!("{PACKAGE}LongDeserializer");
        for (class, bytes, expected) in [
            (long.as_str(), 7i64.to_be_bytes().to_vec(), "7"),
            ("LongDeserializer", (-1i64).to_be_bytes().to_vec(), "-1"),
            ("IntegerDeserializer", 7i32.to_be_bytes().to_vec(), "7"),
            ("ShortDeserializer", 7i16.to_be_bytes().to_vec(), "7"),
            ("DoubleDeserializer", 1f64.to_be_bytes().to_vec(), "1.0"),
            ("DoubleDeserializer", f64::NAN.to_be_bytes().to_vec(), "NaN"),
            ("DoubleDeserializer", 1e10f64.to_be_bytes().to_vec(), "1.0E10"),
            ("DoubleDeserializer", 1e-4f64.to_be_bytes().to_vec(), "1.0E-4"),
            ("DoubleDeserializer", 1e7f64.to_be_bytes().to_vec(), "1.0E7"),
            ("DoubleDeserializer", (-1234.5f64).to_be_bytes().to_vec(), "-1234.5"),
            ("DoubleDeserializer", 0.00125f64.to_be_bytes().to_vec(), "0.00125"),
            ("DoubleDeserializer", 100f64.to_be_bytes().to_vec(), "100.0"),
            ("DoubleDeserializer", 0f64.to_be_bytes().to_vec(), "0.0"),
            ("DoubleDeserializer", f64::NEG_INFINITY.to_be_bytes().to_vec(), "-Infinity"),
            ("FloatDeserializer", 0.1f32.to_be_bytes().to_vec(), "0.1"),
            ("FloatDeserializer", 1e7f32.to_be_bytes().to_vec(), "1.0E7"),
            ("BytesDeserializer", b"\x00A\xff\x0a\\".to_vec(), "\\x00A\\xFF\\x0A\\x5C"),
            ("BooleanDeserializer", vec![1], "true"),
            ("StringDeserializer", b"text".to_vec(), "text"),
            (
                "UUIDDeserializer",
                b"c8a7f3a2-1111-2222-3333-444455556666".to_vec(),
                "c8a7f3a2-1111-2222-3333-444455556666",
            ),
        ] {
            assert_eq!(print(class, &bytes).unwrap(), expected, "{class}");
        }
        assert!(print("LongDeserializer", b"1234").unwrap_err().contains("4 bytes are no long"));
        assert!(print("VoidDeserializer", b"1").is_err());
        let error =
            Deserializer::parse("value.deserializer", "io.confluent.KafkaAvroDeserializer").unwrap_err();
        assert!(error.to_string().starts_with("value.deserializer=io.confluent.KafkaAvroDeserializer: Java"));
        assert_eq!(Deserializer::Long.json(&7i64.to_be_bytes()).unwrap(), 7);
        assert_eq!(Deserializer::Double.json(&f64::NAN.to_be_bytes()).unwrap(), "NaN");
    }
}
