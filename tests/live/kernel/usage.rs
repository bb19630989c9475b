//! What a program uses, as a comment in a trace: what `/proc/PID/status` counts.

use kvma::linux::Usage;

const START: &str = "# in use, in pages:";

/// Whether a line of a trace is such a comment.
pub fn is_line(line: &str) -> bool {
    line.starts_with(START)
}

/// By kvma's count.
pub fn of(usage: &Usage) -> String {
    line([usage.total(), usage.locked(), usage.data(), usage.stack(), usage.exec()])
}

/// By the kernel's. It tells code in two parts, by where it lies, and all in KiB.
pub fn of_status(status: &str) -> String {
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let code = kib("VmExe:") + kib("VmLib:");
    line([kib("VmSize:"), kib("VmLck:"), kib("VmData:"), kib("VmStk:"), code].map(|kib| kib / 4))
}

fn line([total, locked, data, stack, code]: [u64; 5]) -> String {
    format!("{START} {total}, locked {locked}, data {data}, stack {stack}, code {code}")
}
