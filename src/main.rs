//! The `hotspare` command: everything is in [`hotspare::cli`].

use std::process::ExitCode;

use hotspare::cli::alloc::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    hotspare::cli::main()
}
