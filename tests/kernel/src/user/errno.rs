//! Error numbers that system calls return, beside those that kvma has names for.

use kvma::Errno;
use linux_raw_sys::errno as raw;

macro_rules! errnos {
    ($($name:ident)*) => { $(pub const $name: Errno = Errno(raw::$name as i32);)* };
}

errnos! {
    E2BIG EACCES EAGAIN EBADF ECHILD EEXIST EFAULT EFBIG EINTR EINVAL EISDIR ELOOP EMFILE
    ENAMETOOLONG ENOENT ENOEXEC ENOMEM ENOSYS ENOTDIR ENOTEMPTY ENOTTY EPERM
    EPIPE ERANGE ESPIPE ESRCH ETIMEDOUT EXDEV
}

/// A signal has interrupted the call. Programs never see this number: they get `EINTR`, or
/// the call is made again, also after a handler with `SA_RESTART`.
pub const ERESTARTSYS: Errno = Errno(512);

/// A signal has interrupted the call, which is made again only if no handler has run: it waits for
/// a signal, for a time, or for several files (signal(7)).
pub const ERESTARTNOHAND: Errno = Errno(514);

/// Turns [`ERESTARTSYS`] into [`ERESTARTNOHAND`].
pub fn unless_handled(errno: Errno) -> Errno {
    if errno == ERESTARTSYS { ERESTARTNOHAND } else { errno }
}
