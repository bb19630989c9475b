//! Files by name, and what is known of them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use kvma::Errno;
use linux_raw_sys::general::*;

use super::{Answer, Caller, Handler};
use crate::user::bytes::{Bytes, u64_at};
use crate::user::errno::{
    EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, ERANGE, EXDEV,
};
use crate::user::fs::descriptors::OnExec;
use crate::user::fs::inode::{Inode, Kind};
use crate::user::fs::open_file::OpenFile;
use crate::user::fs::path::{self, Follow, Place};
use crate::user::fs::pipe::Pipe;
use crate::user::{time, truncate};

type Result<T = Answer> = core::result::Result<T, Errno>;

/// `AT_FDCWD`, as programs pass it to calls that have no other directory.
const HERE: u64 = AT_FDCWD as u32 as u64;

pub fn find(number: u32) -> Option<Handler> {
    Some(match number {
        #[cfg(target_arch = "x86_64")]
        __NR_open => |c| open(c, HERE, c.args[0], c.args[1], c.args[2]),
        #[cfg(target_arch = "x86_64")]
        __NR_creat => {
            |c| open(c, HERE, c.args[0], u64::from(O_CREAT | O_WRONLY | O_TRUNC), c.args[1])
        }
        __NR_openat => |c| open(c, c.args[0], c.args[1], c.args[2], c.args[3]),
        #[cfg(target_arch = "x86_64")]
        __NR_stat => |c| stat_path(c, HERE, c.args[0], c.args[1], Follow::Yes),
        #[cfg(target_arch = "x86_64")]
        __NR_lstat => |c| stat_path(c, HERE, c.args[0], c.args[1], Follow::No),
        __NR_fstat => fstat,
        __NR_newfstatat => newfstatat,
        __NR_statx => statx,
        __NR_statfs | __NR_fstatfs => statfs,
        #[cfg(target_arch = "x86_64")]
        __NR_access => |c| access(c, HERE, c.args[0], c.args[1]),
        __NR_faccessat | __NR_faccessat2 => |c| access(c, c.args[0], c.args[1], c.args[2]),
        #[cfg(target_arch = "x86_64")]
        __NR_mkdir => |c| mkdir(c, HERE, c.args[0], c.args[1]),
        __NR_mkdirat => |c| mkdir(c, c.args[0], c.args[1], c.args[2]),
        #[cfg(target_arch = "x86_64")]
        __NR_mknod => |c| mknod(c, HERE, c.args[0], c.args[1]),
        __NR_mknodat => |c| mknod(c, c.args[0], c.args[1], c.args[2]),
        #[cfg(target_arch = "x86_64")]
        __NR_rmdir => |c| unlink(c, HERE, c.args[0], What::Directory),
        #[cfg(target_arch = "x86_64")]
        __NR_unlink => |c| unlink(c, HERE, c.args[0], What::File),
        __NR_unlinkat => |c| {
            let directory = c.args[2] & u64::from(AT_REMOVEDIR) != 0;
            unlink(c, c.args[0], c.args[1], if directory { What::Directory } else { What::File })
        },
        #[cfg(target_arch = "x86_64")]
        __NR_rename => |c| rename(c, (HERE, c.args[0]), (HERE, c.args[1]), 0),
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        __NR_renameat => |c| rename(c, (c.args[0], c.args[1]), (c.args[2], c.args[3]), 0),
        __NR_renameat2 => |c| rename(c, (c.args[0], c.args[1]), (c.args[2], c.args[3]), c.args[4]),
        #[cfg(target_arch = "x86_64")]
        __NR_link => |c| link(c, (HERE, c.args[0]), (HERE, c.args[1])),
        __NR_linkat => |c| link(c, (c.args[0], c.args[1]), (c.args[2], c.args[3])),
        #[cfg(target_arch = "x86_64")]
        __NR_symlink => |c| symlink(c, c.args[0], HERE, c.args[1]),
        __NR_symlinkat => |c| symlink(c, c.args[0], c.args[1], c.args[2]),
        #[cfg(target_arch = "x86_64")]
        __NR_readlink => |c| readlink(c, HERE, c.args[0], c.args[1], c.args[2]),
        __NR_readlinkat => |c| readlink(c, c.args[0], c.args[1], c.args[2], c.args[3]),
        #[cfg(target_arch = "x86_64")]
        __NR_chmod => |c| chmod(c, HERE, c.args[0], c.args[1]),
        __NR_fchmodat => |c| chmod(c, c.args[0], c.args[1], c.args[2]),
        __NR_fchmod => fchmod,
        #[cfg(target_arch = "x86_64")]
        __NR_chown => |c| chown(c, HERE, c.args[0], c.args[1], c.args[2], Follow::Yes),
        #[cfg(target_arch = "x86_64")]
        __NR_lchown => |c| chown(c, HERE, c.args[0], c.args[1], c.args[2], Follow::No),
        __NR_fchownat => |c| {
            let follow = follow(c.args[4]);
            chown(c, c.args[0], c.args[1], c.args[2], c.args[3], follow)
        },
        __NR_fchown => fchown,
        __NR_utimensat => utimensat,
        __NR_truncate => truncate_path,
        __NR_getcwd => getcwd,
        __NR_chdir => chdir,
        __NR_fchdir => fchdir,
        __NR_umask => umask,
        _ => return None,
    })
}

fn follow(flags: u64) -> Follow {
    if flags & u64::from(AT_SYMLINK_NOFOLLOW) != 0 { Follow::No } else { Follow::Yes }
}

impl Caller<'_> {
    /// Returns the directory where a relative path begins.
    fn base(&self, descriptor: u64, path: &[u8]) -> Result<Arc<Inode>> {
        if path.starts_with(b"/") || descriptor as u32 == AT_FDCWD as u32 {
            return Ok(self.process().directory.lock().clone());
        }
        Ok(self.file(descriptor)?.inode.clone())
    }

    /// Finds what a path leads to. With an empty path and `AT_EMPTY_PATH`, the descriptor's.
    fn find(&self, descriptor: u64, path: u64, flags: u64, follow: Follow) -> Result<Arc<Inode>> {
        let path = if path == 0 { Vec::new() } else { self.string(path)? };
        if path.is_empty() && flags & u64::from(AT_EMPTY_PATH) != 0 {
            return self.base(descriptor, b"");
        }
        path::find(&self.base(descriptor, &path)?, &path, follow)
    }

    /// Finds the place of a path, where something is to be made or removed.
    fn place(&self, descriptor: u64, path: u64) -> Result<Place> {
        let path = self.string(path)?;
        path::place(&self.base(descriptor, &path)?, &path, Follow::No)
    }

    fn mode(&self, mode: u64) -> u32 {
        mode as u32 & 0o7777 & !self.process().umask.load(Relaxed)
    }
}

fn open(caller: &mut Caller<'_>, base: u64, path: u64, flags: u64, mode: u64) -> Result {
    let (path, flags) = (caller.string(path)?, flags as u32);
    let has = |flag| flags & flag != 0;
    let base = caller.base(base, &path)?;
    let exclusive = has(O_CREAT) && has(O_EXCL);
    let follow = if has(O_NOFOLLOW) || exclusive { Follow::No } else { Follow::Yes };
    let place = path::place(&base, &path, follow)?;
    let inode = match place.inode {
        Some(_) if exclusive => return Err(EEXIST),
        Some(inode) => {
            if path::link(&inode).is_some() && follow == Follow::No && !has(O_PATH) {
                return Err(crate::user::errno::ELOOP);
            }
            inode
        }
        None if !has(O_CREAT) => return Err(ENOENT),
        None if place.ends_in_slash => return Err(EISDIR),
        None => {
            if !matches!(place.directory.kind, Kind::Directory(_)) {
                return Err(EPERM);
            }
            let full = place.directory.path_of(&place.name);
            let inode = Inode::file(&full, caller.mode(mode));
            place.directory.insert(&place.name, inode.clone());
            inode
        }
    };
    let writes = flags & O_ACCMODE != O_RDONLY;
    if inode.is_directory() {
        if writes || has(O_CREAT) {
            return Err(EISDIR);
        }
    } else if has(O_DIRECTORY) || place.ends_in_slash {
        return Err(ENOTDIR);
    }
    if has(O_TRUNC)
        && writes
        && let Some(object) = inode.object()
    {
        truncate::set_len(object, 0);
        inode.touch();
    }
    let on_exec = if has(O_CLOEXEC) { OnExec::Close } else { OnExec::Keep };
    let kept = flags & !(O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC | O_NOCTTY);
    let file = OpenFile::open(inode, kept);
    caller.process().descriptors.lock().add(file, on_exec, 0).map(Answer::from)
}

#[cfg(target_arch = "x86_64")]
fn stat_path(c: &mut Caller<'_>, base: u64, path: u64, to: u64, follow: Follow) -> Result {
    let inode = c.find(base, path, 0, follow)?;
    c.memory.write(to, inode.stat().as_slice())?;
    Ok(0.into())
}

fn fstat(caller: &mut Caller<'_>) -> Result {
    let [descriptor, to, ..] = caller.args;
    let file = caller.file(descriptor)?;
    caller.memory.write(to, file.inode.stat().as_slice())?;
    Ok(0.into())
}

fn newfstatat(caller: &mut Caller<'_>) -> Result {
    let [base, path, to, flags, ..] = caller.args;
    let inode = caller.find(base, path, flags, follow(flags))?;
    caller.memory.write(to, inode.stat().as_slice())?;
    Ok(0.into())
}

fn statx(caller: &mut Caller<'_>) -> Result {
    let [base, path, flags, _, to, _] = caller.args;
    let inode = caller.find(base, path, flags, follow(flags))?;
    caller.memory.write(to, inode.statx().as_slice())?;
    Ok(0.into())
}

/// Writes `struct statfs` of a file system in memory.
fn statfs(caller: &mut Caller<'_>) -> Result {
    let to = caller.args[1];
    let (all, free) = (crate::frames::total() as u64, crate::frames::unused() as u64);
    let bytes = Bytes::new().u64(u64::from(TMPFS_MAGIC)).u64(4096).u64(all).u64(free).u64(free);
    let bytes = bytes.u64(1 << 20).u64(1 << 19).u64(0).u64(255).u64(4096).up_to(120);
    caller.memory.write(to, bytes.as_slice())?;
    Ok(0.into())
}

fn access(caller: &mut Caller<'_>, base: u64, path: u64, mode: u64) -> Result {
    let inode = caller.find(base, path, 0, Follow::Yes)?;
    // Root may do everything but execute what nobody may execute.
    let executes = mode & u64::from(X_OK) != 0;
    if executes && !inode.is_directory() && inode.mode() & 0o111 == 0 {
        return Err(crate::user::errno::EACCES);
    }
    Ok(0.into())
}

/// Puts something new at a place.
fn make(place: &Place, inode: Arc<Inode>) -> Result {
    if place.inode.is_some() {
        return Err(EEXIST);
    }
    if !matches!(place.directory.kind, Kind::Directory(_)) {
        return Err(EPERM);
    }
    place.directory.insert(&place.name, inode);
    Ok(0.into())
}

fn mkdir(caller: &mut Caller<'_>, base: u64, path: u64, mode: u64) -> Result {
    let place = caller.place(base, path)?;
    make(&place, Inode::directory(Some(&place.directory), caller.mode(mode)))
}

fn mknod(caller: &mut Caller<'_>, base: u64, path: u64, mode: u64) -> Result {
    let place = caller.place(base, path)?;
    match mode as u32 & S_IFMT {
        S_IFIFO => make(&place, Inode::new(Kind::Fifo(Pipe::new()), caller.mode(mode))),
        0 | S_IFREG => {
            let full = place.directory.path_of(&place.name);
            make(&place, Inode::file(&full, caller.mode(mode)))
        }
        _ => Err(EPERM),
    }
}

/// The kind of file that unlinkat(2) removes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    File,
    Directory,
}

fn unlink(caller: &mut Caller<'_>, base: u64, path: u64, what: What) -> Result {
    let place = caller.place(base, path)?;
    let inode = place.inode.as_ref().ok_or(ENOENT)?;
    match what {
        _ if place.name.is_empty() => return Err(EINVAL),
        What::File if inode.is_directory() => return Err(EISDIR),
        What::Directory if !inode.is_directory() => return Err(ENOTDIR),
        What::Directory if !inode.is_empty_directory() => return Err(ENOTEMPTY),
        What::File | What::Directory => {}
    }
    place.directory.remove(&place.name).ok_or(EPERM)?;
    Ok(0.into())
}

fn rename(caller: &mut Caller<'_>, from: (u64, u64), to: (u64, u64), flags: u64) -> Result {
    let (from, to) = (caller.place(from.0, from.1)?, caller.place(to.0, to.1)?);
    let inode = from.inode.clone().ok_or(ENOENT)?;
    if let Some(old) = &to.inode {
        if Arc::ptr_eq(old, &inode) {
            return Ok(0.into());
        }
        match (inode.is_directory(), old.is_directory()) {
            _ if flags & u64::from(RENAME_NOREPLACE) != 0 => return Err(EEXIST),
            (true, true) if !old.is_empty_directory() => return Err(ENOTEMPTY),
            (true, false) => return Err(ENOTDIR),
            (false, true) => return Err(EISDIR),
            _ => {}
        }
    }
    let mut above = to.directory.clone();
    while !Arc::ptr_eq(&above, &above.parent()) {
        if Arc::ptr_eq(&above, &inode) {
            return Err(EINVAL);
        }
        above = above.parent();
    }
    if !matches!(to.directory.kind, Kind::Directory(_)) {
        return Err(EXDEV);
    }
    from.directory.remove(&from.name).ok_or(EPERM)?;
    if let Some(object) = inode.object() {
        let path = to.directory.path_of(&to.name);
        object.rename(&alloc::string::String::from_utf8_lossy(&path));
    }
    to.directory.insert(&to.name, inode);
    Ok(0.into())
}

fn link(caller: &mut Caller<'_>, from: (u64, u64), to: (u64, u64)) -> Result {
    let inode = caller.find(from.0, from.1, 0, Follow::No)?;
    if inode.is_directory() {
        return Err(EPERM);
    }
    make(&caller.place(to.0, to.1)?, inode)
}

fn symlink(caller: &mut Caller<'_>, target: u64, base: u64, path: u64) -> Result {
    let target = caller.string(target)?;
    make(&caller.place(base, path)?, Inode::new(Kind::Link(target), 0o777))
}

fn readlink(caller: &mut Caller<'_>, base: u64, path: u64, to: u64, len: u64) -> Result {
    let inode = caller.find(base, path, 0, Follow::No)?;
    let target = path::link(&inode).ok_or(EINVAL)?;
    let len = target.len().min(usize::try_from(len).unwrap_or(usize::MAX));
    caller.memory.write(to, &target[..len])?;
    Ok((len as u64).into())
}

fn chmod(caller: &mut Caller<'_>, base: u64, path: u64, mode: u64) -> Result {
    caller.find(base, path, 0, Follow::Yes)?.set_mode(mode as u32);
    Ok(0.into())
}

fn fchmod(caller: &mut Caller<'_>) -> Result {
    let [descriptor, mode, ..] = caller.args;
    caller.file(descriptor)?.inode.set_mode(mode as u32);
    Ok(0.into())
}

fn set_owner(inode: &Inode, owner: u64, group: u64) {
    for (id, place) in [(owner, &inode.owner), (group, &inode.group)] {
        if id as u32 != u32::MAX {
            place.store(id as u32, Relaxed);
        }
    }
}

fn chown(c: &mut Caller<'_>, base: u64, path: u64, owner: u64, group: u64, f: Follow) -> Result {
    set_owner(&*c.find(base, path, 0, f)?, owner, group);
    Ok(0.into())
}

fn fchown(caller: &mut Caller<'_>) -> Result {
    let [descriptor, owner, group, ..] = caller.args;
    set_owner(&caller.file(descriptor)?.inode, owner, group);
    Ok(0.into())
}

fn utimensat(caller: &mut Caller<'_>) -> Result {
    let [base, path, times, flags, ..] = caller.args;
    let flags = if path == 0 { u64::from(AT_EMPTY_PATH) } else { flags };
    let inode = caller.find(base, path, flags, follow(flags))?;
    let mut modified = time::time_of_day();
    if times != 0 {
        let times = caller.memory.read_vec(times, 32)?;
        match u64_at(&times, 24) {
            nanoseconds if nanoseconds == u64::from(UTIME_OMIT) => return Ok(0.into()),
            nanoseconds if nanoseconds == u64::from(UTIME_NOW) => {}
            nanoseconds => {
                let seconds = u64_at(&times, 16).saturating_mul(1_000_000_000);
                modified = seconds.saturating_add(nanoseconds);
            }
        }
    }
    inode.modified.store(modified, Relaxed);
    Ok(0.into())
}

fn truncate_path(caller: &mut Caller<'_>) -> Result {
    let [path, len, ..] = caller.args;
    let inode = caller.find(HERE, path, 0, Follow::Yes)?;
    let object = inode.object().ok_or(if inode.is_directory() { EISDIR } else { EINVAL })?;
    if len > i64::MAX as u64 {
        return Err(EINVAL);
    }
    truncate::set_len(object, len);
    inode.touch();
    Ok(0.into())
}

fn getcwd(caller: &mut Caller<'_>) -> Result {
    let [to, len, ..] = caller.args;
    let mut path = caller.process().directory.lock().path();
    path.push(0);
    if path.len() as u64 > len {
        return Err(ERANGE);
    }
    caller.memory.write(to, &path)?;
    Ok((path.len() as u64).into())
}

fn chdir(caller: &mut Caller<'_>) -> Result {
    let inode = caller.find(HERE, caller.args[0], 0, Follow::Yes)?;
    if !inode.is_directory() {
        return Err(ENOTDIR);
    }
    *caller.process().directory.lock() = inode;
    Ok(0.into())
}

fn fchdir(caller: &mut Caller<'_>) -> Result {
    let inode = caller.file(caller.args[0])?.inode.clone();
    if !inode.is_directory() {
        return Err(ENOTDIR);
    }
    *caller.process().directory.lock() = inode;
    Ok(0.into())
}

fn umask(caller: &mut Caller<'_>) -> Result {
    let mask = caller.args[0] as u32 & 0o777;
    Ok(u64::from(caller.process().umask.swap(mask, Relaxed)).into())
}
