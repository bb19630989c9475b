//! The memory that a program uses, as `/proc/PID/status` counts it, in a comment of a trace.

use kvma::linux::Usage;

const START: &str = "# in use, in bytes:";

/// Returns whether a line of a trace is such a comment.
pub fn is_line(line: &str) -> bool {
    line.starts_with(START)
}

/// Returns the line with the numbers of kvma.
pub fn of(usage: &Usage) -> String {
    line([usage.total(), usage.locked(), usage.data(), usage.stack(), usage.exec()])
}

/// Returns the line with the numbers of the kernel, which counts in KiB, and code in two parts by
/// where it lies.
pub fn of_status(status: &str) -> String {
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let code = kib("VmExe:") + kib("VmLib:");
    line([kib("VmSize:"), kib("VmLck:"), kib("VmData:"), kib("VmStk:"), code].map(|kib| kib * 1024))
}

fn line([total, locked, data, stack, code]: [u64; 5]) -> String {
    format!("{START} {total}, locked {locked}, data {data}, stack {stack}, code {code}")
}
