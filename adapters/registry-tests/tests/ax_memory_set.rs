//! ax-memory-set's own tests against `kvma_ax_memory_set`: those in its sources, and those beside.

/// Those in its sources.
mod unit {
    include!(concat!(env!("OUT_DIR"), "/ax_memory_set_unit.rs"));
}

/// Those beside its sources.
mod beside {
    include!(concat!(env!("OUT_DIR"), "/ax_memory_set_std.rs"));
}
