//! How a path leads to an inode.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use kvma::Errno;

use super::inode::{Inode, Kind};
use crate::user::errno::{ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR};

/// The choice to follow a symbolic link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    Yes,
    No,
}

/// The limit of Linux (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 4096;

/// A directory, a name in it, and what has this name.
pub struct Place {
    pub directory: Arc<Inode>,
    /// Empty if the path is that of the root, or ends in `.` or `..`.
    pub name: Vec<u8>,
    pub inode: Option<Arc<Inode>>,
    /// The path ends in a slash, so that only a directory will do.
    pub ends_in_slash: bool,
}

/// Finds what a path leads to.
///
/// # Errors
///
/// Those of [`place`], and `ENOENT`.
pub fn find(base: &Arc<Inode>, path: &[u8], follow: Follow) -> Result<Arc<Inode>, Errno> {
    let place = place(base, path, follow)?;
    let inode = place.inode.ok_or(ENOENT)?;
    if place.ends_in_slash && !inode.is_directory() {
        return Err(ENOTDIR);
    }
    Ok(inode)
}

/// Finds the place of a path, at which there may be nothing yet.
///
/// # Errors
///
/// `ENOENT`, `ENOTDIR`, `ELOOP`, `ENAMETOOLONG`.
pub fn place(base: &Arc<Inode>, path: &[u8], follow: Follow) -> Result<Place, Errno> {
    if path.is_empty() {
        return Err(ENOENT);
    }
    if path.len() >= LONGEST_PATH {
        return Err(ENAMETOOLONG);
    }
    let ends_in_slash = path.ends_with(b"/");
    let mut directory = if path.starts_with(b"/") { super::root() } else { base.clone() };
    let mut names: VecDeque<Vec<u8>> = split(path).collect();
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if !directory.is_directory() {
            return Err(ENOTDIR);
        }
        if name.len() > LONGEST_NAME {
            return Err(ENAMETOOLONG);
        }
        let last = names.is_empty();
        let next = match &*name {
            b".." => directory.parent(),
            _ => match directory.child(&name) {
                Some(child) => child,
                None if last => {
                    return Ok(Place { directory, name, inode: None, ends_in_slash });
                }
                None => return Err(ENOENT),
            },
        };
        if let Some(target) = link(&next)
            && (!last || follow == Follow::Yes || ends_in_slash)
        {
            links += 1;
            if links > MOST_LINKS {
                return Err(ELOOP);
            }
            if target.starts_with(b"/") {
                directory = super::root();
            }
            for name in split(&target).collect::<Vec<_>>().into_iter().rev() {
                names.push_front(name);
            }
            continue;
        }
        if last {
            let name = if name == b".." { Vec::new() } else { name };
            return Ok(Place { directory, name, inode: Some(next), ends_in_slash });
        }
        directory = next;
    }
    Ok(Place { inode: Some(directory.clone()), directory, name: Vec::new(), ends_in_slash })
}

/// Returns the target of a symbolic link.
pub fn link(inode: &Inode) -> Option<Vec<u8>> {
    match &inode.kind {
        Kind::Link(target) => Some(target.clone()),
        Kind::Proc(node) => node.link(),
        _ => None,
    }
}

/// Splits a path into names, without those that lead nowhere.
fn split(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
}
