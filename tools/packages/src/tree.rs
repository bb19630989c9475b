//! Packages unpacked into a directory, and the scripts that run their programs there.
//!
//! Beside `root`, what was unpacked, and `run`, the scripts, a tree has three files about itself:
//! `stamp` names the packages, and its time is that of the last look at the package lists;
//! `archives` names what was unpacked, with the versions; `files` is what has to be there.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::elf::{self, Start};
use crate::progress::{Amount, Step};
use crate::{counted, manifest};

/// The first line of a tree's stamp, before the packages. Another number means another layout.
const LAYOUT: &str = "kvma packages 2:";

/// The age from which a tree is compared with the package lists. Programs that work need no update
/// each day, and security does not hang on these.
const CHECKED_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The time after which a look at the package lists that failed, for want of a network perhaps, is
/// tried again.
const RETRIED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The folders that nobody reads here: two thirds of the files.
const LEFT_OUT: [&str; 4] =
    ["./usr/share/doc", "./usr/share/info", "./usr/share/locale", "./usr/share/man"];

/// The directories of the root that are links into `usr`. Packages name them either way.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Unpacked packages.
#[derive(Debug)]
pub struct Tree {
    dir: PathBuf,
}

impl Tree {
    /// Returns the tree in this directory if it holds these packages, and all of their files.
    pub(crate) fn open(dir: &Path, packages: &[&str]) -> Option<Self> {
        let stamp = fs::read_to_string(dir.join("stamp")).ok()?;
        (stamp == self::stamp(packages) && manifest::holds(dir))
            .then(|| Self { dir: dir.to_owned() })
    }

    /// Returns true if it is time to compare the tree with the package lists.
    pub(crate) fn is_due(&self) -> bool {
        let checked = fs::metadata(self.dir.join("stamp")).and_then(|file| file.modified());
        !checked.is_ok_and(|time| is_fresh(time, SystemTime::now()))
    }

    /// Returns true if these are the archives that were unpacked, in any order.
    pub(crate) fn is_of(&self, archives: &[&str]) -> bool {
        fs::read_to_string(self.dir.join("archives")).is_ok_and(|text| text == list(archives))
    }

    /// Puts the next look at the package lists off: after one that went well, and after one that
    /// failed.
    pub(crate) fn checked(&self, how: Checked) -> io::Result<()> {
        let now = SystemTime::now();
        let time = match how {
            Checked::Well => now,
            Checked::InVain => now - (CHECKED_FOR - RETRIED_AFTER),
        };
        fs::File::options().append(true).open(self.dir.join("stamp"))?.set_modified(time)
    }

    /// Returns what to run for a program of these packages: a script that starts it with the
    /// tree's own loader and libraries. The script moves with the tree and finds it by `$0`.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        Some(self.programs().join(name)).filter(|script| script.is_file())
    }

    /// Returns the directory of all of these scripts. A compiler takes it with `-B`, and then runs
    /// its parts by them.
    pub fn programs(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Returns the directory that the packages see as `/`.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Returns the directory of the machine's libraries, such as `/usr/lib/x86_64-linux-gnu`, below
    /// which programs have their plugins. Its name is Debian's own for the architecture.
    pub fn library_dir(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.root().join("usr/lib")).ok()?;
        let is_triplet = |entry: &fs::DirEntry| {
            entry.file_name().to_str().is_some_and(|name| name.contains("-linux-gnu"))
        };
        entries.filter_map(Result::ok).find(is_triplet).map(|entry| entry.path())
    }
}

/// How a look at the package lists ended.
#[derive(Clone, Copy)]
pub(crate) enum Checked {
    Well,
    InVain,
}

/// Returns true for a tree whose last look at the package lists was then. Times in the future do
/// not count.
fn is_fresh(checked: SystemTime, now: SystemTime) -> bool {
    now.duration_since(checked).is_ok_and(|age| age < CHECKED_FOR)
}

/// Returns these names as a text, whatever their order.
fn list(names: &[&str]) -> String {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.iter().map(|name| format!("{name}\n")).collect()
}

fn stamp(packages: &[&str]) -> String {
    format!("{LAYOUT} {}\n", packages.join(" "))
}

/// Unpacks these archives and puts the tree in `dir`, in the place of what is there.
///
/// The caller holds the lock. `dir` appears when the tree is complete.
pub fn unpack(debs: &[PathBuf], dir: &Path, packages: &[&str]) -> Result<Tree, String> {
    let failed = |e| format!("{}: {e}", dir.display());
    let partial = dir.with_added_extension("partial");
    remove(&partial).map_err(failed)?;
    lay_out(&partial.join("root")).map_err(failed)?;
    let count = Amount::Items(debs.len() as u64);
    let step = Step::of(count, "Unpacking", counted(debs.len()));
    for (done, deb) in (0..).zip(debs) {
        step.set(done);
        if let Err(why) = unpack_one(deb, &partial.join("root")) {
            // The next try downloads it again.
            let _ = fs::remove_file(deb);
            return Err(format!("{}: {why}", deb.display()));
        }
    }
    write_scripts(&partial).map_err(failed)?;
    let names: Vec<&str> = debs.iter().filter_map(|deb| deb.file_name()?.to_str()).collect();
    fs::write(partial.join("archives"), list(&names)).map_err(failed)?;
    manifest::write(&partial, &["root", "run"]).map_err(failed)?;
    fs::write(partial.join("stamp"), stamp(packages)).map_err(failed)?;
    remove(dir).map_err(failed)?;
    fs::rename(&partial, dir).map_err(failed)?;
    Ok(Tree { dir: dir.to_owned() })
}

/// Removes a directory with all that is in it, if it is there.
fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn lay_out(root: &Path) -> io::Result<()> {
    for name in MERGED {
        let target = Path::new("usr").join(name);
        fs::create_dir_all(root.join(&target))?;
        symlink(target, root.join(name))?;
    }
    Ok(())
}

/// Unpacks an archive into `root`. All files belong to the caller, and none is setuid or setgid.
fn unpack_one(deb: &Path, root: &Path) -> Result<(), String> {
    let failed = |e: io::Error| e.to_string();
    let mut packed = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let files = packed.stdout.take().ok_or("dpkg-deb has no output")?;
    let tar = Command::new("tar")
        .args(["--extract", "--file=-", "--anchored", "--keep-directory-symlink"])
        .args(["--no-same-owner", "--no-same-permissions"])
        .args(LEFT_OUT.map(|path| format!("--exclude={path}")))
        .arg("--directory")
        .arg(root)
        .stdin(files)
        .output();
    // If tar was not to be had, dpkg-deb finds its reader gone.
    let packed = packed.wait_with_output().map_err(failed)?;
    let tar = tar.map_err(failed)?;
    let failures: Vec<String> =
        [("dpkg-deb", packed.status, packed.stderr), ("tar", tar.status, tar.stderr)]
            .into_iter()
            .filter(|(_, status, _)| !status.success())
            .map(|(program, status, said)| {
                format!("{program} failed ({status}): {}", String::from_utf8_lossy(&said).trim())
            })
            .collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

/// Makes links within the tree relative, and writes a script for each program.
fn write_scripts(tree: &Path) -> io::Result<()> {
    let root = tree.join("root");
    let mut files = Files::default();
    files.walk(&root, Path::new(""))?;
    for (link, target) in &files.absolute_links {
        if root.join(target).exists() {
            fs::remove_file(root.join(link))?;
            symlink(relative(link, target), root.join(link))?;
        }
    }
    let libraries = library_dirs(&files.libraries);
    let loader = files.libraries.iter().find(|file| is_loader(file) && root.join(file).is_file());

    let mut programs: BTreeMap<&str, (&Path, Start)> = BTreeMap::new();
    for path in &files.executables {
        let name = path.file_name().and_then(|name| name.to_str());
        let (Some(name), Ok(Some(start))) = (name, elf::start(&root.join(path))) else { continue };
        if path.to_str().is_some_and(needs_no_quotes) {
            // Files come in the order of their directories: what is in `usr/bin` counts first.
            programs.entry(name).or_insert((path, start));
        }
    }
    let dir = tree.join("run");
    fs::create_dir_all(&dir)?;
    for (name, (path, start)) in programs {
        let loader = loader.filter(|_| start == Start::ByLoader);
        let script = dir.join(name);
        fs::write(&script, self::script(path, loader.map(PathBuf::as_path), &libraries))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The files of a tree that matter here, by their paths below its root.
#[derive(Default)]
struct Files {
    executables: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
    /// Symbolic links to an absolute path, and that path without its `/`.
    absolute_links: Vec<(PathBuf, PathBuf)>,
}

impl Files {
    /// Adds the files below a directory, in order: first those of the directory itself.
    fn walk(&mut self, root: &Path, dir: &Path) -> io::Result<()> {
        let mut entries = fs::read_dir(root.join(dir))?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        let mut dirs = Vec::new();
        for entry in entries {
            let path = dir.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(path);
                continue;
            }
            if kind.is_symlink()
                && let Ok(target) = fs::read_link(entry.path())?.strip_prefix("/")
            {
                self.absolute_links.push((path.clone(), target.to_owned()));
            }
            if is_library(&path) {
                self.libraries.push(path);
            } else if fs::metadata(entry.path()).is_ok_and(|file| is_executable(&file)) {
                self.executables.push(path);
            }
        }
        dirs.iter().try_for_each(|dir| self.walk(root, dir))
    }
}

fn is_executable(file: &Metadata) -> bool {
    file.is_file() && file.permissions().mode() & 0o111 != 0
}

/// Returns true for shared libraries and the loader, in the directories that hold such.
fn is_library(path: &Path) -> bool {
    let is_named = |name: &str| name.starts_with("lib") && name.contains(".so");
    let elsewhere = |part: Component<'_>| {
        ["debug", "glibc-hwcaps", "share"].iter().any(|dir| part.as_os_str() == *dir)
    };
    let name = path.file_name().and_then(|name| name.to_str());
    (is_loader(path) || name.is_some_and(is_named)) && !path.components().any(elsewhere)
}

/// Returns true for the dynamic loader, which glibc calls `ld-linux-x86-64.so.2`, `ld64.so.2` and
/// so on.
fn is_loader(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("ld-linux") || name.starts_with("ld64.so"))
}

/// Returns the directories that hold libraries, those closest to the root first. Programs name
/// some of the deeper ones by absolute paths, which lead out of the tree.
fn library_dirs(libraries: &[PathBuf]) -> Vec<&Path> {
    let mut dirs: Vec<&Path> = libraries.iter().filter_map(|file| file.parent()).collect();
    dirs.sort();
    dirs.dedup();
    dirs.retain(|dir| dir.to_str().is_some_and(needs_no_quotes));
    dirs.sort_by_key(|dir| dir.components().count());
    dirs
}

/// Returns the target of a link at `link` that leads to `target`, both below one root.
fn relative(link: &Path, target: &Path) -> PathBuf {
    let up = link.components().skip(1).map(|_| Component::ParentDir);
    up.chain(target.components()).collect()
}

/// Returns true for text that is nothing special to a shell or in a list of directories.
fn needs_no_quotes(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "/+._-".contains(c))
}

/// Returns the script that runs this program of the tree, by this loader or by itself.
fn script(program: &Path, loader: Option<&Path>, libraries: &[&Path]) -> String {
    let program = program.display();
    let how = loader.map_or_else(String::new, |loader| {
        let libraries: Vec<String> =
            libraries.iter().map(|dir| format!("$root/{}", dir.display())).collect();
        format!(
            "\"$root/{}\" --inhibit-cache --library-path \"{}\" ",
            loader.display(),
            libraries.join(":")
        )
    });
    format!("#!/bin/sh\nroot=${{0%/*}}/../root\nexec {how}\"$root/{program}\" \"$@\"\n")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{CHECKED_FOR, is_fresh, list};

    #[test]
    fn a_tree_is_compared_with_the_lists_once_a_week() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let second = Duration::from_secs(1);
        assert!(is_fresh(then, then));
        assert!(is_fresh(then, then + CHECKED_FOR - second));
        assert!(!is_fresh(then, then + CHECKED_FOR));
        assert!(!is_fresh(then, then - second), "a clock that was put back");
    }

    #[test]
    fn archives_have_no_order() {
        assert_eq!(list(&["b_1_all.deb", "a_1_all.deb"]), list(&["a_1_all.deb", "b_1_all.deb"]));
        assert_ne!(list(&["a_1_all.deb"]), list(&["a_2_all.deb"]));
    }
}
