//! A QEMU that is missing, and one that fails: scripts of the tests stand in for QEMU and apt.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs};

/// Held while scripts are written and while programs start: a program that starts meanwhile in
/// another thread would for a moment hold the script open for writing, and nobody could run it.
static STARTING: Mutex<()> = Mutex::new(());

/// Makes a directory with these shell scripts as programs.
fn programs(test: &str, scripts: &[(&str, &str)]) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory for programs");
    for (name, script) in scripts {
        write_program(&dir.join(name), script);
    }
    dir
}

/// Makes a shell script a program.
fn write_program(program: &Path, script: &str) {
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    fs::write(program, format!("#!/bin/sh\n{script}\n")).expect("a script is written");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
        .expect("a script is made executable");
}

/// Runs `boot` to its end with these directories as PATH.
fn boot(program: &Path, path: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).env("PATH", path).env_remove("KVMA_SKIP_DOWNLOADS");
    end_of(&mut command)
}

/// Runs a program to its end.
fn end_of(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn().expect("it starts");
    drop(starting);
    child.wait_with_output().expect("it ends")
}

/// A machine with apt and without QEMU, and a build directory of its own.
struct Machine {
    dir: PathBuf,
}

/// apt-get: notes what it is called with, and downloads one package, of the version in the file
/// `version`. The test makes it fail by the files `no-update` and `no-download`.
const APT_GET: &str = r#"PATH=/usr/bin:/bin
here=${0%/*}
[ "$1" != indextargets ] || exec echo main http://host/debian/
deb=q_$(cat "$here/version")_all.deb
state=$(sed -n 's/^Dir::State "\(.*\)";$/\1/p' "$2")
shift 2
echo "$*" >>"$here/log"
case $* in
*--print-uris*)
    echo "'http://host/$deb' $deb $(stat -c %s "$here/q.deb") MD5Sum:0" ;;
update)
    [ ! -e "$here/no-update" ] || { echo 'E: no network' "at $0 $0 $0" >&2; exit 100; } ;;
*--download-only*)
    [ ! -e "$here/no-download" ] || { echo 'E: not found' >&2; exit 100; }
    cp "$here/q.deb" "$state/archives/$deb" ;;
esac"#;

/// dpkg-deb: the archives of these tests are what it makes of them.
const DPKG_DEB: &str = r#"exec /bin/cat "$2""#;

/// rustc: a toolchain that has a `core` for every target, and says where.
const RUSTC: &str = r#"echo "${0%/*}/lib""#;

/// A QEMU that says where it is.
const QEMU: &str = r#"echo "this is $0""#;

impl Machine {
    fn new(test: &str) -> Self {
        let dir = programs(
            test,
            &[
                ("apt-get", APT_GET),
                ("dpkg", "echo amd64"),
                ("dpkg-deb", DPKG_DEB),
                ("rustc", RUSTC),
            ],
        );
        fs::create_dir(dir.join("lib")).expect("a directory");
        fs::write(dir.join("lib/libcore-0.rlib"), "").expect("a file is written");
        symlink("/bin/tar", dir.join("tar")).expect("a link");

        let package = programs(
            &format!("{test}-package/usr/bin"),
            &[("qemu-system-x86_64", QEMU), ("qemu-system-loongarch64", QEMU)],
        );
        let root = package.ancestors().nth(2).expect("the package's root");
        let mut tar = Command::new("/bin/tar");
        tar.arg("-cf").arg(dir.join("q.deb")).arg("-C").arg(root).arg(".");
        assert!(end_of(&mut tar).status.success());

        fs::write(dir.join("version"), "1").expect("a file is written");

        // Cargo's mark makes this the build directory of the program in it.
        fs::create_dir(dir.join("target")).expect("a directory");
        fs::write(dir.join("target/CACHEDIR.TAG"), "").expect("a file is written");
        fs::hard_link(env!("CARGO_BIN_EXE_boot"), dir.join("target/boot")).expect("a link");
        Self { dir }
    }

    fn setup(&self, args: &[&str]) -> Setup {
        let args = [&["--setup"], args].concat();
        let output = boot(&self.dir.join("target/boot"), &self.dir, &args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Setup {
            status: output.status.code(),
            qemu: PathBuf::from(text(&output.stdout).trim_end()),
            said: text(&output.stderr),
        }
    }

    /// Sets up, which must succeed.
    fn qemu(&self) -> PathBuf {
        let setup = self.setup(&[]);
        assert_eq!(setup.status, Some(0), "{}", setup.said);
        setup.qemu
    }

    fn tree(&self) -> PathBuf {
        self.dir.join("target/packages/qemu-system-x86")
    }

    /// Returns what apt-get was asked for since the last call, by one word each.
    fn asked(&self) -> Vec<&'static str> {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let _ = fs::remove_file(self.dir.join("log"));
        let word = |line: &str| {
            let words = ["update", "--print-uris", "--download-only"];
            words.into_iter().find(|word| line.contains(word)).expect("a known call")
        };
        log.lines().map(word).collect()
    }
}

/// How `boot --setup` has ended.
struct Setup {
    status: Option<i32>,
    qemu: PathBuf,
    said: String,
}

const FIRST: [&str; 3] = ["update", "--print-uris", "--download-only"];

#[test]
fn a_missing_qemu_is_unpacked_once_and_runs() {
    let machine = Machine::new("missing");
    let qemu = machine.qemu();
    assert!(qemu.starts_with(fs::canonicalize(machine.tree()).expect("a tree")), "{qemu:?}");
    assert_eq!(machine.asked(), FIRST);
    let output = boot(&qemu, Path::new("/usr/bin:/bin"), &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("root/usr/bin/qemu-system-x86_64"), "{said}");

    assert_eq!(fs::canonicalize(machine.qemu()).ok(), fs::canonicalize(&qemu).ok());
    assert_eq!(machine.setup(&["--no-download"]).status, Some(0));
    assert!(machine.asked().is_empty(), "it is there");
}

#[test]
fn a_qemu_on_path_comes_before_an_unpacked_one() {
    let machine = Machine::new("both");
    machine.qemu();
    let installed = programs("both-installed", &[("qemu-system-x86_64", QEMU)]);
    let path = env::join_paths([&machine.dir, &installed]).expect("a search path");
    let output = boot(&machine.dir.join("target/boot"), Path::new(&path), &["--setup"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(Path::new(said.trim_end()), installed.join("qemu-system-x86_64"));
}

#[test]
fn without_apt_or_leave_the_commands_are_printed() {
    let machine = Machine::new("forbidden");
    let forbidden = machine.setup(&["--no-download"]);
    assert_eq!(machine.asked(), [""; 0]);
    fs::remove_file(machine.dir.join("apt-get")).expect("apt is removed");
    let without_apt = machine.setup(&[]);
    assert!(without_apt.said.contains("no apt-get"), "{}", without_apt.said);
    for Setup { status, said, .. } in [forbidden, without_apt] {
        assert_eq!(status, Some(2), "{said}");
        for command in [
            "apt-get install --no-install-recommends qemu-system-x86",
            "dnf install /usr/bin/qemu-system-x86_64",
            "pacman -S qemu-system-x86",
            "nix-shell -p qemu",
            "brew install qemu",
        ] {
            assert!(said.contains(command), "{said}");
        }
        assert!(said.lines().all(|line| line.len() <= 80), "{said}");
    }
    assert!(!machine.tree().exists());
}

#[test]
fn what_an_interruption_leaves_is_not_taken_for_a_tree() {
    let machine = Machine::new("interrupted");
    let qemu = machine.qemu();
    let stamp = fs::read_to_string(machine.tree().join("stamp")).expect("a stamp");
    for wrong in [None, Some("".to_owned()), Some(stamp.replace('2', "1")), Some(stamp.repeat(2))] {
        match &wrong {
            None => fs::remove_file(machine.tree().join("stamp")).expect("it is removed"),
            Some(text) => fs::write(machine.tree().join("stamp"), text).expect("it is written"),
        }
        let leftover = machine.tree().with_added_extension("partial");
        for dir in [&leftover, &machine.tree()] {
            fs::create_dir_all(dir.join("root")).expect("a directory");
            fs::write(dir.join("root/junk"), "").expect("a file is written");
        }
        fs::remove_file(&qemu).expect("QEMU is removed");
        assert_eq!(machine.setup(&["--no-download"]).status, Some(2), "{wrong:?}");
        machine.qemu();
        assert!(qemu.is_file() && !leftover.exists(), "{wrong:?}");
        assert!(!machine.tree().join("root/junk").exists(), "{wrong:?}");
    }
}

#[test]
fn a_damaged_tree_is_unpacked_anew() {
    let machine = Machine::new("damaged-tree");
    machine.qemu();
    let program = machine.tree().join("root/usr/bin/qemu-system-x86_64");
    let whole = fs::read(&program).expect("a program");
    let is_whole = || fs::read(&program).is_ok_and(|file| file == whole);
    let damages: [(&str, &dyn Fn()); 5] = [
        ("gone", &|| fs::remove_file(&program).expect("it is removed")),
        ("cut short", &|| fs::write(&program, &whole[..9]).expect("it is written")),
        ("a directory", &|| {
            fs::remove_file(&program).expect("it is removed");
            fs::create_dir(&program).expect("it is made");
        }),
        ("no script", &|| {
            fs::remove_file(machine.tree().join("run/qemu-system-x86_64")).expect("it is removed");
        }),
        ("no list", &|| fs::remove_file(machine.tree().join("files")).expect("it is removed")),
    ];
    for (what, damage) in damages {
        damage();
        assert_eq!(machine.setup(&["--no-download"]).status, Some(2), "{what}");
        machine.qemu();
        assert!(is_whole(), "{what}");
    }
    // What is there beyond the packages, such as a cache that a program has left, is no damage.
    machine.asked();
    fs::write(machine.tree().join("root/cache"), "").expect("a file is written");
    machine.qemu();
    assert_eq!(machine.asked(), [""; 0]);
}

#[test]
fn a_tree_follows_the_package_lists_once_a_week() {
    let machine = Machine::new("weekly");
    let stamp = machine.tree().join("stamp");
    let make_old = || {
        let file = fs::File::open(&stamp).expect("a stamp");
        let week = Duration::from_secs(8 * 24 * 60 * 60);
        file.set_modified(SystemTime::now() - week).expect("its time is set");
    };
    let archives = || fs::read_to_string(machine.tree().join("archives")).expect("a list");
    machine.qemu();
    machine.asked();
    fs::write(machine.dir.join("version"), "2").expect("a file is written");
    machine.qemu();
    assert_eq!(machine.asked(), [""; 0], "it is of today");

    make_old();
    machine.qemu();
    assert_eq!(machine.asked(), ["--print-uris", "--print-uris", "--download-only"]);
    assert_eq!(archives(), "q_2_all.deb\n");

    make_old();
    machine.qemu();
    assert_eq!(machine.asked(), ["--print-uris"], "there is nothing new");
    machine.qemu();
    assert_eq!(machine.asked(), [""; 0]);

    // A tree that is there serves where nothing can or may be downloaded.
    fs::write(machine.dir.join("version"), "3").expect("a file is written");
    fs::write(machine.dir.join("no-download"), "").expect("a file is written");
    make_old();
    let setup = machine.setup(&[]);
    assert_eq!(setup.status, Some(0), "{}", setup.said);
    assert!(setup.said.contains("Keeping qemu-system-x86 as it is"), "{}", setup.said);
    assert!(!machine.asked().is_empty());
    machine.qemu();
    assert_eq!(machine.asked(), [""; 0], "it is not tried each time");
    assert_eq!(archives(), "q_2_all.deb\n");
    make_old();
    assert_eq!(machine.setup(&["--no-download"]).status, Some(0));
    fs::remove_file(machine.dir.join("apt-get")).expect("apt is removed");
    machine.qemu();
}

#[test]
fn a_qemu_that_is_too_old_is_left_where_it_is() {
    let machine = Machine::new("too-old");
    let installed = machine.dir.join("qemu-system-loongarch64");
    let install = |version: &str| {
        write_program(&installed, &format!("echo QEMU emulator version {version}"));
    };
    let setup = |more: &[&str]| machine.setup(&[&["--arch", "loongarch64"], more].concat());

    install("7.2.22 '(Debian 1:7.2+dfsg-7)'");
    let forbidden = setup(&["--no-download"]);
    assert_eq!(forbidden.status, Some(2), "{}", forbidden.said);
    let said: String = forbidden.said.split_whitespace().collect();
    assert!(said.contains("onPATHisolderthan10.0,andmaynot"), "{}", forbidden.said);
    assert_eq!(machine.asked(), [""; 0]);

    let brought = setup(&[]);
    assert_eq!(brought.status, Some(0), "{}", brought.said);
    let stable = machine.dir.join("target/packages/stable");
    let tree = stable.join("qemu-system-misc");
    assert_eq!(brought.qemu, tree.join("run/qemu-system-loongarch64"));
    assert_eq!(machine.asked(), FIRST);
    let sources = fs::read_to_string(stable.join("apt/sources.list")).expect("a list of sources");
    assert_eq!(sources, "deb http://host/debian/ stable main\n");
    assert_eq!(setup(&["--no-download"]).qemu, brought.qemu);

    install("10.0.2");
    assert_eq!(setup(&["--no-download"]).qemu, installed);
    install("11.1.0");
    assert_eq!(setup(&["--no-download"]).qemu, installed);
}

#[test]
fn the_environment_may_forbid_downloads() {
    let machine = Machine::new("environment");
    let setup = |value| {
        let mut command = Command::new(machine.dir.join("target/boot"));
        command.arg("--setup").env("PATH", &machine.dir).env("KVMA_SKIP_DOWNLOADS", value);
        end_of(&mut command)
    };
    let forbidden = setup("1");
    assert_eq!(forbidden.status.code(), Some(2));
    let said = String::from_utf8_lossy(&forbidden.stderr).into_owned();
    assert!(said.contains("may not be downloaded"), "{said}");
    assert_eq!(machine.asked(), [""; 0]);
    assert_eq!(setup("0").status.code(), Some(0));
    assert_eq!(machine.asked(), FIRST);
    assert_eq!(setup("1").status.code(), Some(0), "it is there");
}

#[test]
fn a_damaged_archive_is_downloaded_again() {
    let machine = Machine::new("damaged");
    let archive = machine.dir.join("q.deb");
    let whole = fs::read(&archive).expect("an archive");
    fs::write(&archive, "no archive".repeat(1000)).expect("it is written");
    let setup = machine.setup(&[]);
    assert_eq!(setup.status, Some(2));
    // Lines are broken where the path's length has it, within the path if need be.
    let said: String = setup.said.split_whitespace().collect();
    assert!(said.contains("q_1_all.deb:tarfailed"), "{said}");
    assert!(!machine.tree().exists());
    assert!(!machine.dir.join("target/packages/apt/archives/q_1_all.deb").exists());
    fs::write(&archive, whole).expect("it is written");
    machine.qemu();
}

#[test]
fn package_lists_are_updated_when_they_are_old_or_name_what_is_gone() {
    let machine = Machine::new("lists");
    machine.qemu();
    assert_eq!(machine.asked(), FIRST);
    let again = || {
        fs::remove_dir_all(machine.tree()).expect("the tree is removed");
        machine.setup(&[])
    };
    assert_eq!(again().status, Some(0));
    assert_eq!(machine.asked(), FIRST[1..], "lists of today");

    let make_old = || {
        let updated = machine.dir.join("target/packages/apt/updated");
        let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
        let updated = fs::File::open(updated).expect("an update is noted");
        updated.set_modified(two_days_ago).expect("its time is set");
    };
    make_old();
    assert_eq!(again().status, Some(0));
    assert_eq!(machine.asked(), FIRST, "lists of two days ago");

    fs::write(machine.dir.join("no-download"), "").expect("a file is written");
    let setup = again();
    assert_eq!(setup.status, Some(2));
    assert!(setup.said.contains("E: not found"), "{}", setup.said);
    assert_eq!(machine.asked(), [&FIRST[1..], &FIRST[..]].concat(), "lists that may be wrong");

    // One of several sources fails. What the other ones have is enough.
    fs::remove_file(machine.dir.join("no-download")).expect("it is removed");
    fs::write(machine.dir.join("no-update"), "").expect("a file is written");
    make_old();
    machine.qemu();
    assert_eq!(machine.asked(), FIRST);
}

#[test]
fn of_an_apt_that_fails_the_errors_are_shown() {
    let machine = Machine::new("failing");
    for name in ["no-update", "no-download"] {
        fs::write(machine.dir.join(name), "").expect("a file is written");
    }
    let setup = machine.setup(&[]);
    assert_eq!(setup.status, Some(2));
    assert!(setup.said.lines().all(|line| line.chars().count() <= 80), "{}", setup.said);
    for text in ["E: no network", "E: not found", "apt-get install --no-install-recommends"] {
        assert!(setup.said.contains(text), "{}", setup.said);
    }
}

#[test]
fn several_processes_download_once() {
    let machine = Machine::new("several");
    let qemus: Vec<PathBuf> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| machine.qemu())).collect();
        threads.into_iter().map(|thread| thread.join().expect("a QEMU")).collect()
    });
    assert!(qemus.iter().all(|qemu| qemu.is_file()));
    assert_eq!(machine.asked(), FIRST);
}

/// Boots for a replay, with this script in the place of QEMU.
fn boot_with_qemu(test: &str, script: &str, args: &[&str]) -> (Option<i32>, String) {
    let ours = programs(test, &[("qemu-system-x86_64", script)]);
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(ours).chain(env::split_paths(&path)))
        .expect("a search path");
    let output = boot(
        Path::new(env!("CARGO_BIN_EXE_boot")),
        Path::new(&path),
        &[&["--skip-scenarios"], args].concat(),
    );
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_kernel_that_hangs_times_out() {
    // The kernel may have to be built first, which can take longer than the hanging.
    boot_with_qemu("hanging-build", "exit 0", &[]);
    let begin = Instant::now();
    let (status, said) =
        boot_with_qemu("hanging", "echo coming up; exec sleep 100", &["--timeout", "1"]);
    assert!(begin.elapsed() < Duration::from_secs(90), "it was waited for");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("coming up"), "{said}");
    assert!(said.contains("no verdict within 1 s"), "{said}");
}

#[test]
fn a_kernel_that_crashes_or_says_nothing_fails() {
    // A triple fault ends QEMU with status 0. Status 33 without answers is not enough either.
    let (status, said) = boot_with_qemu("crashing", "exit 0", &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("no verdict, QEMU ended with status 0"), "{said}");
    let (status, said) = boot_with_qemu("silent", "exit 33", &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("its answers are not Linux's"), "{said}");
}
