//! What a configuration key is, and the checks its type and range give.

/// The type of a key's value, with what is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Boolean,
    /// 16 bits; least and greatest value allowed.
    Short(i16, i16),
    /// 32 bits; least and greatest value allowed.
    Int(i32, i32),
    /// 64 bits; least and greatest value allowed.
    Long(i64, i64),
    /// Least and greatest value allowed.
    Double(f64, f64),
    /// Any text.
    Text,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Words split by commas; where the slice is not empty, each must be in it.
    List(&'static [&'static str]),
}

/// One configuration key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Kafka's name of it.
    pub name: &'static str,
    pub kind: Kind,
    /// The value when nobody sets one; `None` where another key decides then.
    pub default: Option<&'static str>,
    /// One sentence for people.
    pub doc: &'static str,
}

/// Why a configuration is refused. The texts are Kafka's where Kafka has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("Unknown topic config name: {0}")]
    UnknownTopicKey(String),
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    InvalidValue { name: String, value: String, reason: String },
    #[error("{0}")]
    Refused(String),
}

impl Key {
    /// The error of a value that is not one of this key.
    pub(super) fn invalid(&self, value: &str, reason: &str) -> ConfigError {
        ConfigError::InvalidValue {
            name: self.name.to_owned(),
            value: value.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// The error of a value that asks for what this broker does not do.
    pub(super) fn unserved(&self, value: &str, why: &str) -> ConfigError {
        let name = self.name;
        ConfigError::Refused(format!(
            "Invalid value {value} for configuration {name}: this broker does not serve it: {why}"
        ))
    }

    /// Checks a value against the key's type and range.
    pub fn check(&self, value: &str) -> Result<(), ConfigError> {
        let value = value.trim();
        let wrong = |reason: String| Err(self.invalid(value, &reason));
        match self.kind {
            Kind::Boolean => match value.to_ascii_lowercase().as_str() {
                "true" | "false" => Ok(()),
                _ => wrong("Expected value to be either true or false".to_owned()),
            },
            Kind::Short(least, greatest) => match value.parse::<i16>() {
                Err(_) => wrong("Not a number of type SHORT".to_owned()),
                Ok(number) => range(number, least, greatest).or_else(wrong),
            },
            Kind::Int(least, greatest) => match value.parse::<i32>() {
                Err(_) => wrong("Not a number of type INT".to_owned()),
                Ok(number) => range(number, least, greatest).or_else(wrong),
            },
            Kind::Long(least, greatest) => match value.parse::<i64>() {
                Err(_) => wrong("Not a number of type LONG".to_owned()),
                Ok(number) => range(number, least, greatest).or_else(wrong),
            },
            Kind::Double(least, greatest) => match value.parse::<f64>() {
                Ok(number) if !number.is_nan() => range(number, least, greatest).or_else(wrong),
                _ => wrong("Not a number of type DOUBLE".to_owned()),
            },
            Kind::Text => Ok(()),
            Kind::OneOf(words) if words.contains(&value) => Ok(()),
            Kind::OneOf(words) => wrong(format!("String must be one of: {}", words.join(", "))),
            Kind::List(words) => {
                let unknown = list(value).find(|word| !words.is_empty() && !words.contains(word));
                match unknown {
                    None => Ok(()),
                    Some(word) => {
                        Err(self.invalid(word, &format!("String must be one of: {}", words.join(", "))))
                    }
                }
            }
        }
    }
}

impl Key {
    /// The value as Kafka writes it once it has read it: `05` is `5`, `TRUE` is `true`, `compact , delete` is
    /// `compact,delete`. What does not fit the key stays as it is.
    pub fn canonical(&self, value: &str) -> String {
        let value = value.trim();
        let number = match self.kind {
            Kind::Boolean => return value.to_ascii_lowercase(),
            Kind::Short(..) => value.parse::<i16>().ok().map(i64::from),
            Kind::Int(..) => value.parse::<i32>().ok().map(i64::from),
            Kind::Long(..) => value.parse::<i64>().ok(),
            Kind::Double(..) => return value.parse::<f64>().map_or(value.to_owned(), double),
            Kind::Text | Kind::OneOf(_) => None,
            Kind::List(_) => return list(value).collect::<Vec<_>>().join(","),
        };
        number.map_or(value.to_owned(), |number| number.to_string())
    }
}

/// As Java writes it.
fn double(number: f64) -> String {
    if number == 0.0 || (1e-3..1e7).contains(&number.abs()) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

/// The words of a list value.
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn range<N: PartialOrd + std::fmt::Display>(number: N, least: N, greatest: N) -> Result<(), String> {
    if number < least {
        Err(format!("Value must be at least {least}"))
    } else if number > greatest {
        Err(format!("Value must be no more than {greatest}"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a running Kafka 4.3 described them.
    #[test]
    fn values_are_written_as_they_were_read() {
        let written = |kind, value| Key { name: "key", kind, default: None, doc: "" }.canonical(value);
        assert_eq!(written(Kind::Boolean, " FALSE"), "false");
        assert_eq!(written(Kind::Long(-1, i64::MAX), " 05"), "5");
        assert_eq!(written(Kind::Int(0, i32::MAX), "+7000"), "7000");
        assert_eq!(written(Kind::Short(0, 9), "007"), "7");
        assert_eq!(written(Kind::List(&[]), " compact , delete "), "compact,delete");
        assert_eq!(written(Kind::Double(0.0, 1.0), "1"), "1.0");
        assert_eq!(written(Kind::Double(0.0, 1.0), "0.50"), "0.5");
        assert_eq!(written(Kind::Double(0.0, f64::MAX), "1.7976931348623157E308"), "1.7976931348623157E308");
        assert_eq!(written(Kind::Double(0.0, f64::MAX), "10000000"), "1.0E7");
        assert_eq!(written(Kind::Text, " As It Is "), "As It Is");
        assert_eq!(written(Kind::Int(0, 9), "what"), "what");
    }
}
