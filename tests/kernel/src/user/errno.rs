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
