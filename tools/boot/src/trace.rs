//! Takes the answers out of a trace.

use std::fmt::Write;

use kvma_trace::{Call, Line, Parser, TraceError};

/// Returns the trace as the kernel gets it: `= ?` for every call, and a bare `maps` for every
/// snapshot but the one right after `exec`, which is input.
pub fn strip(recorded: &str) -> Result<String, TraceError<'_>> {
    let mut input = String::with_capacity(recorded.len());
    let mut image_is_new = false;
    for entry in Parser::new(recorded) {
        let entry = entry?;
        match entry.line {
            Line::Exec => image_is_new = true,
            Line::Call(call, _) => {
                writeln!(input, "{} = ?", entry.input()).expect("to a string");
                if let Call::Execve { image, .. } = call {
                    input.push_str(image.text());
                }
                continue;
            }
            Line::Maps(_) if !image_is_new => {
                input.push_str("maps\n");
                continue;
            }
            _ => {}
        }
        input.push_str(entry.text);
        input.push('\n');
        if let Line::Maps(initial) = entry.line {
            image_is_new = false;
            input.push_str(initial.text());
        }
    }
    Ok(input)
}

#[cfg(test)]
mod tests {
    use super::strip;

    #[test]
    fn inputs_stay_and_answers_go() {
        let recorded = "\
exec
start_brk 1000
maps 1
00001000-00002000 r--p 00000000 00:00 0 
limit as unlimited
brk 0 = 1000
mmap 0 1000 3 22 0 = -12
maps 1
00001000-00002000 r--p 00000000 00:00 0 
munmap 1000 1000 = 0
";
        let input = "\
exec
start_brk 1000
maps 1
00001000-00002000 r--p 00000000 00:00 0 
limit as unlimited
brk 0 = ?
mmap 0 1000 3 22 0 = ?
maps
munmap 1000 1000 = ?
";
        assert_eq!(strip(recorded).as_deref(), Ok(input));
        assert_eq!(strip(input).as_deref(), Ok(input));
    }
}
