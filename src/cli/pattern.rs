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
        Self::compile(text)
            .map(|expression| Self { expression: Some(expression) })
            .map_err(|reason| CliError::Usage(format!("'{text}' is no regular expression: {reason}")))
    }

    /// Why a text is no pattern.
    pub fn check(text: &str) -> Result<(), String> {
        Self::compile(text).map(drop)
    }

    fn compile(text: &str) -> Result<Regex, String> {
        let trimmed = text.trim().trim_matches(|letter| letter == '"' || letter == '\'');
        let any = trimmed.split(',').map(str::trim).collect::<Vec<_>>().join("|");
        Regex::builder()
            // Names are ASCII; without the tables of Unicode, \w and friends mean their ASCII kind.
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(1 << 20)))
            .dense(dense::Config::new().dfa_size_limit(Some(1 << 24)).determinize_size_limit(Some(1 << 24)))
            .build(&format!("^(?:{any})$"))
            .map_err(|error| innermost(&error))
    }

    /// From an option that may be absent.
    pub fn from_option(text: Option<&str>) -> Result<Self, CliError> {
        text.map_or_else(|| Ok(Self::all()), Self::new)
    }

    pub fn matches(&self, name: &str) -> bool {
        self.expression.as_ref().is_none_or(|expression| expression.is_match(name))
    }
}

/// What is wrong with the expression, without the layers that noticed it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    // Several lines that show the place, the reason in the last.
    let text = cause.to_string();
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
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
