//! Programs from Debian packages, without installing anything.
//!
//! [`unpacked`] brings packages with all that they need: apt downloads them into a state and a
//! cache of our own, and they are unpacked into a [`Tree`], from which programs run with the tree's
//! own loader and libraries. It reads the system's package sources and keys, but neither reads nor
//! changes what is installed, needs no root, and writes only below the directory that it is given.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tree = kvma_packages::unpacked("target/packages".as_ref(), &["hello"])?;
//! let hello = tree.program("hello").ok_or("no such program")?;
//! std::process::Command::new(hello).status()?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod apt;
mod elf;
mod manifest;
pub mod progress;
mod tree;

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, error, fmt};

use crate::apt::{Apt, Deb, Source};
use crate::progress::{Amount, Step};
use crate::tree::Checked;
pub use crate::tree::Tree;

/// Set to 1, this environment variable forbids to download packages. Trees that are there serve.
pub const SKIP_DOWNLOADS: &str = "KVMA_SKIP_DOWNLOADS";

/// The programs of apt and dpkg that this crate calls. Every Debian system has them.
const TOOLS: [&str; 4] = ["apt-get", "dpkg", "dpkg-deb", "tar"];

/// Why there are no packages.
#[derive(Debug)]
pub enum Error {
    /// This program, which Debian's systems have, is not on PATH.
    NoApt(&'static str),
    /// The environment says [`SKIP_DOWNLOADS`].
    Forbidden,
    /// Something that was tried has failed.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoApt(tool) => write!(f, "there is no {tool} on PATH to bring packages"),
            Self::Forbidden => write!(f, "{SKIP_DOWNLOADS}=1 forbids to download packages"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl error::Error for Error {}

impl From<String> for Error {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Returns the path of an executable file of this name in a directory of PATH.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let is_executable = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(&path).map(|dir| dir.join(program)).find(is_executable)
}

/// Returns true if the environment forbids to download packages, by [`SKIP_DOWNLOADS`].
pub fn downloads_are_forbidden() -> bool {
    env::var_os(SKIP_DOWNLOADS).is_some_and(|value| value == "1")
}

/// Returns the tree of these packages if an earlier call of [`unpacked`] has left it in `dir`, and
/// nothing of it is missing or cut short.
pub fn existing(dir: &Path, packages: &[&str]) -> Option<Tree> {
    Tree::open(&dir.join(tree_name(packages)), packages)
}

/// Brings these packages, with all that they depend on, into a tree below `dir`.
///
/// A tree that is there already is returned as it is, at once and without a lock. Otherwise this
/// takes the lock of `dir`, so that several processes may ask at the same time; downloads; and
/// unpacks to another name, which it renames when the tree is complete. What an interrupted call
/// leaves is downloaded further or removed by the next one.
///
/// A tree that is damaged is unpacked anew. One that was not compared with the package lists for a
/// week is compared, and brought anew if a package has another version by now; if that fails, it
/// stays as it is.
///
/// # Errors
///
/// [`Error::NoApt`] where one of the programs that this needs is not on PATH, [`Error::Forbidden`]
/// where the environment says so, and otherwise [`Error::Failed`] with apt's own words.
pub fn unpacked(dir: &Path, packages: &[&str]) -> Result<Tree, Error> {
    unpack(dir, Source::System, packages)
}

/// The directory below which trees of Debian's stable release lie.
pub const STABLE: &str = "stable";

/// Brings packages of Debian's stable release into a tree below the directory [`STABLE`] of `dir`,
/// for a system whose own are too old. Otherwise as [`unpacked`].
///
/// # Errors
///
/// Those of [`unpacked`].
pub fn unpacked_of_stable(dir: &Path, packages: &[&str]) -> Result<Tree, Error> {
    unpack(&dir.join(STABLE), Source::Stable, packages)
}

/// Brings packages of another architecture, by Debian's name for it, into a tree below `dir`.
///
/// They are not run here, so they are those of Debian's stable release, which has more
/// architectures than an older one that the system may be of; or of a later one that is the first
/// to have it. Otherwise as [`unpacked`].
///
/// # Errors
///
/// Those of [`unpacked`].
pub fn unpacked_for(dir: &Path, architecture: &str, packages: &[&str]) -> Result<Tree, Error> {
    if !is_package_name(architecture) {
        return Err(Error::Failed(format!("`{architecture}` is no name of an architecture")));
    }
    unpack(&dir.join(architecture), Source::Foreign(architecture), packages)
}

/// Brings a package of another architecture for its files, which are read and not run: of all that
/// it depends on, only packages whose names begin like `only` come along. Otherwise as
/// [`unpacked_for`].
///
/// # Errors
///
/// Those of [`unpacked`].
pub fn unpacked_alone_for(
    dir: &Path,
    architecture: &str,
    package: &str,
    only: &str,
) -> Result<Tree, Error> {
    if !is_package_name(architecture) {
        return Err(Error::Failed(format!("`{architecture}` is no name of an architecture")));
    }
    unpack_only(&dir.join(architecture), Source::Foreign(architecture), &[package], Some(only))
}

fn unpack(dir: &Path, source: Source<'_>, packages: &[&str]) -> Result<Tree, Error> {
    unpack_only(dir, source, packages, None)
}

fn unpack_only(
    dir: &Path,
    source: Source<'_>,
    packages: &[&str],
    only: Option<&str>,
) -> Result<Tree, Error> {
    let forbidden = downloads_are_forbidden();
    if let Some(tree) = existing(dir, packages).filter(|tree| forbidden || !tree.is_due()) {
        return Ok(tree);
    }
    if let Some(strange) = packages.iter().find(|name| !is_package_name(name)) {
        return Err(Error::Failed(format!("`{strange}` is no name of a package")));
    }
    if forbidden {
        return Err(Error::Forbidden);
    }
    let missing = TOOLS.into_iter().find(|tool| on_path(tool).is_none());
    match (missing, existing(dir, packages)) {
        (Some(_), Some(tree)) => return Ok(tree),
        (Some(tool), None) => return Err(Error::NoApt(tool)),
        (None, _) => {}
    }
    fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    // Apt and the loader of the unpacked programs get absolute paths.
    let dir = fs::canonicalize(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let lock = lock(&dir.join("lock"))?;
    let old = match existing(&dir, packages) {
        Some(tree) if !tree.is_due() => return Ok(tree),
        old => old,
    };
    let apt = Apt::new(&dir.join("apt"), lock, source, only)?;
    let Some(old) = old else { return Ok(bring(&apt, &dir, packages)?) };
    let looked = apt.current(packages).and_then(|debs| {
        let files: Vec<&str> = debs.iter().map(Deb::file).collect();
        if old.is_of(&files) { Ok(None) } else { bring(&apt, &dir, packages).map(Some) }
    });
    let how = match looked {
        Ok(Some(new)) => return Ok(new),
        Ok(None) => Checked::Well,
        Err(why) => {
            let why = why.lines().next().unwrap_or_default();
            Step::done("Keeping", format_args!("{} as it is: {why}", packages.join(", ")));
            Checked::InVain
        }
    };
    old.checked(how).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(old)
}

/// Downloads these packages and unpacks them, in the place of what is there. The caller holds the
/// lock.
fn bring(apt: &Apt, dir: &Path, packages: &[&str]) -> Result<Tree, String> {
    let begin = Instant::now();
    let debs = apt.fetch(packages)?;
    let bytes = debs.iter().map(Deb::bytes).sum();
    let files: Vec<PathBuf> = debs.iter().map(|deb| apt.path(deb)).collect();
    let tree = tree::unpack(&files, &dir.join(tree_name(packages)), packages)?;
    for file in files {
        // Archives left over do no harm.
        let _ = fs::remove_file(file);
    }
    Step::done(
        "Unpacked",
        format_args!(
            "{}: {}, {}, {:.1} s",
            packages.join(", "),
            counted(debs.len()),
            Amount::Bytes(bytes),
            begin.elapsed().as_secs_f32()
        ),
    );
    Ok(tree)
}

/// Returns the directory's name of the tree of these packages. No package's name has a `_`.
fn tree_name(packages: &[&str]) -> String {
    packages.join("_")
}

/// Returns this number of packages in words.
fn counted(packages: usize) -> String {
    if packages == 1 { "1 package".into() } else { format!("{packages} packages") }
}

/// Returns true for what Debian's policy allows as a name of a package, section 5.6.1, except at
/// the end a `-`, which apt takes for a wish to remove.
fn is_package_name(name: &str) -> bool {
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() > 1
        && name.starts_with(lower)
        && !name.ends_with('-')
        && name.chars().all(|c| lower(c) || "+-.".contains(c))
}

/// Takes the lock in this file, and says so if that takes time. It is free when the last copy of
/// the file is closed, also by a process that is killed.
fn lock(path: &Path) -> Result<File, String> {
    let wrong = |e| format!("{}: {e}", path.display());
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let _step = Step::new("Waiting", "for another process that unpacks packages");
            file.lock().map_err(wrong)?;
        }
        Err(TryLockError::Error(e)) => return Err(wrong(e)),
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::is_package_name;

    #[test]
    fn only_names_of_packages_reach_apt() {
        for name in ["qemu-system-x86", "g++", "libstdc++-12-dev", "libc6", "python3.11"] {
            assert!(is_package_name(name), "{name}");
        }
        for name in ["", "a", "-y", "libc6-", "Foo", "a/b", "../x", "a_b", "a b", "a=1", "a:amd64"]
        {
            assert!(!is_package_name(name), "{name}");
        }
    }
}
