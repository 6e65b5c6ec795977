//! What the tools print: results to standard output, everything else to standard error.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use crate::client::ClientError;

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line asks for something that makes no sense. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It was tried and failed. Exit code 1.
    #[error("{0}")]
    Failed(String),
    /// The cluster could not be asked, or refused. Exit code 1.
    #[error("{}", with_advice(.0))]
    Client(#[from] ClientError),
    /// Standard output cannot be written. A closed pipe (`| head`) ends the command quietly.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// Some items failed and have been reported on standard error already. Exit code 1.
    #[error("")]
    Reported,
}

impl CliError {
    /// A failure with what was attempted in front: `cannot create topic 'x': TOPIC_ALREADY_EXISTS: …`.
    pub fn while_doing(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        CliError::Failed(format!("cannot {what}: {error}"))
    }
}

/// What a client cannot know: what to do about it at a terminal.
fn with_advice(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { .. } => {
            format!("{error}; is the broker running? try: raftsman server")
        }
        error => error.to_string(),
    }
}

/// Buffered standard output.
pub struct Output {
    writer: BufWriter<Stdout>,
    interactive: bool,
}

impl Output {
    pub fn stdout() -> Self {
        let stdout = io::stdout();
        let interactive = stdout.is_terminal();
        Self { writer: BufWriter::with_capacity(64 * 1024, stdout), interactive }
    }

    /// Whether a person is looking.
    pub fn is_terminal(&self) -> bool {
        self.interactive
    }

    /// Prints a value as one line of JSON.
    pub fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, value)?;
        self.writer.write_all(b"\n")
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Rows that are printed with their columns aligned.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|name| (*name).to_owned()).collect()] }
    }

    /// Adds a row; cells beyond the header's are printed too.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths = (0..columns).map(width).collect::<Vec<_>>();
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column > 0 {
                    line.push_str("  ");
                }
                let pad = " ".repeat(width - cell.chars().count());
                // Numbers line up on the right, under their header.
                if self.is_numeric(column) && (number > 0 || column > 0) {
                    line.push_str(&pad);
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.push_str(&pad);
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Whether a column has numbers, and besides them only dashes.
    fn is_numeric(&self, column: usize) -> bool {
        let is_number = |cell: &String| cell.parse::<i64>().is_ok();
        let mut cells = self.rows.iter().skip(1).filter_map(|row| row.get(column));
        cells.clone().any(is_number) && cells.all(|cell| is_number(cell) || cell == "-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_text_left_and_numbers_right() {
        let mut table = Table::new(&["TOPIC", "OFFSET"]);
        table.row(vec!["a".to_owned(), "5".to_owned()]);
        table.row(vec!["longer-name".to_owned(), "1234567".to_owned()]);
        let mut printed = Vec::new();
        table.print(&mut printed).unwrap();
        assert_eq!(
            String::from_utf8(printed).unwrap(),
            "TOPIC         OFFSET\na                  5\nlonger-name  1234567\n"
        );
    }
}
