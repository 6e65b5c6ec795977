//! The CSV of `--export` and `--from-file`: `topic,partition,offset`, or `group,topic,partition,offset`
//! where several groups are meant. Fields may stand in double quotes.

use std::collections::BTreeMap;

use crate::client::admin::Partition;

/// One line of such a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// None: the group that the command line names.
    pub group: Option<String>,
    pub partition: Partition,
    pub offset: i64,
}

/// Reads a file's text. Errors name the line.
pub(super) fn parse(text: &str) -> Result<Vec<Line>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(number, line)| {
        let wrong = |why: &str| format!("line {}: {why}: {line}", number + 1);
        let fields = fields(line).ok_or_else(|| wrong("a quote is not closed"))?;
        let (group, topic, partition, offset) = match fields.as_slice() {
            [topic, partition, offset] => (None, topic, partition, offset),
            [group, topic, partition, offset] => (Some(group.clone()), topic, partition, offset),
            _ => return Err(wrong("expected topic,partition,offset or group,topic,partition,offset")),
        };
        let partition = partition.trim().parse::<i32>().ok().filter(|partition| *partition >= 0);
        let partition = partition.ok_or_else(|| wrong("the partition is not a number"))?;
        let offset = offset.trim().parse().map_err(|_| wrong("the offset is not a number"))?;
        Ok(Line { group, partition: (topic.clone(), partition), offset })
    });
    parsed.collect()
}

/// The offsets that a file has for a group; `is_only` when the command line names no other.
pub(super) fn offsets_for(
    lines: &[Line],
    group: &str,
    is_only: bool,
) -> Result<BTreeMap<Partition, i64>, String> {
    let mut offsets = BTreeMap::new();
    for line in lines {
        match &line.group {
            Some(other) if other != group => continue,
            None if !is_only => {
                return Err("the file names no groups, and the command line names several".to_owned());
            }
            _ => {}
        }
        if offsets.insert(line.partition.clone(), line.offset).is_some() {
            return Err(format!("{}-{} is named twice", line.partition.0, line.partition.1));
        }
    }
    Ok(offsets)
}

/// One line for `--export`; with the group when several are exported.
pub(super) fn format(group: Option<&str>, (topic, index): &Partition, offset: i64) -> String {
    let group = group.map(|group| quoted(group) + ",").unwrap_or_default();
    format!("{group}{},{index},{offset}", quoted(topic))
}

fn quoted(field: &str) -> String {
    match field.chars().any(|letter| letter == '"' || letter == ',' || letter.is_whitespace()) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

/// The fields of a line; None when a quote is not closed.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    let mut letters = line.trim().chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => {
                letters.next();
                fields.last_mut()?.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            letter => fields.last_mut()?.push(letter),
        }
    }
    (!is_quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_reads_back() {
        let partition = ("orders".to_owned(), 3);
        for group in [None, Some("g"), Some("odd, \"one\"")] {
            let line = format(group, &partition, 17);
            let expected = Line { group: group.map(str::to_owned), partition: partition.clone(), offset: 17 };
            assert_eq!(parse(&line), Ok(vec![expected]), "{line}");
        }
        assert_eq!(format(None, &partition, 17), "orders,3,17");
    }

    #[test]
    fn lines_choose_their_group_and_mistakes_are_named() {
        let lines = parse("g1,t,0,5\n\n\"g2\",t,0,6\r\n").unwrap();
        assert_eq!(offsets_for(&lines, "g2", false), Ok(BTreeMap::from([(("t".to_owned(), 0), 6)])));
        assert_eq!(offsets_for(&lines, "g3", true), Ok(BTreeMap::new()));
        let lines = parse("t,0,5").unwrap();
        assert!(offsets_for(&lines, "g", true).is_ok());
        assert!(offsets_for(&lines, "g", false).unwrap_err().contains("names several"));
        assert!(offsets_for(&parse("t,0,5\nt,0,6").unwrap(), "g", true).unwrap_err().contains("twice"));
        for (text, why) in [
            ("t,0,5\nt,x,5", "line 2: the partition"),
            ("t,0,y", "the offset"),
            ("t,0", "expected topic"),
            ("\"t,0,5", "quote"),
            ("t,-1,5", "the partition"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
