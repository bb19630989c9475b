//! Unpacks the archive that the machine is started with: cpio's newc format, as in Linux'
//! initramfs.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::inode::{Inode, Kind};
use super::path::{self, Follow};

/// The bits of a mode that say what a file is, and two of their values.
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// The file with the arguments of the first program, which does not appear in the file system. The
/// first one is its path.
const ARGUMENTS: &str = ".arguments";

/// Puts all files of the archive into the file system. Returns the arguments of the first program.
///
/// # Panics
///
/// If there is not enough memory.
pub fn unpack(archive: &[u8]) -> Vec<Vec<u8>> {
    let mut arguments = Vec::new();
    for entry in cpio_reader::iter_files(archive) {
        let (name, mode) = (entry.name(), entry.mode().bits());
        if name == ARGUMENTS {
            arguments = entry.file().split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
            continue;
        }
        let mut names: Vec<&[u8]> =
            name.as_bytes().split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let Some(last) = names.pop() else { continue };
        let directory = names.into_iter().fold(super::root(), directory);
        match mode & TYPE {
            DIRECTORY => self::directory(directory, last).set_mode(mode),
            LINK => {
                let link = Inode::new(Kind::Link(entry.file().to_vec()), 0o777);
                directory.insert(last, link);
            }
            _ => {
                directory.insert(last, file(&directory.path_of(last), mode, entry.file()));
            }
        }
    }
    arguments
}

/// Returns the directory of this name in another one. It may be a link to a directory.
fn directory(inside: Arc<Inode>, name: &[u8]) -> Arc<Inode> {
    match path::find(&inside, name, Follow::Yes) {
        Ok(there) if there.is_directory() => there,
        _ => inside.child_directory(name),
    }
}

fn file(path: &[u8], mode: u32, contents: &[u8]) -> Arc<Inode> {
    let inode = Inode::file(path, mode & 0o7777);
    let written = inode.object().map(|object| object.write(0, contents));
    assert!(matches!(written, Some(Ok(_))), "no memory for the archive");
    inode
}
