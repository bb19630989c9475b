//! Hooks around hooks, which measure how long they take.

use kvma::linux::{File, Kernel, LinuxVma, PageOp};
use kvma::{Attrs, Errno, Error, Event, Hooks, Piece};

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
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        self.time(|hooks| hooks.prepare(event))
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.time(|hooks| hooks.cancel(event));
    }

    fn map(&mut self, piece: &Piece<'_, V>) {
        self.time(|hooks| hooks.map(piece));
    }

    fn unmap(&mut self, piece: &Piece<'_, V>) {
        self.time(|hooks| hooks.unmap(piece));
    }

    fn protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self.time(|hooks| hooks.protect(piece, old));
    }

    fn relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self.time(|hooks| hooks.relocate(piece, to));
    }

    fn flush_begin(&mut self) {
        self.time(H::flush_begin);
    }

    fn flush_wait(&mut self) {
        self.time(H::flush_wait);
    }
}

impl<F: File, H: Kernel<F>> Kernel<F> for Timed<H> {
    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, LinuxVma<F>>) -> Result<(), Errno> {
        self.time(|hooks| hooks.page_op(op, piece))
    }
}
