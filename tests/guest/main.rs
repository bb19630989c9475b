//! The guest layer: against a model, against the mistakes of others, and as hypervisors use it.

mod behind_a_lock;
mod coming_again;
mod dirty;
mod faults;
mod hints;
mod mistakes_of_others;
mod printing;
mod random_walk;
mod shown;
mod slots;
mod small_worlds;
mod threads;

use kvma::guest::{Guest, GuestNode, HostBacking, Refusal, SlotNumber};
use kvma::{Error, FixedPool, PageSize};

const PAGE: u64 = 0x1000;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

type Pool<D = ()> = FixedPool<GuestNode<D>, 256>;

fn guest<D>(pool: &Pool<D>) -> Guest<D, &Pool<D>> {
    Guest::new(0..=(1 << 52) - 1, PageSize::SIZE_4K, pool).unwrap()
}

fn host(addr: u64) -> HostBacking {
    HostBacking::Host { addr }
}

fn slot(number: u32) -> SlotNumber {
    SlotNumber::new(number)
}

fn refused<T>(error: Error) -> Result<T, Refusal> {
    Err(Refusal::Map(error))
}
