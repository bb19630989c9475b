//! Keys: the numbers that user data shows to readers without the lock.

use super::data::VmaData;
use crate::sync::Word;

/// The place in a node for the key of its data `D`. There are two: [`KeyWord`], and `()` for data
/// without keys.
pub trait KeySlot<D>: Default + Send + Sync {
    /// Returns the key of data. May run the kernel's code.
    fn of(data: &D) -> u64;

    /// Stores a key. Called by the lock's holder.
    fn store(&self, key: u64);

    /// Returns the key to a reader without the lock. Orders nothing.
    fn shared(&self) -> u64;
}

/// A word for the key of a VMA's data.
#[derive(Debug)]
pub struct KeyWord(Word);

impl Default for KeyWord {
    fn default() -> Self {
        Self(Word::new(0))
    }
}

impl<V: VmaData> KeySlot<V> for KeyWord {
    #[inline(always)]
    fn of(data: &V) -> u64 {
        data.key()
    }

    #[inline(always)]
    fn store(&self, key: u64) {
        self.0.update(key);
    }

    #[inline(always)]
    fn shared(&self) -> u64 {
        self.0.shared()
    }
}

impl<D> KeySlot<D> for () {
    #[inline(always)]
    fn of(_data: &D) -> u64 {
        0
    }

    #[inline(always)]
    fn store(&self, _key: u64) {}

    #[inline(always)]
    fn shared(&self) -> u64 {
        0
    }
}
