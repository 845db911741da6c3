//! The `hotspare` command: everything is in [`hotspare::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    hotspare::cli::main()
}
