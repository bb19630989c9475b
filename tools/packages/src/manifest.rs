//! The list of a tree's files, by which it is noticed that some are gone or cut short.
//!
//! A line is a file's size in bytes, or `-` for a symbolic link, and its path below the tree. Paths
//! are bytes. What a tree holds beyond the list does no harm.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The list's own name.
const NAME: &str = "files";

/// Lists the files below these directories of a tree, in the tree.
pub fn write(tree: &Path, dirs: &[&str]) -> io::Result<()> {
    let mut list = Vec::new();
    for dir in dirs {
        add(tree, Path::new(dir), &mut list)?;
    }
    fs::write(tree.join(NAME), list)
}

fn add(tree: &Path, dir: &Path, list: &mut Vec<u8>) -> io::Result<()> {
    for entry in fs::read_dir(tree.join(dir))? {
        let entry = entry?;
        let path = dir.join(entry.file_name());
        let kind = entry.file_type()?;
        let path_bytes = path.as_os_str().as_bytes();
        if kind.is_dir() {
            add(tree, &path, list)?;
        } else if !path_bytes.contains(&b'\n') {
            match kind.is_symlink() {
                true => write!(list, "- ")?,
                false => write!(list, "{} ", entry.metadata()?.len())?,
            }
            list.extend_from_slice(path_bytes);
            list.push(b'\n');
        }
    }
    Ok(())
}

/// Returns true if a tree has a list, and all that is in it. Looks at each file, and reads none.
pub fn holds(tree: &Path) -> bool {
    let Ok(list) = fs::read(tree.join(NAME)) else { return false };
    // A list that breaks off has no newline at its end.
    let Some(list) = list.strip_suffix(b"\n") else { return false };
    list.split(|&byte| byte == b'\n').all(|line| is_there(tree, line))
}

fn is_there(tree: &Path, line: &[u8]) -> bool {
    let Some(space) = line.iter().position(|&byte| byte == b' ') else { return false };
    let (size, path) = (&line[..space], OsStr::from_bytes(&line[space + 1..]));
    fs::symlink_metadata(tree.join(path)).is_ok_and(|file| match size {
        b"-" => file.is_symlink(),
        size => file.is_file() && size == file.len().to_string().as_bytes(),
    })
}
