//! Topic names as the tools take them: a name, a regular expression, or a list of either with commas.

use regex_automata::dfa::{dense, regex::Regex};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;

use super::output::CliError;

/// A compiled set of topic names. As in Kafka's tools the expression must match the whole name, a comma
/// is an "or", and quotes around it are dropped.
pub struct TopicPattern {
    expression: Option<Regex>,
}

impl TopicPattern {
    /// Matches every topic.
    pub fn all() -> Self {
        Self { expression: None }
    }

    pub fn new(text: &str) -> Result<Self, CliError> {
        let trimmed = text.trim().trim_matches(|letter| letter == '"' || letter == '\'');
        let any = trimmed.split(',').map(str::trim).collect::<Vec<_>>().join("|");
        let expression = Regex::builder()
            // Names are ASCII; without the tables of Unicode, \w and friends mean their ASCII kind.
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(1 << 20)))
            .dense(dense::Config::new().dfa_size_limit(Some(1 << 24)).determinize_size_limit(Some(1 << 24)))
            .build(&format!("^(?:{any})$"))
            .map_err(|error| CliError::Usage(format!("'{text}' is no regular expression: {error}")))?;
        Ok(Self { expression: Some(expression) })
    }

    /// From an option that may be absent.
    pub fn from_option(text: Option<&str>) -> Result<Self, CliError> {
        text.map_or_else(|| Ok(Self::all()), Self::new)
    }

    pub fn matches(&self, name: &str) -> bool {
        self.expression.as_ref().is_none_or(|expression| expression.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names_and_take_commas_as_or() {
        let pattern = TopicPattern::new("orders-[0-9]+, audit").unwrap();
        for (name, expected) in [
            ("orders-12", true),
            ("audit", true),
            ("audit2", false),
            ("my-orders-1", false),
            ("orders-", false),
        ] {
            assert_eq!(pattern.matches(name), expected, "{name}");
        }
        assert!(TopicPattern::new("a(").is_err());
        assert!(TopicPattern::all().matches("anything"));
        assert!(TopicPattern::new("\"a.*\"").unwrap().matches("abc"));
    }
}
