//! Reading and writing `/proc/PID/maps`.

use kvma::AddrSpace;
use kvma::linux::maps::{self, MapsLine};
use kvma::linux::{Layout, Mm};
use kvma::vm_map::PoolVmMap;

use crate::files::Handle;
use crate::opaque::{any, show, sink};
use crate::world::{Data, Pool};

static POOL: Pool = Pool::new();
static LINUX: kvma::FixedPool<kvma::VmaNode<kvma::linux::LinuxVma<Handle>>, 8> =
    kvma::FixedPool::new();

pub fn all() {
    read();
    adopt();
    write();
}

#[inline(never)]
fn read() {
    for line in maps::parse(any()) {
        match line {
            Ok(line) => sink(line),
            Err(error) => show(error),
        }
    }
    maps::parse_bytes(any()).for_each(sink);
    sink((MapsLine::parse(any()), MapsLine::parse_bytes(any())));
    sink((maps::object(any()), maps::vm_flags(any())));
}

#[inline(never)]
fn adopt() {
    let Ok(mut map) = PoolVmMap::<64, Data>::new(any()..=any(), any(), &POOL) else { return };
    match map.adopt_maps(any(), |line, attrs| {
        sink((line, attrs));
        (any(), any())
    }) {
        Ok(count) => sink(count),
        Err(error) => show(error),
    }
    sink(map.adopt_maps_bytes(any(), |_, attrs| (attrs, any())).is_ok());
}

#[inline(never)]
fn write() {
    let Ok(mm) = Mm::<Handle, _>::new(Layout::x86_64(any()), &LINUX) else { return };
    for entry in mm.maps() {
        sink((entry.start(), entry.end(), entry.flags(), entry.offset()));
        sink(entry.name());
        show(entry);
    }
    show(mm.maps());
    let mut lines = Discard;
    let space = AddrSpace::new(mm);
    sink(space.write_maps(&mut lines).is_ok());
    let visited: Result<(), ()> = space.for_each_line(|line| {
        show(line);
        if any() { Ok(()) } else { Err(()) }
    });
    sink(visited.is_ok());
}

/// Takes what is written, and keeps nothing.
struct Discard;

impl core::fmt::Write for Discard {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        sink(text);
        Ok(())
    }
}
