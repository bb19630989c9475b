//! Who and where a process is: ids, names, and the machine.

use core::sync::atomic::Ordering::SeqCst;

use kvma::Errno;
use linux_raw_sys::general::*;

use super::{Answer, Caller, Handler, signed};
use crate::user::bytes::Bytes;
use crate::user::errno::{EINVAL, EPERM, ESRCH};
use crate::user::fs::console;
use crate::user::{process, time};

type Result<T = Answer> = core::result::Result<T, Errno>;

pub fn find(number: u32) -> Option<Handler> {
    Some(match number {
        __NR_getpid => |c| Ok(u64::from(c.process().id).into()),
        __NR_gettid => |c| Ok(u64::from(c.thread.id).into()),
        __NR_getppid => |c| Ok(u64::from(c.process().parent.load(SeqCst)).into()),
        // All programs are root's, and stay so.
        __NR_getuid | __NR_geteuid | __NR_getgid | __NR_getegid => |_| Ok(0.into()),
        __NR_setuid | __NR_setgid | __NR_setreuid | __NR_setregid | __NR_setresuid
        | __NR_setresgid | __NR_setgroups => |_| Ok(0.into()),
        __NR_getresuid | __NR_getresgid => |c| {
            for at in [c.args[0], c.args[1], c.args[2]] {
                c.memory.write_u32(at, 0)?;
            }
            Ok(0.into())
        },
        __NR_getgroups => |_| Ok(0.into()),
        #[cfg(target_arch = "x86_64")]
        __NR_getpgrp => |c| Ok(u64::from(c.process().group.load(SeqCst)).into()),
        __NR_getpgid => |c| of(c, |process| process.group.load(SeqCst)),
        __NR_getsid => |c| of(c, |process| process.session.load(SeqCst)),
        __NR_setpgid => setpgid,
        __NR_setsid => |c| {
            let process = c.process();
            if process.group.load(SeqCst) == process.id {
                return Err(EPERM);
            }
            process.group.store(process.id, SeqCst);
            process.session.store(process.id, SeqCst);
            Ok(u64::from(process.id).into())
        },
        __NR_uname => uname,
        __NR_sysinfo => sysinfo,
        __NR_getrusage => |c| {
            c.memory.write(c.args[1], &[0; 144])?;
            Ok(0.into())
        },
        __NR_getrandom => getrandom,
        __NR_prctl => prctl,
        __NR_personality => |_| Ok(0.into()),
        __NR_getpriority => |_| Ok(20.into()),
        __NR_setpriority => |_| Ok(0.into()),
        _ => return None,
    })
}

/// Returns a number of the process that the first argument names.
fn of(caller: &Caller<'_>, number: impl Fn(&process::Process) -> u32) -> Result {
    let process = match caller.args[0] {
        0 => caller.process().clone(),
        id => process::find(id as u32).ok_or(ESRCH)?,
    };
    Ok(u64::from(number(&process)).into())
}

fn setpgid(caller: &mut Caller<'_>) -> Result {
    let [id, group, ..] = caller.args;
    let process = match id {
        0 => caller.process().clone(),
        id => process::find(id as u32).ok_or(ESRCH)?,
    };
    if signed(group) < 0 {
        return Err(EINVAL);
    }
    let group = if group == 0 { process.id } else { group as u32 };
    process.group.store(group, SeqCst);
    Ok(0.into())
}

fn uname(caller: &mut Caller<'_>) -> Result {
    const FIELD: usize = 65;
    let mut bytes = Bytes::new();
    let fields = ["Linux", "kvma", "6.18.0", "#1 kvma test kernel", MACHINE, "(none)"];
    for (place, field) in (1..).zip(fields) {
        bytes = bytes.bytes(field.as_bytes()).up_to(place * FIELD);
    }
    caller.memory.write(caller.args[0], bytes.as_slice())?;
    Ok(0.into())
}

const MACHINE: &str = if cfg!(target_arch = "x86_64") {
    "x86_64"
} else if cfg!(target_arch = "aarch64") {
    "aarch64"
} else if cfg!(target_arch = "loongarch64") {
    "loongarch64"
} else {
    "riscv64"
};

fn sysinfo(caller: &mut Caller<'_>) -> Result {
    let (all, free) = (crate::frames::total() as u64, crate::frames::unused() as u64);
    let bytes = Bytes::new().u64(time::now() / 1_000_000_000).u64(0).u64(0).u64(0);
    let bytes = bytes.u64(all).u64(free).u64(0).u64(0).u64(0).u64(0);
    let bytes = bytes.u16(process::all().len() as u16).u16(0).u32(0).u64(0).u64(0);
    caller.memory.write(caller.args[0], bytes.u32(4096).up_to(112).as_slice())?;
    Ok(0.into())
}

fn getrandom(caller: &mut Caller<'_>) -> Result {
    let [to, len, ..] = caller.args;
    let mut buffer = alloc::vec![0; len.min(4096) as usize];
    console::random(&mut buffer);
    caller.memory.write(to, &buffer)?;
    Ok((buffer.len() as u64).into())
}

fn prctl(caller: &mut Caller<'_>) -> Result {
    const SET_NAME: u64 = 15;
    const GET_NAME: u64 = 16;
    const SET_VMA: u64 = 0x5356_4d41;
    let [option, a, address, len, name, _] = caller.args;
    match option {
        SET_NAME => {
            let mut name = caller.string(a)?;
            name.truncate(15);
            let name = alloc::string::String::from_utf8_lossy(&name).into_owned();
            caller.process().program.lock().name = name;
            Ok(0.into())
        }
        GET_NAME => {
            let name = caller.process().program.lock().name.clone();
            caller.memory.write(a, Bytes::new().bytes(name.as_bytes()).up_to(16).as_slice())?;
            Ok(0.into())
        }
        SET_VMA if a == 0 => {
            use crate::user::object::{MappedFile, Object};
            let name = match name {
                0 => None,
                name => {
                    let name = caller.string(name)?;
                    let name = alloc::string::String::from_utf8_lossy(&name).into_owned();
                    Some(MappedFile(Object::new((0, 0), &name, 0)))
                }
            };
            caller
                .memory
                .call(|mm, call| mm.set_anon_name(address, len, name.as_ref(), call))
                .map(Answer::from)
        }
        _ => Err(EINVAL),
    }
}
