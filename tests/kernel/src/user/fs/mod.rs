//! The in-memory file system: a tree of inodes, files opened in it, and what stands for other
//! things, such as pipes and `/proc`.

pub mod archive;
pub mod console;
pub mod descriptors;
pub mod device;
pub mod epoll;
pub mod events;
pub mod inode;
pub mod open_file;
pub mod path;
pub mod pipe;
pub mod proc;
pub mod status;

use alloc::sync::Arc;

use spin::Once;

pub use self::inode::{Inode, Kind};
use super::wait::WaitQueue;

/// The directory where relative paths begin.
pub type Directory = Arc<Inode>;

static ROOT: Once<Arc<Inode>> = Once::new();

/// Woken whenever something may have become readable or writable: poll(2).
pub static CHANGED: WaitQueue = WaitQueue::new();

/// Returns the root directory.
pub fn root() -> Arc<Inode> {
    ROOT.call_once(|| {
        let root = Inode::directory(None, 0o755);
        for (name, kind) in device::all() {
            let dev = root.child_directory(b"dev");
            dev.insert(name, Inode::new(kind, 0o666));
        }
        root.child_directory(b"dev").child_directory(b"shm");
        root.child_directory(b"tmp").set_mode(0o1777);
        root.insert(b"proc", Inode::new(Kind::Proc(proc::Node::Root), 0o555));
        root
    })
    .clone()
}
