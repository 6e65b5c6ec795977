//! `--add-config`: `k1=v1,k2=[v1,v2],k3=v3`.

use std::collections::BTreeMap;

/// Reads the pairs. Brackets keep the commas of a value together and are no part of it.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut pairs = BTreeMap::new();
    for part in split(text)? {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| format!("--add-config: '{part}' is not of the form key=value"))?;
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() {
            return Err(format!("--add-config: '{part}' names no key"));
        }
        let inner = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if pairs.insert(key.to_owned(), inner.unwrap_or(value).to_owned()).is_some() {
            return Err(format!("--add-config: {key} is set twice"));
        }
    }
    Ok(pairs)
}

/// Splits at commas outside of brackets.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err("--add-config: a bracket is not closed".to_owned());
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_keep_commas_together() {
        let read = parse("retention.ms=5, cleanup.policy=[compact,delete],empty=,url=a=b").unwrap();
        let expected =
            [("retention.ms", "5"), ("cleanup.policy", "compact,delete"), ("empty", ""), ("url", "a=b")];
        assert_eq!(read, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect());
        for wrong in ["a", "=b", "a=[1,2", "a=1,a=2"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
