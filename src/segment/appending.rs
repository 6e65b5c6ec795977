//! Appends gather: who finds the log free writes at once; the others queue, and whoever holds the
//! writer lock writes for all of them with one call.
//!
//! Nobody is forgotten: who queues looks at the lock after, who unlocks looks at the queue after.

use std::io::IoSlice;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::aborted::AbortedTransaction;
use super::log::{Log, Queued, Writer};
use super::producer_state::{ProducerState, Verdict};
use super::room::Room;
use super::segment_file::Segment;
use super::transactions::{Change, Transactions};
use super::{Append, AppendError, AppendRequest, Appended, LogConfig, Origin};
use crate::env::panics;
use crate::env::planted::{Planted, is_planted};
use crate::protocol::batch::{self, Batch, BatchError, BatchHeader};
use crate::protocol::control::Marker;
use crate::types::{LeaderEpoch, Offset, ProducerId};

/// Producers try again and again; the log of the broker is told of their failures this often.
const WRITE_ERROR_TOLD_EVERY_MS: i64 = 10_000;

/// Who is to be told of an append.
enum Asker {
    /// The caller itself, who gets the answer as a return value.
    Caller,
    Waiting(oneshot::Sender<Result<Appended, AppendError>>),
}

/// Appends that are decided and go out with the next write. `B`: bytes as they come, to be changed or shared.
struct Run<B> {
    segment: Arc<Segment>,
    records: Vec<B>,
    headers: Vec<BatchHeader>,
    /// What they do to transactions.
    changes: Vec<Change>,
    bytes: u64,
    next_offset: i64,
    /// Those to tell when it is written: the offsets, or those of a duplicate.
    askers: Vec<(Asker, Appended)>,
}

impl Log {
    /// Appends records, or queues them behind a write that is under way. Offsets and leader epoch are written into
    /// them in place.
    pub fn append(&self, request: AppendRequest) -> Append {
        if let Some(mut writer) = self.writer.try_lock() {
            // Who queued earlier goes first.
            if !writer.leadership.is_suspended() && self.queue.lock().is_empty() {
                let mut answer = None;
                self.write_all(&mut writer, vec![(request, Asker::Caller)], &mut answer);
                drop(writer);
                self.append_queued();
                return Append::Done(answer.unwrap_or(Err(AppendError::Closed)));
            }
        }
        let (answer, receiver) = oneshot::channel();
        self.queue.lock().push(Queued { request, answer });
        self.append_queued();
        Append::Queued(receiver)
    }

    /// Writes what queued, unless somebody holds the writer lock, who then will, or the leadership is suspended.
    pub(super) fn append_queued(&self) {
        while !self.queue.lock().is_empty() {
            let Some(mut writer) = self.writer.try_lock() else { return };
            if writer.leadership.is_suspended() {
                return;
            }
            let queued = std::mem::take(&mut *self.queue.lock());
            let requests =
                queued.into_iter().map(|queued| (queued.request, Asker::Waiting(queued.answer))).collect();
            self.write_all(&mut writer, requests, &mut None);
        }
    }

    fn write_all(
        &self,
        writer: &mut Writer,
        requests: Vec<(AppendRequest, Asker)>,
        answer: &mut Option<Result<Appended, AppendError>>,
    ) {
        let config = self.config();
        let mut run = self.new_run();
        for (request, asker) in requests {
            if let Err(error) = self.decide(writer, &config, &mut run, request, asker, answer) {
                let (asker, error) = error;
                tell(asker, Err(error), answer);
            }
        }
        self.commit(writer, &config, run, answer);
    }

    fn new_run<B>(&self) -> Run<B> {
        Run {
            segment: self.last_segment(),
            records: Vec::new(),
            headers: Vec::new(),
            changes: Vec::new(),
            bytes: 0,
            next_offset: self.log_end_offset().0,
            askers: Vec::new(),
        }
    }

    /// Decides one append: into the run, refused, or a duplicate. Writes the run first when a
    /// new segment has to begin.
    fn decide(
        &self,
        writer: &mut Writer,
        config: &Arc<LogConfig>,
        run: &mut Run<BytesMut>,
        request: AppendRequest,
        asker: Asker,
        answer: &mut Option<Result<Appended, AppendError>>,
    ) -> Result<(), (Asker, AppendError)> {
        if self.is_closed() {
            return Err((asker, AppendError::Closed));
        }
        if self.is_failed() {
            return Err((asker, AppendError::Failed));
        }
        let AppendRequest { mut records, epoch, origin } = request;
        // Whoever waited for the lock may have been overtaken by the next leadership.
        if let Err(ended) = writer.leadership.check_leads(epoch) {
            return Err((asker, ended.into()));
        }
        let headers = match headers_of(&records, config) {
            Ok(headers) if headers.is_empty() => {
                return Err((asker, AppendError::Batch(BatchError::NoBatch)));
            }
            Ok(headers) => headers,
            Err(error) => return Err((asker, error)),
        };
        let count: i64 = headers.iter().map(|header| i64::from(header.last_offset_delta) + 1).sum();
        // Offsets first, as whether the segment has room depends on the last one.
        let last_offset = run.next_offset + count - 1;
        if self.must_roll(writer, config, run, &headers, records.len() as u64, last_offset) {
            let next = Run { ..self.new_run() };
            self.commit(writer, config, std::mem::replace(run, next), answer);
            if self.is_failed() {
                return Err((asker, AppendError::Failed));
            }
            let rolled = self.roll_to(writer, self.log_end_offset().0);
            *run = self.new_run();
            if let Err(error) = rolled {
                self.files.cache.errors.write_failed(&error, self.clock.now_ms());
                let error = AppendError::from_io(error);
                writer.producers.note_refused(headers.iter().map(|header| header.producer_id), &error);
                return Err((asker, error));
            }
        }
        // Rolling may have undone what went before it: begin with what is true now.
        let how = Leading { transactions: &self.transactions, epoch, origin, now_ms: self.clock.now_ms() };
        let mut appended = match how.lead(writer, run, &mut records, headers) {
            Ok(appended) => appended,
            Err(error) => return Err((asker, error)),
        };
        appended.log_start_offset = self.log_start_offset();
        if !appended.duplicate {
            appended.bytes = records.len() as u64;
            run.bytes += appended.bytes;
            run.next_offset = appended.last_offset.0 + 1;
            run.records.push(records);
        }
        run.askers.push((asker, appended));
        Ok(())
    }

    /// Appends what was fetched from the leader of `epoch`, as it is: offsets, epochs and checksums are the leader's.
    /// A segment rolls where it is full, whatever the size of the fetch. `None` when there was no whole batch.
    ///
    /// Waits for the writer lock, and for the disk.
    ///
    /// # Errors
    /// This node does not follow that leader any more, or what came is damaged or does not follow what is there.
    /// After an error of the disk the batches before it may be in the log.
    pub fn append_replicated(
        &self,
        mut records: Bytes,
        epoch: LeaderEpoch,
    ) -> Result<Option<Appended>, AppendError> {
        let headers = headers_of_leader(&records, epoch)?;
        let config = self.config();
        let mut writer = self.lock_writer();
        if self.is_closed() {
            return Err(AppendError::Closed);
        }
        if self.is_failed() {
            return Err(AppendError::Failed);
        }
        writer.leadership.check_follows(epoch)?;
        let Some(first) = headers.first() else { return Ok(None) };
        check_follows(first, self.log_end_offset().0, self.latest_epoch().0)?;
        let mut appended = added(&headers);
        let now_ms = self.clock.now_ms();
        let mut run = self.new_run();
        for header in headers {
            let records = records.split_to(header.size());
            let last_offset = header.last_offset();
            if self.must_roll(&mut writer, &config, &run, &[header], records.len() as u64, last_offset) {
                let full = std::mem::replace(&mut run, self.new_run());
                self.write(&mut writer, &config, &full)?;
                // A gap goes into a segment, not between two (recovery takes such for a lost tail), unless
                // it is wider than a segment can be.
                let end = self.log_end_offset().0;
                let is_out_of_reach = last_offset - end > i64::from(i32::MAX);
                let base_offset = if is_out_of_reach { header.base_offset } else { end };
                self.roll_to(&mut writer, base_offset).map_err(AppendError::from_io)?;
                run = self.new_run();
            }
            let marker = Batch::parse(&records).and_then(|batch| Marker::of(&batch))?;
            if !is_planted(Planted::ForgetfulFollowers) {
                run.changes.extend(writer.producers.add(&header, last_offset, marker.as_ref(), now_ms));
            }
            if header.has_producer() {
                self.transactions.settle(header.producer_id);
            }
            appended.bytes += records.len() as u64;
            run.bytes += records.len() as u64;
            run.next_offset = header.next_offset();
            run.records.push(records);
            run.headers.push(header);
        }
        self.write(&mut writer, &config, &run)?;
        appended.log_start_offset = self.log_start_offset();
        appended.flush_due = self.is_flush_due(&config);
        Ok(Some(appended))
    }

    /// Whether records have to go into a new segment.
    fn must_roll<B>(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        run: &Run<B>,
        headers: &[BatchHeader],
        bytes: u64,
        last_offset: i64,
    ) -> bool {
        let (len, offset_entries, time_entries) = {
            let state = run.segment.state.read();
            (state.len + run.bytes, state.offsets.len() as u64, state.times.len() as u64)
        };
        let index_bytes = u64::from(config.segment_index_bytes);
        if last_offset - run.segment.base_offset > i64::from(i32::MAX) {
            return true;
        }
        if len == 0 {
            return false;
        }
        // One write may add an entry for each of its batches; the time index keeps room for its end.
        let new_entries = (run.headers.len() + headers.len()) as u64;
        if len + bytes > u64::from(config.segment_bytes)
            || (offset_entries + new_entries) * 8 > index_bytes.max(64 + new_entries * 8)
            || (time_entries + new_entries + 1) * 12 > index_bytes.max(64 + new_entries * 12)
        {
            return true;
        }
        let newest = headers.iter().map(|header| header.max_timestamp).max().unwrap_or(-1);
        if writer.first_timestamp.is_none() && run.bytes == 0 {
            let first = run.segment.first_header(&self.files).ok().flatten();
            writer.first_timestamp = first.map(|header| header.max_timestamp);
        }
        let age_ms = match writer.first_timestamp.filter(|first| *first >= 0) {
            Some(first) => newest.saturating_sub(first),
            None => self.clock.now_ms().saturating_sub(run.segment.created_ms),
        };
        let log = self.files.log.load(Ordering::Relaxed);
        age_ms > config.roll_ms().saturating_sub(jitter_ms(config, run.segment.base_offset, log))
    }

    /// Writes a run and tells everybody.
    fn commit(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        run: Run<BytesMut>,
        answer: &mut Option<Result<Appended, AppendError>>,
    ) {
        let result = self.write(writer, config, &run);
        let flush_due = self.is_flush_due(config);
        for (asker, appended) in run.askers {
            let result = result.clone().map(|()| Appended { flush_due, ..appended });
            tell(asker, result, answer);
        }
    }

    /// Writes a run; the producers are as if it had never been when that fails.
    fn write<B: Deref<Target = [u8]>>(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        run: &Run<B>,
    ) -> Result<(), AppendError> {
        let result = if run.records.is_empty() { Ok(()) } else { self.write_run(writer, config, run) };
        match &result {
            Ok(()) => writer.producers.keep(),
            Err(error) => writer.producers.refuse(error),
        }
        result
    }

    fn is_flush_due(&self, config: &LogConfig) -> bool {
        let unsynced = self.log_end_offset().0 - self.recovery_point().0;
        unsynced >= config.flush_messages && unsynced > 0
    }

    fn write_run<B: Deref<Target = [u8]>>(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        run: &Run<B>,
    ) -> Result<(), AppendError> {
        panics::planted("append");
        let segment = &run.segment;
        let file = segment.log_file(&self.files).map_err(AppendError::from_io)?;
        let len = segment.len();
        writer.room.for_write(&*file, len + run.bytes, config.segment_bytes);
        let mut slices: Vec<_> = run.records.iter().map(|records| IoSlice::new(records)).collect();
        if let Err(error) = file.write_all_at(&mut slices, len) {
            writer.room = Room::default();
            self.is_cut_unsynced.store(true, Ordering::Release);
            // What follows would be taken for the end of the log by recovery, and hide what is
            // appended next.
            if let Err(error) = file.set_len(len) {
                self.fail_above(self.log_end_offset(), "undoing a write that failed", &error);
            }
            let now_ms = self.clock.now_ms();
            self.files.cache.errors.write_failed(&error, now_ms);
            let told_ms = self.write_error_told_ms.load(Ordering::Relaxed);
            if now_ms.saturating_sub(told_ms) >= WRITE_ERROR_TOLD_EVERY_MS {
                self.write_error_told_ms.store(now_ms, Ordering::Relaxed);
                tracing::error!(log = %self.dir().display(), %error, "appends cannot be written");
            }
            return Err(AppendError::from_io(error));
        }
        let is_tail_full = {
            let mut state = segment.state.write();
            let mut position = len;
            for header in &run.headers {
                let since = &mut writer.bytes_since_entry;
                let interval = config.index_interval_bytes;
                state.index_batch(segment.base_offset, header, position, since, interval);
                position += header.size() as u64;
            }
            // Before readers learn of the end: what they may read, they find here what became of.
            for change in &run.changes {
                if let Some(aborted) = AbortedTransaction::of(*change, &self.transactions) {
                    state.aborted.push(aborted);
                }
                self.transactions.note(*change);
            }
            state.publish(position, run.next_offset);
            state.offsets.is_tail_full() || state.times.is_tail_full() || state.aborted.is_tail_full()
        };
        if run.headers.iter().any(|header| header.max_timestamp < 0) {
            segment.written(self.clock.now_ms());
        }
        if len == 0 {
            writer.first_timestamp = run.headers.first().map(|header| header.max_timestamp);
        }
        for header in &run.headers {
            self.note_appended_epoch(header.partition_leader_epoch, header.base_offset);
        }
        self.log_end_offset.store(run.next_offset, Ordering::Release);
        if is_tail_full && let Err(error) = segment.spill_indexes(&self.files) {
            // The records are there. The entries stay in memory, and are tried again next time.
            tracing::warn!(log = ?self.dir(), %error, "index entries could not be written");
        }
        Ok(())
    }
}

fn tell(
    asker: Asker,
    result: Result<Appended, AppendError>,
    answer: &mut Option<Result<Appended, AppendError>>,
) {
    match asker {
        Asker::Caller => *answer = Some(result),
        // Who no longer waits need not be told.
        Asker::Waiting(sender) => drop(sender.send(result)),
    }
}

/// Reads the headers of all batches.
fn headers_of(records: &[u8], config: &LogConfig) -> Result<Vec<BatchHeader>, AppendError> {
    if records.len() as u64 > u64::from(config.segment_bytes) {
        return Err(AppendError::LargerThanSegment { bytes: records.len(), bytes_max: config.segment_bytes });
    }
    let mut headers = Vec::with_capacity(1);
    for batch in batch::batches(records) {
        let header = batch?.header;
        check_offset_range(&header)?;
        headers.push(header);
    }
    Ok(headers)
}

fn check_offset_range(header: &BatchHeader) -> Result<(), BatchError> {
    let BatchHeader { records_count, last_offset_delta, .. } = *header;
    if last_offset_delta < 0 {
        return Err(BatchError::OffsetRange { records_count, last_offset_delta });
    }
    Ok(())
}

/// The headers of the whole batches that the leader of `epoch` sent. They come from the network, and from files of
/// another machine: every checksum is looked at.
///
/// Whoever sent a batch of a later epoch had just lost the leadership: that batch and all behind it are left for the
/// next leader to send (or not). The last batch of a fetch may be cut; it comes again.
fn headers_of_leader(records: &[u8], epoch: LeaderEpoch) -> Result<Vec<BatchHeader>, AppendError> {
    let mut headers: Vec<BatchHeader> = Vec::new();
    for batch in batch::batches(records) {
        let batch = match batch {
            Err(BatchError::Truncated { .. }) if !headers.is_empty() => break,
            batch => batch?,
        };
        let header = batch.header;
        if header.partition_leader_epoch > epoch.0 {
            break;
        }
        batch.verify_crc()?;
        check_offset_range(&header)?;
        if header.base_offset > i64::MAX - i64::from(i32::MAX) - 1 {
            return Err(AppendError::Batch(BatchError::BaseOffset(header.base_offset)));
        }
        if let Some(last) = headers.last() {
            check_follows(&header, last.next_offset(), last.partition_leader_epoch)?;
        }
        headers.push(header);
    }
    Ok(headers)
}

/// A batch comes behind what is there, in offsets and in epochs.
fn check_follows(header: &BatchHeader, log_end: i64, last_epoch: i32) -> Result<(), AppendError> {
    let found = Offset(header.base_offset);
    if header.base_offset < log_end {
        return Err(AppendError::OffsetsNotMonotonic { found, log_end: Offset(log_end) });
    }
    if header.partition_leader_epoch < last_epoch {
        let (epoch, last) = (LeaderEpoch(header.partition_leader_epoch), LeaderEpoch(last_epoch));
        return Err(AppendError::EpochNotMonotonic { offset: found, found: epoch, last });
    }
    Ok(())
}

/// What a leader's append goes by.
struct Leading<'a> {
    transactions: &'a Transactions,
    epoch: LeaderEpoch,
    origin: Origin,
    now_ms: i64,
}

impl Leading<'_> {
    /// Batches of one request: checks their producers, assigns their offsets.
    fn lead(
        &self,
        writer: &mut Writer,
        run: &mut Run<BytesMut>,
        records: &mut BytesMut,
        mut headers: Vec<BatchHeader>,
    ) -> Result<Appended, AppendError> {
        let mark = writer.producers.mark();
        let (mut at, mut offset) = (0, run.next_offset);
        let mut changes = Vec::new();
        for header in &headers {
            let bytes = records.get(at..at + header.size()).unwrap_or_default();
            match self.judge(writer, header, bytes, offset) {
                Ok(Verdict::Accepted(change)) => changes.extend(change),
                Ok(Verdict::Duplicate { first_offset, last_offset, max_timestamp }) => {
                    writer.producers.undo_to(mark);
                    let duplicate = true;
                    return Ok(Appended {
                        first_offset,
                        last_offset,
                        duplicate,
                        max_timestamp,
                        ..added(&[])
                    });
                }
                Err(error) => {
                    writer.producers.undo_to(mark);
                    return Err(error);
                }
            }
            offset += i64::from(header.last_offset_delta) + 1;
            at += header.size();
        }
        let (mut at, mut offset) = (0, run.next_offset);
        for header in &mut headers {
            let Some(bytes) = records.get_mut(at..at + header.size()) else { break };
            batch::set_base_offset(bytes, offset);
            batch::set_partition_leader_epoch(bytes, self.epoch.0);
            header.base_offset = offset;
            header.partition_leader_epoch = self.epoch.0;
            offset = header.next_offset();
            at += header.size();
            if header.is_transactional() {
                self.transactions.settle(header.producer_id);
            }
        }
        let appended = added(&headers);
        run.headers.append(&mut headers);
        run.changes.append(&mut changes);
        Ok(appended)
    }

    fn judge(
        &self,
        writer: &mut Writer,
        header: &BatchHeader,
        bytes: &[u8],
        offset: i64,
    ) -> Result<Verdict, AppendError> {
        let producers = &mut writer.producers;
        match self.origin {
            Origin::Producer { must_be_known, guard } => {
                let is_open = |producers: &ProducerState| {
                    producers.has_open_transaction(header.producer_id, header.producer_epoch)
                };
                if !header.is_transactional() || is_open(producers) {
                    return producers.check_and_add(header, offset, must_be_known, self.now_ms);
                }
                let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
                let lowest = self.transactions.guarded(producer_id, epoch, guard);
                let Some(lowest) = lowest else {
                    // What fences it says more.
                    producers.check_epoch(header, offset)?;
                    return Err(AppendError::NotInTransaction { producer_id: ProducerId(producer_id) });
                };
                // One that was sent earlier waits still, and the log cannot see it.
                if header.base_sequence > lowest && !producers.knows(producer_id, epoch) {
                    return producers.check_and_add(header, offset, true, self.now_ms);
                }
                producers.check_and_add(header, offset, must_be_known, self.now_ms)
            }
            Origin::Coordinator if header.has_producer() => {
                producers.check_epoch_and_add(header, offset, self.now_ms)
            }
            Origin::Coordinator => Ok(Verdict::Accepted(None)),
            Origin::Marker { transaction_version } => {
                let marker = Batch::parse(bytes).and_then(|batch| Marker::of(&batch))?;
                let Some(marker) = marker else {
                    return Err(AppendError::Batch(BatchError::NoBatch));
                };
                producers.check_and_add_marker(header, &marker, transaction_version, offset, self.now_ms)
            }
        }
    }
}

fn added(headers: &[BatchHeader]) -> Appended {
    Appended {
        first_offset: Offset(headers.first().map_or(-1, |header| header.base_offset)),
        last_offset: Offset(headers.last().map_or(-1, BatchHeader::last_offset)),
        log_start_offset: Offset::ZERO,
        bytes: 0,
        duplicate: false,
        max_timestamp: headers.iter().map(|header| header.max_timestamp).max().unwrap_or(-1),
        flush_due: false,
    }
}

/// How much earlier than `segment.ms` a segment rolls, so that not all logs do at once: the same for one
/// segment, spread over segments and logs.
fn jitter_ms(config: &LogConfig, base_offset: i64, log: u64) -> i64 {
    let most = config.segment_jitter_ms.min(config.segment_ms);
    if most <= 0 {
        return 0;
    }
    let seed = (base_offset as u64 ^ log.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1;
    (seed as i64) % most
}
