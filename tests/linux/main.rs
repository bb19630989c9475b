//! The Linux layer: what no recorded trace covers, the recorded traces, and maps files.

mod address_space;
mod adopt_maps;
mod batches;
mod batches_compared;
mod calls;
mod charge;
mod edges;
mod files;
mod handles;
mod huge_pages;
mod layout;
mod maps_files;
mod page_faults;
mod policy;
mod populate;
mod printing;
mod processes;
mod refusals;
mod segments;
mod touched_apart;
mod traces;
mod unlocked_maps;
mod unmapped_area;

use kvma::linux::abi::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE};

const PAGE: u64 = 4096;
/// The address at which most tests map: far from everything that is mapped by itself.
const AT: u64 = 0x5000_0000_0000;
const RW: u64 = PROT_READ | PROT_WRITE;
const ANON: u64 = MAP_PRIVATE | MAP_ANONYMOUS;
