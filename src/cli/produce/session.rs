//! From the first record to the last acknowledgement.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Interval;

use super::input::{Chunk, Parser, next_line};
use crate::cli::output::CliError;
use crate::cli::time;
use crate::client::ClientError;
use crate::client::producer::{Producer, ProducerError};

/// How often the progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// How long a partition may take no records before that is told: a new one has no leader for a moment.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// What is read, and how.
pub(super) struct Input {
    pub chunks: mpsc::Receiver<Chunk>,
    pub parser: Parser,
    /// All of it is one record.
    pub is_whole: bool,
    /// A person types it.
    pub is_typed: bool,
}

/// Sends what comes in until there is no more and all of it is acknowledged.
pub(super) struct Session {
    producer: Producer,
    input: Input,
    /// Read and not yet appended.
    pending: Bytes,
    /// Nothing more is read.
    is_ended: bool,
    /// Each record is acknowledged before the next is appended.
    is_sync: bool,
    is_prompting: bool,
    progress: Progress,
    /// The partition that was last said to take no records.
    told: Option<String>,
    /// Why the input ended early. What was read before is still delivered.
    failure: Option<CliError>,
}

impl Session {
    pub(super) fn new(
        producer: Producer,
        input: Input,
        is_sync: bool,
        is_prompting: bool,
        progress: Progress,
    ) -> Self {
        Self {
            producer,
            input,
            pending: Bytes::new(),
            is_ended: false,
            is_sync,
            is_prompting,
            progress,
            told: None,
            failure: None,
        }
    }

    pub(super) async fn run(&mut self) -> Result<(), ProducerError> {
        let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
        self.prompt();
        while !(self.is_read() && self.producer.is_idle()) {
            if self.is_read() {
                self.producer.set_flushing(true);
                self.producer.pump().await?;
            }
            if self.may_append() {
                self.append()?;
                self.producer.pump().await?;
                if self.pending.is_empty() {
                    self.prompt();
                }
                // Answers that have come in meanwhile are taken before the next piece is read.
                tokio::task::yield_now().await;
            } else {
                self.wait(&mut tick).await?;
            }
        }
        self.progress.show(&self.producer, true);
        Ok(())
    }

    /// Records and bytes that are acknowledged, and how long it took; the failure, if there was one.
    pub(super) fn end(self) -> (u64, u64, Duration, Option<CliError>) {
        let Self { producer, progress, failure, .. } = self;
        (producer.acknowledged_records(), producer.acknowledged_bytes(), progress.started.elapsed(), failure)
    }

    /// Whether all of the input has been appended.
    fn is_read(&self) -> bool {
        self.is_ended && self.pending.is_empty()
    }

    fn may_append(&self) -> bool {
        !self.pending.is_empty() && !self.producer.is_full() && (!self.is_sync || self.producer.is_idle())
    }

    /// Appends what is pending, as much as the producer takes.
    fn append(&mut self) -> Result<(), ProducerError> {
        let now_ms = time::now_ms();
        while !self.producer.is_full() {
            let line = match self.input.is_whole {
                true => Some(std::mem::take(&mut self.pending)).filter(|all| !all.is_empty()),
                false => next_line(&mut self.pending),
            };
            let Some(line) = line else { break };
            match self.input.parser.parse(line, now_ms) {
                Ok(record) => self.producer.append(record)?,
                Err(reason) => self.end_early(Some(CliError::Failed(reason))),
            }
            if self.is_sync {
                self.producer.set_flushing(true);
                break;
            }
        }
        Ok(())
    }

    /// Waits for an answer, for input, or for the time to show how far it is.
    async fn wait(&mut self, tick: &mut Interval) -> Result<(), ProducerError> {
        let wants_input = self.pending.is_empty() && !self.is_ended && !self.producer.is_full();
        tokio::select! {
            event = self.producer.wait() => self.producer.handle(event).await?,
            chunk = self.input.chunks.recv(), if wants_input => self.take(chunk),
            _ = tick.tick() => {
                self.tell_what_is_held_up();
                self.progress.show(&self.producer, false);
            }
            _ = tokio::signal::ctrl_c(), if !self.is_ended => {
                let interrupted = "interrupted; what was read so far has been sent";
                let failure = (!self.input.is_typed).then(|| CliError::Failed(interrupted.to_owned()));
                self.end_early(failure);
            }
        }
        Ok(())
    }

    /// Says which partition takes no records, and why, once for each time that one does not.
    fn tell_what_is_held_up(&mut self) {
        let Some(held_up) = self.producer.held_up(TOLD_AFTER) else {
            self.told = None;
            return;
        };
        if self.told.as_ref() == Some(&held_up.partition) {
            return;
        }
        let why = match held_up.error {
            ClientError::NoLeader(partition) => {
                format!(
                    "{partition} has no leader (is its broker down, or its log offline? the broker's log tells)"
                )
            }
            error => format!("{} takes no records: {error}", held_up.partition),
        };
        let line_start = if self.progress.is_terminal { "\r\x1b[K" } else { "" };
        let left = held_up.left.as_secs();
        // A warning that nobody can see is no failure.
        drop(writeln!(io::stderr(), "{line_start}warning: {why}; trying for another {left} s"));
        self.told = Some(held_up.partition);
    }

    fn take(&mut self, chunk: Option<Chunk>) {
        match chunk {
            Some(Ok(chunk)) => {
                self.progress.read_bytes += chunk.len() as u64;
                self.pending = chunk;
            }
            Some(Err(error)) => self.end_early(Some(CliError::while_doing("read the input", error))),
            None => self.is_ended = true,
        }
    }

    fn end_early(&mut self, failure: Option<CliError>) {
        self.is_ended = true;
        self.pending.clear();
        self.failure = failure;
    }

    fn prompt(&self) {
        if self.is_prompting {
            // A prompt that nobody can see is no failure.
            drop(write!(io::stderr(), ">"));
        }
    }
}

/// The line on standard error that tells how far it is.
pub(super) struct Progress {
    started: Instant,
    total_bytes: Option<u64>,
    read_bytes: u64,
    is_shown: bool,
    is_terminal: bool,
}

impl Progress {
    pub(super) fn new(total_bytes: Option<u64>, is_shown: bool) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { started: Instant::now(), total_bytes, read_bytes: 0, is_shown, is_terminal }
    }

    fn show(&self, producer: &Producer, last: bool) {
        if !self.is_shown || !(self.is_terminal || last) {
            return;
        }
        let line = progress_line(
            producer.acknowledged_records(),
            producer.acknowledged_bytes(),
            self.started.elapsed(),
            self.read_bytes,
            self.total_bytes,
            last,
        );
        let (start, end) =
            if self.is_terminal { ("\r\x1b[K", if last { "\n" } else { "" }) } else { ("", "\n") };
        // Progress that nobody can see is no failure.
        drop(write!(io::stderr(), "{start}{line}{end}"));
    }
}

fn progress_line(
    records: u64,
    bytes: u64,
    elapsed: Duration,
    read_bytes: u64,
    total_bytes: Option<u64>,
    last: bool,
) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let mut line = format!(
        "{records} records, {:.1} MB, {:.1} MB/s, {:.0} records/s",
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / seconds,
        records as f64 / seconds
    );
    if last {
        line.push_str(&format!(", done in {seconds:.1} s"));
    } else if let Some(total) = total_bytes.filter(|total| *total > 0) {
        let part = (read_bytes as f64 / total as f64).clamp(0.0, 1.0);
        line.push_str(&format!(", {:.0} %", part * 100.0));
        if part > 0.0 {
            line.push_str(&format!(", ETA {:.0} s", seconds * (1.0 - part) / part));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_rate_and_rest() {
        let line = progress_line(1000, 2_000_000, Duration::from_secs(2), 25, Some(100), false);
        assert_eq!(line, "1000 records, 2.0 MB, 1.0 MB/s, 500 records/s, 25 %, ETA 6 s");
    }
}
