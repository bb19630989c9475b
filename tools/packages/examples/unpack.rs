//! For scripts: unpacks packages below a directory and prints the directory that they see as `/`.
//!
//! ```sh
//! cargo run -q -p kvma-packages --example unpack -- target/packages rustc-web rust-web-src
//! ```

use std::env;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [dir, packages @ ..] = &args[..] else {
        eprintln!("usage: unpack DIRECTORY PACKAGE...");
        return ExitCode::from(2);
    };
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    match kvma_packages::unpacked(Path::new(dir), &packages) {
        Ok(tree) => {
            println!("{}", tree.root().display());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("unpack: {why}");
            ExitCode::FAILURE
        }
    }
}
