//! Which partition a record goes to: Kafka's choice for keys, a sticky one without keys (KIP-480).

/// Kafka's 32-bit murmur2 with its fixed seed, as `org.apache.kafka.common.utils.Utils.murmur2` computes it.
pub fn murmur2(data: &[u8]) -> i32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut part = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        part ^= part >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ part.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    (hash ^ (hash >> 15)) as i32
}

/// The partition of a keyed record: the hash without its sign, modulo *all* partitions, whether they
/// have a leader or not. `partitions` must not be zero.
pub fn partition_for_key(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & i32::MAX) as usize % partitions
}

/// Stays on one partition until a batch of it is full or due, then moves on, so that records without
/// keys travel in few large batches and still spread evenly.
#[derive(Debug)]
pub struct Sticky {
    current: usize,
    seed: u64,
}

impl Sticky {
    /// `seed` decides where it starts and how it moves.
    pub fn new(seed: u64) -> Self {
        Self { current: usize::MAX, seed }
    }

    /// The partition to use, out of those that are `available` (indexes into the topic's partitions).
    pub fn current(&mut self, available: &[usize]) -> Option<usize> {
        if !available.contains(&self.current) {
            self.advance(available);
        }
        available.contains(&self.current).then_some(self.current)
    }

    /// The partition in use, when `is_available` still holds for it.
    pub fn kept(&self, is_available: impl Fn(usize) -> bool) -> Option<usize> {
        (self.current != usize::MAX && is_available(self.current)).then_some(self.current)
    }

    /// Whether `index` is the partition in use.
    pub fn is_current(&self, index: usize) -> bool {
        self.current == index
    }

    /// Moves to another partition, when there is one.
    pub fn advance(&mut self, available: &[usize]) {
        let others = available.iter().copied().filter(|index| *index != self.current).collect::<Vec<_>>();
        // xorshift64: spread is all that is wanted of it.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let choice =
            if others.is_empty() { None } else { others.get((self.seed % others.len() as u64) as usize) };
        if let Some(choice) = choice {
            self.current = *choice;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own UtilsTest.
    #[test]
    fn murmur2_equals_kafkas() {
        for (text, hash) in [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ] {
            assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn sticky_stays_then_moves_and_leaves_what_is_gone() {
        let mut sticky = Sticky::new(7);
        let all = [0, 1, 2];
        let first = sticky.current(&all).unwrap();
        assert_eq!(sticky.current(&all), Some(first));
        sticky.advance(&all);
        assert_ne!(sticky.current(&all), Some(first));
        assert_eq!(sticky.current(&[1]), Some(1));
        sticky.advance(&[1]);
        assert_eq!(sticky.current(&[1]), Some(1));
        assert_eq!(sticky.current(&[]), None);
    }
}
