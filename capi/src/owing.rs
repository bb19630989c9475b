//! An engine's `Update` that lives between two calls, with the hooks that it borrows.

use crate::alloc::Memory;
use crate::boundary::Shared;
use crate::status::Fail;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use engine::{Error, Hooks, Update, VmaData};

/// What a handle of an update holds.
pub(crate) struct Owing<V: VmaData + 'static, H: Hooks<V> + 'static> {
    owed: Shared<ManuallyDrop<Update<'static, V, Memory, H>>>,
    /// What `owed` borrows: in memory of its own, and freed after it.
    hooks: NonNull<H>,
    memory: Memory,
}

impl<V: VmaData, H: Hooks<V>> Owing<V, H> {
    pub(crate) fn new(memory: Memory, hooks: H, nodes: usize) -> Result<Self, Error> {
        let hooks = memory.put_in(hooks).ok_or(Error::OutOfMemory)?;
        // SAFETY: nobody else has the hooks, and they stay where they are until `owed` is gone.
        let owed = Update::new(memory, unsafe { &mut *hooks.as_ptr() });
        let owing = Owing { owed: Shared::new(ManuallyDrop::new(owed)), hooks, memory };
        owing.owed.write(|owed| Ok(owed.reserve(nodes)?)).map_err(|_| Error::OutOfMemory)?;
        Ok(owing)
    }

    pub(crate) fn read<R>(
        &self,
        look: impl FnOnce(&Update<'static, V, Memory, H>) -> Result<R, Fail>,
    ) -> Result<R, Fail> {
        self.owed.read(|owed| look(owed))
    }

    pub(crate) fn write<R>(
        &self,
        change: impl FnOnce(&mut Update<'static, V, Memory, H>) -> Result<R, Fail>,
    ) -> Result<R, Fail> {
        self.owed.write(|owed| change(owed))
    }

    /// Whether it may be finished: nobody is in it, and no panic has left it half-done.
    pub(crate) fn check_idle(&self) -> Result<(), Fail> {
        self.owed.check_idle()
    }
}

impl<V: VmaData, H: Hooks<V>> Drop for Owing<V, H> {
    fn drop(&mut self) {
        // SAFETY: once, and before what it borrows; that came from `put_in`.
        unsafe {
            ManuallyDrop::drop(self.owed.get_mut());
            self.memory.drop_in(self.hooks);
        }
    }
}
