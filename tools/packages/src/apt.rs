//! apt with a state and a cache of its own: downloads packages with all that they depend on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, SystemTime};
use std::{fmt, thread};

use crate::counted;
use crate::progress::{Amount, Step};

/// The age from which package lists are brought up to date first. Archives keep a package's old
/// version for about as long.
const LISTS_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The lines that an error shows of what apt said.
const SHOWN: usize = 6;

/// The configuration of this apt, read after the system's own, which says where packages come
/// from and through which proxy. `{dir}` and `{architecture}` are filled in.
///
/// Cleared is what the system wants to be run at an update or an installation; lists that nobody
/// needs here; and architectures other than the machine's own. The empty status file says that
/// nothing is installed, so that a package comes with everything that it depends on.
const CONFIGURATION: &str = r#"
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear AptCli::Hooks;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large-hidpi;
#clear Acquire::IndexTargets::deb::CNF;
#clear Acquire::IndexTargets::deb::Contents-deb;
#clear Acquire::IndexTargets::deb-src;
#clear APT::Architectures;
APT::Architectures:: "{architecture}";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::GzipIndexes "true";
Acquire::Languages "none";
Acquire::Retries "2";
Debug::NoLocking "true";
Dir::Cache "{dir}";
Dir::Cache::archives "{dir}/archives";
Dir::Cache::pkgcache "{dir}/pkgcache.bin";
Dir::Cache::srcpkgcache "";
Dir::Log "{dir}";
Dir::State "{dir}";
Dir::State::lists "{dir}/lists";
Dir::State::status "{dir}/status";
"#;

/// A source of packages.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// The system's own sources.
    System,
    /// Debian's stable release, for the machine's own architecture.
    Stable,
    /// Debian, for this architecture.
    Foreign(&'a str),
}

/// Returns the release of Debian that has this architecture.
fn release(architecture: &str) -> &'static str {
    // It came after the stable release.
    if architecture == "loong64" { "testing" } else { "stable" }
}

/// The lines that are added for packages of Debian's that are not of the system's own sources.
const DEBIAN: &str = r#"APT::Architecture "{architecture}";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "-";
"#;

/// Lets `apt-get` say where the system's package lists come from.
const INDEX_TARGETS: [&str; 4] =
    ["indextargets", "--format", "$(COMPONENT) $(REPO_URI)", "Created-By: Packages"];

/// Returns the address of the system's archive: the first of the component `main` that is not for
/// security alone.
fn archive(targets: &str) -> Result<&str, String> {
    targets
        .lines()
        .filter_map(|line| line.strip_prefix("main "))
        .find(|uri| !uri.contains("security") && !uri.contains(char::is_whitespace))
        .ok_or_else(|| "apt-get names no archive".to_owned())
}

/// Returns what a program prints.
fn output_of(program: &str, args: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{program} failed ({})", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A package's archive, as apt announces it.
#[derive(Debug, PartialEq, Eq)]
pub struct Deb {
    /// The file's name in apt's cache.
    file: String,
    bytes: u64,
}

impl Deb {
    /// Reads a line of `apt-get --print-uris`: the URI in quotes, the file's name, its size in
    /// bytes and a checksum. Of other lines there is none.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix('\'')?.split_once("' ")?.1.split(' ');
        let file = words.next().filter(|file| file.ends_with(".deb") && !file.contains('/'))?;
        Some(Self { file: file.to_owned(), bytes: words.next()?.parse().ok()? })
    }

    /// Returns the size of the archive.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the file's name, which holds that of the package and its version.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the name of the package.
    fn package(&self) -> &str {
        self.file.split_once('_').map_or(&self.file, |(name, _)| name)
    }
}

/// apt, with all of its files in one directory.
pub struct Apt {
    dir: PathBuf,
    /// The beginning of packages' names, if not all that packages depend on are wanted.
    only: Option<String>,
    /// Held for as long as this or an apt that it has started is there.
    lock: File,
}

impl Apt {
    /// Lays apt's directories and its configuration out in `dir`, which must be absolute. With
    /// `only`, packages whose names begin otherwise do not come.
    pub fn new(
        dir: &Path,
        lock: File,
        source: Source<'_>,
        only: Option<&str>,
    ) -> Result<Self, String> {
        let failed = |e| format!("{}: {e}", dir.display());
        let own;
        let architecture = match source {
            Source::Foreign(architecture) => architecture,
            Source::System | Source::Stable => {
                own = output_of("dpkg", &["--print-architecture"])?;
                &own
            }
        };
        let mut configuration = configuration(dir, architecture)?;
        if !matches!(source, Source::System) {
            let targets = output_of("apt-get", &INDEX_TARGETS)?;
            let list = format!("deb {} {} main\n", archive(&targets)?, release(architecture));
            fs::create_dir_all(dir).map_err(failed)?;
            fs::write(dir.join("sources.list"), list).map_err(failed)?;
            let debian = DEBIAN.replace("{architecture}", architecture);
            configuration.push_str(&debian.replace("{dir}", &dir.to_string_lossy()));
        }
        for name in ["archives/partial", "lists/partial", "none/partial", "tmp"] {
            fs::create_dir_all(dir.join(name)).map_err(failed)?;
        }
        fs::write(dir.join("status"), "").map_err(failed)?;
        fs::write(dir.join("apt.conf"), configuration).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), only: only.map(str::to_owned), lock })
    }

    /// Returns where a package's archive lies once it is downloaded.
    pub fn path(&self, deb: &Deb) -> PathBuf {
        self.dir.join("archives").join(&deb.file)
    }

    /// Downloads these packages and all that they depend on, and returns their archives.
    pub fn fetch(&self, packages: &[&str]) -> Result<Vec<Deb>, String> {
        // A failed update is not the end: another source may have failed than the one that counts.
        let mut updated = None;
        if !self.lists_are_current() {
            updated = Some(self.update());
        }
        let mut debs = self.download(packages);
        if debs.is_err() && updated.is_none() {
            // Since then, an archive may have replaced what these lists name.
            updated = Some(self.update());
            debs = self.download(packages);
        }
        debs.map_err(|why| match updated {
            Some(Err(update)) => format!("{update}\n{why}"),
            _ => why,
        })
    }

    /// Returns the archives that [`fetch`](Self::fetch) would download now, by lists of today.
    pub fn current(&self, packages: &[&str]) -> Result<Vec<Deb>, String> {
        if !self.lists_are_current() {
            self.update()?;
        }
        self.plan(packages)
    }

    fn lists_are_current(&self) -> bool {
        let updated = fs::metadata(self.updated()).and_then(|file| file.modified());
        updated.is_ok_and(|time| is_current(time, SystemTime::now()))
    }

    /// Returns the file whose time is that of the last update.
    fn updated(&self) -> PathBuf {
        self.dir.join("updated")
    }

    /// Brings the package lists up to date.
    fn update(&self) -> Result<(), String> {
        let _step = Step::new("Updating", "package lists");
        let _ = fs::remove_file(self.updated());
        self.run(&["update"], || ())?;
        fs::write(self.updated(), "").map_err(|e| format!("{}: {e}", self.updated().display()))
    }

    /// Returns the archives of these packages and of all that they depend on.
    fn plan(&self, packages: &[&str]) -> Result<Vec<Deb>, String> {
        let _step = Step::new("Resolving", packages.join(", "));
        // Of archives that are there already, apt prints nothing: it looks for them elsewhere.
        let nowhere = format!("Dir::Cache::archives={}/none", self.dir.display());
        let plan = ["install", "-o", &nowhere, "--yes", "-qq", "--print-uris", "--"];
        let plan = self.run(&[&plan, packages].concat(), || ())?;
        let only = self.only.as_deref().unwrap_or_default();
        let debs = plan.lines().filter_map(Deb::parse);
        let debs: Vec<Deb> = debs.filter(|deb| deb.package().starts_with(only)).collect();
        if debs.is_empty() {
            return Err(format!("apt-get names no archive for {}", packages.join(", ")));
        }
        Ok(debs)
    }

    fn download(&self, packages: &[&str]) -> Result<Vec<Deb>, String> {
        let debs = self.plan(packages)?;
        let here = || debs.iter().map(|deb| self.downloaded(deb)).sum();
        let all = debs.iter().map(Deb::bytes).sum();
        let missing = here() < all;
        let step =
            missing.then(|| Step::of(Amount::Bytes(all), "Downloading", counted(debs.len())));
        let chosen: Vec<&str> = debs.iter().map(Deb::package).collect();
        let download: &[&str] = match self.only {
            Some(_) => &[&["download", "-qq", "--"], &chosen[..]].concat(),
            None => &[&["install", "--yes", "-qq", "--download-only", "--"], packages].concat(),
        };
        self.run(download, || {
            step.iter().for_each(|step| step.set(here()));
        })?;
        match debs.iter().find(|deb| self.downloaded(deb) != deb.bytes || !self.path(deb).exists())
        {
            Some(deb) => Err(format!("apt-get did not download {}", deb.file)),
            None => Ok(debs),
        }
    }

    /// Returns how many bytes of an archive are there.
    fn downloaded(&self, deb: &Deb) -> u64 {
        let whole = self.path(deb);
        let part = self.dir.join("archives/partial").join(&deb.file);
        [whole, part].iter().find_map(|file| Some(fs::metadata(file).ok()?.len())).unwrap_or(0)
    }

    /// Runs `apt-get` to its end, calls `poll` now and then, and returns its standard output.
    fn run(&self, args: &[&str], mut poll: impl FnMut()) -> Result<String, String> {
        let failed = |e| format!("apt-get: {e}");
        let [output, errors] = ["output", "errors"].map(|name| self.dir.join(name));
        let mut child = Command::new("apt-get")
            .arg("--config-file")
            .arg(self.dir.join("apt.conf"))
            .args(args)
            // Where `download` puts what it brings.
            .current_dir(self.dir.join("archives"))
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .env("TMPDIR", self.dir.join("tmp"))
            // It asks nothing; and if only this program is killed, the lock lasts until apt's end.
            .stdin(self.lock.try_clone().map_err(failed)?)
            .stdout(File::create(&output).map_err(failed)?)
            .stderr(File::create(&errors).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break status;
            }
            poll();
            thread::sleep(Duration::from_millis(20));
        };
        let read = |file| fs::read(file).map(|text| String::from_utf8_lossy(&text).into_owned());
        if status.success() {
            return read(&output).map_err(failed);
        }
        let said = read(&errors).map_err(failed)?;
        Err(Failure { command: args[0], status, said: &said }.to_string())
    }
}

/// An apt that failed: its first errors, or its last lines if it called nothing an error.
struct Failure<'a> {
    command: &'a str,
    status: ExitStatus,
    said: &'a str,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "apt-get {} failed ({})", self.command, self.status)?;
        let lines: Vec<&str> = self.said.lines().filter(|line| !line.trim().is_empty()).collect();
        let mut errors: Vec<&str> =
            lines.iter().copied().filter(|line| line.starts_with("E: ")).take(SHOWN).collect();
        if errors.is_empty() {
            errors = lines[lines.len().saturating_sub(SHOWN)..].to_vec();
        }
        errors.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Returns true for lists of this time that need no update. Times in the future do.
fn is_current(updated: SystemTime, now: SystemTime) -> bool {
    now.duration_since(updated).is_ok_and(|age| age < LISTS_MAX_AGE)
}

/// Returns apt's configuration for a directory and the machine's architecture.
fn configuration(dir: &Path, architecture: &str) -> Result<String, String> {
    // Apt's syntax has no escape for a quote.
    let dir = dir
        .to_str()
        .filter(|dir| !dir.contains(['"', '\n']))
        .ok_or_else(|| format!("apt cannot be told of the directory {}", dir.display()))?;
    if architecture.is_empty() || !architecture.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(format!("dpkg calls the architecture `{architecture}`"));
    }
    Ok(CONFIGURATION.replace("{architecture}", architecture).replace("{dir}", dir))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::{Deb, LISTS_MAX_AGE, archive, configuration, is_current, release};

    #[test]
    fn archives_are_read_from_apts_plan() {
        let line = "'http://host/pool/main/h/h%2b/h_1%3a2+b1_amd64.deb' h_1%3a2+b1_amd64.deb \
                    123456789012 SHA256:00ff";
        let deb = Deb { file: "h_1%3a2+b1_amd64.deb".into(), bytes: 123_456_789_012 };
        assert_eq!(deb.package(), "h");
        assert_eq!(Deb::parse(line), Some(deb));
        let without_checksum = Deb { file: "a_1_all.deb".into(), bytes: 7 };
        assert_eq!(Deb::parse("'file:/a_1_all.deb' a_1_all.deb 7 "), Some(without_checksum));
        for other in [
            "",
            "Reading package lists...",
            "'http://host/a_1_all.deb'",
            "'http://host/a_1_all.deb' a_1_all.deb",
            "'http://host/a_1_all.deb' a_1_all.deb many",
            "'http://host/InRelease' InRelease 5",
            "'http://host/a.deb' ../../a.deb 5",
        ] {
            assert_eq!(Deb::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_archive_is_the_first_that_is_not_for_security() {
        let targets = "main http://host/debian-security/\ncontrib http://host/a/\n\
                       main http://host/debian/\nmain http://other/debian/";
        assert_eq!(archive(targets), Ok("http://host/debian/"));
        assert!(archive("").is_err() && archive("contrib http://host/a/").is_err());
    }

    #[test]
    fn a_new_architecture_is_in_a_new_release() {
        assert_eq!([release("riscv64"), release("loong64")], ["stable", "testing"]);
    }

    #[test]
    fn lists_last_for_a_day() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let second = Duration::from_secs(1);
        assert!(is_current(then, then));
        assert!(is_current(then, then + LISTS_MAX_AGE - second));
        assert!(!is_current(then, then + LISTS_MAX_AGE));
        assert!(!is_current(then, then - second), "a clock that was put back");
    }

    #[test]
    fn the_configuration_names_nothing_of_the_systems_state() {
        let text = configuration(Path::new("/a dir"), "amd64").expect("a configuration");
        for line in text.lines().filter(|line| line.starts_with("Dir::")) {
            let (_, value) = line.split_once(' ').expect("a value");
            assert!(value == "\"\";" || value.starts_with("\"/a dir"), "{line}");
        }
        assert!(text.contains("APT::Architectures:: \"amd64\";"));
        assert!(!text.contains(['{', '}']));
        assert!(configuration(Path::new("/a\"b"), "amd64").is_err());
        assert!(configuration(Path::new("/a"), "").is_err());
        assert!(configuration(Path::new("/a"), "amd64\"").is_err());
    }
}
