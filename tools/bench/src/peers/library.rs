//! Shared libraries that the environment names.

use std::env;
use std::ffi::{CStr, CString, c_void};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

/// A library of C. It stays open for as long as the program runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Library(NonNull<c_void>);

impl Library {
    /// Opens a library. `None` without one.
    ///
    /// # Panics
    ///
    /// If there is a file, and it is no library.
    pub(super) fn open(path: &Path) -> Option<Self> {
        if !path.exists() {
            return None;
        }
        let name = CString::new(path.to_str()?).ok()?;
        // SAFETY: the name ends with a NUL. What the library does when it is opened is what its
        // owner wants who named it.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        Some(Self(NonNull::new(handle).unwrap_or_else(|| panic!("{path:?} is no library"))))
    }

    /// Returns a function.
    ///
    /// # Safety
    ///
    /// `F` is the type of the pointer to the function of this name.
    ///
    /// # Panics
    ///
    /// If there is no such function.
    pub(super) unsafe fn function<F: Copy>(self, name: &CStr) -> F {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: an open library, and a name that ends with a NUL.
        let symbol = unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) };
        assert!(!symbol.is_null(), "the library has no {name:?}");
        // SAFETY: a pointer to a function of this type, by the contract of this method.
        unsafe { std::mem::transmute_copy(&symbol) }
    }
}

/// Returns libkvma, which `KVMA_LIBKVMA` names.
pub(super) fn libkvma() -> Option<PathBuf> {
    env::var_os("KVMA_LIBKVMA").map(PathBuf::from)
}

/// Returns a generation of libmmap, from the folder that `KVMA_LIBMMAP` names.
pub(super) fn libmmap(file: &str) -> Option<PathBuf> {
    env::var_os("KVMA_LIBMMAP").map(|folder| Path::new(&folder).join(file))
}
