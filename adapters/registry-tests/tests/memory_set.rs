//! memory_set's own tests against `kvma_memory_set`.

include!(concat!(env!("OUT_DIR"), "/memory_set.rs"));
