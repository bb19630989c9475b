//! Hooks around hooks, which measure how long they take.

use kvma::hooks::{Advice, RemovedVma};
use kvma::linux::{File, Kernel, LinuxVma, PageOp};
use kvma::{Attrs, Errno, Event, Hooks, Piece};

use crate::arch::timer;

/// Measures the time spent in the hooks inside.
pub struct Timed<H> {
    inner: H,
    ticks: u64,
}

impl<H> Timed<H> {
    pub fn new(inner: H) -> Self {
        Self { inner, ticks: 0 }
    }

    /// Returns the time-stamp ticks spent in the hooks inside.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    fn time<R>(&mut self, run: impl FnOnce(&mut H) -> R) -> R {
        let begin = timer::now();
        let result = run(&mut self.inner);
        self.ticks += timer::now() - begin;
        result
    }
}

impl<V, H: Hooks<V>> Hooks<V> for Timed<H> {
    type Error = H::Error;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), H::Error> {
        self.time(|hooks| hooks.prepare(event))
    }

    fn prepares(&self) -> bool {
        self.inner.prepares()
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.time(|hooks| hooks.cancel(event));
    }

    fn on_map(&mut self, piece: &Piece<'_, V>) {
        self.time(|hooks| hooks.on_map(piece));
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        self.time(|hooks| hooks.on_unmap(piece));
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self.time(|hooks| hooks.on_protect(piece, old));
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self.time(|hooks| hooks.on_relocate(piece, to));
    }

    fn on_advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        self.time(|hooks| hooks.on_advise(piece, advice));
    }

    fn flush_begin(&mut self) {
        self.time(H::flush_begin);
    }

    fn flush_wait(&mut self) {
        self.time(H::flush_wait);
    }

    fn release(&mut self, removed: RemovedVma<V>) {
        self.time(|hooks| hooks.release(removed));
    }
}

impl<F: File, H: Kernel<F>> Kernel<F> for Timed<H> {
    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, LinuxVma<F>>) -> Result<(), Errno> {
        self.time(|hooks| hooks.page_op(op, piece))
    }
}
