//! Open files: reading, writing, and what a descriptor refers to.

use alloc::sync::Arc;
use alloc::vec::Vec;

use kvma::Errno;
use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::FIONREAD;

use super::{Answer, Caller, Handler};
use crate::user::bytes::{Bytes, u64_at};
use crate::user::errno::{EBADF, EINVAL, ENOTDIR, ENOTTY, EPIPE, ESPIPE};
use crate::user::fs::descriptors::OnExec;
use crate::user::fs::device::Device;
use crate::user::fs::events::{Events, Step};
use crate::user::fs::inode::{Inode, Kind};
use crate::user::fs::open_file::{OpenFile, Opened, Seek};
use crate::user::signals::SIGPIPE;
use crate::user::truncate;

type Result<T = Answer> = core::result::Result<T, Errno>;

pub fn find(number: u32) -> Option<Handler> {
    Some(match number {
        __NR_read => read,
        __NR_write => write,
        __NR_pread64 => pread,
        __NR_pwrite64 => pwrite,
        __NR_readv => readv,
        __NR_writev => writev,
        __NR_lseek => lseek,
        __NR_close => close,
        __NR_close_range => close_range,
        __NR_dup => dup,
        #[cfg(target_arch = "x86_64")]
        __NR_dup2 => dup2,
        __NR_dup3 => dup3,
        #[cfg(target_arch = "x86_64")]
        __NR_pipe => |c| pipe(c, 0),
        __NR_pipe2 => |c| pipe(c, c.args[1]),
        __NR_fcntl => fcntl,
        __NR_ioctl => ioctl,
        __NR_ftruncate => ftruncate,
        __NR_fallocate => fallocate,
        __NR_fsync | __NR_fdatasync | __NR_fadvise64 | __NR_flock => with_file,
        __NR_sync => |_| Ok(0.into()),
        __NR_getdents64 => getdents64,
        __NR_sendfile => sendfile,
        #[cfg(target_arch = "x86_64")]
        __NR_eventfd => |c| eventfd(c, 0),
        __NR_eventfd2 => |c| eventfd(c, c.args[1]),
        _ => return None,
    })
}

/// At most so many bytes are moved by one call.
const MOST: u64 = 1 << 20;

fn on_exec(flags: u64) -> OnExec {
    if flags & u64::from(O_CLOEXEC) != 0 { OnExec::Close } else { OnExec::Keep }
}

impl Caller<'_> {
    /// Reads from a file to a range of the program's memory.
    fn read_to(&self, file: &OpenFile, to: u64, len: u64, at: Option<u64>) -> Result<u64> {
        let mut buffer = alloc::vec![0; len.min(MOST) as usize];
        let len = match at {
            Some(at) => file.read_at(at, &mut buffer),
            None => file.read(&mut buffer),
        }?;
        self.memory.write(to, &buffer[..len])?;
        Ok(len as u64)
    }

    /// Writes a range of the program's memory to a file.
    fn write_from(&self, file: &OpenFile, from: u64, len: u64, at: Option<u64>) -> Result<u64> {
        let bytes = self.memory.read_vec(from, len.min(MOST) as usize)?;
        let written = match at {
            Some(at) => file.write_at(at, &bytes),
            None => file.write(&bytes),
        };
        if written == Err(EPIPE) {
            self.process().send(SIGPIPE);
        }
        Ok(written? as u64)
    }

    /// Calls `move_one` for each range of a vector, until one of them is cut short.
    fn for_each_range(&self, move_one: impl Fn(u64, u64) -> Result<u64>) -> Result {
        let [_, vector, count, ..] = self.args;
        if count > 1024 {
            return Err(EINVAL);
        }
        let ranges = self.memory.read_vec(vector, count as usize * 16)?;
        let mut done = 0;
        for range in ranges.chunks_exact(16) {
            let (at, len) = (u64_at(range, 0), u64_at(range, 8));
            if len == 0 {
                continue;
            }
            match move_one(at, len) {
                Ok(moved) => {
                    done += moved;
                    if moved < len {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done.into())
    }
}

fn read(caller: &mut Caller<'_>) -> Result {
    let [descriptor, to, len, ..] = caller.args;
    let file = caller.file(descriptor)?;
    caller.read_to(&file, to, len, None).map(Answer::from)
}

fn write(caller: &mut Caller<'_>) -> Result {
    let [descriptor, from, len, ..] = caller.args;
    let file = caller.file(descriptor)?;
    caller.write_from(&file, from, len, None).map(Answer::from)
}

/// Returns the file, if it has offsets.
fn with_offsets(caller: &Caller<'_>) -> Result<Arc<OpenFile>> {
    let file = caller.file(caller.args[0])?;
    match file.opened() {
        Opened::Pipe(_) | Opened::Events(_) | Opened::Epoll(_) => Err(ESPIPE),
        Opened::Inode | Opened::Text(_) => Ok(file),
    }
}

fn pread(caller: &mut Caller<'_>) -> Result {
    let [_, to, len, at, ..] = caller.args;
    let file = with_offsets(caller)?;
    caller.read_to(&file, to, len, Some(at)).map(Answer::from)
}

fn pwrite(caller: &mut Caller<'_>) -> Result {
    let [_, from, len, at, ..] = caller.args;
    let file = with_offsets(caller)?;
    caller.write_from(&file, from, len, Some(at)).map(Answer::from)
}

fn readv(caller: &mut Caller<'_>) -> Result {
    let file = caller.file(caller.args[0])?;
    caller.for_each_range(|at, len| caller.read_to(&file, at, len, None))
}

fn writev(caller: &mut Caller<'_>) -> Result {
    let file = caller.file(caller.args[0])?;
    caller.for_each_range(|at, len| caller.write_from(&file, at, len, None))
}

fn lseek(caller: &mut Caller<'_>) -> Result {
    let [descriptor, offset, whence, ..] = caller.args;
    let file = caller.file(descriptor)?;
    let seek = match whence as u32 {
        SEEK_SET => Seek::Start(offset),
        SEEK_CUR => Seek::Current(offset.cast_signed()),
        SEEK_END => Seek::End(offset.cast_signed()),
        _ => return Err(EINVAL),
    };
    file.seek(seek).map(Answer::from)
}

fn close(caller: &mut Caller<'_>) -> Result {
    // Not under the lock: the last one that closes an end of a pipe wakes others.
    let file = caller.process().descriptors.lock().remove(caller.args[0])?;
    drop(file);
    Ok(0.into())
}

fn close_range(caller: &mut Caller<'_>) -> Result {
    let [first, last, flags, ..] = caller.args;
    let numbers = caller.process().descriptors.lock().numbers();
    for number in numbers.into_iter().filter(|number| (first..=last).contains(number)) {
        let mut descriptors = caller.process().descriptors.lock();
        const CLOEXEC: u64 = 1 << 2;
        if flags & CLOEXEC != 0 {
            descriptors.set_on_exec(number, OnExec::Close)?;
            continue;
        }
        let file = descriptors.remove(number);
        drop(descriptors);
        drop(file);
    }
    Ok(0.into())
}

fn dup(caller: &mut Caller<'_>) -> Result {
    let file = caller.file(caller.args[0])?;
    caller.process().descriptors.lock().add(file, OnExec::Keep, 0).map(Answer::from)
}

fn dup_to(caller: &Caller<'_>, old: u64, new: u64, on_exec: OnExec) -> Result {
    let file = caller.file(old)?;
    let replaced = caller.process().descriptors.lock().replace(new, file, on_exec)?;
    drop(replaced);
    Ok(new.into())
}

#[cfg(target_arch = "x86_64")]
fn dup2(caller: &mut Caller<'_>) -> Result {
    let [old, new, ..] = caller.args;
    if old == new {
        return caller.file(old).map(|_| new.into());
    }
    dup_to(caller, old, new, OnExec::Keep)
}

fn dup3(caller: &mut Caller<'_>) -> Result {
    let [old, new, flags, ..] = caller.args;
    if old == new {
        return Err(EINVAL);
    }
    dup_to(caller, old, new, on_exec(flags))
}

fn pipe(caller: &mut Caller<'_>, flags: u64) -> Result {
    let to = caller.args[0];
    let ends = OpenFile::pipe(flags as u32 & O_NONBLOCK);
    let mut numbers = Bytes::new();
    for end in ends {
        let number = caller.process().descriptors.lock().add(end, on_exec(flags), 0)?;
        numbers = numbers.u32(number as u32);
    }
    caller.memory.write(to, numbers.as_slice())?;
    Ok(0.into())
}

fn eventfd(caller: &mut Caller<'_>, flags: u64) -> Result {
    let step = if flags as u32 & EFD_SEMAPHORE != 0 { Step::One } else { Step::All };
    let events = Opened::Events(Events::new(u64::from(caller.args[0] as u32), step));
    let inode = Inode::new(Kind::Device(Device::Null), 0o600);
    let file = OpenFile::new(inode, events, O_RDWR | flags as u32 & O_NONBLOCK);
    caller.process().descriptors.lock().add(file, on_exec(flags), 0).map(Answer::from)
}

fn fcntl(caller: &mut Caller<'_>) -> Result {
    let [descriptor, command, argument, ..] = caller.args;
    let file = caller.file(descriptor)?;
    let mut descriptors = caller.process().descriptors.lock();
    let close = |yes| if yes { OnExec::Close } else { OnExec::Keep };
    let answer = match command as u32 {
        F_DUPFD => descriptors.add(file, OnExec::Keep, argument)?,
        F_DUPFD_CLOEXEC => descriptors.add(file, OnExec::Close, argument)?,
        F_GETFD => u64::from(descriptors.on_exec(descriptor)? == OnExec::Close),
        F_SETFD => {
            descriptors.set_on_exec(descriptor, close(argument & u64::from(FD_CLOEXEC) != 0))?;
            0
        }
        F_GETFL => u64::from(file.flags()),
        F_SETFL => {
            file.set_flags(argument as u32);
            0
        }
        // Nobody else has locks.
        F_SETLK | F_SETLKW => 0,
        _ => return Err(EINVAL),
    };
    Ok(answer.into())
}

fn ioctl(caller: &mut Caller<'_>) -> Result {
    let [descriptor, request, to, ..] = caller.args;
    let file = caller.file(descriptor)?;
    match request as u32 {
        FIONREAD => {
            let left = file.inode.object().map_or(0, |object| object.len());
            caller.memory.write_u32(to, left as u32)?;
            Ok(0.into())
        }
        // Programs take the console for a file, and print as into one.
        _ => Err(ENOTTY),
    }
}

fn ftruncate(caller: &mut Caller<'_>) -> Result {
    let [descriptor, len, ..] = caller.args;
    let file = caller.file(descriptor)?;
    let object = file.inode.object().filter(|_| file.is_writable()).ok_or(EINVAL)?;
    if len > i64::MAX as u64 {
        return Err(EINVAL);
    }
    truncate::set_len(object, len);
    file.inode.touch();
    Ok(0.into())
}

fn fallocate(caller: &mut Caller<'_>) -> Result {
    let [descriptor, mode, offset, len, ..] = caller.args;
    let file = caller.file(descriptor)?;
    let object = file.inode.object().filter(|_| file.is_writable()).ok_or(EBADF)?;
    let end = offset.checked_add(len).filter(|&end| len > 0 && end <= i64::MAX as u64);
    let end = end.ok_or(EINVAL)?;
    if mode as u32 & FALLOC_FL_PUNCH_HOLE != 0 {
        truncate::punch(object, offset, len);
    } else if mode as u32 & FALLOC_FL_KEEP_SIZE == 0 && end > object.len() {
        truncate::set_len(object, end);
    }
    Ok(0.into())
}

/// Files need no syncing, advice or locks.
fn with_file(caller: &mut Caller<'_>) -> Result {
    caller.file(caller.args[0]).map(|_| 0.into())
}

fn getdents64(caller: &mut Caller<'_>) -> Result {
    let [descriptor, to, len, ..] = caller.args;
    let file = caller.file(descriptor)?;
    let directory = &file.inode;
    if !directory.is_directory() {
        return Err(ENOTDIR);
    }
    let mut entries: Vec<(Vec<u8>, Arc<Inode>)> =
        Vec::from([(b".".to_vec(), directory.clone()), (b"..".to_vec(), directory.parent())]);
    entries.extend(directory.children());
    // The offset of a directory counts entries.
    let first = file.seek(Seek::Current(0))?;
    let mut bytes = Vec::new();
    let mut next = first;
    for (name, inode) in entries.into_iter().skip(first as usize) {
        // Number, offset, length and kind before the name, and a zero after it.
        let entry_len = (8 + 8 + 2 + 1 + name.len() + 1).next_multiple_of(8);
        if (bytes.len() + entry_len) as u64 > len {
            if next == first {
                return Err(EINVAL);
            }
            break;
        }
        next += 1;
        let entry = Bytes::new().u64(inode.number).u64(next).u16(entry_len as u16);
        let entry = entry.u8(inode.directory_type()).bytes(&name).up_to(entry_len);
        bytes.extend(entry.into_vec());
    }
    caller.memory.write(to, &bytes)?;
    file.seek(Seek::Start(next))?;
    Ok((bytes.len() as u64).into())
}

fn sendfile(caller: &mut Caller<'_>) -> Result {
    let [out, from, offset, len, ..] = caller.args;
    let (out, from) = (caller.file(out)?, caller.file(from)?);
    let mut buffer = alloc::vec![0; len.min(MOST) as usize];
    let moved = if offset == 0 {
        from.read(&mut buffer)?
    } else {
        let at = caller.memory.read_u64(offset)?;
        let moved = from.read_at(at, &mut buffer)?;
        caller.memory.write_u64(offset, at + moved as u64)?;
        moved
    };
    Ok((out.write(&buffer[..moved])? as u64).into())
}
