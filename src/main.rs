//! main
use clap::Parser;
use hotspare::cli::{alloc, bench};
#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;
#[derive(Parser)]
enum Command { Bench(bench::BenchArgs), #[command(hide = true)] BenchProcess(bench::ProcessArgs) }
fn main() -> std::process::ExitCode {
    let r = match Command::parse() { Command::Bench(a) => bench::run(&a), Command::BenchProcess(a) => bench::run_process(&a) };
    match r { Ok(()) => 0.into(), Err(e) => { eprintln!("hotspare: {e}"); 1.into() } }
}
