//! `cargo run` alone: the test kernel as a thing to look at. It runs its scenarios, a line for each
//! group, then a shell script in user mode, and prints a summary.

use std::env::consts::ARCH;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use kvma_packages::progress::Step;
use kvma_packages::{Error, Tree, existing, unpacked, unpacked_for};

use crate::args::{Args, Download, Maps};
use crate::environment::{Trouble, say, target_dir};
use crate::machine::{Arch, Machine};
use crate::qemu::{self, Lines};
use crate::{kernel, program, tools};

/// The package that the shell comes from, and its path there.
const PACKAGE: &str = "busybox-static";
const SHELL: &str = "usr/bin/busybox";
/// The name of the shell for the script. With a longer one, lines of `/proc/self/maps` would be
/// longer than 80 columns.
const NAME: &str = "sh";

/// The script: each command before what it prints.
const SCRIPT: &str = r#"while read -r line; do echo "$ $line"; eval "$line" </dev/null; done <<'END'
uname -srm
seq 1 2000 | sort -r | awk '{ sum += $1 } END { print sum }'
seq 1 2000 | gzip | zcat | sha256sum | cut -c 1-32
mkdir /tmp/a; echo text >/tmp/a/b; tar cf - -C /tmp a | tar tf -; rm -r /tmp/a
sh -c 'kill -SEGV $$'; echo $?
cat /proc/self/maps
END
"#;

/// Shows the kernel. True if it passed.
pub fn run(args: &Args, arch: Arch) -> Result<bool, Trouble> {
    let machine = Machine::load(arch)?;
    let qemu = tools::qemu(&machine, args.download)?;
    Step::done("Building", format_args!("the test kernel for {}", arch.name()));
    let kernel = kernel::build(&machine, &kernel::TEST, args.download)?;
    let files = qemu::Files::new()?;
    let mut words = vec!["demonstrate".to_owned(), args.command()];
    let script = match shell(&machine, arch, args.download) {
        Ok(file) => {
            let arguments = ["-c", SCRIPT].map(OsString::from);
            program::archive(&files.input, &file, NAME, &arguments, &[])?;
            words.push("program".to_owned());
            true
        }
        Err(why) => {
            say(format_args!("There is no shell to run a script: {PACKAGE}: {why}"));
            // QEMU wants a file to load, which nobody reads.
            fs::write(&files.input, "-").map_err(|e| format!("{}: {e}", files.input.display()))?;
            false
        }
    };
    if args.maps == Maps::Shown {
        words.push("verbose".to_owned());
    }

    let step = Step::new("Booting", &machine.qemu);
    let begin = Instant::now();
    let command = qemu::command(&qemu, &machine, &kernel, &files, &words.join(" "));
    let print = |line: &str| step.suspended(|| say(format_args!("{line}")));
    // What the script shows of its address space is there to be seen.
    let lines = Lines::new(Maps::Shown, print);
    let end = qemu::run(command, &machine, args.timeout, lines)?;
    drop(step);
    let seconds = begin.elapsed().as_secs_f32();
    let notes = fs::read(&files.answers).unwrap_or_default();
    let passed = if script {
        program::finish(&String::from_utf8_lossy(&notes), None, &end)? == 0
    } else {
        end.passed()
    };
    let result = if passed { "PASSED" } else { "FAILED" };
    say(format_args!("\nboot: {result} after {seconds:.2} s: {end}"));
    Ok(passed)
}

/// Returns the shell for this machine.
pub fn shell(machine: &Machine, arch: Arch, download: Download) -> Result<PathBuf, Error> {
    let packages = target_dir().map_err(Error::Failed)?.with_file_name("packages");
    let tree: Tree = match (download, arch.name() == ARCH) {
        (Download::Forbidden, true) => existing(&packages, &[PACKAGE]).ok_or(Error::Forbidden)?,
        (Download::Forbidden, false) => {
            existing(&packages.join(&machine.debian), &[PACKAGE]).ok_or(Error::Forbidden)?
        }
        (Download::Allowed, true) => unpacked(&packages, &[PACKAGE])?,
        (Download::Allowed, false) => unpacked_for(&packages, &machine.debian, &[PACKAGE])?,
    };
    Ok(tree.root().join(SHELL))
}
