//! Java's `.properties` format, as far as `server.properties` files use it: `key=value`, `key: value`
//! or `key value` lines, `#` and `!` comments, a trailing backslash continues the line, `\` escapes.

use std::collections::BTreeMap;

/// Reads a file's text into its keys. A key set twice has its last value, as in Java.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while ends_with_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some(next) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        values.insert(unescape(key), unescape(value));
    }
    values
}

/// An odd number of backslashes at the end: an even one is escaped backslashes.
fn ends_with_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == '=' || c == ':' || c.is_whitespace() {
            let rest = line[at..].trim_start();
            let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..at], rest.trim());
        }
    }
    (line, "")
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('u') => {
                let code: String = chars.by_ref().take(4).collect();
                let decoded = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                out.push(decoded.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_reads() {
        let read = parse(
            "# c\n! c\na=1\n b : two words \nlist=x,\\\n   y\ncolon\\:key=v\\u0041\nempty=\nbare\na=2\n",
        );
        let expected = [
            ("a", "2"),
            ("b", "two words"),
            ("list", "x,y"),
            ("colon:key", "vA"),
            ("empty", ""),
            ("bare", ""),
        ];
        assert_eq!(read, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect());
    }
}
