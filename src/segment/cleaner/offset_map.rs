//! Where the last record of each key is, for the dirty part of a log.
//!
//! A table of fixed size with open addressing: 24 bytes a slot, the 128-bit hash of a key and its offset. Keys
//! themselves are not kept. The hash is keyed anew for each map, so nobody can choose keys that collide.
//! Pages of the table that no key falls into are never touched, and so never take memory.

use std::hash::{DefaultHasher, Hasher};

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 24;

/// See the head of this module.
#[derive(Debug)]
pub struct OffsetMap {
    /// Two halves of the hash, and the offset + 1; an offset of 0 is a free slot.
    slots: Vec<[u64; 3]>,
    len: usize,
    len_max: usize,
    seeds: [u64; 2],
    latest_offset: i64,
}

impl OffsetMap {
    /// A map that takes `buffer_bytes`, or less where only `records` are to come; it is full at `load_factor`
    /// (0 to 1) of its slots. One key always fits. The seeds are not to be guessed.
    pub fn new(buffer_bytes: usize, load_factor: f64, records: u64, seeds: [u64; 2]) -> Self {
        let load_factor = load_factor.clamp(0.01, 0.99);
        let needed = (records as f64 / load_factor).ceil() + 1.0;
        let slots = ((buffer_bytes / SLOT_BYTES) as f64).min(needed).max(2.0) as usize;
        let len_max = ((slots as f64 * load_factor) as usize).clamp(1, slots - 1);
        Self { slots: vec![[0; 3]; slots], len: 0, len_max, seeds, latest_offset: -1 }
    }

    fn slot_of(&self, key: &[u8]) -> (usize, u64, u64) {
        let [first, second] = self.seeds.map(|seed| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(seed);
            hasher.write(key);
            hasher.finish()
        });
        let start = (u128::from(first) * self.slots.len() as u128) >> 64;
        (start as usize, first, second)
    }

    /// The slot of a key, or the free one where it would go. There is always a free one.
    fn find(&self, key: &[u8]) -> (usize, u64, u64) {
        let (mut at, first, second) = self.slot_of(key);
        loop {
            let [slot_first, slot_second, offset] = self.slots[at];
            if offset == 0 || slot_first == first && slot_second == second {
                return (at, first, second);
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }

    /// Notes that the record at `offset` has that key; false, and nothing changes, when the map is full.
    pub fn put(&mut self, key: &[u8], offset: i64) -> bool {
        if self.len >= self.len_max {
            return false;
        }
        let (at, first, second) = self.find(key);
        self.len += usize::from(self.slots[at][2] == 0);
        self.slots[at] = [first, second, (offset as u64).wrapping_add(1)];
        self.advance(offset);
        true
    }

    /// The last offset of a key.
    pub fn get(&self, key: &[u8]) -> Option<i64> {
        let (at, ..) = self.find(key);
        self.slots[at][2].checked_sub(1).map(|offset| offset as i64)
    }

    /// Up to where the map knows all keys; -1 for nowhere.
    pub fn latest_offset(&self) -> i64 {
        self.latest_offset
    }

    /// All records up to `offset` are in the map.
    pub fn advance(&mut self, offset: i64) {
        self.latest_offset = self.latest_offset.max(offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_key_is_found_until_the_map_is_full() {
        let mut map = OffsetMap::new(100 * SLOT_BYTES, 0.9, u64::MAX, [1, 2]);
        let key = |n: i64| format!("key-{n}").into_bytes();
        for round in 0..2 {
            for n in 0..89 {
                assert!(map.put(&key(n), round * 1000 + n));
            }
        }
        assert!((0..89).all(|n| map.get(&key(n)) == Some(1000 + n)));
        assert_eq!((map.get(b"other"), map.len, map.latest_offset()), (None, 89, 1088));
        assert!(map.put(b"", 2000) && !map.put(b"one more", 2001));
        assert_eq!((map.get(b""), map.get(b"one more"), map.latest_offset()), (Some(2000), None, 2000));
        // The least map takes one key.
        let mut map = OffsetMap::new(0, 0.5, 0, [1, 2]);
        assert!(map.put(b"a", 0) && !map.put(b"a", 1));
        assert_eq!((map.get(b"a"), map.get(b"b")), (Some(0), None));
        // A small dirty part needs no large table.
        assert!(OffsetMap::new(1 << 27, 0.9, 1000, [1, 2]).slots.len() < 1200);
    }
}
