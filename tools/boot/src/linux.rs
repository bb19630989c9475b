//! Boots Linux, from Debian's package, as the guest of the test hypervisor.
//!
//! The kernel, its first file system and a device tree go to the hypervisor as an archive, each
//! under a name that says what it is and at which guest-physical address it goes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use cpio::newc::{ModeFileType, trailer};
use kvma_packages::{Error, Tree, existing, unpacked_alone_for};
use vm_fdt::{FdtWriter, FdtWriterResult};

use crate::args::{Args, Download, Maps};
use crate::demonstration;
use crate::environment::{Trouble, fitted, say, target_dir};
use crate::hypervisor::{self, Boot};
use crate::machine::{Arch, Machine};
use crate::program::add;
use crate::qemu::Files;

/// The package that depends on the newest kernel, and how that one's name begins. The tools for
/// installing it, on which it depends, stay away.
const PACKAGE: &str = "linux-image-riscv64";
const KERNEL: &str = "linux-image-";

/// Memory of the machine in MiB: twice the guest's, and the hypervisor's.
const MACHINE_MIB: u32 = 1024;

/// The guest's memory. The hypervisor expects RAM of this size here.
const RAM: u64 = 0x4000_0000;
const RAM_LEN: u64 = 256 << 20;
const INITRD: u64 = RAM + (128 << 20);
const TREE: u64 = RAM + (240 << 20);
/// The serial port.
const PORT: u64 = 0x1000_0000;
/// The rate of the timer of QEMU's machine.
const TIMER_HZ: u32 = 10_000_000;

/// The extensions of the guest's hart, all of which QEMU's has.
const ISA: &str = "rv64imafdc_zicsr_zifencei_sstc";

/// The kernel's command line. With `panic=-1` it asks for a reboot at once, which the hypervisor
/// takes for a failure.
const COMMAND: &str = "console=ttyS0,115200 earlycon=sbi panic=-1";

/// The guest's first program. The registers at 0x70000000 are those of the hypervisor's device: the
/// second one tells it that the guest is ready to be moved (1), and the guest that it was moved
/// (2); at the end it tells if all is as it was (3) or not (4).
const SCRIPT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /dev /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
dmesg -n 1
show() { while read -r line; do echo "$ $line"; eval "$line" </dev/null 2>&1; done; }
show <<'END'
uname -srm; cat /proc/version
head -n 5 /proc/cpuinfo
grep -v '^  ' /proc/iomem
head -n 2 /proc/meminfo
devmem 0x70000000
devmem 0x60000000
cd /tmp; seq 1 100000 >numbers
dd if=/dev/urandom of=random bs=64k count=32
sha256sum numbers random | tee sums
END
while :; do cat random >churn; done &
churn=$!
devmem 0x70000004 32 1
rounds=0
until [ $(devmem 0x70000004) = 0x00000002 ]; do rounds=$((rounds + 1)); done
kill $churn
echo "moved after $rounds rounds"
show <<'END'
sha256sum -c sums
END
right=4
sha256sum -c sums >/dev/null && grep -q ^{numbers} sums && right=3
stty -F /dev/ttyS0 -echo # waits until all is printed
devmem 0x70000004 32 $right
poweroff -f
"#;

/// The sum that stands for `{numbers}` in the script: that of `seq 1 100000`, on any machine.
const NUMBERS: &str = "b2bc7d3f8b652d2ec96865b68ad8f80e22cca174abe1aed7889e242a747d590f";

/// Boots it. True if the hypervisor passed.
pub fn run(args: &Args) -> Result<bool, Trouble> {
    let mut machine = hypervisor::machine(Arch::Riscv64)?;
    machine.ram_mib = MACHINE_MIB;
    let shell = demonstration::shell(&machine, Arch::Riscv64, args.download)
        .map_err(|why| format!("there is no shell for Linux: {why}"))?;
    let kernel = kernel(&machine, args.download)
        .map_err(|why| format!("there is no kernel: {PACKAGE}: {why}"))?;
    let files = Files::new()?;
    archive(&files.input, &kernel, &shell)?;
    let command = format!("linux {}", args.command());
    let boot = Boot { arch: Arch::Riscv64, machine, files, command };
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    let mut left_out = 0;
    boot.run(args, &name, |line| {
        if args.maps == Maps::Counted && is_kernels(line) {
            left_out += 1;
            return;
        }
        if left_out > 0 {
            let lines = if left_out == 1 { "line" } else { "lines" };
            say(format_args!("  | {left_out} {lines} of the kernel's, which -v prints"));
            left_out = 0;
        }
        say(format_args!("{}", fitted(line)));
    })
}

/// Returns true for a line that the kernel prints, with the time in brackets.
fn is_kernels(line: &str) -> bool {
    let time = line.strip_prefix("  | [").and_then(|rest| rest.split_once(']'));
    time.is_some_and(|(time, _)| time.trim_start().parse::<f64>().is_ok())
}

/// Returns the kernel's file, which comes from its package.
fn kernel(machine: &Machine, download: Download) -> Result<PathBuf, Error> {
    let packages = target_dir().map_err(Error::Failed)?.with_file_name("packages");
    let tree: Tree = match download {
        Download::Forbidden => {
            existing(&packages.join(&machine.debian), &[PACKAGE]).ok_or(Error::Forbidden)?
        }
        Download::Allowed => unpacked_alone_for(&packages, &machine.debian, PACKAGE, KERNEL)?,
    };
    let boot = tree.root().join("boot");
    let entries = fs::read_dir(&boot).map_err(|e| format!("{}: {e}", boot.display()))?;
    let is_kernel = |name: &str| name.starts_with("vmlinux-") || name.starts_with("vmlinuz-");
    let found = entries
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_str().is_some_and(is_kernel));
    Ok(found.ok_or_else(|| format!("{} holds no kernel", boot.display()))?.path())
}

/// Writes the archive.
fn archive(path: &Path, kernel: &Path, shell: &Path) -> Result<(), Trouble> {
    let wrong = |e: io::Error| format!("{}: {e}", path.display());
    let read = |path: &Path| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    let image = read(kernel)?;
    let entry = RAM + offset(&image).ok_or_else(|| format!("{}: no Image", kernel.display()))?;
    let initrd = initrd(&read(shell)?).map_err(wrong)?;
    let tree = tree(initrd.len() as u64).map_err(|e| format!("the device tree: {e}"))?;
    let mut out = BufWriter::new(File::create(path).map_err(wrong)?);
    for (name, gpa, contents) in
        [("kernel", entry, &image), ("initrd", INITRD, &initrd), ("tree", TREE, &tree)]
    {
        let name = format!("{name}-{gpa:x}");
        add(&mut out, &name, ModeFileType::Regular, 0o644, contents).map_err(wrong)?;
    }
    trailer(&mut out).and_then(|out| out.flush()).map_err(wrong)
}

/// Returns how far from the beginning of RAM a kernel wants to lie, if this is one as Linux'
/// `Documentation/arch/riscv/boot-image-header.rst` describes it, and not compressed.
fn offset(image: &[u8]) -> Option<u64> {
    const MAGIC: &[u8] = b"RSC\x05";
    let number = |at: usize| Some(u64::from_le_bytes(image.get(at..at + 8)?.try_into().ok()?));
    let (offset, len) = (number(8)?, number(16)?);
    (image.get(56..60)? == MAGIC && offset.checked_add(len)? <= INITRD - RAM).then_some(offset)
}

/// Returns the first file system: a shell, and the script that it runs.
fn initrd(shell: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    add(&mut out, "bin", ModeFileType::Directory, 0o755, &[])?;
    add(&mut out, "bin/busybox", ModeFileType::Regular, 0o755, shell)?;
    let script = SCRIPT.replace("{numbers}", NUMBERS);
    add(&mut out, "init", ModeFileType::Regular, 0o755, script.as_bytes())?;
    trailer(&mut out)?;
    Ok(out)
}

/// Returns the device tree.
fn tree(initrd_len: u64) -> FdtWriterResult<Vec<u8>> {
    /// The name by which nodes mean the hart's interrupts.
    const HART: u32 = 1;
    let mut tree = FdtWriter::new()?;
    let root = tree.begin_node("")?;
    tree.property_u32("#address-cells", 2)?;
    tree.property_u32("#size-cells", 2)?;
    tree.property_string("compatible", "kvma,test-hypervisor")?;
    tree.property_string("model", "kvma's test hypervisor")?;

    let chosen = tree.begin_node("chosen")?;
    tree.property_string("bootargs", COMMAND)?;
    tree.property_string("stdout-path", &format!("/soc/serial@{PORT:x}"))?;
    tree.property_u64("linux,initrd-start", INITRD)?;
    tree.property_u64("linux,initrd-end", INITRD + initrd_len)?;
    // Nobody's secrets hang on it, and it makes runs more alike.
    tree.property("rng-seed", &[0x6b; 64])?;
    tree.end_node(chosen)?;

    let memory = tree.begin_node(&format!("memory@{RAM:x}"))?;
    tree.property_string("device_type", "memory")?;
    tree.property_array_u64("reg", &[RAM, RAM_LEN])?;
    tree.end_node(memory)?;

    let cpus = tree.begin_node("cpus")?;
    tree.property_u32("#address-cells", 1)?;
    tree.property_u32("#size-cells", 0)?;
    tree.property_u32("timebase-frequency", TIMER_HZ)?;
    let cpu = tree.begin_node("cpu@0")?;
    tree.property_string("device_type", "cpu")?;
    tree.property_string("compatible", "riscv")?;
    tree.property_u32("reg", 0)?;
    tree.property_string("status", "okay")?;
    tree.property_string("riscv,isa", ISA)?;
    tree.property_string("mmu-type", "riscv,sv57")?;
    let interrupts = tree.begin_node("interrupt-controller")?;
    tree.property_u32("#interrupt-cells", 1)?;
    tree.property_null("interrupt-controller")?;
    tree.property_string("compatible", "riscv,cpu-intc")?;
    tree.property_phandle(HART)?;
    tree.end_node(interrupts)?;
    tree.end_node(cpu)?;
    tree.end_node(cpus)?;

    let soc = tree.begin_node("soc")?;
    tree.property_u32("#address-cells", 2)?;
    tree.property_u32("#size-cells", 2)?;
    tree.property_string("compatible", "simple-bus")?;
    tree.property_null("ranges")?;
    let port = tree.begin_node(&format!("serial@{PORT:x}"))?;
    tree.property_string("compatible", "ns16550a")?;
    tree.property_array_u64("reg", &[PORT, 0x100])?;
    tree.property_u32("clock-frequency", 3_686_400)?;
    tree.property_u32("current-speed", 115_200)?;
    tree.end_node(port)?;
    tree.end_node(soc)?;

    tree.end_node(root)?;
    tree.finish()
}

#[cfg(test)]
mod tests {
    use super::{initrd, is_kernels, offset, tree};

    #[test]
    fn what_the_kernel_prints_begins_with_the_time() {
        for line in ["  | [    0.000000] Linux version", "  | [12345.678901] a"] {
            assert!(is_kernels(line), "{line}");
        }
        for line in
            ["", "  | $ uname", "  | [ ok ] done", "[    0.000000] not the guest's", "  | [1"]
        {
            assert!(!is_kernels(line), "{line}");
        }
    }

    #[test]
    fn an_image_says_where_it_wants_to_lie() {
        let mut image = [0; 64];
        image[8..16].copy_from_slice(&0x20_0000_u64.to_le_bytes());
        image[16..24].copy_from_slice(&0x1e6_b000_u64.to_le_bytes());
        assert_eq!(offset(&image), None, "no magic number");
        image[56..60].copy_from_slice(b"RSC\x05");
        assert_eq!(offset(&image), Some(0x20_0000));
        assert_eq!(offset(&image[..59]), None, "cut short");
        image[16..24].copy_from_slice(&0x0800_0000_u64.to_le_bytes());
        assert_eq!(offset(&image), None, "it would lie over the first file system");
        image[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(offset(&image), None, "an end that does not fit");
    }

    #[test]
    fn the_file_system_holds_the_shell_and_a_script_with_nothing_to_fill_in() {
        let bytes = initrd(b"a shell").expect("memory can be written to");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("bin/busybox") && text.contains("a shell"));
        assert!(text.contains("grep -q ^b2bc7d3f") && !text.contains("{numbers}"));
    }

    #[test]
    fn the_device_tree_names_what_the_guest_needs() {
        let bytes = tree(0x1234).expect("a tree");
        assert_eq!(bytes[..4], 0xd00d_feed_u32.to_be_bytes());
        let text = String::from_utf8_lossy(&bytes);
        for name in ["memory@40000000", "cpu@0", "serial@10000000", "ns16550a", "console=ttyS0"] {
            assert!(text.contains(name), "{name}");
        }
    }
}
